//! What a packet says.

use vmcore::{Point, Space, Watch};

use crate::hex;
use crate::target::GENERAL;

/// A thread by gdb's number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Thread {
    /// `-1`.
    All,
    /// `0`.
    Any,
    /// This hart.
    Hart(u32),
}

/// A packet that is understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Command<'a> {
    StopReason,
    ReadGeneral,
    WriteGeneral(Vec<u64>),
    ReadRegister(u64),
    WriteRegister(u64, u64),
    ReadMemory {
        addr: u64,
        len: u64,
    },
    WriteMemory {
        addr: u64,
        bytes: Vec<u8>,
    },
    Insert(Point),
    Remove(Point),
    /// `c` or `s`, perhaps with an address to go on at.
    GoOn {
        step: bool,
        at: Option<u64>,
    },
    ContinueActions(&'a str),
    /// `vCont?`
    ContinueHelp,
    Detach,
    Kill,
    /// The thread that registers and memory are those of.
    SelectThread(&'a str),
    /// The thread that `c` and `s` are for.
    SelectResumed(&'a str),
    IsAlive(&'a str),
    CurrentThread,
    FirstThreads,
    MoreThreads,
    ThreadInfo(&'a str),
    Supported,
    Attached,
    NoAcknowledgements,
    /// A part of `target.xml` or of the list of threads.
    Transfer {
        what: Document,
        offset: u64,
        len: u64,
    },
    Monitor(Vec<u8>),
    MemoryMode,
    SetMemoryMode(Space),
}

/// A document that is read in parts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Document {
    Target,
    Threads,
}

/// Why a packet is not carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unread {
    /// Not one that we know: the answer is empty.
    Unknown,
    /// One that we know, wrongly made.
    Malformed,
}

/// Reads a packet's body.
pub(crate) fn parse(body: &[u8]) -> Result<Command<'_>, Unread> {
    if let Some(rest) = body.strip_prefix(b"X") {
        return write_binary(rest).ok_or(Unread::Malformed);
    }
    let text = std::str::from_utf8(body).map_err(|_| Unread::Unknown)?;
    let (first, rest) = text.split_at_checked(1).ok_or(Unread::Unknown)?;
    let bad = Unread::Malformed;
    Ok(match first {
        "?" => Command::StopReason,
        "g" => Command::ReadGeneral,
        "G" => Command::WriteGeneral(general(rest).ok_or(bad)?),
        "p" => Command::ReadRegister(hex::number(rest).ok_or(bad)?),
        "P" => {
            let (number, value) = rest.split_once('=').ok_or(bad)?;
            Command::WriteRegister(hex::number(number).ok_or(bad)?, hex::word(value).ok_or(bad)?)
        }
        "m" => {
            let (addr, len) = two(rest, ',').ok_or(bad)?;
            Command::ReadMemory { addr, len }
        }
        "M" => write_text(rest).ok_or(bad)?,
        "Z" => Command::Insert(point(rest)?),
        "z" => Command::Remove(point(rest)?),
        "c" | "s" => Command::GoOn { step: first == "s", at: optional(rest).ok_or(bad)? },
        "C" | "S" => {
            let at = rest.split_once(';').map_or("", |(_signal, at)| at);
            Command::GoOn { step: first == "S", at: optional(at).ok_or(bad)? }
        }
        "D" => Command::Detach,
        "k" => Command::Kill,
        "T" => Command::IsAlive(rest),
        "H" => match rest.split_at_checked(1).ok_or(bad)? {
            ("g", thread) => Command::SelectThread(thread),
            ("c", thread) => Command::SelectResumed(thread),
            _ => return Err(bad),
        },
        _ => return named(text),
    })
}

/// Packets with names of more than a letter.
fn named(text: &str) -> Result<Command<'_>, Unread> {
    let bad = Unread::Malformed;
    let (name, rest) = text.split_at(text.find([':', ';', ',']).unwrap_or(text.len()));
    let rest = rest.get(1..).unwrap_or_default();
    Ok(match name {
        "vCont" => Command::ContinueActions(rest),
        "vCont?" => Command::ContinueHelp,
        "vKill" => Command::Kill,
        "qSupported" => Command::Supported,
        "qAttached" => Command::Attached,
        "qC" => Command::CurrentThread,
        "qfThreadInfo" => Command::FirstThreads,
        "qsThreadInfo" => Command::MoreThreads,
        "qThreadExtraInfo" => Command::ThreadInfo(rest),
        "qRcmd" => Command::Monitor(hex::bytes(rest).ok_or(bad)?),
        "qXfer" => transfer(rest)?,
        "QStartNoAckMode" => Command::NoAcknowledgements,
        "qqemu.PhyMemMode" => Command::MemoryMode,
        "Qqemu.PhyMemMode" => Command::SetMemoryMode(match rest {
            "0" => Space::Virtual,
            "1" => Space::Physical,
            _ => return Err(bad),
        }),
        _ => return Err(Unread::Unknown),
    })
}

/// A thread's number, if there is such a hart.
pub(crate) fn thread_id(text: &str, harts: u32) -> Option<Thread> {
    if text == "-1" {
        return Some(Thread::All);
    }
    match u32::try_from(hex::number(text)?).ok()? {
        0 => Some(Thread::Any),
        number if number <= harts => Some(Thread::Hart(number - 1)),
        _ => None,
    }
}

