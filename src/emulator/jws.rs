//! Signed tokens that others present: taken apart, and verified.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::DecodePaddingMode};
use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Base64 for URLs; clients differ in whether they pad it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A compact JWS over JSON claims. Nothing in it is to be believed before [`is_signed_by`](Self::is_signed_by).
pub(crate) struct Jws<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

/// Where the present lies in a token's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    Current,
    Over,
    NotBegun,
}

/// When a token is valid, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: SystemTime,
    pub(crate) until: SystemTime,
}

impl Span {
    /// `skew` is how far the clock of whoever made the token may be off.
    pub(crate) fn at(self, now: SystemTime, skew: Duration) -> Lifetime {
        if later(self.until, skew) < now {
            Lifetime::Over
        } else if later(now, skew) < self.from {
            Lifetime::NotBegun
        } else {
            Lifetime::Current
        }
    }
}

fn later(time: SystemTime, by: Duration) -> SystemTime {
    time.checked_add(by).unwrap_or(time)
}

impl<'a> Jws<'a> {
    /// `None` for what is no JWS, and for one with extensions that have to be understood.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let object = |part: &str| serde_json::from_slice::<Map<String, Value>>(&decode(part)?).ok();
        let header = object(header)?;
        if header.contains_key("crit") {
            return None;
        }
        Some(Self { signed, signature: decode(signature)?, header, claims: object(claims)? })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.header.get(name)?.as_str()
    }

    /// The certificates of `x5c`, leaf first.
    pub(crate) fn chain(&self) -> Option<Vec<Vec<u8>>> {
        let standard = base64::engine::general_purpose::STANDARD;
        let chain = self.header.get("x5c")?.as_array()?;
        chain.iter().map(|der| standard.decode(der.as_str()?).ok()).collect()
    }

    /// A claim that is a text.
    pub(crate) fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }

    /// The audiences: one text, or a list.
    pub(crate) fn audiences(&self) -> Vec<&str> {
        match self.claims.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// `nbf` and `exp`. `None` where `exp` is missing, or one of them is no number of seconds.
    pub(crate) fn span(&self) -> Option<Span> {
        let seconds = |value: &Value| {
            let seconds = Duration::try_from_secs_f64(value.as_f64()?).ok()?;
            UNIX_EPOCH.checked_add(seconds)
        };
        let until = seconds(self.claims.get("exp")?)?;
        let from = self.claims.get("nbf").map_or(Some(UNIX_EPOCH), seconds)?;
        Some(Span { from, until })
    }

    /// The algorithm, if it is one with which Entra takes an assertion.
    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        match self.header("alg")? {
            "RS256" => Some(Algorithm::RS256),
            "PS256" => Some(Algorithm::PS256),
            _ => None,
        }
    }

    pub(crate) fn is_signed_by(&self, key: &DecodingKey, algorithm: Algorithm) -> bool {
        // By its name and not as the process's default: that one panics where a second backend is compiled in.
        let verifier = (aws_lc::DEFAULT_PROVIDER.verifier_factory)(&algorithm, key);
        verifier.is_ok_and(|verifier| verifier.verify(self.signed.as_bytes(), &self.signature).is_ok())
    }
}

/// Base64 of either alphabet, padded or not: thumbprints come in all spellings.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).or_else(|_| BASE64.decode(text.replace('+', "-").replace('/', "_"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    fn compact(header: &str, claims: &str) -> String {
        format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn what_is_no_jws_is_none() {
        let good = compact(r#"{"alg":"RS256"}"#, "{}");
        assert!(Jws::parse(&good).is_some());
        for bad in [
            "",
            ".",
            "..",
            "a.b.c",
            good.trim_end_matches("AAAA").trim_end_matches('.'),
            &format!("{good}.AAAA"),
            &compact("[]", "{}"),
            &compact("{}", "7"),
            &compact(r#"{"alg":"RS256","crit":["exp"]}"#, "{}"),
        ] {
            assert!(Jws::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn other_algorithms_are_not_known() {
        for (alg, known) in [
            ("RS256", Some(Algorithm::RS256)),
            ("PS256", Some(Algorithm::PS256)),
            ("none", None),
            ("None", None),
            ("HS256", None),
            ("ES256", None),
            ("rs256", None),
        ] {
            let text = compact(&format!(r#"{{"alg":"{alg}"}}"#), "{}");
            assert_eq!(Jws::parse(&text).unwrap().algorithm(), known, "{alg}");
        }
    }

    #[test]
    fn a_span_needs_numbers_and_an_end() {
        let span = |claims: &str| Jws::parse(&compact("{}", claims)).unwrap().span();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(span(r#"{"exp":9}"#), Some(Span { from: UNIX_EPOCH, until: at(9) }));
        assert_eq!(span(r#"{"exp":9.0,"nbf":3}"#), Some(Span { from: at(3), until: at(9) }));
        for bad in [
            "{}",
            r#"{"exp":"9"}"#,
            r#"{"exp":-9}"#,
            r#"{"exp":1e300}"#,
            r#"{"exp":9,"nbf":"3"}"#,
            r#"{"nbf":3}"#,
        ] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_span_holds_to_its_ends_and_the_skew_beyond() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let span = Span { from: at(1000), until: at(2000) };
        let skew = Duration::from_secs(300);
        for (now, expected) in [
            (699, Lifetime::NotBegun),
            (700, Lifetime::Current),
            (2300, Lifetime::Current),
            (2301, Lifetime::Over),
        ] {
            assert_eq!(span.at(at(now), skew), expected, "{now}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*", header in "\\PC{0,40}", claims in "\\PC{0,40}") {
            let key = DecodingKey::from_rsa_raw_components(text.as_bytes(), header.as_bytes());
            for text in [text, compact(&header, &claims)] {
                if let Some(jws) = Jws::parse(&text) {
                    prop_assert!(!jws.is_signed_by(&key, Algorithm::RS256));
                    let _ = (jws.span(), jws.audiences(), jws.chain());
                }
            }
        }
    }
}
