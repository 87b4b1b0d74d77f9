//! Clients. Each works through a list, one request at a time, and repeats a request until it is
//! answered.

use std::collections::VecDeque;
use std::sync::Arc;

use fastrand::Rng;
use kahn_core::{Event, Refusal, RetryScope, Submission};
use kahn_model::RunId;

use super::network::Node;
use super::{SimEvent, World};
use crate::driver::{Input, RequestId, View};
use crate::queue::{ms, us};
use crate::workload::{self, chance, span};

/// A goal of a client. Runs are positions in its own list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    Submit(usize),
    /// Submits a different run with the key of an existing one.
    SubmitOther(usize),
    Cancel(usize),
    Pause(usize),
    Resume(usize),
    RetryFailed(usize),
    RetryFrom(usize),
    Look(usize),
    Cordon(usize, bool),
    Drain(usize),
}

/// A reply to a client.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// The coordinator does not lead.
    NotLeading,
    /// The request was carried out or refused and need not be repeated.
    Answered,
    View(Option<View>),
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    goals: VecDeque<Goal>,
    runs: Vec<Arc<Submission>>,
    awaited: Option<RequestId>,
    target: usize,
}

impl Client {
    pub(crate) fn new(ix: usize, n_workers: usize, rng: &mut Rng) -> Self {
        let n_runs = rng.usize(1..=3);
        let runs = (0..n_runs).map(|_| workload::submission(rng)).collect();
        let mut goals = VecDeque::new();
        for run in 0..n_runs {
            goals.push_back(Goal::Submit(run));
            for _ in 0..rng.usize(0..=5) {
                goals.push_back(match rng.u32(..24) {
                    0..2 => Goal::Cancel(run),
                    2..4 => Goal::Pause(run),
                    4..6 => Goal::Resume(run),
                    6..9 => Goal::RetryFailed(run),
                    9 => Goal::RetryFrom(run),
                    10 => Goal::SubmitOther(run),
                    11 => Goal::Submit(run),
                    12 if ix == 0 => Goal::Cordon(rng.usize(..n_workers), rng.bool()),
                    13 if ix == 0 => Goal::Drain(rng.usize(..n_workers)),
                    _ => Goal::Look(run),
                });
            }
        }
        Self { goals, runs, awaited: None, target: 0 }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.goals.is_empty()
    }

    pub(crate) fn run_id(&self, run: usize) -> RunId {
        self.runs[run].run
    }

    pub(crate) fn pending(&self) -> Option<Goal> {
        self.goals.front().copied()
    }

    /// Lifts all pauses and cordons at the end.
    pub(crate) fn resume_and_uncordon(&mut self, n_workers: usize) {
        self.goals.extend((0..n_workers).map(|worker| Goal::Cordon(worker, false)));
        self.goals.extend((0..self.runs.len()).map(Goal::Resume));
    }
}

impl World {
    pub(super) fn on_client_acts(&mut self, client: usize) {
        let Some(goal) = self.clients[client].pending() else { return };
        if self.clients[client].awaited.is_some() {
            return;
        }
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.clients[client].awaited = Some(request);
        self.requests.insert(request, (client, goal));
        let coordinator = self.clients[client].target % self.coordinators.len();
        let at = self.arrival(Node::Client(client), Node::Coordinator(coordinator));
        if !chance(&mut self.rng, self.faults.client_loss) {
            let arrives = SimEvent::RequestArrives { coordinator, client, request, goal };
            self.queue.plan(at, arrives);
        }
        self.queue.plan(self.now + ms(3000), SimEvent::ClientGivesUp { client, request });
    }

    pub(super) fn on_client_gives_up(&mut self, client: usize, request: RequestId) {
        if self.clients[client].awaited == Some(request) {
            self.clients[client].awaited = None;
            self.clients[client].target += 1;
            self.queue.plan(self.now + ms(1), SimEvent::ClientActs(client));
        }
    }

    pub(super) fn on_request(
        &mut self,
        coordinator: usize,
        client: usize,
        request: RequestId,
        goal: Goal,
    ) {
        let is_abandoned = self.clients[client].awaited != Some(request);
        if is_abandoned && self.now > self.faults.heal_at {
            // It was sent before the final goals were added and must not interfere with them.
            return;
        }
        if !self.coordinators[coordinator].is_leading() {
            self.send_reply(coordinator, request, Reply::NotLeading);
            return;
        }
        if let Some(event) = self.fetched_for(coordinator, client, goal) {
            self.receive(coordinator, Input::Event(event));
        }
        let input = self.input(client, request, goal);
        self.receive(coordinator, input);
    }

