//! Tests the commands and reports that events lead to.

use std::sync::Arc;

use kahn_model::{AttemptId, Outputs, RunId, TaskIx, Uuid};

use super::*;

fn worker(cpus: u64) -> WorkerCore<()> {
    let settings = Settings { capacity: Resources::cpu_milli(cpus * 1000), ..Settings::default() };
    let mut worker = WorkerCore::new(settings, Vec::new());
    worker.handle(Timestamp(0), Event::Connected);
    worker.handle(Timestamp(0), Event::Welcomed { lease_ttl: Duration::from_secs(15) });
    worker
}

fn token(serial: u64) -> Token {
    Token { epoch: 1, serial, nonce: 7 }
}

fn lease(serial: u64) -> Lease<()> {
    let task = TaskIx(u32::try_from(serial).unwrap());
    Lease {
        attempt: AttemptId { run: RunId::new(Uuid::from_u128(1)), task, number: 1 },
        token: token(serial),
        resources: Arc::new(Resources::cpu_milli(1000)),
        on_disconnect: OnDisconnect::Keep,
        payload: (),
    }
}

fn started(commands: &[Command<()>]) -> Vec<u64> {
    let serial = |command: &Command<()>| match command {
        Command::Start(lease) => Some(lease.token.serial),
        _ => None,
    };
    commands.iter().filter_map(serial).collect()
}

fn finish(worker: &mut WorkerCore<()>, serial: u64) -> Vec<Command<()>> {
    finish_at(worker, Timestamp(1), serial)
}

fn finish_at(worker: &mut WorkerCore<()>, at: Timestamp, serial: u64) -> Vec<Command<()>> {
    let outcome = Ok(Outputs::default());
    let (usage, is_output_late) = (Usage::default(), false);
    let event = Event::AttemptFinished { token: token(serial), outcome, usage, is_output_late };
    worker.handle(at, event)
}

#[test]
fn leases_beyond_the_room_start_when_others_end() {
    let mut worker = worker(2);
    let mut all = Vec::new();
    for serial in 1..=3 {
        all.extend(started(&worker.handle(Timestamp(0), Event::Leased(lease(serial)))));
    }
    assert_eq!(all, [1, 2]);
    assert_eq!(started(&finish(&mut worker, 1)), [3]);
}

#[test]
fn of_leases_that_ask_for_different_amounts_the_oldest_that_fits_starts() {
    let asking = |serial, milli| {
        let resources = Arc::new(Resources::cpu_milli(milli));
        Event::Leased(Lease { resources, ..lease(serial) })
    };
    let mut worker = worker(2);
    for (serial, milli) in [(1, 1000), (2, 1000), (3, 2000), (4, 500), (5, 1000), (6, 500)] {
        worker.handle(Timestamp(0), asking(serial, milli));
    }
    assert_eq!(started(&finish(&mut worker, 1)), [4, 6]);
    assert_eq!(started(&finish(&mut worker, 2)), [5]);
    for serial in [4, 5] {
        assert!(started(&finish(&mut worker, serial)).is_empty());
    }
    assert_eq!(started(&finish(&mut worker, 6)), [3]);
}

#[test]
fn a_start_and_an_end_that_were_never_sent_are_one_report() {
    let mut worker = worker(2);
    worker.handle(Timestamp(0), Event::Leased(lease(1)));
    worker.handle(Timestamp(0), Event::Leased(lease(2)));
    worker.handle(Timestamp(0), Event::AttemptStarted { token: token(1) });
    worker.handle(Timestamp(0), Event::AttemptStarted { token: token(2) });
    finish(&mut worker, 1);
    let reports = worker.take_reports(10);
    let kinds: Vec<_> =
        reports.iter().map(|r| (r.token.serial, r.kind == ReportKind::Started)).collect();
    assert_eq!(kinds, [(2, true), (1, false)]);
    assert!(!worker.has_reports());
}

#[test]
fn a_result_is_told_again_on_each_stream_until_it_is_acknowledged() {
    let mut worker = worker(1);
    worker.handle(Timestamp(0), Event::Leased(lease(1)));
    finish(&mut worker, 1);
    assert_eq!(worker.take_reports(10).len(), 1);
    for expected in [1, 0] {
        worker.handle(Timestamp(2), Event::Disconnected);
        let commands = worker.handle(Timestamp(2), Event::Connected);
        let [Command::SendInventory(inventory)] = commands.as_slice() else {
            panic!("{commands:?}")
        };
        assert_eq!(inventory.unacknowledged.len(), expected);
        worker.handle(Timestamp(2), Event::Welcomed { lease_ttl: Duration::from_secs(15) });
        worker.handle(Timestamp(2), Event::Acknowledged { token: token(1) });
    }
}

