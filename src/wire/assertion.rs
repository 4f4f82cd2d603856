//! The assertion by which an application proves that it has its certificate's key: a JWT (RFC 7523) in Entra's dialect.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::Deserialize;
use serde_json::json;

use crate::Secret;

/// How long an assertion is good for. It is made for one request; Entra takes up to a day, and 10 minutes is what
/// Microsoft's documentation recommends.
const LIFE: u64 = 600;
/// The service's clock may be this much behind ours.
const SKEW: u64 = 60;

/// How an assertion is signed, and by which thumbprint its header names the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Ps256,
    Rs256,
}

/// The header, encoded: the same for all assertions of one certificate. `thumbprint` is the SHA-256 of the certificate for
/// PS256 and the SHA-1 for RS256, `chain` the certificates to send along, leaf first.
pub(crate) fn header(algorithm: Algorithm, thumbprint: &[u8], chain: Option<&[Vec<u8>]>) -> String {
    let (alg, name) = match algorithm {
        Algorithm::Ps256 => ("PS256", "x5t#S256"),
        Algorithm::Rs256 => ("RS256", "x5t"),
    };
    let mut header = json!({"alg": alg, "typ": "JWT", name: URL_SAFE_NO_PAD.encode(thumbprint)});
    if let Some(chain) = chain {
        // Of all that is in a JWT only this is standard base64 (RFC 7515, section 4.1.6).
        header["x5c"] = chain.iter().map(|der| STANDARD.encode(der)).collect();
    }
    URL_SAFE_NO_PAD.encode(header.to_string())
}

/// What is signed: header and claims. `now` counts seconds since the epoch, `id` must never have been used before.
pub(crate) fn unsigned(header: &str, client_id: &str, audience: &str, id: &[u8], now: u64) -> String {
    let claims = json!({
        "aud": audience, "iss": client_id, "sub": client_id, "jti": URL_SAFE_NO_PAD.encode(id),
        "nbf": now.saturating_sub(SKEW), "iat": now, "exp": now.saturating_add(LIFE),
    });
    format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// The whole assertion.
pub(crate) fn signed(unsigned: &str, signature: &[u8]) -> Secret {
    // In one piece: a string that grows leaves copies of a secret behind.
    let mut whole = String::with_capacity(unsigned.len() + 1 + signature.len().div_ceil(3) * 4);
    whole.push_str(unsigned);
    whole.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut whole);
    Secret::new(whole)
}

/// Whether an assertion was made with this header, and so by the same certificate.
pub(crate) fn has_header(assertion: &str, header: &str) -> bool {
    assertion.strip_prefix(header).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether an assertion of [`signed`] has expired at `now`.
pub(crate) fn has_expired(assertion: &str, now: u64) -> bool {
    #[derive(Deserialize)]
    struct Claims {
        exp: u64,
    }
    let claims = assertion.split('.').nth(1).and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok());
    claims
        .and_then(|claims| serde_json::from_slice(&claims).ok())
        .is_some_and(|claims: Claims| claims.exp <= now)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn part(jwt: &str, at: usize) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jwt.split('.').nth(at).unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn the_header_names_the_certificate_as_the_algorithm_wants_it() {
        let ps = header(Algorithm::Ps256, &[0xfb; 32], None);
        let thumbprint = URL_SAFE_NO_PAD.encode([0xfb; 32]);
        assert_eq!(part(&ps, 0), json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint}));
        let rs = header(Algorithm::Rs256, &[0xfb; 20], None);
        let thumbprint = URL_SAFE_NO_PAD.encode([0xfb; 20]);
        assert_eq!(part(&rs, 0), json!({"alg": "RS256", "typ": "JWT", "x5t": thumbprint}));
    }

    #[test]
    fn a_chain_is_in_standard_base64_and_in_its_order() {
        let chain = [vec![0xfb, 0xff], vec![1, 2, 3]];
        let header = part(&header(Algorithm::Ps256, &[0; 32], Some(&chain)), 0);
        assert_eq!(header["x5c"], json!(["+/8=", "AQID"]));
    }

    #[test]
    fn the_claims_are_what_entra_reads() {
        let unsigned = unsigned("h", "app", "https://login/\"token", &[1; 16], 1_800_000_000);
        assert_eq!(
            part(&unsigned, 1),
            json!({
                "aud": "https://login/\"token", "iss": "app", "sub": "app", "jti": "AQEBAQEBAQEBAQEBAQEBAQ",
                "nbf": 1_799_999_940, "iat": 1_800_000_000, "exp": 1_800_000_600,
            })
        );
        let signed = signed(&unsigned, &[0xff; 4]);
        assert_eq!(signed.expose(), format!("{unsigned}._____w"));
    }

    #[test]
    fn an_assertion_is_known_by_its_header_and_read_for_its_end() {
        let unsigned = unsigned("head", "app", "aud", &[1; 16], 1000);
        assert!(
            has_header(&unsigned, "head") && !has_header(&unsigned, "hea") && !has_header("head", "head")
        );
        assert!(!has_expired(&unsigned, 1599) && has_expired(&unsigned, 1600));
        for other in ["", "a", "a.b.c", "e30.e30.", "..", "a.bm90IGpzb24.c"] {
            assert!(!has_expired(other, u64::MAX), "{other}");
        }
    }
}