    fn input(&self, client: usize, request: RequestId, goal: Goal) -> Input {
        let submission = |run: usize| &self.clients[client].runs[run];
        let id = |run: usize| submission(run).run;
        let event = match goal {
            Goal::Look(run) => return Input::Read(request, id(run)),
            Goal::Submit(run) => Event::Submitted(Arc::clone(submission(run))),
            Goal::SubmitOther(run) => {
                let mut other = Submission::clone(submission(run));
                other.digest[0] ^= 1;
                Event::Submitted(Arc::new(other))
            }
            Goal::Cancel(run) => Event::CancelRequested { run: id(run), reason: "enough".into() },
            Goal::Pause(run) => Event::PauseRequested { run: id(run) },
            Goal::Resume(run) => Event::ResumeRequested { run: id(run) },
            Goal::RetryFailed(run) => {
                Event::RetryRequested { run: id(run), scope: RetryScope::Failed }
            }
            Goal::RetryFrom(run) => {
                let task = submission(run).dag.tasks().next();
                let scope = RetryScope::From(task.into_iter().collect());
                Event::RetryRequested { run: id(run), scope }
            }
            Goal::Cordon(worker, is_cordoned) => {
                let worker = self.workers[worker].id.clone();
                Event::CordonRequested { worker, is_cordoned }
            }
            Goal::Drain(worker) => {
                Event::DrainRequested { worker: self.workers[worker].id.clone() }
            }
        };
        Input::Request(request, event)
    }

    /// Handles the answer of a coordinator to a request.
    pub(super) fn answer_request(
        &mut self,
        coordinator: usize,
        request: RequestId,
        answer: Result<(), Refusal>,
    ) {
        let Some((client, goal)) = self.requests.get(&request).copied() else { return };
        let id = |run: usize| self.clients[client].runs[run].run;
        match goal {
            Goal::Submit(run) => self.oracle.submission_answered(id(run), &answer),
            Goal::SubmitOther(run) if answer.is_ok() => {
                let message = format!("run {} was submitted with other contents", id(run));
                self.oracle.object("I6", message);
            }
            Goal::Cancel(run) => self.oracle.cancellation_answered(id(run), &answer),
            _ => {}
        }
        self.send_reply(coordinator, request, Reply::Answered);
    }

    /// Handles the view that a coordinator sends to a client.
    pub(super) fn show(&mut self, coordinator: usize, request: RequestId, view: Option<View>) {
        if let Some(view) = &view {
            self.oracle.view_leaves(view);
        }
        self.send_reply(coordinator, request, Reply::View(view));
    }

    fn send_reply(&mut self, coordinator: usize, request: RequestId, reply: Reply) {
        let Some((client, _)) = self.requests.get(&request).copied() else { return };
        let at = self.arrival(Node::Coordinator(coordinator), Node::Client(client));
        if !chance(&mut self.rng, self.faults.client_loss) {
            self.queue.plan(at, SimEvent::ReplyArrives { client, request, reply });
        }
    }

    pub(super) fn on_reply(&mut self, client: usize, request: RequestId, reply: Reply) {
        self.requests.remove(&request);
        if self.clients[client].awaited != Some(request) {
            return;
        }
        self.clients[client].awaited = None;
        let pause = match reply {
            Reply::NotLeading => {
                self.clients[client].target += 1;
                span(&mut self.rng, 20, 300)
            }
            Reply::Answered => {
                self.clients[client].goals.pop_front();
                self.think_time()
            }
            Reply::View(view) => {
                if let Some(view) = view {
                    self.oracle.view_seen(client, &view);
                }
                self.clients[client].goals.pop_front();
                self.think_time()
            }
        };
        self.queue.plan(self.now + pause, SimEvent::ClientActs(client));
    }

    fn think_time(&mut self) -> std::time::Duration {
        if self.now > self.faults.heal_at || chance(&mut self.rng, 40) {
            us(self.rng.u64(10..=5000))
        } else {
            span(&mut self.rng, 50, 4000)
        }
    }

    pub(super) fn lift_pauses_and_cordons(&mut self) {
        let n_workers = self.workers.len();
        for client in 0..self.clients.len() {
            self.clients[client].resume_and_uncordon(if client == 0 { n_workers } else { 0 });
            self.queue.plan(self.now + ms(1), SimEvent::ClientActs(client));
        }
    }
}
