//! The life of the process: open, build, start, wait, end.

use std::error::Error;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use engine::{Builder, By, Engine};
use migration::jobs::Jobs;
use migration::snapshot::{LoadOptions, SnapshotError, Snapshots};
use migration::{Lent, MakeError, MigrationError};
use monitor::{Config, EventLog, Monitors, TestClock};
use runstate::{ManagementRequest, Power};
use sys::SignalFd;
use vmcore::Machine;

use crate::channels::Channels;
use crate::cli::{self, Incoming, Load, MachineKind, Options};
use crate::consoles::Consoles;
use crate::disks::Disks;
use crate::host;
use crate::objects;
use crate::setup::{self, Clocks, NoMachine};
use crate::stub::Stub;

/// How long the end of the process waits for clients that do not read.
const FAREWELL: Duration = Duration::from_secs(1);

/// A file that the options ask for cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {what} '{}': {source}", path.display())]
struct WriteError {
    what: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

/// Something that the host refuses.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
struct HostError {
    what: &'static str,
    source: std::io::Error,
}

/// What the program is called in greetings and in what it writes.
const PROGRAM: &str = concat!("dormouse ", env!("CARGO_PKG_VERSION"));

/// A snapshot cannot be started from.
#[derive(Debug, thiserror::Error)]
#[error("{option}: {source}")]
struct LoadError {
    /// With its value.
    option: String,
    source: SnapshotError,
}

/// A command that has waited so long for a disk waits for one that hangs: as long as the end of the machine waits for it.
const HANGS: Duration = Duration::from_secs(3);

/// Runs the machine of `options` to its end.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    for warning in &options.warnings {
        crate::say(warning);
    }
    if let Some(path) = &options.machine.dumpdtb {
        return dump_device_tree(options, path);
    }
    // Both before any thread exists: a fork takes one thread along, and a signal goes to any thread that does not block it.
    let daemon = options
        .daemonize
        .then(sys::daemonize)
        .transpose()
        .map_err(|source| HostError { what: "-daemonize", source })?;
    let signals = SignalFd::new(&sys::signals::TERMINATION)
        .map_err(|source| HostError { what: "cannot take over signals", source })?;
    start_logging(options)?;

    let clocks = Clocks::new(options.icount, options.test_clock);
    let running = Arc::new(OnceLock::new());
    host::watch_signals(signals, Arc::clone(&running))
        .map_err(|source| HostError { what: "cannot watch for signals", source })?;
    let mut consoles = Consoles::open(options, Arc::clone(&running))?;
    let test_clock =
        clocks.shifted.clone().map(|clock| TestClock { clock, timers: Arc::clone(&clocks.timers) });
    let mut channels = Channels::default();
    let disks = Disks::open(options)?;
    let engine = build(options, clocks, &consoles, &mut channels, &disks)?;
    // Set once: there is one machine.
    let _ = running.set(engine.clone());
    let snapshots = Snapshots::new(engine.clone(), options.snapshots.as_deref(), PROGRAM, Jobs::default())?;
    let stub = Stub::new(engine.clone(), options);
    let gdbserver = Arc::clone(&stub);
    let monitors = Monitors::new(Config {
        engine: engine.clone(),
        program: PROGRAM.to_owned(),
        name: options.name.clone(),
        uuid: options.uuid.map(|uuid| monitor::uuid_text(&uuid)),
        vmgenid: options.vmgenid.is_some(),
        machines: objects::machines(),
        options: cli::command_line_options(),
        cpu_models: objects::cpu_models(),
        objects: objects::objects(options),
        memory: options.memory,
        chardevs: Box::new(consoles.chardevs()),
        fdsets: consoles.fdsets(),
        gdbserver: Box::new(move |device| gdbserver.command(device)),
        send_break: Box::new(consoles.send_break()),
        nodes: disks.nodes.clone(),
        disks: disks.all(),
        snapshots: snapshots.clone(),
        test_clock,
        patience: HANGS,
    });
    make_objects(options, &monitors)?;
    channels.tell(monitors.announcer());
    stub.connect(monitors.clone());
    let event_log = begin_event_log(options, &engine)?;
    let pidfile = options.pidfile.as_deref().map(PidFile::write).transpose()?;
    load_snapshot(options, &snapshots)?;
    if !options.start_stopped && options.incoming.is_none() {
        // Before the first client is heard, so that none sees the RESUME of the start: QEMU's clients never do. Refused
        // only if a signal has ended the machine already.
        let _ = engine.manage_by(command_line(), ManagementRequest::Cont);
        if options.load.as_ref().is_some_and(|load| !load.fork)
            && matches!(engine.status().power, Power::Asleep(_))
        {
            // As in QEMU: who starts a machine from a snapshot without -S wants it to run.
            let _ = engine.manage_by(command_line(), ManagementRequest::SystemWakeup);
        }
    }
    consoles.serve(&monitors)?;
    stub.start(options)?;
    take_in(options, &monitors, &consoles)?;
    if let Some(daemon) = daemon {
        daemon.ready().map_err(|source| HostError { what: "-daemonize", source })?;
    }
    let status = engine.wait();
    snapshots.end(FAREWELL);
    stub.end(status, FAREWELL);
    monitors.shutdown(FAREWELL);
    if let Some(log) = event_log {
        log.finish(FAREWELL);
    }
    consoles.flush(FAREWELL);
    drop(pidfile);
    backends::clean_up();
    // Threads that wait for the terminal's input cannot be joined; they end with the process.
    std::process::exit(status)
}

