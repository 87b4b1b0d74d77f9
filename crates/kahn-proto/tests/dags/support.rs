//! Strategies that generate arbitrary DAGs.

use std::time::Duration;

use kahn_model::{
    Action, Backoff, BackoffKind, Body, CauseKind, CauseSet, Circuit, ConcurrencyKey, Condition,
    Container, Dag, DagBuilder, DependencyKind, FailurePolicy, FunctionCall, HttpRequest,
    LabelRule, Mount, Multiplier, Name, NewTask, OnDisconnect, Pod, PodOptions, PodVolume, Polling,
    Port, Profile, PullPolicy, PythonCall, Resource, Resources, RetryPolicy, RunPolicy,
    SecretTarget, SecretUse, Selector, Shell, StatusRange, TaintEffect, TaskIx, Text, Timeouts,
    Toleration, Trigger, VolumeSource, When, Work,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Generates valid names.
pub(crate) fn name() -> impl Strategy<Value = Name> {
    "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,12}".prop_map(|text| Name::new(&text).unwrap())
}

fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), any::<u64>().prop_map(Duration::from_nanos)]
}

fn text() -> impl Strategy<Value = Text> {
    ".{0,8}".prop_map(Text::new)
}

fn container() -> impl Strategy<Value = Container> {
    let pull = select(vec![PullPolicy::Missing, PullPolicy::Always, PullPolicy::Never]);
    let mount = (text(), ".{0,4}", any::<bool>()).prop_map(|(source, target, is_writable)| Mount {
        source,
        target: target.into(),
        is_writable,
    });
    let port = any::<(u16, u16)>().prop_map(|(container, host)| Port { container, host });
    let user = option::of(".{0,4}".prop_map(String::into_boxed_str));
    let words = || vec(text(), 0..3);
    (text(), pull, words(), words(), user, vec(mount, 0..3), vec(port, 0..3)).prop_map(
        |(image, pull, command, args, user, mounts, ports)| Container {
            image,
            pull,
            command,
            args,
            user,
            mounts,
            ports,
        },
    )
}

fn pod() -> impl Strategy<Value = Pod> {
    let word = || ".{0,4}".prop_map(String::into_boxed_str);
    let pairs = || vec((word(), word()), 0..3);
    let effect = select(TaintEffect::ALL.to_vec());
    let toleration = (word(), option::of(word()), option::of(effect))
        .prop_map(|(key, value, effect)| Toleration { key, value, effect });
    let source = prop_oneof![
        word().prop_map(VolumeSource::Claim),
        word().prop_map(VolumeSource::ConfigMap),
        word().prop_map(VolumeSource::Secret),
        Just(VolumeSource::Empty),
    ];
    let volume = (source, word(), any::<bool>())
        .prop_map(|(source, target, is_writable)| PodVolume { source, target, is_writable });
    let names = (option::of(word()), option::of(word()), option::of(word()));
    let lists = (vec(toleration, 0..3), vec(volume, 0..3), vec(word(), 0..3));
    let options = (names, lists, pairs(), pairs(), pairs()).prop_map(
        |(names, lists, node_selector, labels, annotations)| {
            let (service_account, priority_class, runtime_class) = names;
            let (tolerations, volumes, image_pull_secrets) = lists;
            PodOptions {
                service_account,
                node_selector,
                tolerations,
                labels,
                annotations,
                volumes,
                image_pull_secrets,
                priority_class,
                runtime_class,
            }
        },
    );
    (container(), options).prop_map(|(container, options)| Pod { container, options })
}

fn request() -> impl Strategy<Value = HttpRequest> {
    let body =
        prop_oneof![Just(Body::Empty), text().prop_map(Body::Json), text().prop_map(Body::Text),];
    let range = any::<(u16, u16)>().prop_map(|(from, to)| StatusRange { from, to });
    let polling = (".{0,8}", span())
        .prop_map(|(until, every)| Polling { until: Condition(until.into()), every });
    let header = (".{0,4}".prop_map(String::into_boxed_str), text());
    ("[A-Z]{1,6}", text(), vec(header, 0..3), body, vec(range, 0..3), span(), option::of(polling))
        .prop_map(|(method, url, headers, body, expect, timeout, polling)| HttpRequest {
            method: method.into(),
            url,
            headers,
            body,
            expect,
            timeout,
            polling,
        })
}

