//! The history of a run, stored in columns.

use kahn_core::{Messages, Record, RecordKind, Spent};
use kahn_proto::convert::{ConvertError, state};
use kahn_proto::storage as wire;

use super::cells::small;
use crate::codec::CodecError;

pub(super) fn to_wire(history: &[Record], spent: &[Spent], messages: &Messages) -> wire::History {
    let message = |(record, text): (u32, &str)| wire::Message { record, text: text.to_owned() };
    let mut out = wire::History {
        kinds: history.iter().map(|record| record.kind.number() + 1).collect(),
        causes: history.iter().map(|r| r.cause.map_or(0, state::cause_number)).collect(),
        attempts: history.iter().map(|record| record.attempt.into()).collect(),
        workers: history.iter().map(|record| record.worker.into()).collect(),
        spent: spent.iter().map(spent_to_wire).collect(),
        messages: messages.iter().map(message).collect(),
        ..wire::History::default()
    };
    let (mut last_at, mut last_task, mut last_coded) = (0u64, 0i64, 0u32);
    for (position, record) in (0u32..).zip(history) {
        out.at.push(record.at.0.wrapping_sub(last_at).cast_signed());
        last_at = record.at.0;
        // The task plus one. Zero, by wrapping, stands for the run itself.
        let task = i64::from(record.task.wrapping_add(1));
        out.tasks.push(task - last_task);
        last_task = task;
        if record.code != 0 {
            out.codes.push(record.code);
            out.coded.push(position - last_coded);
            last_coded = position;
        }
    }
    out
}

/// Decodes the records, with tasks below `n_tasks` and workers up to `n_workers`.
pub(super) fn from_wire(
    history: &wire::History,
    n_tasks: usize,
    n_workers: usize,
) -> Result<Vec<Record>, CodecError> {
    check_lengths(history)?;
    let (mut at, mut task) = (0u64, 0i64);
    let mut records = Vec::with_capacity(history.kinds.len());
    for position in 0..history.kinds.len() {
        at = at.wrapping_add_signed(history.at[position]);
        task = task.wrapping_add(history.tasks[position]);
        let worker = small("history.workers", &history.workers, position)?;
        if usize::from(worker) > n_workers {
            return Err(out_of_range("history.workers", worker.into(), n_workers));
        }
        let number = i32::from(history.causes[position]);
        records.push(Record {
            at: kahn_model::Timestamp(at),
            code: 0,
            task: checked_task(task, n_tasks)?,
            attempt: small("history.attempts", &history.attempts, position)?,
            worker,
            kind: kind(history.kinds[position])?,
            cause: (number != 0).then(|| state::cause("history.causes", number)).transpose()?,
        });
    }
    set_codes(&mut records, history)?;
    Ok(records)
}

fn spent_to_wire(spent: &Spent) -> wire::Spent {
    wire::Spent {
        record: spent.record,
        elapsed_micros: spent.elapsed_micros,
        cpu_micros: spent.cpu_micros,
        memory_peak: spent.memory_peak,
        read_bytes: spent.read_bytes,
        written_bytes: spent.written_bytes,
    }
}

/// Decodes the resource usage of attempts, ordered by the positions of their records.
pub(super) fn spent_from_wire(history: &wire::History) -> Result<Vec<Spent>, CodecError> {
    let records = history.spent.iter().map(|spent| spent.record);
    if !are_positions(records, history.kinds.len()) {
        return Err(CodecError::Inconsistent("usage entries are not in the order of records"));
    }
    let spent = |spent: &wire::Spent| Spent {
        record: spent.record,
        elapsed_micros: spent.elapsed_micros,
        cpu_micros: spent.cpu_micros,
        memory_peak: spent.memory_peak,
        read_bytes: spent.read_bytes,
        written_bytes: spent.written_bytes,
    };
    Ok(history.spent.iter().map(spent).collect())
}

/// What failed attempts said.
pub(super) fn messages_from_wire(history: &wire::History) -> Result<Messages, CodecError> {
    let records = history.messages.iter().map(|message| message.record);
    if !are_positions(records, history.kinds.len()) {
        return Err(CodecError::Inconsistent("messages are not in the order of records"));
    }
    let mut out = Messages::default();
    for message in &history.messages {
        out.push(message.record, &message.text);
    }
    Ok(out)
}

/// Whether these are ascending positions of `n` records.
fn are_positions(records: impl Iterator<Item = u32> + Clone, n: usize) -> bool {
    let is_below = |last: u32| kahn_model::TaskIx(last).index() < n;
    records.clone().is_sorted_by(|one, next| one < next) && records.last().is_none_or(is_below)
}

fn check_lengths(history: &wire::History) -> Result<(), CodecError> {
    let n = history.kinds.len();
    for (field, found, expected) in [
        ("history.at", history.at.len(), n),
        ("history.tasks", history.tasks.len(), n),
        ("history.attempts", history.attempts.len(), n),
        ("history.workers", history.workers.len(), n),
        ("history.causes", history.causes.len(), n),
        ("history.coded", history.coded.len(), history.codes.len()),
    ] {
        if found != expected {
            return Err(ConvertError::Length { field, found, expected }.into());
        }
    }
    Ok(())
}

fn kind(number: u8) -> Result<RecordKind, CodecError> {
    let kind = number.checked_sub(1).and_then(RecordKind::from_number);
    kind.ok_or_else(|| {
        ConvertError::UnknownValue { field: "history.kinds", found: number.into() }.into()
    })
}

fn checked_task(plus_one: i64, n_tasks: usize) -> Result<u32, CodecError> {
    if plus_one == 0 {
        return Ok(Record::NO_TASK);
    }
    let task = plus_one.checked_sub(1).map(u32::try_from);
    match task {
        Some(Ok(task)) if kahn_model::TaskIx(task).index() < n_tasks => Ok(task),
        _ => Err(out_of_range("history.tasks", plus_one, n_tasks)),
    }
}

fn set_codes(records: &mut [Record], history: &wire::History) -> Result<(), CodecError> {
    let mut position = 0usize;
    for (step, code) in history.coded.iter().zip(&history.codes) {
        position = position.saturating_add(kahn_model::TaskIx(*step).index());
        let limit = records.len();
        let record = records
            .get_mut(position)
            .ok_or_else(|| out_of_range("history.coded", (*step).into(), limit))?;
        record.code = *code;
    }
    Ok(())
}

fn out_of_range(field: &'static str, found: i64, limit: usize) -> CodecError {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    ConvertError::OutOfRange { field, found, limit }.into()
}
