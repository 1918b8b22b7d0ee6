//! Platform-level interrupt controller, `sifive,plic-1.0.0` (RISC-V PLIC specification 1.0.0), with two contexts a hart.
//!
//! Context `2h` is hart `h` in machine mode, `2h + 1` in supervisor mode, as in QEMU's `virt` machine.
//!
//! Every input is a level. Its gateway forwards one request when the level is high and no request of the input is pending
//! or in service; completion opens it again, so a level that is still high asks once more. A request that was forwarded
//! stays pending when the level falls (section 3, interrupt gateways).
//!
//! The wake rule: while the guest is suspended to RAM, it wakes when the output of a supervisor context of the hart that
//! sleeps is asserted. Lines that the guest has masked therefore wake nothing, whatever the device; one that rises all the
//! same is reported as a masked wake.
//!
//! Invariants:
//! * a hart's external-interrupt pending bit is the output of its context, after every call;
//! * while the machine is held no wake is posted: [`Device::start`] judges the output.

use std::sync::{Arc, Mutex};

use runstate::{DeviceRequest, GuestRequest, WakeSource};
use serde::{Deserialize, Serialize};
use vmcore::{AccessSize, Device, DevicePort, Harts, HsmState, IrqLine, IrqSink, LoadError, Section, mip};

use crate::lock;
use spec::*;

#[cfg(test)]
mod tests;

/// The memory map, PLIC specification section 2.
mod spec {
    /// One word an input; word 0 is reserved.
    pub const PRIORITY: u64 = 0;
    pub const PRIORITY_END: u64 = PENDING;
    /// One bit an input.
    pub const PENDING: u64 = 0x1000;
    pub const PENDING_END: u64 = 0x1080;
    /// One bit an input, for each context.
    pub const ENABLE: u64 = 0x2000;
    pub const ENABLE_STRIDE: u64 = 0x80;
    pub const ENABLE_END: u64 = CONTEXT;
    /// Threshold and claim/complete, for each context.
    pub const CONTEXT: u64 = 0x20_0000;
    pub const CONTEXT_STRIDE: u64 = 0x1000;
    pub const THRESHOLD: u64 = 0;
    pub const CLAIM: u64 = 4;

    /// Inputs 1 to 95, as in QEMU's `virt` machine.
    pub const SOURCES: u32 = 95;
    pub const HIGHEST_PRIORITY: u32 = 7;
    /// Words of 32 inputs, input 0 (which does not exist) included.
    pub const WORDS: usize = 3;
    /// Inputs that exist, by word.
    pub const INPUTS: [u32; WORDS] = [!1, !0, !0];
}

/// One bit an input.
type Bits = [u32; WORDS];

/// There is no such input.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("interrupt controller input {0} does not exist, inputs are 1 to {SOURCES}")]
pub struct NoSuchInput(pub u32);

/// One context: what it enables, and how urgent an interrupt must be to reach it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
struct Context {
    enabled: Bits,
    threshold: u8,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
struct State {
    level: Bits,
    pending: Bits,
    in_service: Bits,
    /// By input; 0 is never served.
    priority: Vec<u8>,
    contexts: Vec<Context>,
}

/// What an input is called when it wakes the guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WakeInput {
    /// The input.
    pub input: u32,
    /// Its name.
    pub source: WakeSource,
    /// The device judges its wakes by itself, so that masking the line does not mask the source.
    pub judged_by_device: bool,
}

/// A line that the guest leaves unmasked in supervisor mode, on a hart that is not STOPPED.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WakeLine {
    /// Input of the controller.
    pub input: u32,
    /// What a wake by it is called.
    pub source: WakeSource,
    /// Whether it asserts the output now.
    pub asserted: bool,
}

struct Inner {
    state: State,
    /// What each context's output was last driven to.
    outputs: Vec<bool>,
    held: bool,
    asleep: bool,
    /// Masked inputs that rose while the machine was held.
    missed: Bits,
}

/// The interrupt controller. See the module's documentation.
pub struct Plic {
    name: String,
    harts: Harts,
    port: Arc<dyn DevicePort>,
    named: Vec<WakeInput>,
    inner: Mutex<Inner>,
}

impl Plic {
    /// Size of the register window in bytes, as in QEMU's `virt` machine.
    pub const WINDOW: u64 = 0x60_0000;
    /// Number of the last input; the first is 1.
    pub const SOURCES: u32 = SOURCES;
    const VERSION: u32 = 1;

