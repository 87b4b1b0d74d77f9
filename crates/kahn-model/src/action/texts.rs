//! Access to the texts of all kinds of actions, for reading and for replacing.

use super::{
    Action, Body, Container, FunctionCall, HttpRequest, Mount, Pod, PythonCall, Text, TextRole,
};

type Texts<'a> = Vec<(TextRole, &'a Text)>;

impl Action {
    /// Returns all texts that may contain expressions.
    #[must_use]
    pub fn texts(&self) -> Vec<(TextRole, &Text)> {
        match self {
            Self::Run { .. } | Self::Sleep { .. } | Self::Noop => Vec::new(),
            Self::Exec { argv } => plain(argv).collect(),
            Self::Function(call) => vec![(TextRole::Json, &call.input)],
            Self::Python(call) => {
                let input = std::iter::once((TextRole::Json, &call.input));
                input.chain(plain(&call.interpreter)).collect()
            }
            Self::Container(container) => texts_of_container(container),
            Self::Pod(pod) => texts_of_container(&pod.container),
            Self::Http(request) => texts_of_http(request),
        }
    }

    /// Returns the total size of the texts and the script in bytes.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        let script = if let Self::Run { script, .. } = self { script.len() } else { 0 };
        script + self.texts().iter().map(|(_, text)| text.as_str().len()).sum::<usize>()
    }

    /// Returns the action with every text replaced.
    ///
    /// # Errors
    ///
    /// Returns the first error of `replace`.
    pub fn map_texts<E>(
        &self,
        mut replace: impl FnMut(TextRole, &Text) -> Result<Text, E>,
    ) -> Result<Self, E> {
        let replace = &mut replace;
        Ok(match self {
            Self::Run { .. } | Self::Sleep { .. } | Self::Noop => self.clone(),
            Self::Exec { argv } => Self::Exec { argv: map_plain(argv, replace)? },
            Self::Function(call) => Self::Function(Box::new(FunctionCall {
                name: call.name.clone(),
                input: replace(TextRole::Json, &call.input)?,
            })),
            Self::Python(call) => Self::Python(Box::new(PythonCall {
                function: call.function.clone(),
                input: replace(TextRole::Json, &call.input)?,
                interpreter: map_plain(&call.interpreter, replace)?.pop(),
            })),
            Self::Container(container) => {
                Self::Container(Box::new(map_container(container, replace)?))
            }
            Self::Pod(pod) => Self::Pod(Box::new(Pod {
                container: map_container(&pod.container, replace)?,
                options: pod.options.clone(),
            })),
            Self::Http(request) => Self::Http(Box::new(map_http(request, replace)?)),
        })
    }
}

fn plain<'a>(
    texts: impl IntoIterator<Item = &'a Text>,
) -> impl Iterator<Item = (TextRole, &'a Text)> {
    texts.into_iter().map(|text| (TextRole::Plain, text))
}

fn map_plain<'a, E>(
    texts: impl IntoIterator<Item = &'a Text>,
    replace: &mut impl FnMut(TextRole, &Text) -> Result<Text, E>,
) -> Result<Vec<Text>, E> {
    texts.into_iter().map(|text| replace(TextRole::Plain, text)).collect()
}

fn texts_of_container(container: &Container) -> Texts<'_> {
    let sources = container.mounts.iter().map(|mount| &mount.source);
    let words = container.command.iter().chain(&container.args);
    plain(std::iter::once(&container.image).chain(words).chain(sources)).collect()
}

fn map_container<E>(
    container: &Container,
    replace: &mut impl FnMut(TextRole, &Text) -> Result<Text, E>,
) -> Result<Container, E> {
    let mut mounts = Vec::new();
    for mount in &container.mounts {
        let source = replace(TextRole::Plain, &mount.source)?;
        mounts.push(Mount { source, ..mount.clone() });
    }
    Ok(Container {
        image: replace(TextRole::Plain, &container.image)?,
        command: map_plain(&container.command, replace)?,
        args: map_plain(&container.args, replace)?,
        mounts,
        ..container.clone()
    })
}

fn texts_of_http(request: &HttpRequest) -> Texts<'_> {
    let headers = request.headers.iter().map(|(_, value)| value);
    let mut texts: Texts<'_> = plain(std::iter::once(&request.url).chain(headers)).collect();
    match &request.body {
        Body::Empty => {}
        Body::Json(json) => texts.push((TextRole::Json, json)),
        Body::Text(text) => texts.push((TextRole::Plain, text)),
    }
    texts
}

fn map_http<E>(
    request: &HttpRequest,
    replace: &mut impl FnMut(TextRole, &Text) -> Result<Text, E>,
) -> Result<HttpRequest, E> {
    let mut headers = Vec::new();
    for (name, value) in &request.headers {
        headers.push((name.clone(), replace(TextRole::Plain, value)?));
    }
    Ok(HttpRequest {
        url: replace(TextRole::Plain, &request.url)?,
        headers,
        body: match &request.body {
            Body::Empty => Body::Empty,
            Body::Json(json) => Body::Json(replace(TextRole::Json, json)?),
            Body::Text(text) => Body::Text(replace(TextRole::Plain, text)?),
        },
        ..request.clone()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::action::{PodOptions, Port, PullPolicy, StatusRange};

    fn text(text: &str) -> Text {
        Text::new(text)
    }

    fn one_of_each() -> Vec<Action> {
        let call = FunctionCall { name: "resize".into(), input: text("[1]") };
        let python = PythonCall {
            function: "m:f".into(),
            input: text("{}"),
            interpreter: Some(text("/venv/bin/python")),
        };
        let container = Container {
            image: text("image"),
            pull: PullPolicy::Never,
            command: vec![text("c")],
            args: vec![text("d"), text("e")],
            user: Some("1:1".into()),
            mounts: vec![Mount { source: text("/s"), target: "/t".into(), is_writable: true }],
            ports: vec![Port { container: 80, host: 0 }],
        };
        let http = HttpRequest {
            method: "GET".into(),
            url: text("https://h"),
            headers: vec![("accept".into(), text("a"))],
            body: Body::Json(text("null")),
            expect: vec![StatusRange::SUCCESS],
            timeout: Duration::from_secs(1),
            polling: None,
        };
        vec![
            Action::Exec { argv: vec![text("a"), text("b")] },
            Action::Function(Box::new(call)),
            Action::Python(Box::new(python)),
            Action::Container(Box::new(container.clone())),
            Action::Pod(Box::new(Pod { container, options: PodOptions::default() })),
            Action::Http(Box::new(http)),
            Action::Noop,
        ]
    }

    #[test]
    fn what_is_replaced_is_what_is_looked_at() {
        for action in one_of_each() {
            let mut seen = Vec::new();
            let marked = action.map_texts(|role, text| {
                seen.push((role, text.clone()));
                Ok::<Text, ()>(Text::new(format!("<{}>", text.as_str())))
            });
            let marked = marked.unwrap();
            let listed: Vec<(TextRole, Text)> =
                action.texts().into_iter().map(|(role, text)| (role, text.clone())).collect();
            seen.sort_by(|a, b| a.1.cmp(&b.1));
            let mut sorted = listed.clone();
            sorted.sort_by(|a, b| a.1.cmp(&b.1));
            assert_eq!(seen, sorted);
            assert_eq!(marked.n_bytes(), action.n_bytes() + 2 * listed.len());
            assert!(marked.texts().iter().all(|(_, text)| text.as_str().starts_with('<')));
            let same = action.map_texts(|_, text| Ok::<Text, ()>(text.clone()));
            assert_eq!(same, Ok(action));
        }
    }
}
