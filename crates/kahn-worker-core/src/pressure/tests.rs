//! Tests when the share is lowered and raised.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Line {
    throttle: Throttle,
    now: Timestamp,
}

impl Line {
    fn new() -> Self {
        Self { throttle: Throttle::new(PressureLimits::default()), now: Timestamp(0) }
    }

    /// Returns the share after each of `n` equal samples.
    fn take(&mut self, n: usize, sample: Sample, n_running: usize) -> Vec<u32> {
        let mut shares = Vec::new();
        for _ in 0..n {
            self.now = self.now + SECOND;
            self.throttle.take(self.now, sample, n_running);
            shares.push(self.throttle.share().permille());
        }
        shares
    }
}

fn memory(permille: u32) -> Sample {
    Sample { memory: Some(permille), ..Sample::default() }
}

fn available(permille: u32) -> Sample {
    Sample { available_memory: Some(permille), ..Sample::default() }
}

fn cpu(permille: u32) -> Sample {
    Sample { cpu: Some(permille), ..Sample::default() }
}

fn io(permille: u32) -> Sample {
    Sample { io: Some(permille), ..Sample::default() }
}

#[test]
fn memory_lowers_the_share_at_once_and_down_to_the_floor() {
    let mut line = Line::new();
    assert_eq!(line.take(5, memory(101), 0), [500, 250, 125, 100, 100]);
    let mut line = Line::new();
    assert_eq!(line.take(1, available(49), 0), [500]);
}

#[test]
fn processors_and_disks_lower_it_only_when_the_pressure_lasts() {
    let mut line = Line::new();
    assert_eq!(line.take(4, cpu(3001), 1), [1000; 4]);
    assert_eq!(line.take(1, cpu(3000), 1), [1000], "a sample at the limit resets the count");
    assert_eq!(line.take(5, cpu(9000), 1), [1000, 1000, 1000, 1000, 700]);
    assert_eq!(line.take(5, cpu(9000), 1), [700, 700, 700, 700, 490]);
    let mut line = Line::new();
    assert_eq!(line.take(5, io(801), 2), [1000, 1000, 1000, 1000, 700]);
}

#[test]
fn a_disk_that_one_attempt_alone_keeps_busy_is_well_used() {
    assert_eq!(Line::new().take(20, io(1000), 1), [1000; 20]);
}

#[test]
fn every_processor_may_be_busy_with_threads_waiting_for_it() {
    assert_eq!(Line::new().take(20, cpu(3000), 4), [1000; 20]);
}

#[test]
fn calm_raises_it_step_by_step_and_then_there_is_no_reason_any_more() {
    let mut line = Line::new();
    line.take(2, memory(300), 3);
    let said = line.throttle.admission(line.now);
    assert_eq!(said.to_string(), "25% (memory pressure 30% > 10%)");
    assert_eq!(said.age, SECOND);
    assert_eq!(line.take(10, memory(0), 0), [250, 250, 250, 250, 350, 350, 350, 350, 350, 450]);
    assert_eq!(line.throttle.admission(line.now).age, SECOND * 11);
    line.take(30, memory(0), 0);
    assert_eq!(line.throttle.admission(line.now), Admission::default());
}

#[test]
fn between_pressure_and_calm_it_stays() {
    let mut line = Line::new();
    line.take(1, memory(300), 0);
    assert_eq!(line.take(20, memory(76), 0), [500; 20]);
    let mut line = Line::new();
    line.take(1, available(40), 0);
    assert_eq!(line.take(20, available(61), 0), [500; 20]);
    assert_eq!(line.take(5, available(62), 0).last(), Some(&600));
}

#[test]
fn a_floor_near_all_there_is_can_be_reached_again() {
    let limits = PressureLimits { available_memory: 960, ..PressureLimits::default() };
    let mut line = Line { throttle: Throttle::new(limits), now: Timestamp(0) };
    assert_eq!(line.take(1, available(950), 0), [500]);
    assert_eq!(line.take(5, available(970), 0).last(), Some(&600));
}

#[test]
fn what_is_not_known_or_has_no_limit_is_no_pressure() {
    assert_eq!(Line::new().take(20, Sample::default(), 9), [1000; 20]);
    let none = PressureLimits { memory: 0, available_memory: 0, cpu: 0, io: 0, ..<_>::default() };
    let mut line = Line { throttle: Throttle::new(none), now: Timestamp(0) };
    let worst =
        Sample { memory: Some(1000), available_memory: Some(0), cpu: Some(99_000), io: Some(1000) };
    assert_eq!(line.take(20, worst, 9), [1000; 20]);
}