    /// A controller for `harts`, after reset. It posts wakes to `port`; a wake by one of the inputs of `named` is reported
    /// under the name given there, by any other as [`WakeSource::Interrupt`].
    pub fn new(name: &str, harts: Harts, port: Arc<dyn DevicePort>, named: &[WakeInput]) -> Self {
        let contexts = 2 * harts.len();
        let state = State::at_reset(contexts);
        let inner = Inner {
            state,
            outputs: vec![false; contexts],
            held: false,
            asleep: false,
            missed: Bits::default(),
        };
        Self { name: name.to_owned(), harts, port, named: named.to_vec(), inner: Mutex::new(inner) }
    }

    /// The line into input `input`.
    pub fn line(self: &Arc<Self>, input: u32) -> Result<IrqLine, NoSuchInput> {
        if !(1..=SOURCES).contains(&input) {
            return Err(NoSuchInput(input));
        }
        Ok(IrqLine::new(Arc::clone(self) as Arc<dyn IrqSink>, input))
    }

    /// Whether the external interrupt of hart `hart` in supervisor mode is asserted.
    pub fn supervisor_output(&self, hart: u32) -> bool {
        self.output(hart, 1)
    }

    /// Whether the external interrupt of hart `hart` in machine mode is asserted.
    pub fn machine_output(&self, hart: u32) -> bool {
        self.output(hart, 0)
    }

    fn checked(&self, section: &Section) -> Result<State, LoadError> {
        let state: State = section.decode(&self.name, Self::VERSION)?;
        state.check(section, 2 * self.harts.len())?;
        Ok(state)
    }

    fn output(&self, hart: u32, mode: usize) -> bool {
        lock(&self.inner).outputs.get(hart as usize * 2 + mode).copied().unwrap_or(false)
    }

    /// Brings every output in line with the state, and posts the wake that comes of it.
    fn update(&self, inner: &mut Inner, everything: bool) {
        for (index, output) in inner.outputs.iter_mut().enumerate() {
            let asserted = inner.state.asserted(index).is_some();
            if asserted != *output || everything {
                *output = asserted;
                let bit = if index % 2 == 0 { mip::MEIP } else { mip::SEIP };
                if let Some(hart) = self.harts.get(index as u32 / 2) {
                    hart.set_pending(bit, asserted);
                }
            }
        }
        if inner.asleep && !inner.held {
            for line in self.lines(&inner.state).filter(|line| line.asserted) {
                self.port.post(DeviceRequest::Wake(line.source));
            }
        }
    }

    /// The supervisor contexts that count: those of the harts that are not STOPPED. (While the guest is suspended that is
    /// the one hart that called; its others are STOPPED.)
    fn contexts(&self) -> impl Iterator<Item = usize> {
        let harts = self.harts.iter().filter(|hart| hart.hsm_state() != HsmState::Stopped);
        harts.map(|hart| hart.id() as usize * 2 + 1)
    }

    fn source(&self, line: u32) -> WakeSource {
        let named = self.named.iter().find(|named| named.input == line);
        named.map_or(WakeSource::Interrupt { line }, |named| named.source)
    }

    fn lines(&self, state: &State) -> impl Iterator<Item = WakeLine> {
        let unmasked = (1..=SOURCES).filter(|line| self.contexts().any(|index| state.unmasked(index, *line)));
        unmasked.map(|input| WakeLine {
            input,
            source: self.source(input),
            asserted: get(&state.pending, input),
        })
    }

    /// Every line that could interrupt a hart in supervisor mode: what may wake a sleeping guest.
    pub fn wake_lines(&self) -> Vec<WakeLine> {
        let inner = lock(&self.inner);
        self.lines(&inner.state).collect()
    }

    /// Input `line` has risen while the guest sleeps. If it masked it, that is reported, when the machine is live.
    fn note_masked(&self, inner: &mut Inner, line: u32) {
        let judged_by_device = self.named.iter().any(|named| named.input == line && named.judged_by_device);
        if judged_by_device || self.contexts().any(|index| inner.state.unmasked(index, line)) {
            return;
        }
        if inner.held {
            set(&mut inner.missed, line);
        } else {
            self.port.post(DeviceRequest::MaskedWake(self.source(line)));
        }
    }

    /// The wake that is due: an asserted output. Of several lines the most urgent.
    fn due_wake(&self, state: &State) -> Option<WakeSource> {
        self.contexts().find_map(|index| state.asserted(index)).map(|line| self.source(line))
    }
}

