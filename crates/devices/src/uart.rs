//! 16550A UART (National Semiconductor PC16550D data sheet), registers one byte apart.
//!
//! The back end is a [`SerialPort`]; whoever glues the two calls [`Uart::can_receive`], [`Uart::receive`],
//! [`Uart::receive_break`] and [`Uart::writable`].
//!
//! Invariants:
//! * a byte that the back end does not take stays in the transmitter and THRE stays low, until [`Uart::writable`];
//! * the interrupt line is a level: high exactly while IIR shows a pending interrupt;
//! * a BREAK is seen by the guest in order with the bytes around it, and is not lost to a full FIFO;
//! * while the machine is held no input is taken and no output is made.
//!
//! Bits take no time here: a byte is on its way as soon as the back end takes it, and the character timeout of the
//! receiver has always passed.

use std::sync::{Arc, Mutex};

use runstate::{DeviceRequest, GuestRequest, WakeSource};
use vmcore::{AccessSize, Device, DevicePort, IrqLine, LoadError, Section};

use crate::lock;
use state::spec::*;
use state::{Received, State};

mod state;
#[cfg(test)]
mod tests;

/// The host's end of a serial line.
pub trait SerialPort: Send + Sync {
    /// Takes output; gives how many bytes were taken, from the front. Never blocks. When it was not all,
    /// [`Uart::writable`] must follow once there is room.
    fn try_write(&self, bytes: &[u8]) -> usize;

    /// The UART has room again. Never blocks, and costs next to nothing when no input waits.
    fn resume_input(&self);

    /// Holds input back (true) or lets it come (false). After `hold(true)` has returned no callback into the UART is in
    /// progress, and none will come. Called without the UART's lock.
    fn hold(&self, held: bool);
}

struct Inner {
    state: State,
    held: bool,
    asleep: bool,
}

/// The UART. See the module's documentation.
pub struct Uart {
    name: String,
    irq: IrqLine,
    port: Arc<dyn SerialPort>,
    /// What its input is called as a wake, and where one that the guest has masked is reported.
    wake: Option<(WakeSource, Arc<dyn DevicePort>)>,
    inner: Mutex<Inner>,
}

impl Uart {
    /// Size of the register window in bytes; registers take the first eight.
    pub const WINDOW: u64 = 0x100;
    const VERSION: u32 = 1;

    /// A UART after reset, on line `irq`, with its host's end.
    pub fn new(name: &str, irq: IrqLine, port: Arc<dyn SerialPort>) -> Self {
        let inner = Mutex::new(Inner { state: State::at_reset(), held: false, asleep: false });
        Self { name: name.to_owned(), irq, port, wake: None, inner }
    }

    /// Reports input that comes while the guest sleeps, but does not interrupt it because the guest has switched that off
    /// in here, as a masked wake of `source` to `port`.
    pub fn reporting(mut self, source: WakeSource, port: Arc<dyn DevicePort>) -> Self {
        self.wake = Some((source, port));
        self
    }

    /// Whether input interrupts the guest, as far as the UART goes.
    pub fn input_interrupts(&self) -> bool {
        lock(&self.inner).state.ier & IER_RX != 0
    }

    // ---- for the back end ----

    /// How many bytes the receiver can take now: none while the machine is held, in loopback, or behind a waiting BREAK.
    pub fn can_receive(&self) -> usize {
        let inner = lock(&self.inner);
        if inner.held || inner.state.in_loopback() { 0 } else { inner.state.room() }
    }

    /// Takes input, no more than [`Uart::can_receive`] said. What does not fit all the same is an overrun, as on a line.
    pub fn receive(&self, bytes: &[u8]) {
        let mut inner = lock(&self.inner);
        for byte in bytes {
            inner.state.put(Received { byte: *byte, is_break: false });
        }
        self.note_masked(&inner, IER_RX);
        self.drive(&inner.state);
    }

