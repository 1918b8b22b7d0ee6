//! The exhaustive model of parking and kicking. Run with `RUSTFLAGS="--cfg loom" cargo test -p vmcore --release --test loom`.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use ram::Ram;
use vmcore::park::{Gate, fence_kind, flag};

/// Once the requester has seen the hart outside, the hart executes nothing until the flag is taken away.
#[test]
fn a_parked_hart_executes_nothing() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let blocks = Arc::new(AtomicU32::new(0));
        let hart = {
            let (gate, blocks) = (Arc::clone(&gate), Arc::clone(&blocks));
            thread::spawn(move || {
                if gate.enter(flag::PARK) {
                    blocks.fetch_add(1, Ordering::SeqCst);
                    gate.leave();
                }
            })
        };
        gate.raise(flag::PARK);
        gate.wait_outside();
        let seen = blocks.load(Ordering::SeqCst);
        thread::yield_now();
        assert_eq!(
            blocks.load(Ordering::SeqCst),
            seen,
            "a block was executed after the park was acknowledged"
        );
        hart.join().unwrap();
        assert_eq!(blocks.load(Ordering::SeqCst), seen);
    });
}

/// A hart that sleeps outside is woken by an interrupt, whenever it is raised.
#[test]
fn no_kick_is_lost() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let kicker = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || gate.raise(flag::IRQ))
        };
        gate.wait_raised(flag::IRQ);
        assert_eq!(gate.take(flag::IRQ), flag::IRQ);
        kicker.join().unwrap();
    });
}

/// Park and unpark around a hart that wants in: it always gets in afterwards.
#[test]
fn an_unparked_hart_runs_again() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let hart = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || {
                while !gate.enter(flag::PARK) {
                    gate.wait_cleared(flag::PARK, 0);
                }
                gate.leave();
            })
        };
        gate.raise(flag::PARK);
        gate.wait_outside();
        gate.lower(flag::PARK);
        hart.join().unwrap();
    });
}

/// A fence whose poster has seen it done is served before the hart executes another block.
#[test]
fn a_fence_is_served_before_the_next_block() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let stale = Arc::new(AtomicU32::new(0));
        let done = Arc::new(AtomicU32::new(0));
        let hart = {
            let (gate, stale, done) = (Arc::clone(&gate), Arc::clone(&stale), Arc::clone(&done));
            thread::spawn(move || {
                let mut cached = true;
                for _ in 0..2 {
                    while !gate.enter(0) {}
                    if gate.flags() & flag::FENCE != 0 {
                        gate.serve_fences(|kinds| {
                            assert_eq!(kinds, fence_kind::TRANSLATION);
                            cached = false;
                        });
                    }
                    // The block: uses the cached translation if it is still there.
                    let finished_before = done.load(Ordering::SeqCst) == 1;
                    if finished_before && cached && gate.flags() & flag::FENCE == 0 {
                        stale.fetch_add(1, Ordering::SeqCst);
                    }
                    gate.leave();
                }
            })
        };
        let ticket = gate.post_fence(fence_kind::TRANSLATION);
        if gate.fence_done(ticket) {
            done.store(1, Ordering::SeqCst);
        }
        hart.join().unwrap();
        assert_eq!(stale.load(Ordering::SeqCst), 0, "a block ran on a translation whose fence was done");
    });
}

/// A fence that is posted while an older one is being served is not taken for served with it, unless what it asks for
/// was dropped.
#[test]
fn a_fence_posted_while_another_is_served_counts_by_itself() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let done = Arc::new(AtomicU32::new(0));
        gate.post_fence(fence_kind::TRANSLATION);
        let hart = {
            let (gate, done) = (Arc::clone(&gate), Arc::clone(&done));
            thread::spawn(move || {
                let mut cached = true;
                assert!(gate.enter(0));
                for _ in 0..2 {
                    if gate.flags() & flag::FENCE != 0 {
                        gate.serve_fences(|kinds| cached &= kinds & fence_kind::INSTRUCTION == 0);
                    }
                    // The block, which uses what is cached until it ends.
                    let finished = done.load(Ordering::SeqCst) == 1;
                    assert!(!(finished && cached), "a block runs on instructions whose fence is done");
                }
                gate.leave();
            })
        };
        let ticket = gate.post_fence(fence_kind::INSTRUCTION);
        if gate.fence_done(ticket) {
            done.store(1, Ordering::SeqCst);
        }
        hart.join().unwrap();
    });
}

