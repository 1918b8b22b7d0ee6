//! Who may use a monitor, and for what.

use backends::stream::Connection;

/// The commands that a monitor's clients may use (`-mon ...,x-allow=query-*:stop:cont`).
///
/// A line of the human monitor counts as the command of QMP that does the same, so that `human-monitor-command` is no way
/// around the list. What only people have counts by its own name (`info registers`), except that what `help` and `info`
/// show may be seen by everybody who may use a line at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Name(String),
    Prefix(String),
}

/// What is wrong with a list of commands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not the name of a command, or the beginning of one followed by '*'")]
pub struct AllowError(String);

impl AllowList {
    /// Names, and beginnings of names followed by `*`, with colons between them.
    ///
    /// # Errors
    /// [`AllowError`] for what cannot be the name of a command.
    pub fn parse(text: &str) -> Result<Self, AllowError> {
        let name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let pattern = |text: &str| match text.strip_suffix('*') {
            Some(prefix) if name(prefix) => Ok(Pattern::Prefix(prefix.to_owned())),
            None if !text.is_empty() && name(text) => Ok(Pattern::Name(text.to_owned())),
            _ => Err(AllowError(text.to_owned())),
        };
        Ok(Self { patterns: text.split(':').map(pattern).collect::<Result<_, _>>()? })
    }

    /// The entries that no command fits, as they were written: mistakes of whoever wrote the list.
    pub(crate) fn without_effect<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
        let fits = |pattern: &&Pattern| names.clone().any(|name| pattern.allows(name));
        self.patterns.iter().filter(|pattern| !fits(pattern)).map(Pattern::to_string).collect()
    }

    /// Whether the command of that name may be used.
    pub fn allows(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.allows(name))
    }
}

impl Pattern {
    fn allows(&self, name: &str) -> bool {
        match self {
            Pattern::Name(allowed) => name == allowed,
            Pattern::Prefix(prefix) => name.starts_with(prefix.as_str()),
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Pattern::Name(name) => f.write_str(name),
            Pattern::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// How a monitor is set up.
#[derive(Debug, Clone, Default)]
pub struct MonitorOptions {
    /// The id of its character device.
    pub label: String,
    /// QMP with indented answers.
    pub pretty: bool,
    /// The commands that its clients may use; all when there is none.
    pub allow: Option<AllowList>,
    /// The user that its clients must belong to. Only a unix socket knows its clients' users: others are turned away then.
    pub peer_uid: Option<u32>,
}

impl MonitorOptions {
    /// Whether this client may be served; when not, that is logged.
    pub(crate) fn admits(&self, connection: &Connection) -> bool {
        let Some(wanted) = self.peer_uid else { return true };
        let found = connection.peer_uid();
        if found != Some(wanted) {
            tracing::warn!(monitor = self.label, ?found, wanted, "a client of another user is turned away");
        }
        found == Some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_beginnings() {
        let list = AllowList::parse("query-*:stop:system_reset").unwrap();
        for name in ["query-status", "query-", "stop", "system_reset"] {
            assert!(list.allows(name), "{name}");
        }
        for name in ["query", "stopp", "sto", "cont", "system-reset", ""] {
            assert!(!list.allows(name), "{name}");
        }
        assert!(AllowList::parse("*").unwrap().allows("anything"));
    }

    #[test]
    fn what_no_command_fits_is_told() {
        let list = AllowList::parse("query-*:stopp:x-*:cont").unwrap();
        assert_eq!(list.without_effect(["cont", "query-status", "stop"].into_iter()), ["stopp", "x-*"]);
    }

    #[test]
    fn what_cannot_be_a_name_is_refused() {
        for bad in ["", "stop:", "sto p", "*query", "a**", "query-*-x"] {
            assert!(AllowList::parse(bad).is_err(), "{bad}");
        }
    }
}
