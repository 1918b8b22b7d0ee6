//! Functions that run when the process ends through `exit`, however deep in the program that was called.

use std::io;

/// Registers `f` to run when the process ends by `exit(3)`: a return from `main` or `std::process::exit`.
///
/// It does not run on `abort`, `_exit` or an unhandled signal. Functions run in reverse order of registration, on the thread
/// that ends the process, while other threads are still running. Such a function must not unwind; one that does aborts.
///
/// # Errors
/// When the C library has no room for another registration.
pub fn at_exit(f: extern "C" fn()) -> io::Result<()> {
    // SAFETY: `atexit` only stores the pointer; `f` is a plain function of static lifetime with the ABI that it expects.
    match unsafe { libc::atexit(f) } {
        0 => Ok(()),
        _ => Err(io::Error::from(io::ErrorKind::OutOfMemory)),
    }
}
