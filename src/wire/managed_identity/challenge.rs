//! Azure Arc's challenge: which file has to be read to prove that one may.

use http::{HeaderMap, header::WWW_AUTHENTICATE};

/// The file that a challenge names: `Basic realm=/var/opt/azcmagent/tokens/<guid>.key`.
///
/// The agent puts no quotes around the path, so that a parser which goes by the letter of HTTP finds no challenge in it;
/// quotes are taken as well. Whatever stands there is the endpoint's choice and not to be trusted.
pub(crate) fn key_file(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .find_map(|value| realm(std::str::from_utf8(value.as_bytes()).ok()?))
}

fn realm(challenge: &str) -> Option<&str> {
    let rest = after(challenge.trim(), "basic")?;
    let rest = after(rest.strip_prefix(char::is_whitespace)?.trim_start(), "realm")?;
    let value = rest.trim_start().strip_prefix('=')?.trim();
    let path = match value.strip_prefix('"') {
        // No escapes: a path on Windows is full of backslashes.
        Some(quoted) => quoted.split_once('"')?.0,
        None => value,
    };
    (!path.is_empty() && !path.contains(char::is_control)).then_some(path)
}

fn after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (begin, rest) = text.split_at_checked(word.len())?;
    begin.eq_ignore_ascii_case(word).then_some(rest)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(challenges: &[&str]) -> Option<String> {
        let headers = challenges
            .iter()
            .map(|text| (WWW_AUTHENTICATE, HeaderValue::from_bytes(text.as_bytes()).unwrap()));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        key_file(&map).map(str::to_owned)
    }

    #[test]
    fn the_path_is_read_with_and_without_quotes() {
        for challenge in [
            "Basic realm=/var/opt/azcmagent/tokens/a.key",
            "basic  REALM = /var/opt/azcmagent/tokens/a.key ",
            "Basic realm=\"/var/opt/azcmagent/tokens/a.key\"",
            "Basic realm=\"/var/opt/azcmagent/tokens/a.key\", charset=\"UTF-8\"",
        ] {
            assert_eq!(of(&[challenge]).as_deref(), Some("/var/opt/azcmagent/tokens/a.key"), "{challenge}");
            assert_eq!(of(&["Negotiate", challenge]).as_deref(), Some("/var/opt/azcmagent/tokens/a.key"));
        }
        let windows = r"C:\ProgramData\AzureConnectedMachineAgent\Tokens\a b=c.key";
        assert_eq!(of(&[&format!("Basic realm={windows}")]).as_deref(), Some(windows));
        assert_eq!(of(&[&format!("Basic realm=\"{windows}\"")]).as_deref(), Some(windows));
        assert_eq!(of(&["Basic realm=/\u{fc}.key"]).as_deref(), Some("/\u{fc}.key"));
    }

    #[test]
    fn what_names_no_file_is_no_challenge() {
        for none in [
            "",
            "Basic",
            "Basic ",
            "Basic realm",
            "Basic realm=",
            "Basic realm=\"\"",
            "Basic realm=\"/open",
            "Basicrealm=/a.key",
            "Bearer realm=/a.key",
            "Basic real=/a.key",
            "Bas\u{fc}c realm=/a.key",
            "Basic realm=/a\tb.key",
        ] {
            assert_eq!(of(&[none]), None, "{none}");
        }
        assert_eq!(of(&[]), None);
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_not(bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            "(Basic )?(realm)?=?\"?\\PC{0,20}\"?".prop_map(String::into_bytes),
        ]) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]);
                if let Some(path) = key_file(&headers) {
                    prop_assert!(!path.is_empty() && !path.contains(char::is_control));
                }
            }
        }
    }
}
