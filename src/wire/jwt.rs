//! What an access token says of itself, where it can be read at all.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::text::guid;

/// The longest claims that are looked at. A header with more of them would be refused by any server.
const LONGEST: usize = 64 * 1024;

#[derive(Deserialize)]
struct Claims<'a> {
    #[serde(borrow)]
    tid: Option<Cow<'a, str>>,
}

/// Who an app token is for, as far as it says.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Principal {
    /// The tenant's id, as [`tenant`] reads it.
    pub(crate) tid: Option<String>,
    /// The object id of the application's service principal there.
    pub(crate) oid: Option<String>,
    /// What it was granted.
    #[serde(default)]
    pub(crate) roles: Vec<String>,
}

/// What a token says of its principal. The same holds as for [`tenant`]: nobody has checked it, and it may be unreadable.
pub(crate) fn principal(token: &str) -> Principal {
    let read = claims(token).and_then(|claims| serde_json::from_slice::<Principal>(&claims).ok());
    // Whose it is does not hang on the rest.
    Principal { tid: tenant(token), ..read.unwrap_or_default() }
}

/// The tenant that issued the token, in lower case, where the token is a readable JWT and names it by its GUID. Anything
/// else is nobody's business but the resource's: an access token may be opaque or encrypted.
///
/// The signature is not checked, and must not be trusted for it: a token is for its resource, which alone knows what
/// makes it valid, and those of Microsoft Graph cannot be verified by anybody else. This tells a mix-up (a provider, a
/// proxy or a cache that answers for another tenant than was asked) and not a forgery, which its resource refuses.
pub(crate) fn tenant(token: &str) -> Option<String> {
    let claims = claims(token)?;
    let claims: Claims<'_> = serde_json::from_slice(&claims).ok()?;
    guid(&claims.tid?)
}

fn claims(token: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    if claims.len() > LONGEST {
        return None;
    }
    URL_SAFE_NO_PAD.decode(claims).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GUID: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

    fn of(claims: impl AsRef<[u8]>) -> Option<String> {
        tenant(&format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims)))
    }

    #[test]
    fn the_tenant_is_read_where_it_is_a_guid() {
        assert_eq!(of(format!(r#"{{"aud":"x","tid":"{GUID}","ver":"1.0"}}"#)).as_deref(), Some(GUID));
        assert_eq!(of(format!(r#"{{"tid":"{}"}}"#, GUID.to_uppercase())).as_deref(), Some(GUID));
        assert_eq!(of(format!(r#"{{"tid":"\u0037{}"}}"#, &GUID[1..])).as_deref(), Some(GUID), "escaped");
    }

    #[test]
    fn what_is_opaque_encrypted_or_malformed_names_none() {
        let deep = "[".repeat(40_000);
        for claims in [
            "{}",
            "[]",
            r#"{"tid":null}"#,
            r#"{"tid":42}"#,
            r#"{"tid":"contoso.test"}"#,
            r#"{"tid":"72f988bf"}"#,
            &format!(r#"{{"tid":"{GUID}","tid":"{GUID}"}}"#),
            &format!(r#"{{"tid":"{GUID}""#),
            &deep,
            &format!(r#"{{"a":{deep}"#),
            &format!(r#"{{"tid":"{GUID}","a":"{}"}}"#, "a".repeat(LONGEST)),
        ] {
            assert_eq!(of(claims), None, "{claims:.80}");
        }
        assert_eq!(of(b"{\"tid\":\"\xff\"}"), None);
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"tid":"{GUID}"}}"#));
        for token in [
            "",
            ".",
            "..",
            "...",
            "opaque",
            &claims,
            &format!("a.{claims}"),
            &format!("a.{claims}.b.c.d"),
            "a.é.b",
        ] {
            assert_eq!(tenant(token), None, "{token}");
        }
        assert_eq!(tenant(&format!(".{claims}.")).as_deref(), Some(GUID), "without a signature");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(token in "\\PC{0,60}|[A-Za-z0-9_.-]{0,80}", claims in any::<Vec<u8>>()) {
            let _ = tenant(&token);
            prop_assert!(of(claims).is_none_or(|tenant| guid(&tenant).is_some()));
        }

        #[test]
        fn any_object_is_read_without_a_panic(tid in "\\PC{0,40}|[0-9a-fA-F-]{36}", other in "\\PC{0,20}") {
            let claims = serde_json::json!({ "aud": other, "tid": tid });
            prop_assert_eq!(of(claims.to_string()), guid(&tid));
        }
    }
}
