//! Faults on demand, for tests: an image whose operations fail, or hang, as its operator says.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustix::io::Errno;

use crate::backend::BlockBackend;
use crate::lock;
use crate::stats::Kind;

/// What happens instead of the operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// It fails with `EIO`.
    Io,
    /// It fails with `ENOSPC`.
    NoSpace,
    /// It does not end until the rule is lifted, and is done then.
    Hang,
}

/// Which operations, and for how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FaultRule {
    /// What happens.
    pub fault: Fault,
    /// To how many operations; without a number until the rule is lifted.
    pub times: Option<u64>,
}

/// The rules in force: one for each kind of operation.
#[derive(Default)]
pub struct Faults {
    rules: Mutex<[Option<FaultRule>; 4]>,
    changed: Condvar,
}

impl Faults {
    /// Puts a rule in force for `kind`, or lifts the one that is.
    pub fn set(&self, kind: Kind, rule: Option<FaultRule>) {
        lock(&self.rules)[kind as usize] = rule.filter(|rule| rule.times != Some(0));
        self.changed.notify_all();
    }

    /// What happens to an operation that begins now: nothing, or an error.
    fn meet(&self, kind: Kind) -> io::Result<()> {
        let mut rules = lock(&self.rules);
        let fault = match &mut rules[kind as usize] {
            None => return Ok(()),
            Some(FaultRule { fault, times: None }) => *fault,
            Some(FaultRule { fault, times: Some(times) }) => {
                let fault = *fault;
                *times -= 1;
                // One that hangs stays in force until it is lifted: it says what waits.
                if *times == 0 && fault != Fault::Hang {
                    rules[kind as usize] = None;
                }
                fault
            }
        };
        match fault {
            Fault::Io => Err(Errno::IO.into()),
            Fault::NoSpace => Err(Errno::NOSPC.into()),
            Fault::Hang => {
                let hangs = |rules: &mut [Option<FaultRule>; 4]| {
                    rules[kind as usize].is_some_and(|rule| rule.fault == Fault::Hang)
                };
                drop(self.changed.wait_while(rules, hangs).unwrap_or_else(PoisonError::into_inner));
                Ok(())
            }
        }
    }
}

/// An image with faults.
pub(crate) struct Faulty {
    pub(crate) image: Arc<dyn BlockBackend>,
    pub(crate) faults: Arc<Faults>,
}

impl BlockBackend for Faulty {
    fn size(&self) -> u64 {
        self.image.size()
    }

    fn allocated(&self) -> io::Result<u64> {
        self.image.allocated()
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.faults.meet(Kind::Read)?;
        self.image.read(offset, bytes)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.faults.meet(Kind::Write)?;
        self.image.write(offset, bytes)
    }

    fn flush(&self) -> io::Result<()> {
        self.faults.meet(Kind::Flush)?;
        self.image.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.faults.meet(Kind::Unmap)?;
        self.image.discard(offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.faults.meet(Kind::Write)?;
        self.image.write_zeroes(offset, len, unmap)
    }
}
