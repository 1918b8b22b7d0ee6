//! The state of the UART: its registers, FIFOs and interrupt conditions, without a line or a back end.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use vmcore::{LoadError, Section};

use spec::*;

/// Registers and bits, PC16550D section 8.
pub(super) mod spec {
    pub const RBR_THR: u64 = 0;
    pub const IER: u64 = 1;
    pub const IIR_FCR: u64 = 2;
    pub const LCR: u64 = 3;
    pub const MCR: u64 = 4;
    pub const LSR: u64 = 5;
    pub const MSR: u64 = 6;
    pub const SCR: u64 = 7;

    pub const IER_RX: u8 = 1 << 0;
    pub const IER_THRE: u8 = 1 << 1;
    pub const IER_LINE: u8 = 1 << 2;
    pub const IER_MODEM: u8 = 1 << 3;
    pub const IER_MASK: u8 = 0x0f;

    pub const IIR_NONE: u8 = 0x01;
    pub const IIR_MODEM: u8 = 0x00;
    pub const IIR_THRE: u8 = 0x02;
    pub const IIR_RX: u8 = 0x04;
    pub const IIR_LINE: u8 = 0x06;
    pub const IIR_TIMEOUT: u8 = 0x0c;
    pub const IIR_FIFOS_ON: u8 = 0xc0;

    pub const FCR_ENABLE: u8 = 1 << 0;
    pub const FCR_CLEAR_RX: u8 = 1 << 1;
    pub const FCR_CLEAR_TX: u8 = 1 << 2;
    /// Enable, DMA mode and trigger level: what is kept.
    pub const FCR_KEPT: u8 = 0xc9;

    pub const LCR_DLAB: u8 = 1 << 7;

    pub const MCR_DTR: u8 = 1 << 0;
    pub const MCR_RTS: u8 = 1 << 1;
    pub const MCR_OUT1: u8 = 1 << 2;
    pub const MCR_OUT2: u8 = 1 << 3;
    pub const MCR_LOOP: u8 = 1 << 4;
    pub const MCR_MASK: u8 = 0x1f;

    pub const LSR_DATA: u8 = 1 << 0;
    pub const LSR_OVERRUN: u8 = 1 << 1;
    pub const LSR_BREAK: u8 = 1 << 4;
    pub const LSR_THRE: u8 = 1 << 5;
    pub const LSR_IDLE: u8 = 1 << 6;

    pub const MSR_DELTA_CTS: u8 = 1 << 0;
    pub const MSR_DELTA_DSR: u8 = 1 << 1;
    pub const MSR_TRAILING_RI: u8 = 1 << 2;
    pub const MSR_DELTA_DCD: u8 = 1 << 3;
    pub const MSR_CTS: u8 = 1 << 4;
    pub const MSR_DSR: u8 = 1 << 5;
    pub const MSR_RI: u8 = 1 << 6;
    pub const MSR_DCD: u8 = 1 << 7;

    /// Depth of each FIFO in bytes.
    pub const FIFO: usize = 16;
    /// The divisor for 9600 baud at 1.8432 MHz: what firmware is used to find. It has no effect here.
    pub const DIVISOR_AT_RESET: u16 = 12;
}

/// A byte in the receiver. BREAK is a zero byte with a mark.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Received {
    pub(super) byte: u8,
    pub(super) is_break: bool,
}

/// What is saved: all of it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) ier: u8,
    pub(super) fcr: u8,
    pub(super) lcr: u8,
    pub(super) mcr: u8,
    pub(super) scr: u8,
    pub(super) divisor: u16,
    pub(super) modem_deltas: u8,
    pub(super) overrun: bool,
    /// The BREAK at the front of the receiver has been reported by a read of LSR.
    pub(super) break_reported: bool,
    /// A BREAK that met a full receiver; it goes in as soon as there is room.
    pub(super) break_waits: bool,
    pub(super) received: VecDeque<Received>,
    /// Written by the guest and not yet taken by the back end. THRE is low while there is something.
    pub(super) to_send: VecDeque<u8>,
    pub(super) thre_interrupt: bool,
}

impl State {
    pub(super) fn at_reset() -> Self {
        Self { divisor: DIVISOR_AT_RESET, ..Self::default() }
    }

