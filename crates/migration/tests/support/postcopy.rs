//! What tests of postcopy share: a machine with something in its memory, and a pace at which next to nothing comes unasked.

use std::time::Instant;

use engine::Job;
use migration::{Address, Capability, Change, Number};
use ram::RamError;
use runstate::MigrationStatus;

use crate::support::{PATIENCE, World};

pub const RAM: u64 = 0x8000_0000;
pub const CHUNK: u64 = 64 << 10;

pub fn able(world: &World) {
    world.migrations.set_capabilities(&[(Capability::PostcopyRam, true)]).unwrap();
}

/// Most bytes a second before the switch-over and after it.
pub fn pace(world: &World, before: u64, after: u64) {
    let numbers = vec![(Number::MaxBandwidth, before), (Number::MaxPostcopyBandwidth, after)];
    world.migrations.set_parameters(&Change { numbers, ..Change::default() }).unwrap();
}

/// What byte the guest has in chunk `chunk`: every third chunk is zero.
pub fn content(chunk: u64) -> u8 {
    if chunk.is_multiple_of(3) { 0 } else { chunk as u8 + 1 }
}

/// A machine that runs and has something in its memory, and one that waits for it.
pub fn pair() -> (World, World) {
    let (here, there) = (World::running(), World::waiting(true));
    for world in [&here, &there] {
        able(world);
    }
    fill(&here, 16);
    (here, there)
}

/// Memory of the guest in its first `count` chunks.
pub fn fill(world: &World, count: u64) {
    for chunk in 0..count {
        world.ram().write(RAM + chunk * CHUNK, &[content(chunk); CHUNK as usize]).unwrap();
    }
}

/// Reads memory that may be on its way.
#[track_caller]
pub fn byte(world: &World, addr: u64) -> u8 {
    let deadline = Instant::now() + PATIENCE;
    let mut byte = [0];
    loop {
        match world.ram().read(addr, &mut byte) {
            Ok(()) => return byte[0],
            Err(RamError::Delayed { .. }) if Instant::now() < deadline => {}
            Err(error) => panic!("{addr:#x}: {error}"),
        }
    }
}

#[track_caller]
pub fn same_memory(here: &World, there: &World) {
    let all = |world: &World| {
        let mut bytes = vec![0; world.ram().size() as usize];
        world.ram().read(RAM, &mut bytes).unwrap();
        bytes
    };
    let (left, right) = (all(here), all(there));
    let differs = left.iter().zip(&right).position(|(left, right)| left != right);
    assert_eq!(differs, None, "the first byte that is not the same");
}

/// Begins a move that goes over to postcopy in its first round, with nearly everything still here.
#[track_caller]
pub fn early(here: &World, there: &World, from: &Address, to: &Address) -> [Job; 2] {
    pace(here, 1, 1);
    let arriving = there.take_in(from).unwrap();
    let going = here.migrate(to).unwrap();
    here.until("MIGRATION{active}");
    here.migrations.start_postcopy().unwrap();
    [going, arriving]
}

/// Waits until the migration has one of these, and gives it.
#[track_caller]
pub fn status(world: &World, wanted: &[MigrationStatus]) -> MigrationStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = world.engine.status().migration;
        if let Some(status) = now.filter(|now| wanted.contains(now)) {
            return status;
        }
        assert!(Instant::now() < deadline, "{now:?}");
        std::thread::yield_now();
    }
}

/// Waits until both have ended, well or not.
#[track_caller]
pub fn wait(jobs: [Job; 2]) {
    let deadline = Instant::now() + PATIENCE;
    while !jobs.iter().all(|job| job.control().report().ended) {
        assert!(Instant::now() < deadline, "a job does not end");
        std::thread::yield_now();
    }
    for job in jobs {
        assert!(job.wait());
    }
}
