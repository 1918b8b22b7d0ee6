//! What the machine thread leaves to others: preparing and flushing devices that keep data, and jobs. Meanwhile clients are
//! told the truth, the others' requests wait their turn, and nothing keeps the process.

#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use engine::{By, JobWork, ManageError, Record, Status, Subscriber};
use runstate::{
    DeviceRequest, IoErrorAction, ManagementRequest as Ask, MigrationRequest, RunState, ShutdownCause,
};
use support::World;
use vmcore::DevicePort;
use vmcore::testing::{FakeStorage, Mishap};

const RESUME_ADDR: u64 = 0x8040_0000;
const QUIT: Ask = Ask::Quit { cause: ShutdownCause::HostQmpQuit };

impl World {
    /// A client that asks and waits for its answer.
    fn client(&self, ask: Ask) -> JoinHandle<Result<(), ManageError>> {
        let engine = self.engine.clone();
        thread::spawn(move || engine.manage(ask))
    }
}

fn running_with_storage() -> (World, Arc<FakeStorage>) {
    let (world, storage) = World::with_storage();
    world.ask(Ask::Cont);
    world.saw(&["RESUME running"]);
    assert_eq!(storage.take_log(), ["prepare"]);
    (world, storage)
}

#[test]
fn a_disk_that_hangs_hides_neither_the_stop_nor_any_query() {
    let (world, storage) = running_with_storage();
    storage.next("flush", Mishap::Hang);
    let stop = world.client(Ask::Stop);
    storage.wait_for_hang();
    world.saw(&["STOP paused"]);
    assert_eq!(world.state(), RunState::Paused);
    world.describe(0);
    let cont = world.client(Ask::Cont);
    assert!(!stop.is_finished(), "answered before the disk was flushed");
    storage.release();
    assert_eq!(stop.join().unwrap(), Ok(()));
    assert_eq!(cont.join().unwrap(), Ok(()));
    world.saw(&["RESUME running"]);
    assert_eq!(storage.take_log(), ["flush", "prepare"]);
}

#[test]
fn requests_that_come_during_a_flush_are_handled_after_it_in_their_order() {
    let (world, storage) = running_with_storage();
    storage.next("flush", Mishap::Hang);
    let stop = world.client(Ask::Stop);
    storage.wait_for_hang();
    // Two device requests, which wait for the same turn.
    world.port.post(DeviceRequest::IoError { device: FakeStorage::ID, action: IoErrorAction::Stop });
    world.port.post(DeviceRequest::Watchdog);
    world.saw(&["STOP paused"]);
    storage.release();
    stop.join().unwrap().unwrap();
    world.sees("RESET prelaunch");
    world.saw(&["BLOCK_IO_ERROR paused", "WATCHDOG prelaunch", "RESET prelaunch"]);
}

#[test]
fn quit_does_not_wait_for_a_disk_that_hangs_and_nobody_is_left_waiting() {
    let (world, storage) = running_with_storage();
    storage.next("flush", Mishap::Hang);
    let stop = world.client(Ask::Stop);
    storage.wait_for_hang();
    let cont = world.client(Ask::Cont);
    world.ask(QUIT);
    assert_eq!(stop.join().unwrap(), Err(ManageError::Ended));
    assert_eq!(cont.join().unwrap(), Err(ManageError::Ended));
    // The process does not wait for good either.
    assert_eq!(world.engine.wait(), 0);
    world.saw(&["STOP paused", "SHUTDOWN shutdown"]);
}

#[test]
fn the_last_flush_is_waited_for() {
    let (world, storage) = running_with_storage();
    storage.next("flush", Mishap::Hang);
    world.ask(QUIT);
    storage.wait_for_hang();
    storage.release();
    assert_eq!(world.engine.wait(), 0);
    assert_eq!(storage.take_log(), ["flush"]);
}

#[test]
fn a_device_that_cannot_be_started_leaves_the_machine_held_and_says_why() {
    let (world, storage) = World::with_storage();
    storage.next("prepare", Mishap::Fail);
    assert_eq!(world.refused(Ask::Cont), "cannot prepare 'fake': the test says so");
    assert_eq!(world.state(), RunState::Prelaunch);
    world.ask(Ask::Cont);
    world.saw(&["RESUME running"]);
}

