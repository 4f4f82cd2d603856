//! Client assertions: signed by a certificate's key, or by an issuer that the app trusts.

use crate::emulator::directory::{App, Certificate, Place, hex};
use crate::emulator::error::{EntraError, echo};
use crate::emulator::ids::is_guid;
use crate::emulator::jws::{self, Jws, Lifetime, Span};
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::time::timestamp;
use crate::emulator::token_service::discovery::PUBLIC_CLOUD;
use crate::emulator::token_service::federated;
use std::time::Duration;

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// So far a client's clock may be off.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// Whether an assertion proves that it comes from the app. It may be sent again until it expires, as MSAL does.
///
/// # Errors
///
/// 900144 and 90011 for the assertion's type, 50027 for its form, 700021 and 50048 for whom it speaks of, 700027 and 700030 for key and
/// signature, 700024 for its time, 700023 for its audience; and those of [`federated::verify`].
pub(crate) async fn verify(
    core: &Core,
    asked: &Asked,
    app: &App,
    tenant: &str,
    assertion: &str,
) -> Result<(), EntraError> {
    match asked.form.get("client_assertion_type") {
        Some(TYPE) => {}
        None => return Err(EntraError::missing("client_assertion_type")),
        Some(other) => {
            return Err(EntraError::aadsts(90011).saying(format!(
                "Unexpected client assertion type: '{}'. '{TYPE}' is expected.",
                echo(other)
            )));
        }
    }
    let jws = Jws::parse(assertion)
        .ok_or_else(|| EntraError::aadsts(50027).saying("JWT token is invalid or malformed."))?;
    let issuer = jws.claim("iss").ok_or_else(|| invalid("It has no issuer."))?;
    let subject = jws.claim("sub").ok_or_else(|| invalid("It has no subject."))?;
    if issuer.eq_ignore_ascii_case(&app.client_id) {
        if !subject.eq_ignore_ascii_case(issuer) {
            return Err(EntraError::aadsts(50048));
        }
        return own(core, asked, app, tenant, &jws);
    }
    if is_guid(issuer) {
        return Err(EntraError::aadsts(700021));
    }
    federated::verify(core, app, &jws, issuer, subject).await
}

/// An assertion that the app made itself.
fn own(core: &Core, asked: &Asked, app: &App, tenant: &str, jws: &Jws<'_>) -> Result<(), EntraError> {
    let algorithm = jws.algorithm().ok_or_else(|| unsupported(jws))?;
    let certificate = certificate(core, app, jws)?;
    if !jws.is_signed_by(certificate.key(), algorithm) {
        return Err(refused(
            "Client assertion contains an invalid signature.",
            "The provided signature value did not match the expected signature value.",
            &certificate.thumbprint(),
            app,
        ));
    }
    let (from, until) = (certificate.valid_from(), certificate.valid_until());
    let now = core.time.now();
    if now < from || until < now {
        let reason = format!(
            "The key used is {}: it is valid from {} to {}.",
            if now < from { "not valid yet" } else { "expired" },
            timestamp(from),
            timestamp(until)
        );
        let what = "The certificate used to sign the client assertion is not within its validity period.";
        return Err(refused(what, &reason, &certificate.thumbprint(), app));
    }
    is_current(core, jws)?;
    let audience = jws.claim("aud").ok_or_else(|| invalid("Its audience is not one text."))?;
    if !is_realm(core, asked, tenant, audience) {
        return Err(EntraError::aadsts(700023).saying(format!(
            "Client assertion audience claim does not match Realm issuer. The audience was '{}'; the token endpoint of the tenant '{tenant}' is expected.",
            echo(audience)
        )));
    }
    Ok(())
}

/// The certificate that the header names, provided that the app has it or trusts who issued it.
fn certificate(core: &Core, app: &App, jws: &Jws<'_>) -> Result<Certificate, EntraError> {
    let named = Named::by(jws)?;
    if let Some(found) = app.certificates.iter().find(|certificate| named.is(certificate)) {
        return Ok(found.clone());
    }
    let unknown = |reason: &str| {
        let what = "The certificate with identifier used to sign the client assertion is not registered on application.";
        Err(refused(what, reason, &named.text(), app))
    };
    let Some(chain) = jws.chain().filter(|_| !app.trusted_issuers.is_empty()) else {
        return unknown("The key was not found.");
    };
    let mut reason = "The certificate chain does not lead to a trusted issuer.";
    let mut misnamed = None;
    for (authority, name) in &app.trusted_issuers {
        match authority.leaf_of(&chain, core.time.now()) {
            Ok(leaf) if !named.is(&leaf) => {
                reason = "The header names another certificate than the chain begins with.";
            }
            Ok(leaf) if leaf.is_for(name) => return Ok(leaf),
            Ok(leaf) => misnamed = Some(leaf),
            Err(why) => reason = why,
        }
    }
    match misnamed {
        None => unknown(reason),
        Some(leaf) => Err(EntraError::aadsts(700030).saying(format!(
            "Invalid certificate - subject name in certificate is not authorized. The subject in the certificate is '{}'.",
            echo(leaf.subject())
        ))),
    }
}

