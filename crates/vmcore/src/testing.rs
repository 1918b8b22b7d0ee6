//! What the rooms above are tested with: the test set that is stamped on every device, and a machine without a board.

mod conformance;
mod fake;
mod storage;

pub use conformance::conformance;
pub use fake::{FakeDevice, FakeMachine, FakeVcpu, Script, Step};
pub use storage::{FakeStorage, Mishap};
