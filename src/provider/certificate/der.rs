//! DER, as far as it takes to find one's way through a key file.

/// The tags that stand in one.
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
/// `[0]`, around one element.
pub(super) const EXPLICIT_0: u8 = 0xa0;
/// `[0]`, instead of the tag of a string of octets.
pub(super) const IMPLICIT_0: u8 = 0x80;

/// A run of elements, read from its beginning. Nothing is copied, nothing recurses, and what does not fit is `None`.
#[derive(Clone, Copy)]
pub(super) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The contents of the next element, where it has this tag. Otherwise it is still the next one.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&first, rest) = self.0.split_first()?;
        if first != tag {
            return None;
        }
        let (&length, rest) = rest.split_first()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            // An indefinite length (0x80) is BER and not DER; more than 4 octets is no file's.
            0x81..=0x84 => {
                let (octets, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
                (octets.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(contents)
    }

    /// The elements within the next one, where it has this tag.
    pub(super) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.take(tag).map(Self)
    }

    /// The next element, where it is a number of at most 32 bits and not negative.
    pub(super) fn number(&mut self) -> Option<u32> {
        let octets = self.take(INTEGER)?;
        if octets.first()? & 0x80 != 0 {
            return None;
        }
        let octets = unsigned(octets);
        (octets.len() <= 4).then(|| octets.iter().fold(0, |sum, octet| sum << 8 | u32::from(*octet)))
    }

    /// An algorithm's identifier: its name, and its parameters.
    pub(super) fn algorithm(&mut self) -> Option<(&'a [u8], Self)> {
        let mut inner = self.enter(SEQUENCE)?;
        Some((inner.take(OID)?, inner))
    }
}

/// A positive number without the zeros in front.
pub(super) fn unsigned(octets: &[u8]) -> &[u8] {
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    octets.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_one_after_the_other() {
        let mut der = Der::new(&[0x30, 3, 2, 1, 7, 4, 0x81, 2, 8, 9]);
        assert_eq!(der.take(OCTETS), None, "another one comes first");
        let mut inner = der.enter(SEQUENCE).unwrap();
        assert_eq!((inner.number(), inner.is_empty()), (Some(7), true));
        assert_eq!((der.take(OCTETS), der.is_empty()), (Some(&[8, 9][..]), true));
        assert_eq!(der.take(OCTETS), None);
    }

    #[test]
    fn what_is_longer_than_it_can_be_is_nothing() {
        for bytes in [
            &[4][..],
            &[4, 2, 0],
            &[4, 0x80, 1, 0, 0],
            &[4, 0x84, 0xff, 0xff, 0xff, 0xff, 1],
            &[4, 0x85, 0, 0, 0, 0, 1, 7],
            &[4, 0x82, 1],
        ] {
            assert_eq!(Der::new(bytes).take(OCTETS), None, "{bytes:x?}");
        }
    }

    #[test]
    fn numbers_are_positive_and_short() {
        let number = |bytes: &[u8]| Der::new(bytes).number();
        assert_eq!(number(&[2, 1, 0]), Some(0));
        assert_eq!(number(&[2, 2, 8, 0]), Some(2048));
        assert_eq!(number(&[2, 5, 0, 0xff, 0xff, 0xff, 0xff]), Some(u32::MAX));
        assert_eq!(number(&[2, 5, 1, 0, 0, 0, 0]), None);
        assert_eq!(number(&[2, 1, 0x80]), None);
        assert_eq!(number(&[2, 0]), None);
    }
}