/// How a header names a certificate.
enum Named {
    Sha1(Vec<u8>),
    Sha256(Vec<u8>),
    /// Whatever a `kid` holds; some clients put a thumbprint there.
    Key(String),
}

impl Named {
    fn by(jws: &Jws<'_>) -> Result<Self, EntraError> {
        let thumbprint = |name: &str| {
            let text = jws.header(name)?;
            Some(jws::decode(text).ok_or_else(|| invalid(&format!("Its '{name}' is not a thumbprint."))))
        };
        if let Some(sha256) = thumbprint("x5t#S256") {
            return Ok(Self::Sha256(sha256?));
        }
        if let Some(sha1) = thumbprint("x5t") {
            return Ok(Self::Sha1(sha1?));
        }
        jws.header("kid").map(|kid| Self::Key(kid.to_owned())).ok_or_else(|| {
            invalid("No certificate SHA-1 thumbprint, certificate SHA-256 thumbprint, nor keyId specified in token header.")
        })
    }

    fn is(&self, certificate: &Certificate) -> bool {
        match self {
            Self::Sha1(thumbprint) => thumbprint == certificate.sha1(),
            Self::Sha256(thumbprint) => thumbprint == certificate.sha256(),
            Self::Key(kid) => {
                let decoded = jws::decode(kid);
                let decoded = decoded.as_deref();
                kid.eq_ignore_ascii_case(&certificate.thumbprint())
                    || kid.eq_ignore_ascii_case(&certificate.thumbprint_sha256())
                    || decoded == Some(certificate.sha1())
                    || decoded == Some(certificate.sha256())
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Sha1(thumbprint) | Self::Sha256(thumbprint) => echo(&hex(thumbprint)),
            Self::Key(kid) => echo(kid),
        }
    }
}

/// What is said of a key: which one was presented, and which ones are known.
fn refused(what: &str, reason: &str, presented: &str, app: &App) -> EntraError {
    let configured: Vec<String> = app
        .certificates
        .iter()
        .enumerate()
        .map(|(index, certificate)| {
            format!(
                "Key{index}:Start={}, End={}, Thumbprint={};",
                timestamp(certificate.valid_from()),
                timestamp(certificate.valid_until()),
                certificate.thumbprint()
            )
        })
        .collect();
    EntraError::aadsts(700027).saying(format!(
        "{what} [Reason - {reason} Thumbprint of key used by client: '{presented}', Configured keys: [{}]]",
        configured.join(" ")
    ))
}

pub(crate) fn invalid(why: &str) -> EntraError {
    EntraError::aadsts(50027).saying(format!("Invalid JWT token. {why}"))
}

pub(crate) fn unsupported(jws: &Jws<'_>) -> EntraError {
    invalid(&format!(
        "'{}' is not a supported signature algorithm.",
        echo(jws.header("alg").unwrap_or_default())
    ))
}

/// Whether an assertion's time is now.
pub(crate) fn is_current(core: &Core, jws: &Jws<'_>) -> Result<(), EntraError> {
    let span = jws.span().ok_or_else(|| invalid("'exp' and 'nbf' have to be numbers of seconds."))?;
    let now = core.time.now();
    if span.at(now, SKEW) == Lifetime::Current {
        return Ok(());
    }
    let Span { from, until } = span;
    Err(EntraError::aadsts(700024).saying(format!(
        "Client assertion is not within its valid time range. Current time: {}, assertion valid from {}, expiry time of assertion {}.",
        timestamp(now),
        timestamp(from),
        timestamp(until)
    )))
}

/// Whether an audience means this token service and this tenant: its token endpoints and its issuers count.
fn is_realm(core: &Core, asked: &Asked, tenant: &str, audience: &str) -> bool {
    let by = |authority: &str| audience.strip_prefix(authority)?.strip_prefix('/');
    let public = |host: &&'static str| by(&format!("https://{host}"));
    let path =
        by(&asked.authority).or_else(|| by(&core.authority)).or_else(|| PUBLIC_CLOUD.iter().find_map(public));
    let Some((named, rest)) = path.and_then(|path| path.split_once('/')) else {
        return false;
    };
    let is_tenant = asked.tenant().is_some_and(|tenant| tenant.eq_ignore_ascii_case(named))
        || core.directory.place(named).is_ok_and(|place| place == Place::Tenant(tenant.to_owned()));
    is_tenant && matches!(rest, "oauth2/v2.0/token" | "oauth2/token" | "v2.0" | "")
}
