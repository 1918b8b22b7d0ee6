//! The door to the built-in firmware: what happens when supervisor code executes `ecall`.

use runstate::GuestRequest;

/// A call by the binary encoding of the SBI specification, chapter 3.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SbiCall {
    /// Extension id, from a7.
    pub extension: u64,
    /// Function id, from a6.
    pub function: u64,
    /// a0 to a5.
    pub args: [u64; 6],
}

/// What a call returns in a0 (error, 0 or negative) and a1 (value).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SbiReturn {
    /// SBI error code.
    pub error: i64,
    /// Value; unspecified by most calls when there is an error, zero here.
    pub value: u64,
}

impl SbiReturn {
    /// Success with a value.
    pub fn ok(value: u64) -> Self {
        Self { error: 0, value }
    }

    /// An error of the SBI specification, table 1.
    pub fn error(error: i64) -> Self {
        Self { error, value: 0 }
    }
}

/// How the hart goes on after a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EcallOutcome {
    /// The call is retired and returns.
    Return(SbiReturn),
    /// The hart's thread is wanted elsewhere and may be outside its gate already: [`Vcpu::run`](crate::Vcpu::run) returns
    /// [`Exit::Signal`](crate::Exit::Signal) at once. The `ecall` is not retired and is executed again.
    Again,
    /// The `ecall` is not retired: the request is posted to the machine, which answers it, resets the hart, or starts it
    /// anew.
    Post(GuestRequest),
    /// HSM `hart_stop`: the hart is STOPPED already. It does not return.
    Stopped,
    /// HSM retentive suspend: returns success after an interrupt has become pending.
    Wait,
}

/// The supervisor's execution environment.
pub trait Firmware: Send + Sync {
    /// Executes `call` made by hart `hart`, which is executing and holds no lock.
    fn ecall(&self, hart: u32, call: SbiCall) -> EcallOutcome;
}
