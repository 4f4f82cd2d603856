//! Who may drive the emulator: everyone but another site's web page.

use crate::emulator::Endpoint;
use crate::emulator::control::refusal::Refusal;
use crate::emulator::request::{BODY_LIMIT, host};
use crate::emulator::service::Core;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use url::{Host, Url};

/// The body as a text, once the request may be looked at.
pub(super) fn check<'a>(
    core: &Core,
    endpoint: Endpoint,
    parts: &Parts,
    body: Option<&'a Bytes>,
) -> Result<&'a str, Refusal> {
    let own = match endpoint {
        Endpoint::TokenService => &core.authority,
        Endpoint::Identity => &core.identity_endpoint,
    };
    if !may_drive(&parts.headers, own) {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "a web page of another origin may not drive the emulator",
        ));
    }
    let too_large = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB");
    let body = body.filter(|body| body.len() <= BODY_LIMIT).ok_or_else(too_large)?;
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok("");
    }
    // A form that a page sends across origins can have neither this type nor, with it, go without asking first.
    if !is_json(&parts.headers) && (!body.is_empty() || parts.headers.contains_key(CONTENT_TYPE)) {
        let message = "the body has to be JSON, with content-type: application/json";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    std::str::from_utf8(body).map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the body is no UTF-8"))
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// Whether a request comes from no page, or from a page of the emulator itself.
fn may_drive(headers: &HeaderMap, own: &str) -> bool {
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    if matches!(site, Some(site) if site != b"none" && site != b"same-origin") {
        return false;
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let origin = origin.to_str().ok().and_then(|origin| Url::parse(origin).ok());
    let asked = host(headers).and_then(|host| Url::parse(&format!("http://{host}")).ok());
    let (Some(origin), Some(asked)) = (origin, asked) else {
        return false;
    };
    let is_same = origin.host() == asked.host() && origin.port() == asked.port();
    // A name that somebody else can point here makes a page of his look like ours.
    let own = Url::parse(own).ok();
    let is_ours = own.is_some_and(|own| own.host() == asked.host())
        || match asked.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
    is_same && is_ours
}
