//! The other side of a migration that goes out, as far as it answers.

use std::fmt;
use std::time::{Duration, Instant};

use stream::{Control, FileId, Item};

use crate::channel::{Patience, Reader};
use crate::form;
use crate::outgoing::OutgoingError;
use crate::tls::is_tls;

/// How long its reason is waited for when it does not take what is sent.
const REASON_PATIENCE: Duration = Duration::from_secs(1);

/// The other side.
pub(crate) struct Peer {
    /// Its stream, whose beginning comes with its first word.
    reader: Option<stream::Reader<Reader>>,
    raw: Option<Reader>,
    pub(crate) patience: Patience,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").finish_non_exhaustive()
    }
}

impl Peer {
    pub(crate) fn new(reader: Reader) -> Self {
        let patience = reader.patience();
        Self { reader: None, raw: Some(reader), patience }
    }

    /// Its next word.
    pub(crate) fn word(&mut self) -> Result<Control, OutgoingError> {
        if let Some(raw) = self.raw.take() {
            self.reader = Some(stream::Reader::new(raw, &form::limits(stream::MAX_MEMORY))?);
        }
        let reader = self.reader.as_mut().ok_or(OutgoingError::Misplaced("nothing"))?;
        match reader.read()? {
            Item::Control(control) => Ok(control),
            _ => Err(OutgoingError::Misplaced("no word of the handshake")),
        }
    }

    /// Whether its stream answers the one with this id. After its first word.
    pub(crate) fn answers(&self, id: FileId) -> bool {
        self.reader.as_ref().is_some_and(|reader| reader.header().id == id)
    }

    /// Waits for a word.
    pub(crate) fn expect(
        &mut self,
        what: &'static str,
        is: impl Fn(&Control) -> bool,
    ) -> Result<(), OutgoingError> {
        match self.word()? {
            Control::Refused { text } => Err(OutgoingError::Refused(text)),
            control if is(&control) => Ok(()),
            _ => Err(OutgoingError::Misplaced(match what {
                "Done" => "another word than that it is done",
                "Ready" => "another word than that it is ready",
                _ => "another word than that it accepts",
            })),
        }
    }

    /// Why it has hung up, if it says so.
    pub(crate) fn reason(&mut self) -> Option<OutgoingError> {
        self.patience.set(Some(Instant::now() + REASON_PATIENCE));
        match self.word() {
            Ok(Control::Refused { text }) => Some(OutgoingError::Refused(text)),
            // TLS has words of its own.
            Err(OutgoingError::Io(error)) if is_tls(&error) => Some(OutgoingError::Io(error)),
            _ => None,
        }
    }
}
