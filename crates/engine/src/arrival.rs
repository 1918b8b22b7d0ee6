//! How long the guest's time stood while the guest was saved, on its way, and held before and after.
//!
//! ```text
//!   source        ── runs ──┤ freeze: `left_wall_ns`
//!   wall clock              ├──────────── downtime ────────────┤
//!   destination                                  adopted ──────┤ thaw: `resumed` ── runs ──►
//! ```
//! The moment at which the guest last ran goes with it ([`SECTION`]) and stays the same for as long as it stands, also
//! when it is saved once more without having run. Two hosts have nothing but their wall clocks in common: where those
//! differ, so does what is measured.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use vmcore::{LoadError, Section};

use crate::record::Stamp;

/// The saved form. A state that was saved before there was this section has none.
pub(crate) const SECTION: &str = "last-ran";
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    wall_ns: u64,
}

/// The last guest that came into this machine, by a load or a migration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Arrival {
    /// Guest time that it came with, in ns.
    pub guest_ns: u64,
    /// Wall clock in ns when its time last advanced where it came from.
    pub left_wall_ns: Option<u64>,
    /// When its time first advanced here.
    pub resumed: Option<Stamp>,
}

impl Arrival {
    /// For how many ns of the wall clock the guest's time has stood. Below 0 where the wall clocks do not agree.
    pub fn downtime_ns(&self) -> Option<i64> {
        let (left, resumed) = (self.left_wall_ns?, self.resumed?.wall_ns);
        Some(resumed.wrapping_sub(left).cast_signed())
    }

    /// How much of that was added to the guest's time, in ns. None of it: a guest's monotonic time stands while the guest
    /// does, and its real-time clock catches up with the host's.
    pub fn applied_ns(&self) -> Option<i64> {
        Some(self.resumed?.guest_ns.wrapping_sub(self.guest_ns).cast_signed())
    }
}

/// What is kept of it.
#[derive(Debug, Default)]
pub(crate) struct ArrivalBook {
    page: Mutex<Page>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Page {
    /// Wall clock when the guest's time last advanced, if it has.
    left_wall_ns: Option<u64>,
    last: Option<Arrival>,
}

impl ArrivalBook {
    fn page(&self) -> MutexGuard<'_, Page> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn last(&self) -> Option<Arrival> {
        self.page().last
    }

    pub(crate) fn froze(&self, now: Stamp) {
        self.page().left_wall_ns = Some(now.wall_ns);
    }

    /// Guest time is about to advance.
    pub(crate) fn thaws(&self, now: Stamp) {
        let mut page = self.page();
        let Some(arrival) = page.last.as_mut().filter(|arrival| arrival.resumed.is_none()) else { return };
        arrival.resumed = Some(now);
        tracing::info!(downtime_ns = arrival.downtime_ns(), "the guest that has arrived goes on");
    }

    /// A guest has come, whose time is this.
    pub(crate) fn adopted(&self, guest_ns: u64, left_wall_ns: Option<u64>) {
        *self.page() = Page { left_wall_ns, last: Some(Arrival { guest_ns, left_wall_ns, resumed: None }) };
    }

    /// When the guest last ran, for a state of it; nothing of one that never did.
    pub(crate) fn save(&self) -> Option<Section> {
        let wall_ns = self.page().left_wall_ns?;
        Some(Section::encode(SECTION, VERSION, &Saved { wall_ns }))
    }
}

/// The same, read.
pub(crate) fn decode(section: &Section) -> Result<u64, LoadError> {
    let saved: Saved = section.decode(SECTION, VERSION)?;
    Ok(saved.wall_ns)
}