#[test]
fn nothing_is_reported_before_the_inventory_was_taken() {
    let mut worker = worker(1);
    worker.handle(Timestamp(0), Event::Leased(lease(1)));
    worker.handle(Timestamp(0), Event::Disconnected);
    finish(&mut worker, 1);
    worker.handle(Timestamp(1), Event::Connected);
    assert!(worker.take_reports(10).is_empty());
}

#[test]
fn a_recalled_lease_is_given_back_only_if_it_did_not_start() {
    let mut worker = worker(1);
    worker.handle(Timestamp(0), Event::Leased(lease(1)));
    worker.handle(Timestamp(0), Event::Leased(lease(2)));
    worker.handle(Timestamp(0), Event::RecallRequested { token: token(1) });
    worker.handle(Timestamp(0), Event::RecallRequested { token: token(2) });
    let reports = worker.take_reports(10);
    assert_eq!(reports.len(), 1);
    assert_eq!((reports[0].token.serial, &reports[0].kind), (2, &ReportKind::Returned));
    assert_eq!(worker.n_held(), 1);
}

#[test]
fn a_cut_off_worker_stops_what_must_not_outlive_its_lease_and_keeps_the_rest() {
    let mut worker = worker(2);
    let fenced = Lease { on_disconnect: OnDisconnect::Stop, ..lease(1) };
    worker.handle(Timestamp(0), Event::Leased(fenced));
    worker.handle(Timestamp(0), Event::Leased(lease(2)));
    worker.handle(Timestamp(1_000_000), Event::DeadlineReached);
    worker.handle(Timestamp(1_100_000), Event::HeartbeatAcknowledged { number: 1 });
    worker.handle(Timestamp(1_200_000), Event::Disconnected);
    assert_eq!(worker.next_deadline(), Some(Timestamp(14_000_000)));
    assert!(worker.handle(Timestamp(13_999_999), Event::DeadlineReached).is_empty());
    let commands = worker.handle(Timestamp(14_000_000), Event::DeadlineReached);
    let [Command::Stop { token: stopped, reason: StopReason::CutOff }] = commands.as_slice() else {
        panic!("{commands:?}")
    };
    assert_eq!(stopped.serial, 1);
}

#[test]
fn a_draining_worker_gives_back_what_it_has_not_started_and_leaves_when_all_is_told() {
    let mut worker = worker(1);
    worker.handle(Timestamp(0), Event::Leased(lease(1)));
    worker.handle(Timestamp(0), Event::Leased(lease(2)));
    worker.handle(Timestamp(0), Event::DrainRequested);
    assert_eq!(worker.take_reports(10).len(), 1);
    let commands = finish(&mut worker, 1);
    assert!(!commands.iter().any(|c| matches!(c, Command::Leave)), "the result is unacknowledged");
    let commands = worker.handle(Timestamp(2), Event::Acknowledged { token: token(1) });
    assert!(commands.iter().any(|c| matches!(c, Command::Leave)));
}

#[test]
fn a_lease_that_arrives_twice_is_carried_out_once() {
    let mut worker = worker(2);
    assert_eq!(started(&worker.handle(Timestamp(0), Event::Leased(lease(1)))), [1]);
    assert!(worker.handle(Timestamp(0), Event::Leased(lease(1))).is_empty());
    finish(&mut worker, 1);
    assert!(worker.handle(Timestamp(0), Event::Leased(lease(1))).is_empty());
}

#[test]
fn a_late_welcome_is_no_news_of_the_time_at_which_it_arrives() {
    let mut worker = worker(1);
    let fenced = Lease { on_disconnect: OnDisconnect::Stop, ..lease(1) };
    worker.handle(Timestamp(0), Event::Leased(fenced));
    worker.handle(Timestamp(1_000_000), Event::Disconnected);
    worker.handle(Timestamp(2_000_000), Event::Connected);
    let welcomed = Event::Welcomed { lease_ttl: Duration::from_secs(15) };
    worker.handle(Timestamp(6_000_000), welcomed);
    worker.handle(Timestamp(7_000_000), Event::Disconnected);
    assert_eq!(worker.next_deadline(), Some(Timestamp(15_000_000)));
}