impl State {
    fn at_reset(contexts: usize) -> Self {
        Self {
            level: Bits::default(),
            pending: Bits::default(),
            in_service: Bits::default(),
            priority: vec![0; SOURCES as usize + 1],
            contexts: vec![Context::default(); contexts],
        }
    }

    /// The gateways: forwards the levels that are high and not yet pending or in service.
    fn forward(&mut self) {
        for ((pending, level), in_service) in self.pending.iter_mut().zip(self.level).zip(self.in_service) {
            *pending |= level & !in_service;
        }
    }

    /// The most urgent request for context `index`: highest priority, then lowest number. Priority 0 is never served.
    fn best(&self, index: usize) -> Option<(u8, u32)> {
        let context = self.contexts.get(index)?;
        let mut best: Option<(u8, u32)> = None;
        for (word, (pending, enabled)) in self.pending.iter().zip(context.enabled).enumerate() {
            let mut wanted = pending & enabled;
            while wanted != 0 {
                let input = word as u32 * 32 + wanted.trailing_zeros();
                wanted &= wanted - 1;
                let priority = self.priority.get(input as usize).copied().unwrap_or(0);
                if priority > best.map_or(0, |(priority, _)| priority) {
                    best = Some((priority, input));
                }
            }
        }
        best
    }

    /// The input that asserts the output of context `index`: one above the threshold.
    fn asserted(&self, index: usize) -> Option<u32> {
        let threshold = self.contexts.get(index)?.threshold;
        self.best(index).filter(|(priority, _)| *priority > threshold).map(|(_, input)| input)
    }

    /// Whether a request of `input` would assert the output of context `index`.
    fn unmasked(&self, index: usize, input: u32) -> bool {
        let priority = self.priority.get(input as usize).copied().unwrap_or(0);
        self.contexts
            .get(index)
            .is_some_and(|context| get(&context.enabled, input) && priority > context.threshold)
    }

    /// Claims for context `index`; 0 when nothing is pending. The threshold does not matter to a claim (section 7).
    fn claim(&mut self, index: usize) -> u32 {
        let Some((_, input)) = self.best(index) else { return 0 };
        clear(&mut self.pending, input);
        set(&mut self.in_service, input);
        input
    }

    /// Completes `input`, if context `index` enables it; otherwise it is ignored (section 8).
    fn complete(&mut self, index: usize, input: u32) {
        if self.contexts.get(index).is_some_and(|context| get(&context.enabled, input)) {
            clear(&mut self.in_service, input);
            self.forward();
        }
    }

    fn register(&mut self, offset: u64) -> u32 {
        match offset {
            PRIORITY..PRIORITY_END => {
                self.priority.get(offset as usize / 4).map_or(0, |priority| u32::from(*priority))
            }
            PENDING..PENDING_END => self.pending.get((offset - PENDING) as usize / 4).copied().unwrap_or(0),
            ENABLE..ENABLE_END => {
                let (index, word) = split(offset - ENABLE, ENABLE_STRIDE);
                let context = self.contexts.get(index);
                context.and_then(|context| context.enabled.get(word)).copied().unwrap_or(0)
            }
            _ => match split(offset.saturating_sub(CONTEXT), CONTEXT_STRIDE) {
                (index, 0) => self.contexts.get(index).map_or(0, |context| u32::from(context.threshold)),
                (index, 1) => self.claim(index),
                _ => 0,
            },
        }
    }

    fn set_register(&mut self, offset: u64, value: u32) {
        // Priorities and thresholds have three bits.
        let level = (value & HIGHEST_PRIORITY) as u8;
        match offset {
            PRIORITY..PRIORITY_END => {
                // There is no input 0.
                if let (Some(priority), true) = (self.priority.get_mut(offset as usize / 4), offset >= 4) {
                    *priority = level;
                }
            }
            PENDING..PENDING_END => {}
            ENABLE..ENABLE_END => {
                let (index, word) = split(offset - ENABLE, ENABLE_STRIDE);
                let context = self.contexts.get_mut(index);
                let enabled = context.and_then(|context| context.enabled.get_mut(word));
                if let (Some(enabled), Some(inputs)) = (enabled, INPUTS.get(word)) {
                    *enabled = value & inputs;
                }
            }
            _ => match split(offset.saturating_sub(CONTEXT), CONTEXT_STRIDE) {
                (index, word) if word as u64 * 4 == THRESHOLD => {
                    if let Some(context) = self.contexts.get_mut(index) {
                        context.threshold = level;
                    }
                }
                (index, word) if word as u64 * 4 == CLAIM => self.complete(index, value),
                _ => {}
            },
        }
    }