#[test]
fn nothing_is_told_before_devices_are_prepared_and_quit_does_not_wait_for_that() {
    let (world, storage) = World::with_storage();
    storage.next("prepare", Mishap::Hang);
    let cont = world.client(Ask::Cont);
    storage.wait_for_hang();
    world.saw(&[]);
    assert_eq!(world.state(), RunState::Prelaunch);
    let stop = world.client(Ask::Stop);
    world.ask(QUIT);
    assert_eq!(cont.join().unwrap(), Err(ManageError::Ended));
    assert_eq!(stop.join().unwrap(), Err(ManageError::Ended));
    storage.release();
    assert_eq!(world.engine.wait(), 0);
    world.saw(&["SHUTDOWN shutdown"]);
}

#[test]
fn a_failed_flush_fails_no_stop_and_is_kept_until_one_succeeds() {
    let (world, storage) = running_with_storage();
    storage.next("flush", Mishap::Fail);
    world.ask(Ask::Stop);
    let error = world.engine.status().flush_error.clone().map(|error| error.what);
    assert_eq!(error.as_deref(), Some("cannot flush 'fake': the test says so"));
    world.ask(Ask::Stop);
    assert_eq!(world.engine.status().flush_error, None);
    world.saw(&["STOP paused"]);
}

#[test]
fn a_panic_in_a_back_end_breaks_the_machine_and_nothing_else() {
    let (world, storage) = running_with_storage();
    storage.next("flush", Mishap::Panic);
    world.ask(Ask::Stop);
    assert_eq!(world.state(), RunState::InternalError);
    assert_eq!(world.refused(Ask::Cont), "Resetting the Virtual Machine is required");
    world.ask(Ask::SystemReset);
    storage.next("prepare", Mishap::Panic);
    let error = world.engine.manage(Ask::Cont).unwrap_err();
    assert_eq!(error.to_string(), "Resetting the Virtual Machine is required");
    assert_eq!(world.state(), RunState::InternalError);
    world.ask(Ask::SystemReset);
    world.ask(Ask::Cont);
    world.saw(&["STOP paused", "RESET prelaunch", "RESET prelaunch", "RESUME running"]);
}

/// Keeps what clients are told about failed requests.
#[derive(Default)]
struct Reasons(Mutex<Vec<String>>);

impl Subscriber for Reasons {
    fn publish(&self, _status: &Arc<Status>, record: Option<&Arc<Record>>) {
        if let Some(error) = record.and_then(|record| record.notes.io_error.as_ref()) {
            self.0.lock().unwrap().push(error.reason.clone());
        }
    }
}

#[test]
fn an_io_error_stops_with_its_reason_each_time_and_cont_tries_again() {
    let (world, _storage) = running_with_storage();
    let reasons = Arc::new(Reasons::default());
    world.engine.subscribe(Arc::clone(&reasons) as Arc<dyn Subscriber>);
    let fails = DeviceRequest::IoError { device: FakeStorage::ID, action: IoErrorAction::Stop };
    for _ in 0..3 {
        world.port.post(fails);
        world.sees("STOP io-error");
        assert_eq!(world.engine.status().held[0].cause.by.to_string(), "fake");
        world.ask(Ask::Cont);
        world.saw(&["BLOCK_IO_ERROR io-error", "STOP io-error", "RESUME running"]);
    }
    let told = std::mem::take(&mut *reasons.0.lock().unwrap());
    assert_eq!(told, ["No space left on device"; 3]);
    world.port.post(DeviceRequest::IoError { device: FakeStorage::ID, action: IoErrorAction::Report });
    world.sees("BLOCK_IO_ERROR running");
}

// ---- jobs ----

const ENDED: MigrationRequest = MigrationRequest::DumpEnd { ok: true };
const FAILED: MigrationRequest = MigrationRequest::DumpEnd { ok: false };
const DUMP: Ask = Ask::DumpStart { detached: false };

/// A job that runs until it is told to end, or is cancelled.
fn until_told(told: Receiver<()>) -> JobWork {
    let run = move |control: &engine::JobControl| loop {
        match told.recv_timeout(std::time::Duration::from_millis(1)) {
            Err(RecvTimeoutError::Timeout) if !control.is_cancelled() => {}
            _ => return ENDED,
        }
    };
    JobWork::new(run, FAILED)
}

