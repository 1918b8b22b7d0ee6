//! Dumps of guest memory.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::PoisonError;

use ::dump::DumpError;
use backends::FdSets;
use engine::JobReport;
use qmp::schema::{Qapi as _, Type, arg, opt};
use qmp::{Args, ErrorClass, QmpError, qapi_enum, qapi_struct};

use super::{Command, Env, command};
use crate::hmp::{HmpError, Human, Screen, Words, shorten};

qapi_enum! {
    /// Forms of a dump. Only `elf` is written.
    DumpGuestMemoryFormat {
        /// A core file.
        Elf = "elf",
        /// Compressed with zlib, flattened.
        KdumpZlib = "kdump-zlib",
        /// Compressed with lzo, flattened.
        KdumpLzo = "kdump-lzo",
        /// Compressed with snappy, flattened.
        KdumpSnappy = "kdump-snappy",
        /// Compressed with zlib.
        KdumpRawZlib = "kdump-raw-zlib",
        /// Compressed with lzo.
        KdumpRawLzo = "kdump-raw-lzo",
        /// Compressed with snappy.
        KdumpRawSnappy = "kdump-raw-snappy",
        /// For Windows guests.
        WinDmp = "win-dmp",
    }
}

qapi_enum! {
    /// How a dump is.
    DumpStatus {
        /// There was none.
        None = "none",
        /// It is being written.
        Active = "active",
        /// It is complete.
        Completed = "completed",
        /// It has failed.
        Failed = "failed",
    }
}

qapi_struct! {
    /// A dump's progress.
    DumpQueryResult {
        /// How it is.
        status: DumpStatus = "status",
        /// Bytes of guest memory written.
        completed: i64 = "completed",
        /// Bytes of guest memory to write.
        total: i64 = "total",
    }
}

qapi_struct! {
    /// What this program can dump.
    DumpGuestMemoryCapability {
        /// The forms that it writes.
        formats: Vec<DumpGuestMemoryFormat> = "formats",
    }
}

pub(super) static COMMANDS: &[Command] = &[
    command! {
        /// Writes guest memory as a core file with the registers of every hart. A machine that runs, or sleeps, stands
        /// meanwhile.
        "dump-guest-memory" [
            arg("paging", Type::Bool, "Whether virtual addresses are wanted, which is refused."),
            arg("protocol", Type::Str, "Where to: file:PATH, or fd:NAME of a descriptor that `getfd` has named."),
            opt("detach", Type::Bool, "Answer at once; DUMP_COMPLETED tells the end."),
            opt("begin", Type::Int, "The first guest physical address."),
            opt("length", Type::Int, "How many bytes from there."),
            opt("format", DumpGuestMemoryFormat::TYPE, "The form."),
        ] -> () = dump_guest_memory
    }
    .human(
        Human::new(&["dump-guest-memory"], "write guest memory to a core file", dump_for_people)
            .words("[-d] FILE [BEGIN LENGTH]", Words::Any(1, 4)),
    ),
    command! {
        /// The progress of the dump under way, or the last one.
        "query-dump" [] -> DumpQueryResult = |env: &Env<'_>, _: &Args| Ok(last(env))
    }
    .human(Human::info(&["dump"], "show the progress of a dump of guest memory", info_dump)),
    command! {
        /// What can be dumped.
        "query-dump-guest-memory-capability" [] -> DumpGuestMemoryCapability = |_: &Env<'_>, _: &Args| {
            Ok(DumpGuestMemoryCapability { formats: vec![DumpGuestMemoryFormat::Elf] })
        }
    },
];

impl From<&JobReport> for DumpQueryResult {
    fn from(report: &JobReport) -> Self {
        let status = match (report.ended, &report.error) {
            (false, _) => DumpStatus::Active,
            (true, None) => DumpStatus::Completed,
            (true, Some(_)) => DumpStatus::Failed,
        };
        let bytes = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        Self { status, completed: bytes(report.completed), total: bytes(report.total) }
    }
}

fn last(env: &Env<'_>) -> DumpQueryResult {
    let dump = env.context.dump.lock().unwrap_or_else(PoisonError::into_inner);
    let none = DumpQueryResult { status: DumpStatus::None, completed: 0, total: 0 };
    dump.as_ref().map_or(none, |control| DumpQueryResult::from(&control.report()))
}