/// Generates arbitrary work.
pub(crate) fn work() -> impl Strategy<Value = Work> {
    let action = prop_oneof![
        4 => Just(Action::Noop),
        1 => (".{0,20}", select(vec![Shell::Sh, Shell::Bash]))
            .prop_map(|(script, shell)| Action::Run { script: script.into(), shell }),
        1 => vec(text(), 0..4).prop_map(|argv| Action::Exec { argv }),
        1 => span().prop_map(|duration| Action::Sleep { duration }),
        1 => (".{0,8}", text()).prop_map(|(name, input)| {
            Action::Function(Box::new(FunctionCall { name: name.into(), input }))
        }),
        1 => (".{0,8}", text(), option::of(text())).prop_map(|(function, input, interpreter)| {
            let function = function.into();
            Action::Python(Box::new(PythonCall { function, input, interpreter }))
        }),
        1 => container().prop_map(|container| Action::Container(Box::new(container))),
        1 => pod().prop_map(|pod| Action::Pod(Box::new(pod))),
        1 => request().prop_map(|request| Action::Http(Box::new(request))),
    ];
    let env = vec((".{0,4}".prop_map(String::into_boxed_str), text()), 0..3);
    let parts = (action, env, option::of(text()), vec(secret(), 0..3));
    parts.prop_map(|(action, env, working_dir, secrets)| Work { action, env, working_dir, secrets })
}

fn secret() -> impl Strategy<Value = SecretUse> {
    (0..3, ".{0,4}", ".{0,4}", name()).prop_map(|(which, at, prefix, secret)| {
        let target = match which {
            0 => SecretTarget::Variable(at.into()),
            1 => SecretTarget::File(at.into()),
            _ => SecretTarget::Header(at.into()),
        };
        SecretUse { target, prefix: prefix.into(), secret }
    })
}

fn resources() -> impl Strategy<Value = Resources> {
    let known = [Resource::Cpu, Resource::Memory, Resource::Gpu, Resource::Disk, Resource::Network];
    let resource = prop_oneof![select(known.to_vec()), name().prop_map(Resource::Named)];
    vec((resource, any::<u64>()), 0..5).prop_map(|amounts| {
        amounts.iter().fold(Resources::none(), |all, (resource, n)| all.with(resource, *n))
    })
}

fn selector() -> impl Strategy<Value = Selector> {
    let rule = (0..4, ".{0,4}", vec(".{0,4}", 0..3)).prop_map(|(which, key, values)| match which {
        0 => LabelRule::In { key, values },
        1 => LabelRule::NotIn { key, values },
        2 => LabelRule::Exists { key },
        _ => LabelRule::Absent { key },
    });
    let rules = || vec(rule.clone(), 0..3);
    (rules(), rules()).prop_map(|(required, preferred)| Selector { required, preferred })
}

fn retry() -> impl Strategy<Value = RetryPolicy> {
    let kinds = vec![BackoffKind::Fixed, BackoffKind::Linear, BackoffKind::Exponential];
    let backoff = (select(kinds), span(), span(), any::<bool>())
        .prop_map(|(kind, initial, max, jitter)| Backoff { kind, initial, max, jitter });
    let on = vec(select(CauseKind::ALL.to_vec()), 0..5)
        .prop_map(|kinds| kinds.into_iter().fold(CauseSet::EMPTY, CauseSet::with));
    let rest = (any::<[u32; 3]>(), any::<Option<u64>>());
    (any::<u32>(), backoff, on, rest).prop_map(|(max_attempts, backoff, on, rest)| {
        let (rest, memory_max) = rest;
        let [memory, timeout, crash_limit] = rest;
        let (memory, timeout) = (Multiplier(memory), Multiplier(timeout));
        RetryPolicy { max_attempts, backoff, on, memory, timeout, crash_limit, memory_max }
    })
}

/// Generates arbitrary profiles.
pub(crate) fn profile() -> impl Strategy<Value = Profile> {
    let spans = || option::of(span());
    let timeouts = (spans(), spans(), spans(), spans())
        .prop_map(|(queue, start, run, grace)| Timeouts { queue, start, run, grace });
    let key = (name(), any::<u32>()).prop_map(|(key, limit)| ConcurrencyKey { key, limit });
    let circuit = (name(), any::<u32>(), span()).prop_map(|(key, failures, cool_down)| Circuit {
        key,
        failures,
        cool_down,
    });
    let on_disconnect = select(vec![OnDisconnect::Keep, OnDisconnect::Stop]);
    let exceptions = vec("[a-zA-Z_]{1,5}(\\.[A-Z]{1,3}|\\.\\*)?", 0..3);
    let rules = (retry(), timeouts, any::<i32>(), exceptions);
    let shared = (vec(key, 0..3), option::of(circuit), on_disconnect);
    (resources(), selector(), rules, shared).prop_map(|(resources, selector, rules, shared)| {
        let (retry, timeouts, priority, exceptions) = rules;
        let (concurrency, circuit, on_disconnect) = shared;
        Profile {
            resources,
            selector,
            retry,
            retry_exceptions: exceptions.iter().map(|text| text.parse().unwrap()).collect(),
            timeouts,
            priority,
            concurrency,
            circuit,
            on_disconnect,
        }
    })
}