    fn check(&self, section: &Section, contexts: usize) -> Result<(), LoadError> {
        let check = |ok: bool, what| if ok { Ok(()) } else { Err(section.bad_value(what)) };
        let exist = |bits: &Bits| bits.iter().zip(INPUTS).all(|(bits, inputs)| bits & !inputs == 0);
        check([&self.level, &self.pending, &self.in_service].into_iter().all(exist), "input 0")?;
        check(self.priority.len() == SOURCES as usize + 1, "number of inputs")?;
        check(self.priority.first() == Some(&0), "priority of input 0")?;
        check(self.priority.iter().all(|level| u32::from(*level) <= HIGHEST_PRIORITY), "priority")?;
        check(self.contexts.len() == contexts, "number of contexts")?;
        check(self.contexts.iter().all(|context| exist(&context.enabled)), "enabled input 0")?;
        check(
            self.contexts.iter().all(|context| u32::from(context.threshold) <= HIGHEST_PRIORITY),
            "threshold",
        )
    }
}

/// Index of the block of `stride` bytes that `offset` is in, and of the word in it.
fn split(offset: u64, stride: u64) -> (usize, usize) {
    ((offset / stride) as usize, (offset % stride / 4) as usize)
}

fn get(bits: &Bits, input: u32) -> bool {
    bits.get(input as usize / 32).is_some_and(|word| word >> (input % 32) & 1 != 0)
}

fn set(bits: &mut Bits, input: u32) {
    if let Some(word) = bits.get_mut(input as usize / 32) {
        *word |= 1 << (input % 32);
    }
}

fn clear(bits: &mut Bits, input: u32) {
    if let Some(word) = bits.get_mut(input as usize / 32) {
        *word &= !(1 << (input % 32));
    }
}

impl IrqSink for Plic {
    fn set_level(&self, line: u32, level: bool) {
        if !(1..=SOURCES).contains(&line) {
            return;
        }
        let mut inner = lock(&self.inner);
        if get(&inner.state.level, line) == level {
            return;
        }
        if level {
            set(&mut inner.state.level, line);
            inner.state.forward();
            if inner.asleep {
                self.note_masked(&mut inner, line);
            }
            self.update(&mut inner, false);
        } else {
            clear(&mut inner.state.level, line);
        }
    }
}

impl Device for Plic {
    fn name(&self) -> &str {
        &self.name
    }

    /// Registers take 32-bit accesses; others read 0.
    fn read(&self, offset: u64, size: AccessSize) -> u64 {
        if size != AccessSize::Word {
            return 0;
        }
        let mut inner = lock(&self.inner);
        let value = inner.state.register(offset);
        self.update(&mut inner, false);
        u64::from(value)
    }

    /// Registers take 32-bit accesses; others are ignored.
    fn write(&self, offset: u64, size: AccessSize, value: u64) -> Option<GuestRequest> {
        if size == AccessSize::Word {
            let mut inner = lock(&self.inner);
            inner.state.set_register(offset, value as u32);
            self.update(&mut inner, false);
        }
        None
    }

    /// Also takes every input as low: the devices drive theirs again as they are reset.
    fn reset(&self) {
        let mut inner = lock(&self.inner);
        inner.state = State::at_reset(inner.outputs.len());
        inner.asleep = false;
        inner.missed = Bits::default();
        self.update(&mut inner, true);
    }

    fn stop(&self) {
        lock(&self.inner).held = true;
    }

    /// Starts after the devices whose lines lead here, so that it sees what they found due.
    fn start(&self) -> Option<WakeSource> {
        let mut inner = lock(&self.inner);
        inner.held = false;
        let missed = std::mem::take(&mut inner.missed);
        for line in (1..=SOURCES).filter(|line| get(&missed, *line)) {
            self.port.post(DeviceRequest::MaskedWake(self.source(line)));
        }
        self.due_wake(&inner.state)
    }

    fn sleep(&self) -> Option<WakeSource> {
        let mut inner = lock(&self.inner);
        inner.asleep = true;
        self.due_wake(&inner.state)
    }

    fn wake(&self) {
        let mut inner = lock(&self.inner);
        inner.asleep = false;
        inner.missed = Bits::default();
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
        self.update(&mut inner, true);
        Ok(())
    }
}