    /// A BREAK condition on the line.
    pub fn receive_break(&self) {
        let mut inner = lock(&self.inner);
        inner.state.put(Received { byte: 0, is_break: true });
        self.note_masked(&inner, IER_RX | IER_LINE);
        self.drive(&inner.state);
    }

    /// The back end has room for output again.
    pub fn writable(&self) {
        let mut inner = lock(&self.inner);
        if !inner.held {
            self.send(&mut inner.state);
            self.drive(&inner.state);
        }
    }

    // ---- for the firmware's debug console, which shares the line ----

    /// Sends `bytes` behind what the guest wrote before; gives how many were taken.
    pub fn console_write(&self, bytes: &[u8]) -> usize {
        let mut inner = lock(&self.inner);
        self.send(&mut inner.state);
        let taken = if inner.state.to_send.is_empty() { self.port.try_write(bytes) } else { 0 };
        self.drive(&inner.state);
        taken.min(bytes.len())
    }

    /// Takes received bytes out of the receiver into `bytes`; gives how many.
    pub fn console_read(&self, bytes: &mut [u8]) -> usize {
        let mut inner = lock(&self.inner);
        let mut count = 0;
        for slot in bytes.iter_mut() {
            if inner.state.received.is_empty() {
                break;
            }
            *slot = self.take_byte(&mut inner.state);
            count += 1;
        }
        self.drive(&inner.state);
        count
    }

    // ---- inside ----

    /// Input has come; `enables` are the interrupts any of which it raises.
    fn note_masked(&self, inner: &Inner, enables: u8) {
        if let (true, Some((source, port))) = (inner.asleep && inner.state.ier & enables == 0, &self.wake) {
            port.post(DeviceRequest::MaskedWake(*source));
        }
    }

    fn checked(&self, section: &Section) -> Result<State, LoadError> {
        let state: State = section.decode(&self.name, Self::VERSION)?;
        state.check(section)?;
        Ok(state)
    }

    fn drive(&self, state: &State) {
        self.irq.set(state.interrupt() != IIR_NONE);
    }

    /// Hands the transmitter's bytes to the back end as far as it takes them.
    fn send(&self, state: &mut State) {
        while !state.to_send.is_empty() {
            let taken = self.port.try_write(state.to_send.make_contiguous()).min(state.to_send.len());
            if taken == 0 {
                return;
            }
            state.to_send.drain(..taken);
            state.thre_interrupt |= state.to_send.is_empty();
        }
    }

    fn transmit(&self, state: &mut State, byte: u8) {
        state.thre_interrupt = false;
        if state.in_loopback() {
            state.put(Received { byte, is_break: false });
            state.thre_interrupt = true;
            return;
        }
        // A write to a full transmitter is lost, as in hardware.
        if state.to_send.len() < state.depth() {
            state.to_send.push_back(byte);
        }
        self.send(state);
    }

    fn take_byte(&self, state: &mut State) -> u8 {
        let Some(front) = state.received.pop_front() else { return 0 };
        state.break_reported = false;
        if std::mem::take(&mut state.break_waits) {
            state.put(Received { byte: 0, is_break: true });
        }
        if state.received.is_empty() {
            self.port.resume_input();
        }
        front.byte
    }

    fn set_fcr(&self, state: &mut State, value: u8) {
        let toggled = (state.fcr ^ value) & FCR_ENABLE != 0;
        if toggled || value & FCR_CLEAR_RX != 0 {
            state.clear_receiver();
            self.port.resume_input();
        }
        if toggled || value & FCR_CLEAR_TX != 0 {
            state.thre_interrupt |= !state.to_send.is_empty();
            state.to_send.clear();
        }
        // Without the enable bit no other bit is programmed (section 8.5).
        state.fcr = if value & FCR_ENABLE != 0 { value & FCR_KEPT } else { 0 };
    }

