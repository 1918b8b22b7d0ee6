//! The link of a move is cut anywhere, in every state of the machine: at most one of both sides has it, nothing of it is
//! lost, and it can be moved once more.

#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::{self, JoinHandle};

use migration::Address;
use runstate::{
    ActionChange, DeviceId, DeviceRequest, Fault, GuestRequest, IoErrorAction, ManagementRequest as Ask,
    PanicAction, Power, RunState, ShutdownAction, ShutdownCause, WatchdogAction,
};
use support::{World, unix};
use vmcore::DevicePort as _;
use vmcore::testing::Step;

const RAM: u64 = 0x8000_0000;

/// A state: how a running machine comes into it, what it is called, and what it is called where it arrives.
struct Row {
    make: fn(&World),
    name: RunState,
    arrives: RunState,
}

const ROWS: [Row; 12] = [
    Row { make: |_| {}, name: RunState::Running, arrives: RunState::Running },
    Row { make: World::fall_asleep, name: RunState::Suspended, arrives: RunState::Suspended },
    Row { make: |world| world.ask(Ask::Stop), name: RunState::Paused, arrives: RunState::Paused },
    Row { make: stopped_asleep, name: RunState::Paused, arrives: RunState::Paused },
    Row { make: reset, name: RunState::Prelaunch, arrives: RunState::Prelaunch },
    Row { make: off, name: RunState::Shutdown, arrives: RunState::Shutdown },
    Row { make: panicked, name: RunState::GuestPanicked, arrives: RunState::GuestPanicked },
    Row { make: bitten, name: RunState::Watchdog, arrives: RunState::Watchdog },
    Row { make: broken, name: RunState::InternalError, arrives: RunState::InternalError },
    Row { make: io_error, name: RunState::IoError, arrives: RunState::IoError },
    Row { make: io_error_and_stopped, name: RunState::IoError, arrives: RunState::IoError },
    // There is no debugger there.
    Row { make: |world| world.ask(Ask::DebugInterrupt), name: RunState::Paused, arrives: RunState::Paused },
];

fn stopped_asleep(world: &World) {
    world.fall_asleep();
    world.ask(Ask::Stop);
}

fn reset(world: &World) {
    world.ask(Ask::Stop);
    world.ask(Ask::SystemReset);
}

fn actions(world: &World) {
    let shutdown = Some(ShutdownAction::Pause);
    let (panic, watchdog) = (Some(PanicAction::Pause), Some(WatchdogAction::Pause));
    world.ask(Ask::SetActions(ActionChange { reboot: None, shutdown, panic, watchdog }));
}

fn off(world: &World) {
    actions(world);
    let (cause, exit_code) = (ShutdownCause::GuestShutdown, 0);
    world.scripts[0].then(Step::Ecall(GuestRequest::ShutDown { cause, exit_code }));
    world.until("STOP");
}

fn panicked(world: &World) {
    actions(world);
    world.scripts[0].then(Step::Ecall(GuestRequest::Panic));
    world.until("STOP");
}

fn bitten(world: &World) {
    actions(world);
    world.port.post(DeviceRequest::Watchdog);
    world.until("STOP");
}

fn broken(world: &World) {
    world.port.post(DeviceRequest::HartFailed { what: Fault::Effect });
    world.until("STOP");
}

fn io_error(world: &World) {
    world.port.post(DeviceRequest::IoError { device: DeviceId(0), action: IoErrorAction::Stop });
    world.until("STOP");
}

fn io_error_and_stopped(world: &World) {
    io_error(world);
    world.ask(Ask::Stop);
}

/// The link of a move, cut after so many bytes one way or the other.
#[derive(Clone, Copy, Debug)]
struct Cut {
    from_source: usize,
    from_target: usize,
}

const WHOLE: Cut = Cut { from_source: usize::MAX, from_target: usize::MAX };

fn link(target: &Path, listener: UnixListener, cut: Cut) -> JoinHandle<()> {
    let target = target.to_owned();
    thread::spawn(move || {
        let (source, _) = listener.accept().unwrap();
        let target = UnixStream::connect(target).unwrap();
        let out = pump(source.try_clone().unwrap(), target.try_clone().unwrap(), cut.from_source);
        let back = pump(target, source, cut.from_target);
        out.join().unwrap();
        back.join().unwrap();
    })
}

