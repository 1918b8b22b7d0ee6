//! The exhaustive model of parking and kicking. Run with `RUSTFLAGS="--cfg loom" cargo test -p vmcore --release --test loom`.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
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
