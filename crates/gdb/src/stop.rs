//! Stop replies: why the machine stands, in gdb's numbers of signals.

use engine::DebugStatus;
use runstate::RunState;
use vmcore::{DebugHit, Watch};

const SIGINT: u8 = 2;
const SIGQUIT: u8 = 3;
pub(crate) const SIGTRAP: u8 = 5;
const SIGABRT: u8 = 6;
const SIGALRM: u8 = 14;
const SIGSTOP: u8 = 17;
const UNKNOWN: u8 = 143;

/// Whether this state is a stop that gdb is told. A job's own hold is not: it lifts itself.
pub(crate) fn is_told(status: &DebugStatus) -> bool {
    use RunState::{FinishMigrate, InMigrate, RestoreVm, SaveVm};
    !status.live && !matches!(status.state, SaveVm | RestoreVm | FinishMigrate | InMigrate)
}

/// The signal that a state shows as, the same as in QEMU.
pub(crate) fn signal(state: RunState) -> u8 {
    match state {
        RunState::Debug => SIGTRAP,
        RunState::Paused | RunState::Prelaunch => SIGINT,
        RunState::Shutdown => SIGQUIT,
        RunState::IoError => SIGSTOP,
        RunState::Watchdog => SIGALRM,
        RunState::InternalError => SIGABRT,
        _ => UNKNOWN,
    }
}

/// A stop reply with this signal at hart `hart`; what the hart has met is told with it.
pub(crate) fn reply(signal: u8, hart: u32, hit: Option<DebugHit>) -> String {
    let thread = thread(hart);
    match hit {
        Some(DebugHit::Watchpoint { addr, kind }) => {
            let kind = match kind {
                Watch::Write => "watch",
                Watch::Read => "rwatch",
                Watch::Access => "awatch",
            };
            format!("T{signal:02x}thread:{thread:02x};{kind}:{addr:x};")
        }
        _ => format!("T{signal:02x}thread:{thread:02x};"),
    }
}

/// The number by which gdb knows hart `hart`; 0 means any.
pub(crate) fn thread(hart: u32) -> u64 {
    u64::from(hart) + 1
}
