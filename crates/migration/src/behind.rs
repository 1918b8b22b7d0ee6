//! Memory that comes from a file is read behind the guest, so that it is all here before long, and damage is found however
//! little the guest needs.

use std::sync::Arc;
use std::thread;

use ram::{OpenError, Ram};

/// Reads what the guest has not needed yet, on a thread that ends when all is here, when something cannot be had (which breaks
/// the machine: see [`Ram::fill_next`]), or when nobody has the memory any more. Without one it is read when it is needed.
pub(crate) fn fill(ram: &Arc<Ram>) {
    let ram = Arc::downgrade(ram);
    let fill = move || {
        let mut next = 0;
        while let Some(ram) = ram.upgrade() {
            match ram.fill_next(next) {
                Ok(Some(chunk)) => next = chunk + 1,
                Ok(None) if next == 0 => return,
                // From the beginning: what others were at has been filled since, or never will be.
                Ok(None) => next = 0,
                Err(OpenError::Interrupted) => {}
                Err(error) => return tracing::error!(%error, "the rest of memory cannot be read"),
            }
        }
    };
    let _ = thread::Builder::new().name("restore".to_owned()).spawn(fill);
}