/// Whoever sleeps until a fence is done is woken, whether the hart serves it or goes outside, and finds that no block uses
/// what the fence drops.
#[test]
fn one_who_waits_for_a_fence_is_woken_when_it_is_done() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let done = Arc::new(AtomicU32::new(0));
        let hart = {
            let (gate, done) = (Arc::clone(&gate), Arc::clone(&done));
            thread::spawn(move || {
                let mut cached = true;
                assert!(gate.enter(0));
                for _ in 0..2 {
                    if gate.flags() & flag::FENCE != 0 {
                        gate.serve_fences(|kinds| cached &= kinds & fence_kind::ALL_WRITES == 0);
                    }
                    let finished = done.load(Ordering::SeqCst) == 1;
                    assert!(!(finished && cached), "a block uses write entries whose fence is done");
                }
                gate.leave();
            })
        };
        let ticket = gate.post_fence(fence_kind::ALL_WRITES);
        gate.wait_fence(ticket);
        done.store(1, Ordering::SeqCst);
        hart.join().unwrap();
    });
}

/// A hart goes on storing through a write entry while its dirty log is taken: a store that the reader of the page does not
/// see is in the next log.
#[test]
fn no_store_through_an_old_write_entry_is_lost_to_the_dirty_log() {
    model_of_three(|| {
        let ram = Arc::new(Ram::new(0, ram::CHUNK_SIZE as u64).unwrap());
        let gate = Arc::new(Gate::new());
        // What the page holds.
        let page = Arc::new(AtomicU32::new(0));
        let fence = |gate: &Gate| gate.wait_fence(gate.post_fence(fence_kind::ALL_WRITES));
        let log = ram.start_log(|| fence(&gate)).unwrap();
        let hart = {
            let (ram, gate, page) = (Arc::clone(&ram), Arc::clone(&gate), Arc::clone(&page));
            thread::spawn(move || {
                let mut entry = false;
                assert!(gate.enter(0));
                for value in 1..=2 {
                    if gate.flags() & flag::FENCE != 0 {
                        gate.serve_fences(|_| entry = false);
                    }
                    if !entry {
                        ram.open_write(0).unwrap();
                        entry = true;
                    }
                    page.store(value, Ordering::Relaxed);
                }
                gate.leave();
            })
        };
        let first = log.take(|| fence(&gate));
        let seen = page.load(Ordering::Relaxed);
        hart.join().unwrap();
        let second = log.take(|| fence(&gate));
        assert!(seen == 2 || second.contains(0), "a store is lost");
        assert!(first.contains(0) || second.contains(0));
    });
}