/// Who asks for what the command line says.
fn command_line() -> By {
    By::Client("command line".into())
}

/// Before the machine starts, which then goes on from there.
fn load_snapshot(options: &Options, snapshots: &Snapshots) -> Result<(), LoadError> {
    let Some(Load { name, fork }) = &options.load else { return Ok(()) };
    let generation = options.vmgenid.as_ref().and_then(|device| device.guid);
    let load = LoadOptions {
        name: name.clone(),
        fork: *fork,
        keep_asleep: *fork,
        generation,
        ..LoadOptions::default()
    };
    let option = if *fork { "-x-snapshot-fork" } else { "-loadvm" };
    let failed = |source| LoadError { option: format!("{option} {name}"), source };
    snapshots.load(command_line(), &load).map_err(failed)
}

fn build(
    options: &Options,
    clocks: Clocks,
    consoles: &Consoles,
    channels: &mut Channels,
    disks: &Disks,
) -> Result<Engine, Box<dyn Error>> {
    let builder = Builder::new();
    if options.machine.kind == MachineKind::None {
        let machine = NoMachine::new(&clocks);
        return Ok(setup::start(options, clocks, builder, machine, Vec::new())?);
    }
    let (board, vcpus) = setup::board(options, &clocks, &builder, Some(consoles), channels, disks)?;
    let uart = Arc::clone(board.uart());
    let engine = setup::start(options, clocks, builder, board as Arc<dyn Machine>, vcpus)?;
    consoles.attach_serial(&uart);
    channels.attach();
    Ok(engine)
}

/// A machine that is to arrive cannot be taken in from there.
#[derive(Debug, thiserror::Error)]
#[error("-incoming {place}: {source}")]
struct IncomingError {
    place: String,
    source: MigrationError,
}

/// `-object`.
fn make_objects(options: &Options, monitors: &Monitors) -> Result<(), MakeError> {
    let migrations = monitors.migrations();
    options.objects.iter().try_for_each(|(id, options)| migrations.objects().make(id, options.clone()))
}

/// Begins to take in the machine that `-incoming` names a place for.
fn take_in(options: &Options, monitors: &Monitors, consoles: &Consoles) -> Result<(), IncomingError> {
    let Some(Incoming::From(place, address)) = &options.incoming else { return Ok(()) };
    let fdsets = consoles.fdsets();
    let lent = Lent { named: &|_| None, fdsets: &fdsets };
    let begun = monitors.migrations().take_in(By::Client("command line".into()), address, &lent, true);
    begun.map(drop).map_err(|source| IncomingError { place: place.clone(), source })
}

/// Before the machine starts, so that the log has its whole life.
fn begin_event_log(options: &Options, engine: &Engine) -> Result<Option<EventLog>, WriteError> {
    let begin = |path: &PathBuf| {
        EventLog::begin(engine, path).map_err(|source| WriteError {
            what: "the event log",
            path: path.clone(),
            source,
        })
    };
    options.event_log.as_ref().map(begin).transpose()
}

fn dump_device_tree(options: &Options, path: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let clocks = Clocks::new(None, false);
    let (channels, disks) = (&mut Channels::default(), &Disks::default());
    let (board, _vcpus) = setup::board(options, &clocks, &Builder::new(), None, channels, disks)?;
    let tree = board.device_tree()?;
    std::fs::write(path, tree).map_err(|source| WriteError {
        what: "the device tree",
        path: path.to_owned(),
        source,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Logs go to the standard error or to the file of `-D`. Warnings and errors always; `-d` names more.
fn start_logging(options: &Options) -> Result<(), WriteError> {
    use tracing_subscriber::EnvFilter;
    let filter = match &options.logging.items {
        Some(items) => EnvFilter::try_new(items).unwrap_or_else(|_| EnvFilter::new("debug")),
        None => EnvFilter::new("warn"),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    match &options.logging.file {
        None => {
            let colours = std::io::stderr().is_terminal();
            builder.with_ansi(colours).with_writer(std::io::stderr).init();
        }
        Some(path) => {
            let file = std::fs::File::create(path).map_err(|source| WriteError {
                what: "the log",
                path: path.clone(),
                source,
            })?;
            builder.with_ansi(false).with_writer(Arc::new(file)).init();
        }
    }
    Ok(())
}

/// The pidfile; removed at the end.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> Result<Self, WriteError> {
        let failed = |source| WriteError { what: "the pidfile", path: path.to_owned(), source };
        let mut file = std::fs::File::create(path).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        // -daemonize goes to the root directory: remember where the file really is.
        Ok(Self(path.canonicalize().map_err(failed)?))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody else may have removed it already.
        let _ = std::fs::remove_file(&self.0);
    }
}