#[test]
fn an_attempt_that_waits_when_its_worker_is_cut_off_is_tried_again_and_not_cancelled() {
    let mut worker = worker(1);
    worker.handle(Timestamp(0), Event::Leased(lease(1)));
    let waiting = Lease { on_disconnect: OnDisconnect::Stop, ..lease(2) };
    worker.handle(Timestamp(0), Event::Leased(waiting));
    worker.handle(Timestamp(1_000_000), Event::Disconnected);
    let commands = worker.handle(Timestamp(13_000_000), Event::DeadlineReached);
    let [Command::Keep(Report { kind: ReportKind::Finished { outcome, .. }, .. })] =
        commands.as_slice()
    else {
        panic!("{commands:?}")
    };
    assert_eq!(*outcome, Err(Failure::of(CauseKind::Preempted)));
}

fn measured(worker: &mut WorkerCore<()>, memory: u32) -> Vec<Command<()>> {
    let sample = Sample { memory: Some(memory), ..Sample::default() };
    worker.handle(Timestamp(5_000_000), Event::Measured(sample))
}

fn said(commands: &[Command<()>]) -> Vec<u32> {
    let share = |command: &Command<()>| match command {
        Command::SendAdmission(admission) => Some(admission.share.permille()),
        _ => None,
    };
    commands.iter().filter_map(share).collect()
}

#[test]
fn a_worker_under_pressure_says_so_and_starts_only_what_its_share_has_room_for() {
    let mut worker = worker(4);
    worker.handle(Timestamp(0), Event::Leased(lease(1)));
    assert_eq!(said(&measured(&mut worker, 500)), [500]);
    assert_eq!(started(&worker.handle(Timestamp(0), Event::Leased(lease(2)))), [2]);
    assert!(started(&worker.handle(Timestamp(0), Event::Leased(lease(3)))).is_empty());
    assert_eq!(started(&finish(&mut worker, 1)), [3]);
}

#[test]
fn what_waits_at_a_worker_starts_when_the_pressure_is_gone() {
    let mut worker = worker(2);
    worker.handle(Timestamp(0), Event::Leased(lease(1)));
    measured(&mut worker, 500);
    assert!(started(&worker.handle(Timestamp(0), Event::Leased(lease(2)))).is_empty());
    let later: Vec<_> = (0..60).flat_map(|_| measured(&mut worker, 0)).collect();
    assert_eq!(started(&later), [2]);
    assert_eq!(said(&later), [600, 700, 800, 900, 1000]);
}

#[test]
fn a_worker_that_runs_nothing_starts_one_attempt_however_small_its_share() {
    let mut worker = worker(2);
    for _ in 0..9 {
        measured(&mut worker, 1000);
    }
    let large = Lease { resources: Arc::new(Resources::cpu_milli(2000)), ..lease(1) };
    assert_eq!(started(&worker.handle(Timestamp(0), Event::Leased(large))), [1]);
    assert!(started(&worker.handle(Timestamp(0), Event::Leased(lease(2)))).is_empty());
    assert!(started(&worker.handle(Timestamp(0), Event::Leased(lease(3)))).is_empty());
    assert_eq!(started(&finish(&mut worker, 1)), [2], "then the next one starts");
}

#[test]
fn a_share_that_changed_while_cut_off_is_in_the_next_inventory_and_later_ones_are_said() {
    let mut worker = worker(2);
    worker.handle(Timestamp(1), Event::Disconnected);
    assert!(said(&measured(&mut worker, 500)).is_empty());
    let commands = worker.handle(Timestamp(6_000_000), Event::Connected);
    let [Command::SendInventory(inventory)] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!(inventory.admission.share.permille(), 500);
    assert_eq!(inventory.admission.age, Duration::from_secs(1));
    assert!(said(&measured(&mut worker, 500)).is_empty(), "nothing is sent before the welcome");
    let welcomed = Event::Welcomed { lease_ttl: Duration::from_secs(15) };
    assert_eq!(said(&worker.handle(Timestamp(7_000_000), welcomed)), [250]);
}

