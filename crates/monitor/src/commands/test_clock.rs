//! What only tests want: the host's clocks moved, and faults of the program itself and of the host.

use qmp::schema::{Type, arg, opt};
use qmp::{Args, QmpError};

use super::{Command, Env, command};
use crate::context::TestClock;

pub(super) static COMMANDS: &[Command] = &[
    command! {
    /// Moves the host's clocks as the machine sees them; only with `-x-test-clock`. When it returns, every timer that is
    /// now due has fired.
    "x-test-clock-advance" [
        opt("monotonic-ns", Type::Int, "By how many nanoseconds the monotonic clock goes on."),
        opt("realtime-ns", Type::Int, "By how many nanoseconds the wall clock is moved, back if negative."),
    ] -> () = advance
    }
    .exists(|config| config.test_clock.is_some()),
    command! {
        /// Has the thread of a CPU panic, as a fault of the program would; only with `-x-test-clock`.
        "x-test-hart-panic" [arg("cpu-index", Type::Int, "The CPU.")] -> () = hart_panic
    }
    .exists(|config| config.test_clock.is_some()),
    command! {
        /// Has the host lose the page of guest memory at an address, as a fault of its memory would: whoever accesses the page
        /// next finds out; only with `-x-test-clock`.
        "x-test-host-memory-error" [arg("address", Type::Int, "The guest physical address.")] -> () = lose_page
    }
    .exists(|config| config.test_clock.is_some()),
];

fn hart_panic(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let index = args.opt_i64("cpu-index").and_then(|index| u32::try_from(index).ok());
    match index.is_some_and(|index| env.engine().fail_hart(index)) {
        true => Ok(()),
        false => Err(QmpError::expects("cpu-index", "a CPU number")),
    }
}

fn lose_page(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let ram = env.engine().ram();
    let address = args.opt_i64("address").and_then(|address| u64::try_from(address).ok());
    let lost = ram.zip(address).is_some_and(|(ram, address)| ram.spoil(address).is_ok());
    lost.then_some(()).ok_or_else(|| QmpError::expects("address", "an address of guest memory"))
}

/// Lets time pass on the host's clocks as the machine sees them. When it returns, every timer that is now due has fired
/// (if the machine's present mode lets it), and what those timers posted to the machine thread has been handled, with its
/// events queued. What goes by way of a hart, an interrupt's handler for instance, is under way.
fn advance(env: &Env<'_>, args: &Args) -> Result<(), QmpError> {
    let Some(TestClock { clock, timers }) = &env.config().test_clock else {
        return Err(QmpError::command_not_found("x-test-clock-advance"));
    };
    let monotonic = args.opt_i64("monotonic-ns").unwrap_or(0);
    let realtime = args.opt_i64("realtime-ns").unwrap_or(0);
    let Ok(forward) = u64::try_from(monotonic) else {
        return Err(QmpError::expects("monotonic-ns", "a time that does not go back"));
    };
    if monotonic == realtime {
        clock.advance(forward);
    } else {
        if monotonic != 0 {
            clock.advance_monotonic(forward);
        }
        if realtime != 0 {
            clock.step_realtime(realtime);
        }
    }
    timers.run_due();
    // Asked of a hart that does not exist it only takes its turn behind what the timers posted.
    let _ = env.engine().describe_hart(u32::MAX);
    Ok(())
}
