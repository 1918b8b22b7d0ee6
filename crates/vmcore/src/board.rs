//! What is fixed of a machine when it is made, as far as its guest can tell: what a saved guest needs to find again.

use std::sync::Arc;

use ram::Ram;
use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::harts::Harts;
use crate::saved::{LoadError, Section};

/// A machine as its guest knows it, without anything that changes while it runs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct BoardInfo {
    /// Its type, as after `-machine`.
    pub machine: String,
    /// First guest physical address of RAM.
    pub ram_base: u64,
    /// Size of RAM in bytes.
    pub ram_size: u64,
    /// Number of harts.
    pub harts: u32,
    /// What each hart can do: names of extensions, and of the ways to translate addresses.
    pub isa: Vec<String>,
    /// Ticks of the `time` CSR in a second.
    pub timebase_hz: u64,
    /// Whether the machine brings the SBI itself; otherwise the guest has firmware of its own in machine mode.
    pub built_in_sbi: bool,
    /// Whether suspend to RAM is offered.
    pub suspend: bool,
    /// The devices.
    pub devices: Vec<DeviceInfo>,
}

/// A device as its guest knows it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Its name, unique in the machine.
    pub name: String,
    /// What it is, where the name does not say it: see [`Device::kind`](crate::Device::kind).
    pub kind: String,
}

/// In what two machines differ, so that a guest of one cannot go on in the other.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OtherBoard {
    /// Another type.
    #[error("the saved machine is of type '{saved}', this machine is of type '{here}'")]
    Machine {
        /// There.
        saved: String,
        /// Here.
        here: String,
    },
    /// RAM begins elsewhere.
    #[error("RAM of the saved machine begins at {saved:#x}, of this machine at {here:#x}")]
    RamBase {
        /// There.
        saved: u64,
        /// Here.
        here: u64,
    },
    /// RAM of another size.
    #[error("the saved machine has {saved} bytes of RAM, this machine has {here}")]
    RamSize {
        /// There.
        saved: u64,
        /// Here.
        here: u64,
    },
    /// More or fewer harts.
    #[error("the saved machine has {saved} harts, this machine has {here}")]
    Harts {
        /// There.
        saved: u32,
        /// Here.
        here: u32,
    },
    /// An extension is missing here.
    #[error("harts of the saved machine have '{0}', which this machine's have not")]
    Isa(String),
    /// `time` counts otherwise.
    #[error("time of the saved machine counts {saved} ticks a second, of this machine {here}")]
    Timebase {
        /// There.
        saved: u64,
        /// Here.
        here: u64,
    },
    /// Firmware on one side, the built-in SBI on the other.
    #[error("{}", if *.saved { "the saved machine runs on the built-in SBI, this machine on firmware" }
        else { "the saved machine runs on firmware, this machine on the built-in SBI" })]
    Firmware {
        /// Whether the saved machine has the built-in SBI.
        saved: bool,
    },
    /// Only one of both offers suspend.
    #[error("{}", if *.saved { "the saved machine offers suspend, this machine does not" }
        else { "the saved machine does not offer suspend, this machine does" })]
    Suspend {
        /// Whether the saved machine does.
        saved: bool,
    },
    /// A device is missing here.
    #[error("the saved machine has a device '{0}', this machine has not")]
    Missing(String),
    /// A device is missing there.
    #[error("this machine has a device '{0}', the saved machine has not")]
    Extra(String),
    /// A device is another one.
    #[error("'{name}' of the saved machine is {}, of this machine {}", kind(saved), kind(here))]
    Kind {
        /// Name of the device.
        name: String,
        /// There.
        saved: String,
        /// Here.
        here: String,
    },
}

fn kind(kind: &str) -> &str {
    if kind.is_empty() { "empty" } else { kind }
}

impl BoardInfo {
    /// A machine of type `machine`, of which nothing else is known than its parts.
    pub fn new(machine: &str, ram: Option<&Ram>, harts: &Harts, devices: &[Arc<dyn Device>]) -> Self {
        let info =
            |device: &Arc<dyn Device>| DeviceInfo { name: device.name().to_owned(), kind: device.kind() };
        Self {
            machine: machine.to_owned(),
            ram_base: ram.map_or(0, Ram::base),
            ram_size: ram.map_or(0, Ram::size),
            harts: harts.len() as u32,
            isa: Vec::new(),
            timebase_hz: clock::TIMEBASE_HZ,
            built_in_sbi: false,
            suspend: false,
            devices: devices.iter().map(info).collect(),
        }
    }

    /// Name of its section.
    pub const SECTION: &'static str = "board";
    const VERSION: u32 = 1;

    /// Its saved form.
    pub fn save(&self) -> Section {
        Section::encode(Self::SECTION, Self::VERSION, self)
    }

    /// A board out of its saved form.
    pub fn decode(section: &Section) -> Result<Self, LoadError> {
        section.decode(Self::SECTION, Self::VERSION)
    }

