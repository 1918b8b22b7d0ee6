//! Exhaustive models of wakes that meet requests, and of publication. Run with
//! `RUSTFLAGS="--cfg loom" cargo test -p runstate --release --test loom`.
//!
//! Each module says what in it is real and what stands for which function of the engine and the monitor. All orders with
//! at most two or three preemptions are tried, which is where faults of such protocols are.
#![cfg(loom)]

mod publication;
mod wakes;

fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}
