//! One watch for all pods of a worker.
//!
//! Attempts register the name of their pod before they create it. A pod that nobody has registered
//! for a while belongs to an attempt that this worker does not hold any more, and is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt as _};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// How long a pod may exist without an attempt. Attempts of an earlier start of the worker register
/// within this time.
const STRAY_MAX: Duration = Duration::from_secs(30);
/// How often to look for such pods.
const STRAYS_EVERY: Duration = Duration::from_secs(10);

/// What was seen of a pod.
#[derive(Clone, Debug, Default)]
pub(super) enum Seen {
    /// Nothing yet.
    #[default]
    Nothing,
    /// It exists.
    Present(Arc<Pod>),
    /// It was not in a list of all pods, which may be older than the pod.
    Missing,
    /// It was removed. This is its last state.
    Removed(Arc<Pod>),
}

/// The pods of a worker. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Pods(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    registered: BTreeMap<String, watch::Sender<Seen>>,
    /// Pods without an attempt, and since when.
    strays: BTreeMap<String, Instant>,
}

/// The registration of a pod, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Registered {
    pods: Pods,
    name: String,
    seen: watch::Receiver<Seen>,
}

impl Registered {
    /// Returns what was seen last.
    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until something else was seen. Cancellation safe.
    pub(super) async fn changed(&mut self) {
        // The sender lives as long as this registration.
        drop(self.seen.changed().await);
    }

    /// Tells what a request has returned, which may be newer than what the watch has seen.
    pub(super) fn tell(&self, pod: Pod) {
        self.pods.present(pod);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.pods.lock().registered.remove(&self.name);
    }
}

impl Pods {
    /// Registers the pod of an attempt.
    pub(super) fn register(&self, name: &str) -> Registered {
        let mut state = self.lock();
        state.strays.remove(name);
        let sender = state.registered.entry(name.to_owned()).or_default();
        let seen = sender.subscribe();
        Registered { pods: self.clone(), name: name.to_owned(), seen }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn present(&self, pod: Pod) {
        let name = pod.name_any();
        let mut state = self.lock();
        let Some(sender) = state.registered.get(&name) else {
            state.strays.entry(name).or_insert_with(Instant::now);
            return;
        };
        sender.send_if_modified(|seen| {
            let is_news = is_newer(&pod, seen);
            if is_news {
                *seen = Seen::Present(Arc::new(pod));
            }
            is_news
        });
    }

    fn removed(&self, pod: Pod) {
        let name = pod.name_any();
        let mut state = self.lock();
        state.strays.remove(&name);
        if let Some(sender) = state.registered.get(&name) {
            sender.send_replace(Seen::Removed(Arc::new(pod)));
        }
    }

    /// Marks the pods that a list of all pods did not contain.
    fn listed(&self, names: &BTreeSet<String>) {
        let mut state = self.lock();
        state.strays.retain(|name, _| names.contains(name));
        for (name, sender) in &state.registered {
            if !names.contains(name) {
                sender.send_if_modified(|seen| {
                    let was_present = matches!(seen, Seen::Present(_));
                    if was_present {
                        *seen = Seen::Missing;
                    }
                    was_present
                });
            }
        }
    }

    fn overdue_strays(&self) -> Vec<String> {
        let state = self.lock();
        let overdue = state.strays.iter().filter(|(_, since)| since.elapsed() >= STRAY_MAX);
        overdue.map(|(name, _)| name.clone()).collect()
    }

    /// Watches all pods that `selector` selects, and removes strays. Never returns.
    pub(super) async fn watch(self, api: Api<Pod>, selector: String) {
        tokio::join!(self.follow(api.clone(), selector), self.remove_strays(api));
    }

    async fn follow(&self, api: Api<Pod>, selector: String) {
        let config = watcher::Config::default().labels(&selector);
        let mut events = pin!(watcher(api, config).default_backoff());
        let mut names = BTreeSet::new();
        let mut is_failing = false;
        while let Some(event) = events.next().await {
            if let Err(error) = &event {
                // The watch continues by itself. One warning is enough for an outage.
                match std::mem::replace(&mut is_failing, true) {
                    false => warn!(%error, "the pods of this worker cannot be watched now"),
                    true => debug!(%error, "the pods of this worker cannot be watched now"),
                }
                continue;
            }
            if std::mem::replace(&mut is_failing, false) {
                info!("the pods of this worker are watched again");
            }
            match event {
                Ok(Event::Init) => names.clear(),
                Ok(Event::InitApply(pod)) => {
                    names.insert(pod.name_any());
                    self.present(pod);
                }
                Ok(Event::InitDone) => self.listed(&names),
                Ok(Event::Apply(pod)) => self.present(pod),
                Ok(Event::Delete(pod)) => self.removed(pod),
                Err(_) => {}
            }
        }
    }

    async fn remove_strays(&self, api: Api<Pod>) {
        loop {
            tokio::time::sleep(STRAYS_EVERY).await;
            for name in self.overdue_strays() {
                warn!(name, "removing a pod without an attempt");
                if let Err(error) = api.delete(&name, &DeleteParams::default()).await {
                    debug!(name, %error, "cannot remove a pod without an attempt");
                }
            }
        }
    }
}

/// Returns whether a pod is news compared to what was seen. Answers to requests and events of the
/// watch may come in any order. Resource versions of pods are numbers that only grow, as Kubernetes
/// guarantees since 1.35; with others, the latest to arrive counts.
fn is_newer(pod: &Pod, seen: &Seen) -> bool {
    let version = |pod: &Pod| pod.metadata.resource_version.as_ref()?.parse::<u64>().ok();
    match seen {
        Seen::Nothing | Seen::Missing => true,
        Seen::Removed(last) => last.metadata.uid != pod.metadata.uid,
        Seen::Present(before) => match (version(pod), version(before)) {
            (Some(new), Some(old)) => new > old,
            _ => true,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, version: u32) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.uid = Some("u".into());
        pod.metadata.resource_version = Some(version.to_string());
        pod
    }

    fn version(seen: &Seen) -> Option<String> {
        match seen {
            Seen::Present(pod) => pod.metadata.resource_version.clone(),
            _ => None,
        }
    }

    #[tokio::test]
    async fn answers_and_events_in_any_order_show_the_latest_state() {
        let pods = Pods::default();
        let mut registered = pods.register("a");
        pods.present(pod("a", 5));
        registered.changed().await;
        registered.tell(pod("a", 3));
        assert_eq!(version(&registered.seen()).as_deref(), Some("5"));
        pods.removed(pod("a", 7));
        registered.tell(pod("a", 6));
        assert!(matches!(registered.seen(), Seen::Removed(_)));
    }

    #[tokio::test]
    async fn a_list_says_nothing_of_a_pod_that_was_not_seen_before() {
        let pods = Pods::default();
        let (seen, new) = (pods.register("seen"), pods.register("new"));
        pods.present(pod("seen", 1));
        pods.listed(&BTreeSet::new());
        assert!(matches!(seen.seen(), Seen::Missing));
        assert!(matches!(new.seen(), Seen::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_without_an_attempt_is_a_stray_after_a_while_unless_it_is_registered() {
        let pods = Pods::default();
        pods.present(pod("a", 1));
        pods.present(pod("b", 1));
        assert_eq!(pods.overdue_strays(), Vec::<String>::new());
        let _registered = pods.register("a");
        tokio::time::advance(STRAY_MAX).await;
        assert_eq!(pods.overdue_strays(), ["b"]);
        pods.listed(&BTreeSet::new());
        assert_eq!(pods.overdue_strays(), Vec::<String>::new());
    }
}
