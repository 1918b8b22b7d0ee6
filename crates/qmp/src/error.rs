//! Errors as the protocol knows them: a class that programs look at and a text that people read.
//!
//! The texts are QEMU's, because managers show them to people and scripts match them (`spec/clients.md`
//! section 4). Texts that quote the client's input quote at most [`QUOTE_LIMIT`] bytes of it.

use thiserror::Error;

/// At most this many bytes of a client's own text are quoted in an error.
pub const QUOTE_LIMIT: usize = 256;

/// The error classes of QMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Everything that has no class of its own.
    GenericError,
    /// The command does not exist, or not at this stage of the connection.
    CommandNotFound,
    /// A device or object type that was named does not exist.
    DeviceNotFound,
    /// A device is not active.
    DeviceNotActive,
    /// The operation needs a KVM capability that is missing.
    KVMMissingCap,
}

impl ErrorClass {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GenericError => "GenericError",
            Self::CommandNotFound => "CommandNotFound",
            Self::DeviceNotFound => "DeviceNotFound",
            Self::DeviceNotActive => "DeviceNotActive",
            Self::KVMMissingCap => "KVMMissingCap",
        }
    }
}

/// An error reply: what goes into the `error` member.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{desc}")]
pub struct QmpError {
    /// The class, for programs.
    pub class: ErrorClass,
    /// The description, for people.
    pub desc: String,
}

impl QmpError {
    /// An error of any class.
    pub fn new(class: ErrorClass, desc: impl Into<String>) -> Self {
        Self { class, desc: desc.into() }
    }

    /// An error of class `GenericError`.
    pub fn generic(desc: impl Into<String>) -> Self {
        Self::new(ErrorClass::GenericError, desc)
    }

    /// The command exists but this connection may not use it.
    pub fn disabled(name: &str) -> Self {
        Self::new(ErrorClass::CommandNotFound, format!("Command {} has been disabled", quote(name)))
    }

    /// The command is unknown.
    pub fn command_not_found(name: &str) -> Self {
        Self::new(ErrorClass::CommandNotFound, format!("The command {} has not been found", quote(name)))
    }

    /// A device that was named does not exist.
    pub fn device_not_found(name: &str) -> Self {
        Self::new(ErrorClass::DeviceNotFound, format!("Device '{}' not found", quote(name)))
    }

    /// A mandatory argument is absent. `path` is the whole path, for example `capabilities[0].state`.
    pub fn missing(path: &str) -> Self {
        Self::generic(format!("Parameter '{path}' is missing"))
    }

    /// An argument that the command does not have.
    pub fn unexpected(path: &str) -> Self {
        Self::generic(format!("Parameter '{}' is unexpected", quote(path)))
    }

    /// An argument of the wrong JSON type; `expected` as in "string", "integer", "array".
    pub fn wrong_type(path: &str, expected: &str) -> Self {
        Self::generic(format!("Invalid parameter type for '{path}', expected: {expected}"))
    }

    /// An argument out of range; `expects` as in `uint8_t` or "a CPU number".
    pub fn expects(name: &str, expects: &str) -> Self {
        Self::generic(format!("Parameter '{name}' expects {expects}"))
    }

    /// An enumeration member that does not exist.
    pub fn bad_value(name: &str, value: &str) -> Self {
        Self::generic(format!("Parameter '{name}' does not accept value '{}'", quote(value)))
    }
}

/// Why the bytes of one value are not JSON. The display is the `desc` of the reply.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SyntaxError {
    /// A byte that cannot stand where it stands, with what was read of its token.
    #[error("JSON parse error, stray '{0}'")]
    Stray(String),
    /// A comma, colon or closing bracket where a value belongs.
    #[error("JSON parse error, expecting value")]
    ExpectingValue,
    /// A word other than `true`, `false` and `null`.
    #[error("JSON parse error, invalid keyword '{0}'")]
    InvalidKeyword(String),
    /// An object key that is not a string.
    #[error("JSON parse error, key is not a string in object")]
    KeyNotString,
    /// No colon after an object key.
    #[error("JSON parse error, missing : in object pair")]
    MissingColon,
    /// Neither comma nor end after an object member.
    #[error("JSON parse error, expected separator in dict")]
    SeparatorInDict,
    /// Neither comma nor end after an array element.
    #[error("JSON parse error, expected separator in list")]
    SeparatorInList,
    /// The same key twice in one object.
    #[error("JSON parse error, duplicate key")]
    DuplicateKey,
    /// A string that is not UTF-8, or holds a noncharacter.
    #[error("JSON parse error, invalid UTF-8 sequence in string")]
    InvalidUtf8,
    /// A backslash before a character that has no escape.
    #[error("JSON parse error, invalid escape in string")]
    InvalidEscape,
    /// A `\u` escape that names no character.
    #[error("JSON parse error, {0} is not a valid Unicode character")]
    InvalidUnicode(String),
    /// A number that is no finite double. QEMU takes it and echoes `inf`, which is not JSON.
    #[error("JSON parse error, number '{0}' is out of range")]
    NumberRange(String),
    /// More bytes in the tokens of one value than [`crate::Limits::size`].
    #[error("JSON token size limit exceeded")]
    Size,
    /// More tokens in one value than [`crate::Limits::tokens`].
    #[error("JSON token count limit exceeded")]
    Tokens,
    /// Deeper than [`crate::Limits::depth`].
    #[error("JSON nesting depth limit exceeded")]
    Depth,
}

impl SyntaxError {
    /// Whether the value is only too large.
    pub(crate) fn is_limit(&self) -> bool {
        matches!(self, Self::Size | Self::Tokens | Self::Depth)
    }
}

impl From<SyntaxError> for QmpError {
    fn from(error: SyntaxError) -> Self {
        Self::generic(error.to_string())
    }
}

/// The text, cut at a character boundary with dots behind it when it is longer than [`QUOTE_LIMIT`].
pub(crate) fn quote(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= QUOTE_LIMIT {
        return text.into();
    }
    let mut end = QUOTE_LIMIT;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", text.get(..end).unwrap_or_default()).into()
}
