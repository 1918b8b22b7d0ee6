//! QEMU's `key=value,key=value` lists.
//!
//! A comma inside a value is written twice. The first item may leave out its key where the option has an implied one. A word
//! without `=` elsewhere is the old spelling of a boolean: `server` means `server=on` and `nowait` means `wait=off`. A key given
//! twice counts with its last value.
//!
//! The same options may come as JSON, whose values have types: there a string is no boolean, and a number no string.

/// A list that is taken apart key by key; what is left at the end was not known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyVals {
    items: Vec<Item>,
    /// What stands before the keys where they come from, for errors.
    prefix: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    key: String,
    value: String,
    form: Form,
}

/// In which form a value has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As text, which may mean anything.
    Text,
    /// As a string of JSON.
    String,
    /// As a boolean of JSON.
    Boolean,
    /// As a number of JSON.
    Number,
}

impl Item {
    fn text(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into(), form: Form::Text }
    }
}

/// What is wrong with a list or with one of its values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyValError {
    /// A key that the option does not have.
    #[error("Invalid parameter '{0}'")]
    Unknown(String),
    /// An item that begins with `=`.
    #[error("Invalid parameter ''")]
    EmptyKey,
    /// A key that must be there.
    #[error("Parameter '{0}' is missing")]
    Missing(&'static str),
    /// Not a boolean.
    #[error("Parameter '{key}' expects 'on' or 'off'")]
    NotBool {
        /// The key.
        key: String,
    },
    /// Not a number, or too large.
    #[error("Parameter '{key}' expects a number")]
    NotNumber {
        /// The key.
        key: String,
    },
    /// Not a size.
    #[error("Parameter '{key}' expects a size, such as 512M or 2G, below 2^64 bytes")]
    NotSize {
        /// The key.
        key: String,
    },
    /// Not a number, in JSON.
    #[error("Parameter '{key}' expects uint64")]
    NotUnsigned {
        /// The key.
        key: String,
    },
    /// A value of another type, in JSON.
    #[error("Invalid parameter type for '{key}', expected: {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A value outside of a fixed choice.
    #[error("Parameter '{key}' does not accept value '{value}'")]
    BadValue {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
}

impl KeyVals {
    /// Splits a list; `implied` is the key of a first item that has none.
    ///
    /// # Errors
    /// [`KeyValError::EmptyKey`].
    pub fn parse(list: &str, implied: Option<&str>) -> Result<Self, KeyValError> {
        let mut items = Vec::new();
        for (at, item) in split(list).into_iter().enumerate() {
            match item.split_once('=') {
                Some(("", _)) => return Err(KeyValError::EmptyKey),
                // In an implied first value an equals sign is part of it only after a comma-less word that is no key, which
                // no option of ours has; so `key=value` always wins.
                Some((key, value)) => items.push(Item::text(key, value)),
                None if item.is_empty() => {}
                None => items.push(match (at, implied) {
                    (0, Some(key)) => Item::text(key, item),
                    _ => flag(item),
                }),
            }
        }
        Ok(Self { items, prefix: String::new() })
    }

    /// Removes a key and gives its last value, whatever its form.
    pub fn take(&mut self, key: &str) -> Option<String> {
        self.remove(key).map(|item| item.value)
    }

    fn remove(&mut self, key: &str) -> Option<Item> {
        let found = self.items.iter().rposition(|item| item.key == key)?;
        let item = self.items.remove(found);
        self.items.retain(|item| item.key != key);
        Some(item)
    }

    /// Removes a key whose value is of this form if it comes from JSON: `expected`.
    ///
    /// # Errors
    /// [`KeyValError::WrongType`].
    pub fn take_as(
        &mut self,
        key: &str,
        form: Form,
        expected: &'static str,
    ) -> Result<Option<String>, KeyValError> {
        match self.remove(key) {
            Some(item) if item.form != Form::Text && item.form != form => {
                Err(KeyValError::WrongType { key: format!("{}{key}", self.prefix), expected })
            }
            item => Ok(item.map(|item| item.value)),
        }
    }

    /// Removes a string.
    ///
    /// # Errors
    /// [`KeyValError::WrongType`].
    pub fn take_string(&mut self, key: &str) -> Result<Option<String>, KeyValError> {
        self.take_as(key, Form::String, "string")
    }

    /// Removes a string that must be there.
    ///
    /// # Errors
    /// [`KeyValError::Missing`], [`KeyValError::WrongType`].
    pub fn require(&mut self, key: &'static str) -> Result<String, KeyValError> {
        self.take_string(key)?.ok_or(KeyValError::Missing(key))
    }

    /// Removes a boolean.
    ///
    /// # Errors
    /// [`KeyValError::NotBool`], [`KeyValError::WrongType`].
    pub fn take_bool(&mut self, key: &str) -> Result<Option<bool>, KeyValError> {
        let value = self.take_as(key, Form::Boolean, "boolean")?;
        value.map(|value| boolean(key, &value)).transpose()
    }

    /// Removes a number, decimal or with `0x`.
    ///
    /// # Errors
    /// [`KeyValError::NotNumber`], [`KeyValError::NotUnsigned`].
    pub fn take_number(&mut self, key: &str) -> Result<Option<u64>, KeyValError> {
        let value = self.take_as(key, Form::Number, "uint64");
        let value = value.map_err(|_| KeyValError::NotUnsigned { key: format!("{}{key}", self.prefix) })?;
        value.map(|value| number(&value).ok_or(KeyValError::NotNumber { key: key.to_owned() })).transpose()
    }

    /// Removes a size in bytes; a plain number counts in units of `unit` bytes.
    ///
    /// # Errors
    /// [`KeyValError::NotSize`].
    pub fn take_size(&mut self, key: &str, unit: u64) -> Result<Option<u64>, KeyValError> {
        self.take(key)
            .map(|value| size(&value, unit).ok_or(KeyValError::NotSize { key: key.to_owned() }))
            .transpose()
    }

    /// Removes all keys that begin with `prefix` and a dot, and gives them without.
    pub fn take_under(&mut self, prefix: &str) -> Self {
        let mut under = Vec::new();
        self.items.retain_mut(|Item { key, value, form }| {
            let rest = key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
            let hit = rest.is_some();
            let item = |rest: &str| Item { key: rest.to_owned(), value: std::mem::take(value), form: *form };
            under.extend(rest.map(item));
            !hit
        });
        Self { items: under, prefix: format!("{}{prefix}.", self.prefix) }
    }

    /// Adds a key, as if it had been written at the end.
    pub fn put(&mut self, key: &str, value: &str) {
        self.put_as(key.to_owned(), value.to_owned(), Form::Text);
    }

    /// The same, for a value that has come in some form.
    pub fn put_as(&mut self, key: String, value: String, form: Form) {
        self.items.push(Item { key, value, form });
    }

    /// What has not been taken yet, in order.
    pub fn rest(&self) -> impl Iterator<Item = (&str, &str)> {
        self.items.iter().map(|item| (item.key.as_str(), item.value.as_str()))
    }

    /// All must have been taken.
    ///
    /// # Errors
    /// [`KeyValError::Unknown`] with the first key that is left.
    pub fn finish(self) -> Result<(), KeyValError> {
        match self.items.into_iter().next() {
            Some(item) => Err(KeyValError::Unknown(item.key)),
            None => Ok(()),
        }
    }
}

/// Splits at single commas and halves the double ones.
fn split(list: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ',' && chars.next_if_eq(&',').is_none() {
            items.push(String::new());
        } else if let Some(item) = items.last_mut() {
            item.push(c);
        }
    }
    items
}

