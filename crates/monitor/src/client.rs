//! What a connection has of its own, for the commands that come over it.

use std::sync::Arc;

use qmp::CommandSet;

use crate::commands::Qmp;

/// A connection as its commands see it.
pub(crate) struct Client {
    /// The commands that it may use.
    pub(crate) commands: Arc<CommandSet<&'static Qmp>>,
}

impl Client {
    pub(crate) fn new(commands: &Arc<CommandSet<&'static Qmp>>) -> Self {
        Self { commands: Arc::clone(commands) }
    }
}
