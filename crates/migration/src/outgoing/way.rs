//! Where a machine is sent that goes away, or a picture of it: into a file in which each chunk has its place, or front to back.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use ram::Ram;
use stream::{FileId, Header};

use super::OutgoingError;
use crate::capabilities::Capability;
use crate::channel::{Channel, Cutter};
use crate::open::{Opened, Target};
use crate::parameters::{Compression, Number};
use crate::rounds::Rounds;
use crate::statistics::Progress;
use crate::{Settings, Shared};

/// A place that is open, as the settings want to use it.
pub(crate) enum Way {
    /// Into a file, each chunk at its place.
    Mapped(Rounds),
    /// Front to back. The header does not say yet whether somebody answers.
    Streamed(Channel, Header),
}

impl Way {
    /// Connects to `target`, or empties the file.
    pub(crate) fn open(
        shared: &Shared,
        target: Target,
        ram: &Arc<Ram>,
        progress: &Arc<Progress>,
        cutter: &Cutter,
    ) -> Result<Self, OutgoingError> {
        let compresses = target.compresses();
        let mut header = header(ram)?;
        let opened = target.open(cutter)?;
        let Settings { capabilities, parameters } = shared.settings().clone();
        let channel = match opened {
            Opened::File { file, offset } if capabilities.has(Capability::MappedRam) => {
                let rounds = Rounds::mapped(Arc::clone(ram), (file, offset), header, Arc::clone(progress))?;
                return Ok(Self::Mapped(rounds));
            }
            Opened::Channel(_) if capabilities.has(Capability::MappedRam) => {
                return Err(OutgoingError::NotMappable);
            }
            Opened::File { file, offset } => Channel::to_file(file, offset, cutter)?,
            Opened::Channel(channel) => channel,
        };
        let packed = parameters.compression().map_or(compresses, |chosen| chosen == Compression::Zstd);
        header.compression = if packed { stream::Compression::Zstd } else { stream::Compression::None };
        Ok(Self::Streamed(channel, header))
    }
}

/// How hard memory is compressed where it is.
pub(crate) fn level(shared: &Shared) -> i32 {
    shared.settings().parameters.number(Number::MultifdZstdLevel) as i32
}

/// What is sent of a machine before everything else.
fn header(ram: &Ram) -> io::Result<Header> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(Header {
        created_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        program: concat!("dormouse ", env!("CARGO_PKG_VERSION")).to_owned(),
        ..Header::new(FileId::random()?, ram.size())
    })
}
