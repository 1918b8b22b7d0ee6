//! A machine moves while a snapshot of it is still being written.

#[expect(dead_code, reason = "shared with the other tests")]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use engine::By;
use migration::jobs::{JobStatus, Jobs};
use migration::snapshot::{LoadOptions, SaveOptions, Snapshots};
use ram::{ChunkSource, FillError, Portion};
use runstate::RunState;
use support::{PATIENCE, World, unix};

const RAM: u64 = 0x8000_0000;

/// Memory that does not come before it is let go: whoever needs it to go on waits.
#[derive(Default)]
struct Held {
    free: AtomicBool,
    asked: AtomicUsize,
}

impl ChunkSource for Held {
    fn fill(&self, chunk: usize, into: &mut [u8]) -> Result<(), FillError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if !self.free.load(Ordering::SeqCst) {
            return Err(FillError::Interrupted);
        }
        into.fill(chunk as u8 + 1);
        Ok(())
    }
}

#[test]
fn a_machine_moves_while_its_snapshot_is_written_and_both_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (World::new(), World::waiting(true));
    let source = Arc::new(Held::default());
    here.ram().replace(Portion::All, Arc::clone(&source) as _, || {});
    here.ask(runstate::ManagementRequest::Cont);
    let snapshots =
        Snapshots::new(here.engine.clone(), Some(folder.path()), "test", Jobs::default()).unwrap();
    let options = SaveOptions { name: "one".to_owned(), ..SaveOptions::default() };
    // Returns when the machine goes on: from here on the snapshot is written.
    snapshots.begin_save(By::Unnamed, "job", options).unwrap();
    let arriving = there.take_in(&unix(folder.path())).unwrap();
    let going = here.migrate(&unix(folder.path())).unwrap();
    here.until("MIGRATION{active}");
    let status = || snapshots.jobs().list()[0].status;
    assert_eq!(
        (status(), here.state(), here.ram().is_being_saved()),
        (JobStatus::Running, RunState::Running, true)
    );
    source.free.store(true, Ordering::SeqCst);
    assert!(going.wait() && arriving.wait());
    assert_eq!(here.migrations.report().unwrap().error, None);
    assert_eq!((here.state(), there.state()), (RunState::PostMigrate, RunState::Running));
    let deadline = std::time::Instant::now() + PATIENCE;
    while status() != JobStatus::Concluded {
        assert!(std::time::Instant::now() < deadline, "the snapshot is not written");
        std::thread::yield_now();
    }
    assert_eq!(snapshots.jobs().list()[0].error, None);
    // What arrived, and what was saved, is what there was.
    let other = World::new();
    let kept = Snapshots::new(other.engine.clone(), Some(folder.path()), "test", Jobs::default()).unwrap();
    kept.load(By::Unnamed, &LoadOptions { name: "one".to_owned(), ..LoadOptions::default() }).unwrap();
    for world in [&there, &other] {
        for chunk in 0..here.ram().chunk_count() {
            let mut byte = [0];
            world.ram().read(RAM + (chunk * ram::CHUNK_SIZE) as u64 + 77, &mut byte).unwrap();
            assert_eq!(byte[0], chunk as u8 + 1);
        }
    }
    assert!(source.asked.load(Ordering::SeqCst) > 0);
}