fn pump(mut from: UnixStream, mut to: UnixStream, limit: usize) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut left = limit;
        let mut buffer = [0; 4096];
        while left > 0 {
            let want = left.min(buffer.len());
            match from.read(&mut buffer[..want]) {
                Ok(0) | Err(_) => break,
                Ok(count) if to.write_all(&buffer[..count]).is_err() => break,
                Ok(count) => left -= count,
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    })
}

/// Moves the machine of `here` through a link that is cut so; gives the source's error.
fn moved(here: &World, there: &World, cut: Cut) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("m")).unwrap();
    let behind = folder.path().join("behind");
    let arriving = there.take_in(&Address::Unix(behind.clone())).unwrap();
    let proxy = link(&behind, listener, cut);
    let going = here.migrate(&unix(folder.path())).unwrap();
    assert!(going.wait() && arriving.wait());
    proxy.join().unwrap();
    here.migrations.report().unwrap().error.map(|error| error.to_string())
}

/// State, power and holds.
fn life(world: &World) -> (RunState, Power, Vec<String>) {
    let status = world.engine.status();
    let holds = status.holds.iter().map(|hold| format!("{hold:?}")).collect();
    (status.state, status.power, holds)
}

fn made(row: &Row) -> World {
    let world = World::running();
    world.ram().write(RAM + 0x12_3456, b"of the guest").unwrap();
    world.host.advance(5_000);
    (row.make)(&world);
    assert_eq!(world.state(), row.name);
    world.take();
    world
}

#[track_caller]
fn has_arrived(row: &Row, there: &World, power: Power, why: Cut) {
    let status = there.engine.status();
    assert_eq!((status.state, status.power), (row.arrives, power), "{why:?}");
    let mut bytes = [0; 12];
    there.ram().read(RAM + 0x12_3456, &mut bytes).unwrap();
    assert_eq!(&bytes, b"of the guest", "{why:?}");
    assert_eq!(there.clock.now_ns(), 5_000, "{why:?}");
}

/// What a move through this cut leads to; true if COMMIT was lost.
fn judge(row: &Row, cut: Cut) -> bool {
    let (here, there) = (made(row), World::waiting(true));
    let before = life(&here);
    let power = before.1;
    let error = moved(&here, &there, cut);
    match (here.state(), there.state()) {
        // Before COMMIT: as it was, and nothing has come of it there.
        (_, RunState::InMigrate) if here.state() != RunState::PostMigrate => {
            assert!(error.is_some());
            assert_eq!(life(&here), before, "{cut:?}");
            // Nothing is the matter with either.
            assert_eq!(moved(&here, &there, WHOLE), None, "after {cut:?}");
            assert_eq!(here.state(), RunState::PostMigrate);
            has_arrived(row, &there, power, cut);
            false
        }
        // COMMIT was lost: nobody runs, and the source says why.
        (RunState::PostMigrate, RunState::InMigrate) => {
            let error = error.unwrap();
            assert!(error.starts_with("whether the destination runs the machine is unknown"), "{error}");
            assert_eq!(here.engine.status().power, power, "{cut:?}");
            true
        }
        // It has arrived, and the source may not know.
        (RunState::PostMigrate, _) => {
            has_arrived(row, &there, power, cut);
            false
        }
        other => panic!("{cut:?}: {other:?}"),
    }
}

/// The same machine never runs twice: wherever the link is cut, at most one of both sides has it, and if the source does
/// not know, it stands and says so.
#[test]
fn a_link_cut_anywhere_in_any_state_leaves_one_machine_at_most() {
    for row in &ROWS {
        let (here, there) = (made(row), World::waiting(true));
        assert_eq!(moved(&here, &there, WHOLE), None);
        let all = here.migrations.report().unwrap().ram.transferred as usize;
        let out =
            (0..=20).map(|at| all * at / 20).chain((1..400).step_by(13).map(|less| all - less.min(all)));
        let out = out.map(|from_source| Cut { from_source, ..WHOLE });
        let back = (0..200).step_by(7).map(|from_target| Cut { from_target, ..WHOLE });
        let unknown = out.chain(back).filter(|&cut| judge(row, cut)).count();
        assert!(unknown > 0, "no cut has met COMMIT in {}", row.name.as_str());
    }
}