/// A boolean without its value.
fn flag(word: String) -> Item {
    match word.strip_prefix("no") {
        Some(rest) if !rest.is_empty() => Item::text(rest, "off"),
        _ => Item::text(word, "on"),
    }
}

/// `on`, `yes`, `true`, `y` and their opposites.
///
/// # Errors
/// [`KeyValError::NotBool`], naming `key`.
pub fn boolean(key: &str, value: &str) -> Result<bool, KeyValError> {
    match value {
        "on" | "yes" | "true" | "y" => Ok(true),
        "off" | "no" | "false" | "n" => Ok(false),
        _ => Err(KeyValError::NotBool { key: key.to_owned() }),
    }
}

/// An unsigned number, decimal or with `0x`.
#[must_use]
pub fn number(value: &str) -> Option<u64> {
    match value.strip_prefix("0x") {
        Some(hex) if hex.starts_with(|c: char| c.is_ascii_hexdigit()) => u64::from_str_radix(hex, 16).ok(),
        None if value.starts_with(|c: char| c.is_ascii_digit()) => value.parse().ok(),
        _ => None,
    }
}

/// A size in bytes: digits, perhaps with a decimal fraction, and `B`, `K`, `M`, `G`, `T`, `P` or `E` (powers of 1024, either case).
/// Without a letter it counts in units of `unit` bytes. Exact: a fraction of a byte is refused.
#[must_use]
pub fn size(value: &str, unit: u64) -> Option<u64> {
    let (digits, scale) = match value.char_indices().last()? {
        (at, letter) if letter.is_ascii_alphabetic() => {
            let power = "bkmgtpe".find(letter.to_ascii_lowercase())?;
            (&value[..at], 1_u64.checked_shl(u32::try_from(power).ok()?.checked_mul(10)?)?)
        }
        _ => (value, unit),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || digits.ends_with('.') {
        return None;
    }
    let bytes = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    if fraction.is_empty() {
        return Some(bytes);
    }
    let tens = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = fraction.parse::<u128>().ok()?.checked_mul(u128::from(scale))?;
    if part % tens != 0 {
        return None;
    }
    bytes.checked_add(u64::try_from(part / tens).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(list: &KeyVals) -> Vec<(String, String)> {
        list.rest().map(|(key, value)| pair(key, value)).collect()
    }

    fn items(list: &str, implied: Option<&str>) -> Vec<(String, String)> {
        pairs(&KeyVals::parse(list, implied).unwrap())
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn implied_first_key_flags_and_doubled_commas() {
        assert_eq!(
            items("virt,usb=off,server,nowait,path=a,,b", Some("type")),
            [
                pair("type", "virt"),
                pair("usb", "off"),
                pair("server", "on"),
                pair("wait", "off"),
                pair("path", "a,b")
            ]
        );
        assert_eq!(items("a,,", Some("x")), [pair("x", "a,")]);
        assert_eq!(items("", Some("x")), []);
        assert_eq!(KeyVals::parse("a=1,=2", None), Err(KeyValError::EmptyKey));
    }

    #[test]
    fn the_last_value_counts_and_leftovers_are_named() {
        let mut list = KeyVals::parse("a=1,b=2,a=3,c", None).unwrap();
        assert_eq!(list.take_number("a"), Ok(Some(3)));
        assert_eq!(list.take_bool("c"), Ok(Some(true)));
        assert_eq!(list.finish(), Err(KeyValError::Unknown("b".to_owned())));
    }

    #[test]
    fn keys_under_another() {
        let mut list = KeyVals::parse("file.a=1,file=x,b=2,file.c.d=3", None).unwrap();
        assert_eq!(pairs(&list.take_under("file")), [pair("a", "1"), pair("c.d", "3")]);
        list.put("b", "4");
        assert_eq!((list.take("b"), list.take("file")), (Some("4".to_owned()), Some("x".to_owned())));
    }

    #[test]
    fn sizes() {
        const MIB: u64 = 1 << 20;
        assert_eq!(size("512", MIB), Some(512 * MIB));
        assert_eq!(size("131072k", MIB), Some(128 * MIB));
        assert_eq!(size("1.5G", MIB), Some(1536 * MIB));
        assert_eq!(size("1b", MIB), Some(1));
        for bad in
            ["", "G", "-1", "1.G", ".5G", "0.3b", "20E", "1KK", "1x", "1é", "99999999999999999999", "1e3"]
        {
            assert_eq!(size(bad, MIB), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_list_and_no_value_panics(text in ".*") {
            if let Ok(mut list) = KeyVals::parse(&text, Some("x")) {
                let _ = (list.clone().take_size("x", 1), list.clone().take_number("x"), list.take_bool("x"));
            }
        }

        #[test]
        fn an_escaped_value_comes_back(value in "[^=]*") {
            let text = format!("key={}", value.replace(',', ",,"));
            let mut list = KeyVals::parse(&text, None).unwrap();
            prop_assert_eq!(list.take("key"), Some(value));
        }
    }
}
