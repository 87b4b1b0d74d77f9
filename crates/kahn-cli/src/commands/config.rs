//! `kahn config show`: prints the effective configuration with secrets masked.

use clap::{Args, Subcommand, ValueEnum};
use kahn_runtime::config;
use kahn_runtime::telemetry::TelemetrySettings;
use serde::Serialize;
use serde_json::{Map, Value};

use super::autoscaler::{self, AutoscalerArgs};
use super::coordinator::{self, CoordinatorArgs};
use super::worker::{self, WorkerArgs};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;

/// Arguments of `config`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The action
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the effective configuration
    Show {
        /// Only this section
        #[arg(value_enum)]
        section: Option<Section>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    Coordinator,
    Worker,
    Autoscaler,
    Telemetry,
}

/// The sections to print: TOML text, or one JSON object.
#[derive(Default)]
struct Shown {
    toml: Vec<String>,
    json: Map<String, Value>,
}

impl Shown {
    fn add(&mut self, section: &str, config: &impl Serialize) -> Result<(), Failure> {
        // The TOML text is masked, so the JSON object is built from it.
        let text = config::show(section, config)?;
        let masked: Value = toml::from_str(&text)
            .map_err(|error| Failure::refused(format!("section `{section}`: {error}")))?;
        self.json.insert(section.to_owned(), masked.get(section).cloned().unwrap_or_default());
        self.toml.push(text);
        Ok(())
    }
}

pub(crate) fn run(args: &ConfigArgs, context: &Context) -> Result<Exit, Failure> {
    let Action::Show { section } = args.action;
    let is_wanted = |one: Section| section.is_none_or(|wanted| wanted == one);
    let mut shown = Shown::default();
    if is_wanted(Section::Coordinator) {
        let config = coordinator::load(&CoordinatorArgs::default(), context)?;
        config.settings().map_err(|error| Failure::bad_input(error.to_string()))?;
        shown.add("coordinator", &config)?;
    }
    if is_wanted(Section::Worker) {
        shown.add("worker", &worker::load(&WorkerArgs::default(), context)?)?;
    }
    if is_wanted(Section::Autoscaler) {
        shown.add("autoscaler", &autoscaler::load(&AutoscalerArgs::default(), context)?)?;
    }
    if is_wanted(Section::Telemetry) {
        let settings: TelemetrySettings = config::load("telemetry", &context.sources())?;
        shown.add("telemetry", &settings)?;
    }
    match context.is_json() {
        true => output::json(&shown.json)?,
        false => output::text(&shown.toml.join("\n"))?,
    }
    Ok(Exit::Success)
}
