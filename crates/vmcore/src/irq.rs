//! Interrupt lines: the only output of a device towards the rest of the machine.

use std::fmt;
use std::sync::Arc;

/// What an interrupt line leads to.
pub trait IrqSink: Send + Sync {
    /// The level of input `line` is now `level`. Idempotent. Does not block and calls no device.
    fn set_level(&self, line: u32, level: bool);
}

/// One level-triggered line into a controller.
#[derive(Clone)]
pub struct IrqLine {
    target: Option<(Arc<dyn IrqSink>, u32)>,
}

impl IrqLine {
    /// The input `line` of `sink`.
    pub fn new(sink: Arc<dyn IrqSink>, line: u32) -> Self {
        Self { target: Some((sink, line)) }
    }

    /// A line that leads nowhere.
    pub fn unconnected() -> Self {
        Self { target: None }
    }

    /// The number of the input that the line leads to, if it leads anywhere.
    pub fn number(&self) -> Option<u32> {
        self.target.as_ref().map(|(_, line)| *line)
    }

    /// Drives the line.
    pub fn set(&self, level: bool) {
        if let Some((sink, line)) = &self.target {
            sink.set_level(*line, level);
        }
    }
}

impl fmt::Debug for IrqLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IrqLine").field(&self.number()).finish()
    }
}
