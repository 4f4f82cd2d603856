//! GUIDs: made, recognised, and derived.

use aws_lc_rs::digest::{SHA256, digest};
use std::fmt::Write as _;

/// Random bytes; zeroes in the case, not seen in practice, that the system has no randomness to give.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Ids here only tell answers apart, nothing rests on their secrecy, so a failure is not worth an error path.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes
}

/// A fresh random (version 4) GUID.
pub(crate) fn guid() -> String {
    format_guid(random())
}

/// The GUID that always belongs to these names: object ids are the same in every run.
pub(crate) fn guid_of(names: &[&str]) -> String {
    let hash = digest(&SHA256, names.join("\n").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    format_guid(bytes)
}

fn format_guid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Whether the text is a GUID in its usual spelling, 8-4-4-4-12 hexadecimal digits.
pub(crate) fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_guid_is_recognised_and_unique() {
        assert!(is_guid(&guid()));
        assert_ne!(guid(), guid());
        assert_eq!(guid_of(&["a", "b"]), guid_of(&["a", "b"]));
        assert_ne!(guid_of(&["a", "b"]), guid_of(&["ab"]));
        assert!(!is_guid("contoso.test"));
    }
}