    pub(super) fn in_loopback(&self) -> bool {
        self.mcr & MCR_LOOP != 0
    }

    pub(super) fn fifos_on(&self) -> bool {
        self.fcr & FCR_ENABLE != 0
    }

    pub(super) fn depth(&self) -> usize {
        if self.fifos_on() { FIFO } else { 1 }
    }

    /// Bytes in the receiver at which "data available" is due (section 8.5).
    pub(super) fn trigger(&self) -> usize {
        match (self.fifos_on(), self.fcr >> 6) {
            (false, _) | (true, 0) => 1,
            (true, 1) => 4,
            (true, 2) => 8,
            (true, _) => 14,
        }
    }

    pub(super) fn room(&self) -> usize {
        if self.break_waits { 0 } else { self.depth().saturating_sub(self.received.len()) }
    }

    pub(super) fn put(&mut self, received: Received) {
        if self.room() > 0 {
            self.received.push_back(received);
        } else if received.is_break {
            self.break_waits = true;
        } else {
            self.overrun = true;
        }
    }

    pub(super) fn clear_receiver(&mut self) {
        self.received.clear();
        self.break_waits = false;
        self.break_reported = false;
    }

    pub(super) fn break_shows(&self) -> bool {
        !self.break_reported && self.received.front().is_some_and(|front| front.is_break)
    }

    pub(super) fn lsr(&self) -> u8 {
        let mut lsr = 0;
        for (bit, shows) in [
            (LSR_DATA, !self.received.is_empty()),
            (LSR_OVERRUN, self.overrun),
            (LSR_BREAK, self.break_shows()),
            (LSR_THRE | LSR_IDLE, self.to_send.is_empty()),
        ] {
            lsr |= if shows { bit } else { 0 };
        }
        lsr
    }

    /// CTS, DSR, RI and DCD: our outputs in loopback, else a line that is always there.
    pub(super) fn modem_inputs(&self) -> u8 {
        if !self.in_loopback() {
            return MSR_CTS | MSR_DSR | MSR_DCD;
        }
        [(MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD)]
            .iter()
            .filter(|(output, _)| self.mcr & output != 0)
            .fold(0, |inputs, (_, input)| inputs | input)
    }

    pub(super) fn note_modem_change(&mut self, before: u8) {
        let now = self.modem_inputs();
        let changed = before ^ now;
        for (input, delta) in [(MSR_CTS, MSR_DELTA_CTS), (MSR_DSR, MSR_DELTA_DSR), (MSR_DCD, MSR_DELTA_DCD)] {
            self.modem_deltas |= if changed & input != 0 { delta } else { 0 };
        }
        if changed & before & MSR_RI != 0 {
            self.modem_deltas |= MSR_TRAILING_RI;
        }
    }

    /// The highest pending interrupt, as IIR shows it without the FIFO bits (section 8.6).
    pub(super) fn interrupt(&self) -> u8 {
        if self.ier & IER_LINE != 0 && (self.overrun || self.break_shows()) {
            IIR_LINE
        } else if self.ier & IER_RX != 0 && self.received.len() >= self.trigger() {
            IIR_RX
        } else if self.ier & IER_RX != 0 && !self.received.is_empty() {
            IIR_TIMEOUT
        } else if self.ier & IER_THRE != 0 && self.thre_interrupt {
            IIR_THRE
        } else if self.ier & IER_MODEM != 0 && self.modem_deltas != 0 {
            IIR_MODEM
        } else {
            IIR_NONE
        }
    }

    pub(super) fn check(&self, section: &Section) -> Result<(), LoadError> {
        let check = |ok: bool, what| if ok { Ok(()) } else { Err(section.bad_value(what)) };
        check(self.ier & !IER_MASK == 0, "interrupt enable register")?;
        check(self.fcr & !FCR_KEPT == 0 && (self.fifos_on() || self.fcr == 0), "FIFO control register")?;
        check(self.mcr & !MCR_MASK == 0, "modem control register")?;
        check(self.modem_deltas & 0xf0 == 0, "modem status register")?;
        check(self.received.len() <= self.depth(), "receiver")?;
        check(self.received.iter().all(|got| !got.is_break || got.byte == 0), "BREAK in the receiver")?;
        check(self.to_send.len() <= self.depth(), "transmitter")
    }
}