fn two(text: &str, separator: char) -> Option<(u64, u64)> {
    let (first, second) = text.split_once(separator)?;
    Some((hex::number(first)?, hex::number(second)?))
}

/// A number or nothing.
fn optional(text: &str) -> Option<Option<u64>> {
    if text.is_empty() { Some(None) } else { hex::number(text).map(Some) }
}

fn general(text: &str) -> Option<Vec<u64>> {
    let bytes = hex::bytes(text)?;
    let whole = bytes.len().is_multiple_of(8) && bytes.len() as u64 <= 8 * GENERAL;
    let word = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_le_bytes);
    whole.then(|| bytes.chunks(8).filter_map(word).collect())
}

fn write_text(text: &str) -> Option<Command<'_>> {
    let (place, data) = text.split_once(':')?;
    let (addr, len) = two(place, ',')?;
    let bytes = hex::bytes(data)?;
    (bytes.len() as u64 == len).then_some(Command::WriteMemory { addr, bytes })
}

fn write_binary(body: &[u8]) -> Option<Command<'_>> {
    let colon = body.iter().position(|byte| *byte == b':')?;
    let (addr, len) = two(std::str::from_utf8(body.get(..colon)?).ok()?, ',')?;
    let bytes = body.get(colon + 1..)?.to_vec();
    (bytes.len() as u64 == len).then_some(Command::WriteMemory { addr, bytes })
}

/// `TYPE,ADDR,KIND`, where the kind is the length of what is watched. Conditions and commands, which we do not
/// announce, are not taken.
fn point(text: &str) -> Result<Point, Unread> {
    let (kind, place) = text.split_once(',').ok_or(Unread::Malformed)?;
    let (addr, len) = two(place, ',').ok_or(Unread::Malformed)?;
    let watch = match kind {
        "0" | "1" => return Ok(Point::Break(addr)),
        "2" => Watch::Write,
        "3" => Watch::Read,
        "4" => Watch::Access,
        _ => return Err(Unread::Unknown),
    };
    let fits = len != 0 && addr.checked_add(len - 1).is_some();
    if fits { Ok(Point::Watch { addr, len, kind: watch }) } else { Err(Unread::Malformed) }
}

/// `OBJECT:read:ANNEX:OFFSET,LENGTH`.
fn transfer(text: &str) -> Result<Command<'_>, Unread> {
    let mut parts = text.split(':');
    let what = match (parts.next(), parts.next(), parts.next()) {
        (Some("features"), Some("read"), Some("target.xml")) => Document::Target,
        (Some("threads"), Some("read"), Some("")) => Document::Threads,
        (Some("features" | "threads"), Some("read"), _) => return Err(Unread::Malformed),
        _ => return Err(Unread::Unknown),
    };
    let (offset, len) = parts.next().and_then(|range| two(range, ',')).ok_or(Unread::Malformed)?;
    Ok(Command::Transfer { what, offset, len })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn packets_are_read() {
        for (body, command) in [
            ("m8000,10", Command::ReadMemory { addr: 0x8000, len: 0x10 }),
            ("M8000,2:abcd", Command::WriteMemory { addr: 0x8000, bytes: vec![0xab, 0xcd] }),
            ("X10,0:", Command::WriteMemory { addr: 0x10, bytes: vec![] }),
            ("P20=0000208000000000", Command::WriteRegister(32, 0x8020_0000)),
            ("c", Command::GoOn { step: false, at: None }),
            ("S05;44", Command::GoOn { step: true, at: Some(0x44) }),
            ("Z0,8000,4", Command::Insert(Point::Break(0x8000))),
            ("z2,8000,8", Command::Remove(Point::Watch { addr: 0x8000, len: 8, kind: Watch::Write })),
            ("Hg1", Command::SelectThread("1")),
            ("vCont;s:1;c", Command::ContinueActions("s:1;c")),
            ("vCont?", Command::ContinueHelp),
            ("qSupported:swbreak+", Command::Supported),
            ("Qqemu.PhyMemMode:1", Command::SetMemoryMode(Space::Physical)),
            (
                "qXfer:features:read:target.xml:0,fff",
                Command::Transfer { what: Document::Target, offset: 0, len: 0xfff },
            ),
        ] {
            assert_eq!(parse(body.as_bytes()), Ok(command), "{body}");
        }
    }

    #[test]
    fn what_is_wrong_and_what_is_unknown_are_told_apart() {
        for bad in [
            "m",
            "m1",
            "m1,",
            "mx,1",
            "M0,2:ab",
            "X0,2:a",
            "P1",
            "G0",
            "Z2,0,0",
            "Z2,ffffffffffffffff,2",
            "H",
            "qRcmd,0",
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(Unread::Malformed), "{bad}");
        }
        for unknown in ["", "!", "Z9,0,0", "vMustReplyEmpty", "qSymbol::", "qXfer:auxv:read::0,1", "é"] {
            assert_eq!(parse(unknown.as_bytes()), Err(Unread::Unknown), "{unknown}");
        }
        assert_eq!(parse(&[0xff]), Err(Unread::Unknown));
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body: Vec<u8>, text in "[?gGpPmMXZzcsCSDkTHvqQ0-9a-f,;:=-]{0,40}") {
            let _ = parse(&body);
            let _ = parse(text.as_bytes());
        }
    }
}
