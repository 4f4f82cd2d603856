//! PEM (RFC 7468), as lenient as the programs that write it: any text around the blocks, any line ends or none.

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// One block.
pub(super) struct Block<'a> {
    pub(super) label: &'a str,
    text: &'a str,
}

/// What keeps text from being PEM.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unended;

pub(super) fn is(text: &str) -> bool {
    text.contains(BEGIN)
}

/// All blocks, in their order.
pub(super) fn blocks(mut text: &str) -> Result<Vec<Block<'_>>, Unended> {
    let mut blocks = Vec::new();
    while let Some((_, rest)) = text.split_once(BEGIN) {
        let (label, rest) = rest.split_once(DASHES).ok_or(Unended)?;
        let (inside, rest) = rest.split_once(END).ok_or(Unended)?;
        let rest = rest.strip_prefix(label).and_then(|rest| rest.strip_prefix(DASHES)).ok_or(Unended)?;
        blocks.push(Block { label, text: inside });
        text = rest;
    }
    Ok(blocks)
}

impl Block<'_> {
    /// Encrypted in the way of old OpenSSL: with headers, and a key that is derived by one round of MD5.
    pub(super) fn is_encrypted_the_old_way(&self) -> bool {
        self.text.trim_start().starts_with("Proc-Type:") && self.text.contains("ENCRYPTED")
    }

    /// None where it is not base64.
    pub(super) fn der(&self) -> Option<Zeroizing<Vec<u8>>> {
        decode(self.text)
    }
}

/// The bytes of base64 with blanks and line ends anywhere.
pub(super) fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut packed = Zeroizing::new(Vec::with_capacity(text.len()));
    packed.extend(text.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut der = Zeroizing::new(vec![0; packed.len() / 4 * 3 + 3]);
    let length = ENGINE.decode_slice(&*packed, &mut der).ok()?;
    der.truncate(length);
    (length > 0).then_some(der)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(&str, Option<Vec<u8>>)> {
        let blocks = blocks(text).unwrap().into_iter();
        blocks.map(|block| (block.label, block.der().map(|der| der.to_vec()))).collect()
    }

    #[test]
    fn blocks_are_found_whatever_is_around_them() {
        let expected = [("A B", Some(vec![1, 2, 3])), ("C", Some(vec![4, 5]))];
        for text in [
            "-----BEGIN A B-----\nAQID\n-----END A B-----\n-----BEGIN C-----\nBAU=\n-----END C-----\n",
            "Bag Attributes\n  x: y\n-----BEGIN A B-----\r\nAQ\r\nID\r\n-----END A B-----\r\nsubject=CN=x\n-----BEGIN C-----\nBAU\n-----END C-----",
            "-----BEGIN A B----- AQID -----END A B----- -----BEGIN C-----BAU=-----END C-----",
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        assert_eq!(read("no block"), []);
    }

    #[test]
    fn a_block_that_does_not_end_is_told() {
        for text in [
            "-----BEGIN A",
            "-----BEGIN A-----\nAQID\n",
            "-----BEGIN A-----\nAQID\n-----END B-----",
            "-----BEGIN A-----\nAQID\n-----END A",
        ] {
            assert_eq!(blocks(text).err(), Some(Unended), "{text}");
        }
    }

    #[test]
    fn what_is_not_base64_is_nothing() {
        for inside in ["", "\n", "A", "AQI*", "A\\nQID"] {
            let text = format!("-----BEGIN A-----{inside}-----END A-----");
            assert_eq!(read(&text), [("A", None)], "{inside}");
        }
    }
}
