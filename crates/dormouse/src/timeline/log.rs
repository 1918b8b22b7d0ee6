//! The event log: lines of JSON, of which those that carry records count.
//!
//! What is read: X_LIFECYCLE events, as a monitor sends them and `-x-event-log` writes them; replies of `x-query-events`, and
//! bare records. Other objects (greetings, other events, other replies) may stand between, so that whatever was recorded from
//! a monitor is a log. A record that comes twice counts once.

use std::io::BufRead;

use runstate::RunState;
use serde_json::{Map, Value};

/// The longest line: a reply with as many records as one may have is about half of it.
const LONGEST_LINE: u64 = 4 << 20;
/// The most records of a picture.
const MOST_RECORDS: usize = 1_000_000;
/// The longest name of an event or a source that is shown.
const LONGEST_NAME: usize = 40;

/// What the guest did to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    Awake,
    Asleep,
    Off,
    Broken,
}

impl Power {
    pub(super) const ALL: [Self; 4] = [Self::Awake, Self::Asleep, Self::Off, Self::Broken];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Awake => "awake",
            Self::Asleep => "asleep",
            Self::Off => "off",
            Self::Broken => "broken",
        }
    }
}

/// A record, as far as it is drawn.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moment {
    pub(super) sequence: u64,
    pub(super) host_ns: u64,
    pub(super) guest_ns: u64,
    pub(super) state: RunState,
    pub(super) power: Power,
    pub(super) event: Option<String>,
    pub(super) woken_by: Option<String>,
}

/// Why a log cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("line {line} cannot be read")]
    Read { line: usize, source: std::io::Error },
    #[error("line {0} is longer than {LONGEST_LINE} bytes")]
    LongLine(usize),
    #[error("line {line} is not a JSON object: {source}")]
    Json { line: usize, source: serde_json::Error },
    #[error("line {line}: a record without a proper '{member}'")]
    Member { line: usize, member: &'static str },
    #[error("line {line}: the host's time goes back from record {before} to record {after}")]
    Back { line: usize, before: u64, after: u64 },
    #[error("line {line}: another record {sequence}: the log is of two machines")]
    Two { line: usize, sequence: u64 },
    #[error("there are more than {MOST_RECORDS} records")]
    TooMany,
    #[error(
        "there is no record of a machine's life in it (see x-lifecycle-events, x-query-events and -x-event-log)"
    )]
    Empty,
}

/// The records of a log, in order.
pub(super) fn read(mut input: impl BufRead) -> Result<Vec<Moment>, LogError> {
    let mut log = Log::default();
    let mut text = Vec::new();
    loop {
        text.clear();
        log.line += 1;
        let line = log.line;
        let mut bounded = std::io::Read::take(&mut input, LONGEST_LINE + 1);
        let count = bounded.read_until(b'\n', &mut text).map_err(|source| LogError::Read { line, source })?;
        if count == 0 {
            break;
        }
        let ended = text.last() == Some(&b'\n');
        if !ended && u64::try_from(text.len()).unwrap_or(u64::MAX) > LONGEST_LINE {
            return Err(LogError::LongLine(line));
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Map<String, Value>>(&text) {
            Ok(object) => log.take(&object)?,
            // The program was killed in the middle of its last line.
            Err(_) if !ended => break,
            Err(source) => return Err(LogError::Json { line, source }),
        }
    }
    if log.moments.is_empty() { Err(LogError::Empty) } else { Ok(log.moments) }
}

#[derive(Default)]
struct Log {
    line: usize,
    moments: Vec<Moment>,
}

impl Log {
    fn take(&mut self, object: &Map<String, Value>) -> Result<(), LogError> {
        if object.get("event").and_then(Value::as_str) == Some("X_LIFECYCLE") {
            return match object.get("data").and_then(Value::as_object) {
                Some(record) => self.add(record),
                None => Err(self.bad("data")),
            };
        }
        if let Some(records) = object.get("return").and_then(|reply| reply.get("records")) {
            for record in records.as_array().into_iter().flatten() {
                self.add(record.as_object().ok_or_else(|| self.bad("sequence"))?)?;
            }
            return Ok(());
        }
        if object.contains_key("sequence") && object.contains_key("new") { self.add(object) } else { Ok(()) }
    }

    fn add(&mut self, record: &Map<String, Value>) -> Result<(), LogError> {
        let moment = self.moment(record)?;
        let line = self.line;
        if let Some(last) = self.moments.last() {
            if moment.sequence <= last.sequence {
                let known = self.moments.binary_search_by_key(&moment.sequence, |known| known.sequence);
                let same =
                    known.ok().and_then(|at| self.moments.get(at)).is_none_or(|known| *known == moment);
                let sequence = moment.sequence;
                return if same { Ok(()) } else { Err(LogError::Two { line, sequence }) };
            }
            if moment.host_ns < last.host_ns {
                return Err(LogError::Back { line, before: last.sequence, after: moment.sequence });
            }
        }
        if self.moments.len() >= MOST_RECORDS {
            return Err(LogError::TooMany);
        }
        self.moments.push(moment);
        Ok(())
    }

    fn moment(&self, record: &Map<String, Value>) -> Result<Moment, LogError> {
        let number =
            |from: Option<&Value>, member| from.and_then(Value::as_u64).ok_or_else(|| self.bad(member));
        let time = record.get("time");
        let new = record.get("new");
        let power = new.and_then(|new| new.get("power")).and_then(Value::as_str);
        let state = new.and_then(|new| new.get("state")).and_then(Value::as_str);
        let name = |member| record.get(member).and_then(Value::as_str).map(shorten);
        Ok(Moment {
            sequence: number(record.get("sequence"), "sequence")?,
            host_ns: number(time.and_then(|time| time.get("host-ns")), "host-ns")?,
            guest_ns: number(time.and_then(|time| time.get("guest-ns")), "guest-ns")?,
            state: RunState::ALL
                .into_iter()
                .find(|known| Some(known.as_str()) == state)
                .ok_or_else(|| self.bad("state"))?,
            power: Power::ALL
                .into_iter()
                .find(|known| Some(known.name()) == power)
                .ok_or_else(|| self.bad("power"))?,
            event: name("event"),
            woken_by: name("woken-by"),
        })
    }

    fn bad(&self, member: &'static str) -> LogError {
        LogError::Member { line: self.line, member }
    }
}

fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect()
}
