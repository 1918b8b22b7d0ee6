//! The saved form of a hart.
//!
//! Beside the registers it holds what of the shared part nobody else saves: SSIP and `stimecmp`. The level of the other
//! interrupt lines is their devices' to restore. A reservation is kept, so that a program goes on after a load as it would
//! have without it: an `sc` then compares with memory as it does anyway.

use serde::{Deserialize, Serialize};
use vmcore::{LoadError, Section, mip};

use crate::csr::{
    COUNTERS, Csrs, DELEGABLE, FIOM, INHIBITABLE, INTERRUPTS, STCE, SUPERVISOR_INTERRUPTS, satp, status,
};
use crate::hart::{Hart, OWN_INTERRUPTS, Reservation};
use crate::op::F0;
use crate::trap::Mode;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Saved {
    x: [u64; 32],
    f: [u64; 32],
    pc: u64,
    mode: Mode,
    /// With the counters themselves in place of their offsets.
    csr: Csrs,
    pending: u64,
    stimecmp: u64,
    reservation: Option<SavedReservation>,
}

/// A [`Reservation`] by guest physical address.
#[derive(Serialize, Deserialize)]
struct SavedReservation {
    addr: u64,
    value: u64,
    double: bool,
}

impl Hart {
    fn section_name(&self) -> String {
        format!("hart{}", self.shared.id())
    }

    pub(crate) fn save_state(&self) -> Section {
        let retired = self.retired_now();
        let mut csr = self.csr.clone();
        if csr.mcountinhibit & 1 == 0 {
            csr.cycle_offset = csr.cycle_offset.wrapping_add(retired);
        }
        if csr.mcountinhibit & 4 == 0 {
            csr.instret_offset = csr.instret_offset.wrapping_add(retired);
        }
        let state = Saved {
            x: std::array::from_fn(|at| self.x[at]),
            f: std::array::from_fn(|at| self.x[usize::from(F0) + at]),
            pc: self.pc,
            mode: self.mode,
            csr,
            pending: self.shared.pending() & OWN_INTERRUPTS,
            stimecmp: self.shared.stimecmp(),
            reservation: self.saved_reservation(),
        };
        Section::encode(&self.section_name(), VERSION, &state)
    }

    pub(crate) fn check_state(&self, section: &Section) -> Result<(), LoadError> {
        self.checked(section).map(drop)
    }

    fn checked(&self, section: &Section) -> Result<Saved, LoadError> {
        let state: Saved = section.decode(&self.section_name(), VERSION)?;
        match self.wrong(&state) {
            Some(what) => Err(section.bad_value(what)),
            None => Ok(state),
        }
    }

    pub(crate) fn load_state(&mut self, section: &Section) -> Result<(), LoadError> {
        let state = self.checked(section)?;
        let retired = self.retired_now();
        let mut csr = state.csr;
        csr.pmp.update();
        if csr.mcountinhibit & 1 == 0 {
            csr.cycle_offset = csr.cycle_offset.wrapping_sub(retired);
        }
        if csr.mcountinhibit & 4 == 0 {
            csr.instret_offset = csr.instret_offset.wrapping_sub(retired);
        }
        for at in 0..32 {
            self.x[at] = state.x[at];
            self.x[usize::from(F0) + at] = state.f[at];
        }
        self.pc = state.pc;
        self.mode = state.mode;
        self.csr = csr;
        self.shared.set_pending(OWN_INTERRUPTS & !state.pending, false);
        self.shared.set_pending(state.pending, true);
        self.shared.set_stimecmp(state.stimecmp);
        self.forget();
        self.reservation = state.reservation.and_then(|saved| self.found_again(&saved));
        Ok(())
    }

    fn saved_reservation(&self) -> Option<SavedReservation> {
        let Reservation { host, value, double } = self.reservation?;
        let first = self.ram.host_address(self.ram.base())?;
        let addr = self.ram.base() + host.checked_sub(first)? as u64;
        Some(SavedReservation { addr, value, double })
    }

    /// The reservation at the same place of this machine's memory. None if there is no such place.
    fn found_again(&self, saved: &SavedReservation) -> Option<Reservation> {
        let SavedReservation { addr, value, double } = *saved;
        Some(Reservation { host: self.ram.host_address(addr)?, value, double })
    }

    fn may_reserve(&self, saved: &SavedReservation) -> bool {
        let width = if saved.double { 8 } else { 4 };
        saved.addr.is_multiple_of(width) && self.ram.contains(saved.addr, width)
    }

    /// The first value that no hart like this could have.
    fn wrong(&self, state: &Saved) -> Option<&'static str> {
        let csr = &state.csr;
        let stce = if self.extensions.sstc { STCE } else { 0 };
        let stip = if csr.menvcfg & STCE == 0 { mip::STIP } else { 0 };
        let within = |value: u64, mask: u64| value & !mask == 0;
        let checks = [
            (state.x[0] == 0, "x0"),
            (state.pc & self.misaligned_pc == 0, "pc"),
            (self.firmware.is_none() || state.mode != Mode::Machine, "mode"),
            (status::is_valid(csr.mstatus), "mstatus"),
            (within(csr.mie, INTERRUPTS), "mie"),
            (within(csr.mideleg, SUPERVISOR_INTERRUPTS), "mideleg"),
            (within(csr.medeleg, DELEGABLE), "medeleg"),
            (csr.mtvec & 2 == 0, "mtvec"),
            (csr.stvec & 2 == 0, "stvec"),
            (csr.mepc & 1 == 0, "mepc"),
            (csr.sepc & 1 == 0, "sepc"),
            (within(csr.mcounteren, COUNTERS), "mcounteren"),
            (within(csr.scounteren, COUNTERS), "scounteren"),
            (within(csr.mcountinhibit, INHIBITABLE), "mcountinhibit"),
            (within(csr.menvcfg, FIOM | stce), "menvcfg"),
            (within(csr.senvcfg, FIOM), "senvcfg"),
            (within(csr.mip_written, mip::SEIP | stip), "mip"),
            (satp::is_valid(csr.satp, self.extensions.sv48), "satp"),
            (csr.fflags < 32, "fflags"),
            (csr.frm < 8, "frm"),
            (csr.pmp.is_valid(), "pmp"),
            (within(state.pending, OWN_INTERRUPTS), "pending interrupts"),
            (state.reservation.as_ref().is_none_or(|saved| self.may_reserve(saved)), "reservation"),
        ];
        checks.iter().find(|(good, _)| !good).map(|(_, what)| *what)
    }
}