/// Three threads have too many orders to try them all: those with at most three preemptions, which is where faults of
/// such protocols are.
fn model_of_three(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

/// The part of a hart's thread that waits in `wfi`, as the engine has it: parking does not wake it, an interrupt does.
fn wait_for_interrupt(gate: &Gate, pending: &AtomicU32) {
    loop {
        if gate.flags() & flag::PARK != 0 {
            gate.wait_cleared(flag::PARK, 0);
            continue;
        }
        gate.take(flag::IRQ);
        if pending.load(Ordering::SeqCst) != 0 {
            return;
        }
        gate.wait_raised(flag::IRQ);
    }
}

/// An interrupt that comes before, while or after a waiting hart is parked: it executes nothing while parked, and wakes
/// afterwards.
#[test]
fn a_parked_sleeper_wakes_for_an_interrupt_once_it_is_unparked() {
    model_of_three(|| {
        let gate = Arc::new(Gate::new());
        let pending = Arc::new(AtomicU32::new(0));
        let blocks = Arc::new(AtomicU32::new(0));
        let hart = {
            let (gate, pending, blocks) = (Arc::clone(&gate), Arc::clone(&pending), Arc::clone(&blocks));
            thread::spawn(move || {
                wait_for_interrupt(&gate, &pending);
                while !gate.enter(flag::PARK) {
                    gate.wait_cleared(flag::PARK, 0);
                }
                blocks.fetch_add(1, Ordering::SeqCst);
                gate.leave();
            })
        };
        let device = {
            let (gate, pending) = (Arc::clone(&gate), Arc::clone(&pending));
            thread::spawn(move || {
                pending.store(1, Ordering::SeqCst);
                gate.raise(flag::IRQ);
            })
        };
        gate.raise(flag::PARK);
        gate.wait_outside();
        let seen = blocks.load(Ordering::SeqCst);
        device.join().unwrap();
        assert_eq!(blocks.load(Ordering::SeqCst), seen, "a parked hart has executed");
        gate.lower(flag::PARK);
        hart.join().unwrap();
        assert_eq!(blocks.load(Ordering::SeqCst), 1);
    });
}

/// One takes a flag away while another raises one: neither wake-up is lost, whatever the hart sleeps for.
#[test]
fn two_requesters_at_once_lose_no_wake_up() {
    model_of_three(|| {
        let gate = Arc::new(Gate::new());
        gate.raise(flag::PARK);
        let unparker = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || gate.lower(flag::PARK))
        };
        let kicker = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || gate.raise(flag::IRQ))
        };
        gate.wait_cleared(flag::PARK, 0);
        gate.wait_raised(flag::IRQ);
        assert_eq!(gate.flags(), flag::IRQ);
        unparker.join().unwrap();
        kicker.join().unwrap();
    });
}

/// Two who park one after the other's back: both see the hart outside, and it runs when both are gone.
#[test]
fn two_watchers_both_see_the_hart_outside() {
    model_of_three(|| {
        let gate = Arc::new(Gate::new());
        let hart = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || {
                if gate.enter(flag::PARK | flag::CONTROL) {
                    gate.leave();
                }
            })
        };
        let other = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || {
                gate.raise(flag::CONTROL);
                gate.wait_outside();
            })
        };
        gate.raise(flag::PARK);
        gate.wait_outside();
        other.join().unwrap();
        hart.join().unwrap();
    });
}

/// `hart_start` against a hart that is stopping itself: either the start is refused, or the hart starts. The publication
/// is that of `HartShared::hsm_start`, written out with the model's atomics.
#[test]
fn a_start_that_was_accepted_starts_the_hart() {
    const STARTED: u32 = 0;
    const STOPPED: u32 = 1;
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let state = Arc::new(AtomicU32::new(STARTED));
        let start = Arc::new(Mutex::new(None));
        let hart = {
            let (gate, state, start) = (Arc::clone(&gate), Arc::clone(&state), Arc::clone(&start));
            thread::spawn(move || {
                while !gate.enter(flag::CONTROL | flag::EXIT) {}
                state.store(STOPPED, Ordering::SeqCst);
                gate.leave();
                loop {
                    if gate.flags() & flag::EXIT != 0 {
                        return None;
                    }
                    gate.take(flag::CONTROL);
                    let pc: Option<u64> = start.lock().unwrap().take();
                    if pc.is_some() {
                        return pc;
                    }
                    gate.wait_raised(flag::CONTROL | flag::EXIT);
                }
            })
        };
        let accepted = {
            let mut slot = start.lock().unwrap();
            let swapped =
                state.compare_exchange(STOPPED, STARTED, Ordering::SeqCst, Ordering::SeqCst).is_ok();
            if swapped {
                *slot = Some(7);
            }
            swapped
        };
        if accepted {
            gate.raise(flag::CONTROL);
            assert_eq!(hart.join().unwrap(), Some(7));
        } else {
            while state.load(Ordering::SeqCst) != STOPPED {
                thread::yield_now();
            }
            gate.raise(flag::EXIT);
            assert_eq!(hart.join().unwrap(), None);
        }
    });
}