fn policy() -> impl Strategy<Value = RunPolicy> {
    let on_failure = prop_oneof![
        Just(FailurePolicy::Continue),
        Just(FailurePolicy::FailFast),
        any::<u32>().prop_map(FailurePolicy::MaxFailures),
    ];
    (on_failure, option::of(any::<u32>()), option::of(span()), any::<i32>()).prop_map(
        |(on_failure, max_parallel, timeout, priority)| RunPolicy {
            on_failure,
            max_parallel,
            timeout,
            priority,
        },
    )
}

#[derive(Clone, Debug)]
struct Row {
    work: usize,
    profile: usize,
    trigger: Trigger,
    condition: Option<String>,
    estimate: Option<u64>,
}

fn row() -> impl Strategy<Value = Row> {
    let trigger = select(Trigger::ALL.to_vec());
    let estimate = option::of(any::<u64>());
    (0..3usize, 0..3usize, trigger, option::of(".{0,5}"), estimate).prop_map(
        |(work, profile, trigger, condition, estimate)| Row {
            work,
            profile,
            trigger,
            condition,
            estimate,
        },
    )
}

type Edge = (usize, usize, When, DependencyKind, Option<Duration>);

fn edge(n: usize) -> impl Strategy<Value = Edge> {
    let (whens, kinds) = (select(When::ALL.to_vec()), select(DependencyKind::ALL.to_vec()));
    (0..n, 0..n, whens, kinds, option::of(span()))
}

/// Generates DAGs of up to `max` tasks, with dependencies declared in any order.
pub(crate) fn dag(max: usize) -> impl Strategy<Value = Dag> {
    let plain =
        Row { work: 0, profile: 0, trigger: Trigger::default(), condition: None, estimate: None };
    (1..=max, any::<bool>()).prop_flat_map(move |(n, is_plain)| {
        let rows =
            if is_plain { Just(vec![plain.clone(); n]).boxed() } else { vec(row(), n).boxed() };
        // Tasks may depend on those that are earlier in the shuffle.
        let ranks = Just((0..n).collect::<Vec<_>>()).prop_shuffle();
        let parts = (vec(work(), 3), vec(profile(), 3));
        (name(), policy(), parts, rows, ranks, vec(edge(n), 0..3 * n)).prop_map(
            |(name, policy, parts, rows, ranks, edges)| {
                build(DagBuilder::new(name, policy), &parts, &rows, &ranks, &edges)
            },
        )
    })
}

fn build(
    mut builder: DagBuilder,
    (works, profiles): &(Vec<Work>, Vec<Profile>),
    rows: &[Row],
    ranks: &[usize],
    edges: &[Edge],
) -> Dag {
    for (at, row) in rows.iter().enumerate() {
        builder
            .task(NewTask {
                name: Name::new(&format!("t{at}")).unwrap(),
                work: works[row.work].clone(),
                profile: profiles[row.profile].clone(),
                trigger: row.trigger,
                condition: row.condition.as_ref().map(|text| Condition(text.as_str().into())),
                estimate: row.estimate.map(Duration::from_micros),
            })
            .unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    for (one, other, when, kind, timeout) in edges {
        let (dependent, dependency) =
            if ranks[*one] > ranks[*other] { (*one, *other) } else { (*other, *one) };
        if one != other && seen.insert((dependent, dependency)) {
            let [dependent, dependency] = [dependent, dependency].map(TaskIx::from_index);
            builder.depends(dependent, dependency, *when, *kind, *timeout);
        }
    }
    builder.build().unwrap()
}

/// Creates a DAG of plain tasks in layers of 1000. Each depends on one task in each of the `fan_in`
/// layers before it.
pub(crate) fn layered(n: usize, fan_in: usize) -> Dag {
    let mut builder = DagBuilder::new(Name::new("d").unwrap(), RunPolicy::default());
    for at in 0..n {
        let name = Name::new(&format!("t{at}")).unwrap();
        let task = builder.task(NewTask::new(name, Work::new(Action::Noop))).unwrap();
        for back in 1..=fan_in {
            if let Some(dependency) = at.checked_sub(back * 1000) {
                builder.after(task, TaskIx::from_index(dependency));
            }
        }
    }
    builder.build().unwrap()
}
