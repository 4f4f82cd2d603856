//! A request, read once: for the journal, the faults and the handlers alike.

use crate::emulator::Endpoint;
use crate::emulator::ids;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::uri::Authority;
use http::{HeaderMap, Method, request};
use std::sync::OnceLock;
use std::time::SystemTime;
use url::form_urlencoded;

/// The longest body that is read; Entra's own limit is of this order.
pub(crate) const BODY_LIMIT: usize = 1024 * 1024;

/// The longest value of a parameter that is remembered or taken apart. Entra does not take longer URLs either.
const LONGEST: usize = 16 * 1024;

/// Names and values of a query or a form, in their order.
#[derive(Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// The v1 endpoints are asked for a resource: all that there is to it, and to sign in.
    fn scope_from_resource(&mut self) {
        if let Some(resource) = self.get("resource").filter(|_| !self.has("scope")) {
            let scope = format!("{resource}/.default openid profile offline_access");
            self.0.push(("scope".to_owned(), scope));
        }
    }

    /// Whether a parameter of this name was sent, if only an empty one.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(found, _)| found == name)
    }

    /// The first value of this name; an empty value counts as none.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A parameter that is longer than codes, tokens and pages are remembered with.
    pub(crate) fn too_long(&self) -> Option<&'static str> {
        ["state", "scope", "nonce", "claims", "login_hint", "sid", "redirect_uri"]
            .into_iter()
            .find(|name| self.get(name).is_some_and(|value| value.len() > LONGEST))
    }

    /// The v1 authorize endpoint wants no resource of who only signs in.
    fn sign_in_scope(&mut self) {
        self.scope_from_resource();
        if !self.has("scope") {
            self.0.push(("scope".to_owned(), "openid profile offline_access".to_owned()));
        }
    }
}

/// Everything about a request that the emulator looks at. It holds secrets and so has no `Debug`.
pub(crate) struct Asked {
    pub(crate) endpoint: Endpoint,
    /// The address by which the token service was asked: its documents and issuers begin with it.
    pub(crate) authority: String,
    pub(crate) at: SystemTime,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Params,
    pub(crate) form: Params,
    /// Client id and secret of the `Authorization` header.
    pub(crate) basic: Option<(String, String)>,
    pub(crate) too_large: bool,
    /// The name of the user who stands behind the request, once it is known.
    user: OnceLock<String>,
    pub(crate) trace_id: String,
    pub(crate) correlation_id: String,
}

impl Asked {
    /// `body` is `None` where it was longer than [`BODY_LIMIT`].
    pub(crate) fn new(
        endpoint: Endpoint,
        authority: String,
        at: SystemTime,
        parts: &request::Parts,
        body: Option<Bytes>,
    ) -> Self {
        let headers = parts.headers.clone();
        let body = body.filter(|body| body.len() <= BODY_LIMIT);
        let too_large = body.is_none();
        let mut form = match body {
            Some(body) if is_form(&headers) => Params::parse(&body),
            _ => Params::default(),
        };
        let mut query = Params::parse(parts.uri.query().unwrap_or_default().as_bytes());
        if endpoint == Endpoint::TokenService {
            match parts.uri.path().rsplit_once("/oauth2/") {
                Some((_, "token" | "devicecode")) => form.scope_from_resource(),
                Some((_, "authorize")) => [&mut form, &mut query].into_iter().for_each(Params::sign_in_scope),
                _ => {}
            }
        }
        let correlation_id = header(&headers, "client-request-id")
            .filter(|id| ids::is_guid(id))
            .map_or_else(ids::guid, str::to_owned);
        Self {
            endpoint,
            authority,
            at,
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            query,
            basic: header(&headers, AUTHORIZATION.as_str()).and_then(basic),
            headers,
            form,
            too_large,
            user: OnceLock::new(),
            trace_id: ids::guid(),
            correlation_id,
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Whether the v1 token endpoint is asked.
    pub(crate) fn is_v1_token(&self) -> bool {
        self.endpoint == Endpoint::TokenService && self.path.ends_with("/oauth2/token")
    }

    /// A cookie's value.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        let mut pairs = self.header("cookie")?.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The tenant as the path spells it.
    pub(crate) fn tenant(&self) -> Option<&str> {
        let (tenant, rest) = self.path.strip_prefix('/')?.split_once('/')?;
        let named = self.endpoint == Endpoint::TokenService && !tenant.is_empty();
        (named && !rest.is_empty()).then_some(tenant)
    }

    pub(crate) fn client_id(&self) -> Option<&str> {
        let basic = || self.basic.as_ref().map(|(client, _)| client.as_str());
        // A form's parameters do not move to the query: a POST that has them there lacks them.
        let query = self.query.get("client_id").or(self.query.get("clientid"));
        let query = query.filter(|_| self.method == Method::GET);
        self.form.get("client_id").or_else(basic).or(query)
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.user.get().map(String::as_str)
    }

    /// Says who the user is. Whoever says it first is believed.
    pub(crate) fn user_is(&self, name: &str) {
        let _ = self.user.set(name.to_owned());
    }

    /// What a token is asked for: the scopes, or a managed identity's resource.
    pub(crate) fn scope(&self) -> Option<&str> {
        let form = || self.form.get("resource");
        let query =
            || self.query.get("scope").or(self.query.get("resource")).filter(|_| self.method == Method::GET);
        self.form.get("scope").or_else(form).or_else(query)
    }
}

/// A grant type without the part that all long names begin with.
pub(crate) fn short_grant(grant_type: &str) -> &str {
    grant_type.strip_prefix("urn:ietf:params:oauth:grant-type:").unwrap_or(grant_type)
}

/// The host and port of the `Host` header, if they are such.
pub(crate) fn host(headers: &HeaderMap) -> Option<&str> {
    let host = header(headers, "host")?;
    let parsed: Authority = host.parse().ok()?;
    (!parsed.as_str().contains('@')).then_some(host)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = header(headers, CONTENT_TYPE.as_str()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// `Basic` credentials; RFC 6749 has each half form-encoded before the two are joined.
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (client, secret) = text.split_once(':')?;
    Some((form_decode(client), form_decode(secret)))
}

fn form_decode(text: &str) -> String {
    let pair = format!("value={}", text.replace('&', "%26"));
    let mut pairs = form_urlencoded::parse(pair.as_bytes());
    pairs.next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_halves_are_form_decoded() {
        let header = format!("Basic {}", STANDARD.encode("id%2B1:a%3Ab+c&d=e"));
        assert_eq!(basic(&header), Some(("id+1".to_owned(), "a:b c&d=e".to_owned())));
        assert_eq!(basic("Basic ???"), None);
        assert_eq!(basic("Bearer abc"), None);
    }
}
