//! Pages that the host has lost: errors of its memory (SIGBUS) under RAM, survived and told. See [`sys::memory`].

use sys::memory::Alarm;

use crate::{PAGE_SIZE, Ram, RamError};

impl Ram {
    /// Has `alarm` called, from a signal's handler, when a page of RAM turns out to be lost, whichever thread finds out. The
    /// page is one full of zeros by then. The first alarm stays.
    pub fn on_host_error(&self, alarm: Alarm) {
        self.watched.set_alarm(alarm);
    }

    /// How many pages were found lost so far by threads that do not answer for their own
    /// ([`sys::memory::answer_for_own_errors`]).
    pub fn host_errors(&self) -> u64 {
        self.watched.errors()
    }

    /// Guest physical address of the last page that they found lost.
    pub fn last_host_error(&self) -> Option<u64> {
        self.watched.last_error().map(|offset| self.page_at(offset))
    }

    /// Guest physical address of the page that this thread, which answers for its own, has found lost since it last asked;
    /// the last one if there were several.
    pub fn take_own_host_error(&self) -> Option<u64> {
        let offset = self.watched.offset_of(sys::memory::take_own_error()?)?;
        Some(self.page_at(offset))
    }

    /// Loses the page that holds guest physical address `addr`: the next access to it is an error of the host's memory.
    /// For tests of what follows.
    pub fn spoil(&self, addr: u64) -> Result<(), RamError> {
        self.check(addr, 1)?;
        let outside = || RamError::OutOfRange { addr, len: 1 };
        let offset = usize::try_from(addr - self.base).map_err(|_| outside())?;
        self.watched.spoil(offset).map_err(|error| RamError::Map { size: PAGE_SIZE, source: Box::new(error) })
    }

    fn page_at(&self, offset: usize) -> u64 {
        self.base + (offset as u64 & !(PAGE_SIZE - 1))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const BASE: u64 = 0x8000_0000;

    #[test]
    fn a_page_that_is_lost_reads_as_zeros_and_is_told() {
        let ram = Ram::new(BASE, 3 * PAGE_SIZE).unwrap();
        ram.write(BASE, &[7; 3 * PAGE_SIZE as usize]).unwrap();
        ram.spoil(BASE + PAGE_SIZE + 9).unwrap();
        assert_eq!((ram.host_errors(), ram.last_host_error()), (0, None));
        let mut back = [1; 3 * PAGE_SIZE as usize];
        ram.read(BASE, &mut back).unwrap();
        let pages: Vec<_> = back.chunks(PAGE_SIZE as usize).map(|page| (page[0], page[4095])).collect();
        assert_eq!(pages, [(7, 7), (0, 0), (7, 7)]);
        assert_eq!((ram.host_errors(), ram.last_host_error()), (1, Some(BASE + PAGE_SIZE)));
        for addr in [BASE - 1, BASE + 3 * PAGE_SIZE, u64::MAX] {
            assert!(matches!(ram.spoil(addr), Err(RamError::OutOfRange { .. })), "{addr:#x}");
        }
    }

    #[test]
    fn a_thread_that_answers_for_its_own_is_told_the_page() {
        let ram = Ram::new(BASE, 3 * PAGE_SIZE).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sys::memory::answer_for_own_errors();
                ram.spoil(BASE + 2 * PAGE_SIZE).unwrap();
                ram.write(BASE + 2 * PAGE_SIZE + 100, &[1]).unwrap();
                assert_eq!(
                    (ram.take_own_host_error(), ram.take_own_host_error()),
                    (Some(BASE + 2 * PAGE_SIZE), None)
                );
            });
        });
        assert_eq!(ram.host_errors(), 0);
    }
}
