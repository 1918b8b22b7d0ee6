//! DBCN, chapter 12: a console through guest memory.

use ram::RamError;
use sbi_spec::dbcn;
use vmcore::{EcallOutcome, SbiCall};

use crate::{Sbi, invalid_param, not_supported, ok};

/// What stands behind DBCN.
pub trait DebugConsole: Send + Sync {
    /// Takes output; gives how many bytes were taken, from the front. Never blocks.
    fn write(&self, bytes: &[u8]) -> usize;

    /// Gives input, from the front of `bytes`; how many bytes. Never blocks.
    fn read(&self, bytes: &mut [u8]) -> usize;
}

/// Bytes moved by one call at most. The specification lets a call move fewer than asked; this bounds its time.
const BYTES_A_CALL: usize = 1024;

impl Sbi {
    pub(crate) fn console(&self, call: &SbiCall) -> EcallOutcome {
        let [first, low, high, ..] = call.args;
        match call.function as usize {
            dbcn::CONSOLE_WRITE => self.write(first, low, high),
            dbcn::CONSOLE_READ => self.read(first, low, high),
            dbcn::CONSOLE_WRITE_BYTE => {
                // This one may not return before the byte is written: the hart calls again, and can be parked meanwhile.
                if self.console.write(&[first as u8]) == 0 { EcallOutcome::Again } else { ok(0) }
            }
            _ => not_supported(),
        }
    }

    fn write(&self, len: u64, low: u64, high: u64) -> EcallOutcome {
        let mut bytes = [0; BYTES_A_CALL];
        let (true, Some(chunk)) = (self.is_shared(len, low, high), first_of(&mut bytes, len)) else {
            return invalid_param();
        };
        match self.ram.read(low, chunk) {
            Ok(()) => ok(self.console.write(chunk) as u64),
            Err(error) => unreachable_memory(&error),
        }
    }

    fn read(&self, len: u64, low: u64, high: u64) -> EcallOutcome {
        let mut bytes = [0; BYTES_A_CALL];
        let (true, Some(chunk)) = (self.is_shared(len, low, high), first_of(&mut bytes, len)) else {
            return invalid_param();
        };
        // Input that is taken must have a place to go.
        if let Err(error) = self.ram.read(low, chunk) {
            return unreachable_memory(&error);
        }
        let count = self.console.read(chunk).min(chunk.len());
        match chunk.get(..count).map(|given| self.ram.write(low, given)) {
            Some(Ok(())) => ok(count as u64),
            _ => invalid_param(),
        }
    }

    /// Whether all `len` bytes are in RAM, even if fewer are moved.
    fn is_shared(&self, len: u64, low: u64, high: u64) -> bool {
        high == 0 && self.ram.contains(low, len)
    }
}

/// The hart calls again if the memory is still on its way, and can be parked meanwhile.
fn unreachable_memory(error: &RamError) -> EcallOutcome {
    match error {
        RamError::Delayed { .. } => EcallOutcome::Again,
        _ => invalid_param(),
    }
}

fn first_of(bytes: &mut [u8], len: u64) -> Option<&mut [u8]> {
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(bytes.len());
    bytes.get_mut(..len)
}
