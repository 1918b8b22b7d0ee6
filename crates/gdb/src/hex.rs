//! Numbers and bytes in hexadecimal, as packets have them.

use std::fmt::Write as _;

/// A number of at most 16 digits.
pub(crate) fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// Bytes, two digits each.
pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
            _ => None,
        })
        .collect()
}

/// A register of 64 bits in the guest's byte order.
pub(crate) fn word(text: &str) -> Option<u64> {
    let bytes = bytes(text)?;
    // Narrow ones (a `float`, `fflags`) come with as many bytes as gdb holds them in.
    let mut word = [0; 8];
    word.get_mut(..bytes.len()).filter(|place| !place.is_empty())?.copy_from_slice(&bytes);
    Some(u64::from_le_bytes(word))
}

/// Appends bytes.
pub(crate) fn push(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String does not fail.
        let _ = write!(out, "{byte:02x}");
    }
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    push(&mut out, bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_and_clean_numbers_are_taken() {
        assert_eq!(number("8020"), Some(0x8020));
        assert_eq!(number("ffffffffffffffff"), Some(u64::MAX));
        for bad in ["", "-1", "+1", "1g", "10000000000000000"] {
            assert_eq!(number(bad), None, "{bad}");
        }
        assert_eq!(bytes("00fF"), Some(vec![0, 255]));
        assert_eq!((bytes("0"), bytes("0x"), bytes("é0")), (None, None, None));
        assert_eq!(word("0102000000000000"), Some(0x201));
        assert_eq!((word("01"), word(""), word("000000000000000000")), (Some(1), None, None));
        assert_eq!(text(&[0, 0xab]), "00ab");
    }
}