fn info_dump(screen: &mut Screen<'_>, _: &[&str]) -> Result<(), HmpError> {
    use qmp::schema::QapiEnum as _;
    let dump = last(screen.env);
    screen.print(&format!("Status: {}", dump.status.name()));
    if let DumpStatus::Active = dump.status {
        let percent = 100.0 * dump.completed as f64 / dump.total.max(1) as f64;
        screen.print(&format!("Finished: {percent:.2} %"));
    }
    Ok(())
}

/// What is to be dumped, and where to.
struct Wanted<'a> {
    protocol: &'a str,
    range: Option<(u64, u64)>,
    detached: bool,
}

fn dump_guest_memory(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    if args.opt_bool("paging").unwrap_or(false) {
        return Err(QmpError::generic("this feature or command is not currently supported"));
    }
    let address = |name: &str| args.opt_i64(name).map(|value| value as u64);
    let range = match (address("begin"), address("length")) {
        (None, None) => None,
        (Some(begin), Some(length)) => Some((begin, length)),
        (Some(_), None) => return Err(QmpError::generic("Parameter 'length' is missing")),
        (None, Some(_)) => return Err(QmpError::generic("Parameter 'begin' is missing")),
    };
    if let Some(format) = args.opt_str("format").filter(|format| *format != "elf") {
        return Err(QmpError::generic(format!("{format} is not available now")));
    }
    let detached = args.opt_bool("detach").unwrap_or(false);
    run(env, &Wanted { protocol: args.str("protocol"), range, detached })
}

fn dump_for_people(screen: &mut Screen<'_>, words: &[&str]) -> Result<(), HmpError> {
    let (detached, words) = match words {
        ["-d", rest @ ..] => (true, rest),
        _ => (false, words),
    };
    let (path, range) = match words {
        [path] => (path, None),
        [path, begin, length] => (path, Some((number(begin)?, number(length)?))),
        [_, begin] => return Err(HmpError::BadValue(shorten(begin))),
        _ => return Err(HmpError::BadValue(shorten(words.first().copied().unwrap_or("-d")))),
    };
    let protocol = format!("file:{path}");
    Ok(run(screen.env, &Wanted { protocol: &protocol, range, detached })?)
}

/// A number as people write it, decimal or with `0x`.
fn number(word: &str) -> Result<u64, HmpError> {
    let parsed = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    };
    parsed.map_err(|_| HmpError::BadValue(shorten(word)))
}

/// Dumps, and waits for the end unless detached. What is refused has opened nothing.
fn run(env: &Env<'_>, wanted: &Wanted<'_>) -> Result<(), QmpError> {
    let engine = env.engine();
    ::dump::may_begin(engine).map_err(failed)?;
    let target = open(env, wanted.protocol)?;
    let job = ::dump::begin(engine, env.by(), target, wanted.range, wanted.detached).map_err(failed)?;
    let control = job.control().clone();
    *env.context.dump.lock().unwrap_or_else(PoisonError::into_inner) = Some(control.clone());
    if wanted.detached {
        return Ok(());
    }
    if !job.wait() {
        return Err(failed(engine::ManageError::Ended.into()));
    }
    control.report().error.map_or(Ok(()), |error| Err(QmpError::generic(error.to_string())))
}

fn failed(error: DumpError) -> QmpError {
    QmpError::new(ErrorClass::GenericError, error.to_string())
}

fn open(env: &Env<'_>, protocol: &str) -> Result<OwnedFd, QmpError> {
    if let Some(name) = protocol.strip_prefix("fd:") {
        let found = env.client.take_named(name);
        return found.ok_or_else(|| {
            QmpError::generic(format!("File descriptor named '{}' has not been found", shorten(name)))
        });
    }
    let Some(path) = protocol.strip_prefix("file:") else {
        return Err(QmpError::generic("Invalid parameter 'protocol'"));
    };
    if let Some(set) = FdSets::number_in(path) {
        let opened = env.config().fdsets.open_for_writing(set);
        return opened.map_err(|error| QmpError::generic(error.to_string()));
    }
    // Only the owner may read what a guest had in its memory. What the file had goes when the dump begins.
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.map(OwnedFd::from).map_err(|error| {
        let words = error.to_string();
        let words = words.split(" (os error").next().unwrap_or_default();
        QmpError::generic(format!("Could not create '{}': {words}", shorten(path)))
    })
}