    /// Whether a guest of the board `saved` can go on in this one, which may offer it more extensions than it had.
    pub fn accepts(&self, saved: &Self) -> Result<(), OtherBoard> {
        if saved.machine != self.machine {
            return Err(OtherBoard::Machine { saved: saved.machine.clone(), here: self.machine.clone() });
        }
        if saved.harts != self.harts {
            return Err(OtherBoard::Harts { saved: saved.harts, here: self.harts });
        }
        if saved.ram_base != self.ram_base {
            return Err(OtherBoard::RamBase { saved: saved.ram_base, here: self.ram_base });
        }
        if saved.ram_size != self.ram_size {
            return Err(OtherBoard::RamSize { saved: saved.ram_size, here: self.ram_size });
        }
        if let Some(missing) = saved.isa.iter().find(|name| !self.isa.contains(name)) {
            return Err(OtherBoard::Isa(missing.clone()));
        }
        if saved.timebase_hz != self.timebase_hz {
            return Err(OtherBoard::Timebase { saved: saved.timebase_hz, here: self.timebase_hz });
        }
        if saved.built_in_sbi != self.built_in_sbi {
            return Err(OtherBoard::Firmware { saved: saved.built_in_sbi });
        }
        if saved.suspend != self.suspend {
            return Err(OtherBoard::Suspend { saved: saved.suspend });
        }
        self.has_the_devices_of(saved)
    }

    fn has_the_devices_of(&self, saved: &Self) -> Result<(), OtherBoard> {
        fn find<'a>(board: &'a BoardInfo, name: &str) -> Option<&'a DeviceInfo> {
            board.devices.iter().find(|device| device.name == name)
        }
        for there in &saved.devices {
            let Some(here) = find(self, &there.name) else {
                return Err(OtherBoard::Missing(there.name.clone()));
            };
            if here.kind != there.kind {
                let (saved, here) = (there.kind.clone(), here.kind.clone());
                return Err(OtherBoard::Kind { name: there.name.clone(), saved, here });
            }
        }
        let extra = self.devices.iter().find(|device| find(saved, &device.name).is_none());
        extra.map_or(Ok(()), |device| Err(OtherBoard::Extra(device.name.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> BoardInfo {
        let device = |name: &str, kind: &str| DeviceInfo { name: name.into(), kind: kind.into() };
        BoardInfo {
            machine: "virt".into(),
            ram_base: 0x8000_0000,
            ram_size: 64 << 20,
            harts: 2,
            isa: vec!["i".into(), "zba".into()],
            timebase_hz: 10_000_000,
            built_in_sbi: true,
            suspend: true,
            devices: vec![device("serial0", ""), device("virtio-mmio0", "a disk of 8 sectors")],
        }
    }

    #[test]
    fn a_board_accepts_its_own_guest_and_one_with_fewer_extensions() {
        let saved = BoardInfo::decode(&board().save()).unwrap();
        assert_eq!(board().accepts(&saved), Ok(()));
        assert_eq!(board().accepts(&BoardInfo { isa: vec!["i".into()], ..board() }), Ok(()));
    }

    #[test]
    fn the_first_member_that_differs_is_named_with_both_values() {
        let change = |change: &dyn Fn(&mut BoardInfo)| {
            let mut saved = board();
            change(&mut saved);
            board().accepts(&saved).unwrap_err().to_string()
        };
        for (text, differs) in [
            (
                "the saved machine is of type 'other', this machine is of type 'virt'",
                &(|saved: &mut BoardInfo| saved.machine = "other".into()) as &dyn Fn(&mut BoardInfo),
            ),
            ("the saved machine has 1 harts, this machine has 2", &|saved| saved.harts = 1),
            ("RAM of the saved machine begins at 0x0, of this machine at 0x80000000", &|saved| {
                saved.ram_base = 0;
            }),
            ("the saved machine has 4096 bytes of RAM, this machine has 67108864", &|saved| {
                saved.ram_size = 4096;
            }),
            ("harts of the saved machine have 'v', which this machine's have not", &|saved| {
                saved.isa.push("v".into());
            }),
            ("time of the saved machine counts 1 ticks a second, of this machine 10000000", &|saved| {
                saved.timebase_hz = 1;
            }),
            ("the saved machine runs on firmware, this machine on the built-in SBI", &|saved| {
                saved.built_in_sbi = false;
            }),
            ("the saved machine does not offer suspend, this machine does", &|saved| saved.suspend = false),
            ("the saved machine has a device 'rtc0', this machine has not", &|saved| {
                saved.devices.push(DeviceInfo { name: "rtc0".into(), kind: String::new() });
            }),
            ("this machine has a device 'serial0', the saved machine has not", &|saved| {
                saved.devices.remove(0);
            }),
            ("'virtio-mmio0' of the saved machine is empty, of this machine a disk of 8 sectors", &|saved| {
                saved.devices[1].kind.clear();
            }),
        ] {
            assert_eq!(change(differs), text);
        }
    }
}
