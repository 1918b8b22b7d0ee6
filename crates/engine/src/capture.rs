//! What a job takes from the machine while it stands.

use std::sync::Arc;

use ram::Ram;
use vmcore::Register;

use crate::Engine;

/// The general registers of a hart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HartRegisters {
    /// The program counter.
    pub pc: u64,
    /// `x1` to `x31`.
    pub x: [u64; 31],
}

impl Engine {
    /// Guest memory, if the machine has any.
    pub fn ram(&self) -> Option<Arc<Ram>> {
        self.inner.vm.ram().map(Arc::clone)
    }

    /// The registers of all harts, by ascending id, once what was asked before has been handled. `None`: the machine has
    /// ended. For a job that holds the machine: a hart that runs is parked for the look, and they are of no one moment.
    pub fn capture(&self) -> Option<Vec<HartRegisters>> {
        let harts: Vec<u32> = self.inner.harts.iter().map(|hart| hart.shared.id()).collect();
        self.on_machine(move |machine| {
            let look = |id| {
                machine.look_at(id, |slot| {
                    let mut read = |register| slot.vcpu.read_register(register).unwrap_or(0);
                    HartRegisters {
                        pc: read(Register::Pc),
                        x: std::array::from_fn(|index| read(Register::Integer(index as u8 + 1))),
                    }
                })
            };
            harts.into_iter().filter_map(look).collect()
        })
    }
}
