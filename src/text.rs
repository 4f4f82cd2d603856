//! Text of strangers: shown escaped and cut, and GUIDs read.

use std::fmt::{self, Write};

/// How much of a refused value an error shows: enough to recognise it, too little to fill a log.
const SHOWN: usize = 80;

/// Shows text that someone typed: in quotes, escaped to printable ASCII, and cut.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        let mut shown = 0;
        for escaped in self.0.chars().map(char::escape_default) {
            shown += escaped.len();
            if shown > SHOWN {
                f.write_char('…')?;
                break;
            }
            write!(f, "{escaped}")?;
        }
        f.write_char('"')
    }
}

impl fmt::Debug for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The GUID in lower case, where `text` is one in the usual form: 8-4-4-4-12 digits, no braces.
pub(crate) fn guid(text: &str) -> Option<String> {
    let fits = |(place, byte): (usize, u8)| match place {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    (text.len() == 36 && text.bytes().enumerate().all(fits)).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_text_is_escaped_and_cut() {
        assert_eq!(Quoted("a\r\n\"b\u{202e}").to_string(), r#""a\r\n\"b\u{202e}""#);
        let long = Quoted(&"ü".repeat(10_000)).to_string();
        assert!(long.len() < 100 && long.is_char_boundary(1) && long.ends_with("…\""));
    }

    #[test]
    fn a_guid_is_folded_and_nothing_else_is_one() {
        let lower = "72f988bf-86f1-41af-91ab-2d7cd011db47";
        assert_eq!(guid(&lower.to_uppercase()).as_deref(), Some(lower));
        for not in
            ["", &lower[1..], "{72f988bf-86f1-41af-91ab-2d7cd011db}", "72f988bf86f141af91ab2d7cd011db47"]
        {
            assert_eq!(guid(not), None, "{not}");
        }
        assert_eq!(guid("72f988bf-86f1-41af-91ab-2d7cd011db4ü"), None);
    }
}