#[test]
fn what_takes_nothing_starts_at_once_whatever_waits_for_room() {
    let mut worker = worker(1);
    worker.handle(Timestamp(0), Event::Leased(lease(1)));
    measured(&mut worker, 500);
    assert!(started(&worker.handle(Timestamp(0), Event::Leased(lease(2)))).is_empty());
    let light = Lease { resources: Arc::default(), ..lease(3) };
    assert_eq!(started(&worker.handle(Timestamp(0), Event::Leased(light))), [3]);
}

#[test]
fn reports_gather_while_there_is_much_at_hand_and_no_longer() {
    let mut worker = worker(1);
    for serial in 1..=12 {
        worker.handle(Timestamp(0), Event::Leased(lease(serial)));
    }
    assert_eq!(worker.reports_due(), None);
    finish_at(&mut worker, Timestamp(1000), 1);
    assert_eq!(worker.reports_due(), Some(Timestamp(6000)));
    // The first waiting report determines the time.
    finish_at(&mut worker, Timestamp(1500), 2);
    assert_eq!(worker.reports_due(), Some(Timestamp(6000)));
    // Eight queued leases are fewer than three per report.
    finish_at(&mut worker, Timestamp(2000), 3);
    assert_eq!(worker.reports_due(), Some(Timestamp(1000)));
    assert_eq!(worker.take_reports(10).len(), 3);
    assert_eq!(worker.reports_due(), None);
}

#[test]
fn what_somebody_waits_for_is_reported_at_once() {
    let mut worker = worker(1);
    for serial in 1..=9 {
        worker.handle(Timestamp(0), Event::Leased(lease(serial)));
    }
    worker.handle(Timestamp(1000), Event::RecallRequested { token: token(9) });
    assert_eq!(worker.reports_due(), Some(Timestamp(1000)));
    worker.take_reports(10);
    // A report without queued leases is sent immediately, too.
    for serial in 1..=8 {
        worker.take_reports(10);
        finish_at(&mut worker, Timestamp(2000), serial);
    }
    assert_eq!(worker.reports_due(), Some(Timestamp(2000)));
}

#[test]
fn a_lease_that_waits_for_room_is_returned_when_it_has_waited_too_long() {
    let mut worker = worker(1);
    for serial in 1..=3 {
        worker.handle(Timestamp(0), Event::Leased(lease(serial)));
    }
    worker.take_reports(10);
    for (serial, reason) in [(2, StopReason::TimedOut), (3, StopReason::Cancelled)] {
        worker.handle(Timestamp(1), Event::StopRequested { token: token(serial), reason });
    }
    let reports = worker.take_reports(10);
    assert_eq!(reports[0].kind, ReportKind::Returned);
    let ReportKind::Finished { outcome, .. } = &reports[1].kind else { panic!("{reports:?}") };
    assert_eq!(outcome.as_ref().unwrap_err().cause.kind, CauseKind::Cancelled);
    // It never starts.
    assert!(started(&finish(&mut worker, 1)).is_empty());
}

#[test]
fn a_lease_that_is_taken_back_is_in_the_inventory_and_uses_room_until_its_end() {
    let settings = Settings { capacity: Resources::cpu_milli(1000), ..Settings::default() };
    let mut worker = WorkerCore::new(settings, Vec::new());
    assert!(worker.resume(lease(1)));
    assert!(!worker.resume(lease(1)));
    let commands = worker.handle(Timestamp(0), Event::Connected);
    let [Command::SendInventory(inventory)] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!(inventory.held.len(), 1);
    worker.handle(Timestamp(0), Event::Welcomed { lease_ttl: Duration::from_secs(15) });
    assert!(started(&worker.handle(Timestamp(0), Event::Leased(lease(2)))).is_empty());
    worker.handle(Timestamp(0), Event::AttemptStarted { token: token(1) });
    assert_eq!(started(&finish(&mut worker, 1)), [2]);
}

#[test]
fn a_lease_is_not_taken_back_if_the_report_of_its_end_is_left() {
    let outcome = Ok(Outputs::default());
    let (usage, is_output_late) = (Usage::default(), false);
    let kind = ReportKind::Finished { outcome, usage, is_output_late };
    let report = Report { attempt: lease(1).attempt, token: token(1), kind };
    let mut worker = WorkerCore::new(Settings::default(), vec![report]);
    assert!(!worker.resume(lease(1)));
    assert_eq!(worker.n_held(), 0);
}