#[test]
fn a_job_runs_while_the_machine_stands_and_its_end_lets_it_go() {
    let world = World::running(1);
    let (tell, told) = channel();
    let job = world.engine.begin(By::Unnamed, DUMP, until_told(told)).unwrap();
    world.saw(&["STOP save-vm"]);
    assert_eq!(world.refused(Ask::Stop), "There is a dump in process, please wait.");
    let (_never, other) = channel();
    let second = world.engine.begin(By::Unnamed, DUMP, until_told(other));
    assert_eq!(second.unwrap_err().to_string(), "There is a dump in process, please wait.");
    world.ask(Ask::SystemReset);
    world.saw(&[]);
    tell.send(()).unwrap();
    assert!(job.wait());
    world.saw(&["RESET save-vm", "RESUME running"]);
    world.hart_runs(0);
}

/// A dump whose work notes what it finds: the machine's state, its epoch, how often boot images were placed, and whether a
/// hart executed meanwhile.
fn noting(world: &World, found: &Sender<(RunState, u64, u64, bool)>) -> JobWork {
    let (engine, machine, scripts) =
        (world.engine.clone(), Arc::clone(&world.machine), world.scripts.clone());
    let found = found.clone();
    let run = move |_: &engine::JobControl| {
        let before = scripts[0].blocks();
        let status = engine.status();
        thread::yield_now();
        let ran = scripts[0].blocks() != before;
        found.send((status.state, status.epoch, machine.placed(), ran)).expect("the test listens");
        ENDED
    };
    JobWork::new(run, FAILED)
}

#[test]
fn a_dump_behind_a_reset_is_of_the_new_guest() {
    let world = World::running(1);
    let (tell, found) = channel();
    let placed = world.machine.placed();
    world.ask(Ask::SystemReset);
    assert!(world.engine.begin(By::Unnamed, DUMP, noting(&world, &tell)).unwrap().wait());
    world.saw(&["RESET running", "STOP save-vm", "RESUME running"]);
    assert_eq!(found.recv(), Ok((RunState::SaveVm, 1, placed + 1, false)));
    world.hart_runs(0);
}

#[test]
fn a_dump_and_a_reset_at_once_are_one_after_the_other() {
    let world = World::running(1);
    let (tell, found) = channel();
    for epoch in 0..100 {
        let reset = world.client(Ask::SystemReset);
        let job = world.engine.begin(By::Unnamed, DUMP, noting(&world, &tell)).unwrap();
        assert!(job.wait());
        assert_eq!(reset.join().unwrap(), Ok(()));
        // A reset that the dump's work still saw to come waits for its end; one may also come when all is over.
        let orders = [
            &["RESET running", "STOP save-vm", "RESUME running"][..],
            &["STOP save-vm", "RESET save-vm", "RESUME running"],
            &["STOP save-vm", "RESUME running", "RESET running"],
        ];
        let events = world.events();
        let order = orders.iter().position(|order| *order == events).unwrap_or_else(|| panic!("{events:?}"));
        let dumped = if order == 0 { epoch + 1 } else { epoch };
        let (state, of, _, ran) = found.recv().expect("the dump's work ran");
        assert_eq!((state, of, ran), (RunState::SaveVm, dumped, false));
        assert_eq!((world.state(), world.engine.status().epoch), (RunState::Running, epoch + 1));
    }
    world.hart_runs(0);
}

#[test]
fn a_job_that_panics_has_failed_and_lets_the_machine_go() {
    let world = World::running(1);
    let work = JobWork::new(|_| panic!("the test says so"), FAILED);
    let job = world.engine.begin(By::Unnamed, Ask::DumpStart { detached: true }, work).unwrap();
    assert!(job.wait());
    world.saw(&["STOP save-vm", "DUMP_COMPLETED save-vm", "RESUME running"]);
}

#[test]
fn quit_cancels_the_job_and_does_not_wait_for_it() {
    let world = World::running(1);
    let (_tell, told) = channel();
    let job = world.engine.begin(By::Unnamed, DUMP, until_told(told)).unwrap();
    world.ask(QUIT);
    assert!(!job.wait());
    assert_eq!(world.engine.wait(), 0);
    world.saw(&["STOP save-vm", "SHUTDOWN shutdown"]);
}

#[test]
fn a_job_of_a_sleeping_machine_stops_it_and_leaves_it_asleep() {
    let world = World::running(1);
    world.fall_asleep();
    let job = world.engine.begin(By::Unnamed, DUMP, JobWork::new(|_| ENDED, FAILED)).unwrap();
    assert!(job.wait());
    world.saw(&["STOP save-vm", "RESUME suspended", "SUSPEND suspended"]);
}