    fn set_mcr(&self, state: &mut State, value: u8) {
        let before = state.modem_inputs();
        let was_loopback = state.in_loopback();
        state.mcr = value & MCR_MASK;
        state.note_modem_change(before);
        if was_loopback && !state.in_loopback() {
            self.port.resume_input();
        }
    }
}

impl Device for Uart {
    fn name(&self) -> &str {
        &self.name
    }

    /// Wider accesses reach the one register at their offset.
    fn read(&self, offset: u64, _size: AccessSize) -> u64 {
        let mut inner = lock(&self.inner);
        let state = &mut inner.state;
        let dlab = state.lcr & LCR_DLAB != 0;
        let [divisor_low, divisor_high] = state.divisor.to_le_bytes();
        let value = match offset {
            RBR_THR if dlab => divisor_low,
            RBR_THR => self.take_byte(state),
            IER if dlab => divisor_high,
            IER => state.ier,
            IIR_FCR => {
                let interrupt = state.interrupt();
                if interrupt == IIR_THRE {
                    state.thre_interrupt = false;
                }
                interrupt | if state.fifos_on() { IIR_FIFOS_ON } else { 0 }
            }
            LCR => state.lcr,
            MCR => state.mcr,
            LSR => {
                let lsr = state.lsr();
                state.overrun = false;
                state.break_reported |= lsr & LSR_BREAK != 0;
                lsr
            }
            MSR => state.modem_inputs() | std::mem::take(&mut state.modem_deltas),
            SCR => state.scr,
            _ => 0,
        };
        self.drive(state);
        u64::from(value)
    }

    fn write(&self, offset: u64, _size: AccessSize, value: u64) -> Option<GuestRequest> {
        let mut inner = lock(&self.inner);
        let state = &mut inner.state;
        let dlab = state.lcr & LCR_DLAB != 0;
        let [divisor_low, divisor_high] = state.divisor.to_le_bytes();
        let value = (value & 0xff) as u8;
        match offset {
            RBR_THR if dlab => state.divisor = u16::from_le_bytes([value, divisor_high]),
            RBR_THR => self.transmit(state, value),
            IER if dlab => state.divisor = u16::from_le_bytes([divisor_low, value]),
            IER => {
                // Switching the THRE interrupt on while the transmitter is empty raises it (section 8.6).
                let switched_on = value & !state.ier & IER_THRE != 0;
                state.thre_interrupt |= switched_on && state.to_send.is_empty();
                state.ier = value & IER_MASK;
            }
            IIR_FCR => self.set_fcr(state, value),
            LCR => state.lcr = value,
            MCR => self.set_mcr(state, value),
            SCR => state.scr = value,
            _ => {}
        }
        self.drive(state);
        None
    }

    fn reset(&self) {
        let mut inner = lock(&self.inner);
        inner.state = State::at_reset();
        inner.asleep = false;
        self.drive(&inner.state);
        self.port.resume_input();
    }

    fn stop(&self) {
        self.port.hold(true);
        lock(&self.inner).held = true;
    }

    fn start(&self) -> Option<WakeSource> {
        let mut inner = lock(&self.inner);
        inner.held = false;
        self.send(&mut inner.state);
        self.drive(&inner.state);
        drop(inner);
        self.port.hold(false);
        self.port.resume_input();
        None
    }

    /// Input that wakes is reported by the interrupt controller.
    fn sleep(&self) -> Option<WakeSource> {
        lock(&self.inner).asleep = true;
        None
    }

    fn wake(&self) {
        lock(&self.inner).asleep = false;
    }

    fn save(&self) -> Section {
        Section::encode(&self.name, Self::VERSION, &lock(&self.inner).state)
    }

    fn check(&self, section: &Section) -> Result<(), LoadError> {
        self.checked(section).map(drop)
    }

    fn load(&self, section: &Section) -> Result<(), LoadError> {
        let state = self.checked(section)?;
        let mut inner = lock(&self.inner);
        inner.state = state;
        self.drive(&inner.state);
        Ok(())
    }
}
