//! The parameters of a request to the authorize endpoint.

use crate::emulator::directory::{Accounts, App, Place};
use crate::emulator::error::{EntraError, echo};
use crate::emulator::request::{Asked, Params};
use crate::emulator::service::Core;
use crate::emulator::sign_in::callback::{self, Callback, Mode};
use crate::emulator::sign_in::flow::{CodeRequest, Flow, Prompt, Purpose};
use crate::emulator::token_service::claims::ClaimsRequest;
use crate::emulator::token_service::client::single_tenant;
use crate::emulator::token_service::grants::Challenge;
use crate::emulator::token_service::scopes::Scopes;
use http::Method;

/// The parameters, from where this method has them.
pub(crate) fn sent(asked: &Asked) -> &Params {
    if asked.method == Method::POST { &asked.form } else { &asked.query }
}

/// Where an answer may go: nothing is sent back to an app before this is known.
pub(crate) struct Target {
    pub(crate) app: App,
    pub(crate) place: Place,
    /// As the request spelled it.
    pub(crate) redirect_uri: String,
    pub(crate) spa: bool,
}

impl Core {
    /// # Errors
    ///
    /// Those that are shown on a page, since the app that they could be told to is not known.
    pub(crate) fn target(&self, asked: &Asked) -> Result<Target, EntraError> {
        let place = self.directory.place(asked.tenant().unwrap_or_default())?;
        let params = sent(asked);
        let missing = || {
            EntraError::aadsts(900144)
                .saying("The request body must contain the following parameter: 'client_id'.")
        };
        let client_id = params.get("client_id").ok_or_else(missing)?;
        let named = match &place {
            Place::Tenant(tenant) => Some(tenant.as_str()),
            Place::Any(_) => None,
        };
        let app = self.usable(client_id, named)?;
        match place {
            Place::Any(Accounts::Consumers) => return Err(EntraError::aadsts(50020)),
            Place::Any(_) if !app.multi_tenant => return Err(single_tenant(&app.client_id)),
            _ => {}
        }
        let asked_for = params.get("redirect_uri");
        let registered = match asked_for {
            Some(uri) => app.redirect(uri).filter(|_| callback::is_safe(uri)).ok_or_else(|| {
                EntraError::aadsts(50011).saying(format!(
                    "The redirect URI '{}' specified in the request does not match the redirect URIs configured for the application '{}'.",
                    echo(uri), app.client_id
                ))
            })?,
            None => {
                let only = app.only_redirect().filter(|only| callback::is_safe(&only.uri));
                let none = app.redirects.is_empty();
                only.ok_or_else(|| EntraError::aadsts(if none { 500113 } else { 900971 }))?
            }
        };
        let redirect_uri = asked_for.unwrap_or(&registered.uri).to_owned();
        Ok(Target { spa: registered.spa, redirect_uri, place, app })
    }

    /// An app that may be used in a tenant, or might come to be by consent.
    pub(crate) fn usable(&self, client_id: &str, tenant: Option<&str>) -> Result<App, EntraError> {
        let unknown = || {
            EntraError::aadsts(700016).saying(format!(
                "Application with identifier '{}' was not found in the directory '{}'. It may not have been installed by the administrator of the tenant, or the request went to the wrong tenant.",
                echo(client_id),
                tenant.unwrap_or("common")
            ))
        };
        let app = self.directory.app(client_id).ok_or_else(unknown)?;
        let Some(tenant) = tenant else {
            return Ok(app);
        };
        if app.multi_tenant || app.home_tenant == tenant {
            if self.directory.principal(tenant, &app.client_id).is_none()
                && app.enabled
                && app.cloud.is_none()
            {
                return Ok(app);
            }
            return self.present(Some(app), client_id, tenant);
        }
        Err(unknown())
    }
}

/// The callback and what was asked for there.
///
/// # Errors
///
/// Those that the app is told; the callback is good all the same.
pub(crate) fn parse(
    asked: &Asked,
    target: &Target,
    now: std::time::SystemTime,
) -> (Callback, Result<Flow, EntraError>) {
    let params = sent(asked);
    let mut callback = Callback {
        uri: target.redirect_uri.clone(),
        mode: Mode::Query,
        state: params.get("state").map(str::to_owned),
        always: Vec::new(),
    };
    let mode = mode(params);
    if let Ok(mode) = mode {
        callback.mode = mode;
    }
    let flow = mode.and_then(|_| flow(asked, target, &callback, now));
    (callback, flow)
}

fn mode(params: &Params) -> Result<Mode, EntraError> {
    match params.get("response_mode") {
        None | Some("query") => Ok(Mode::Query),
        Some("fragment") => Ok(Mode::Fragment),
        Some("form_post") => Ok(Mode::FormPost),
        Some(other) => Err(EntraError::aadsts(70007).saying(format!(
            "'{}' is not a supported value of 'response_mode' for this request.",
            echo(other)
        ))),
    }
}

fn flow(
    asked: &Asked,
    target: &Target,
    callback: &Callback,
    now: std::time::SystemTime,
) -> Result<Flow, EntraError> {
    let params = sent(asked);
    if let Some(name) = params.too_long() {
        return Err(EntraError::too_long(name));
    }
    let required = |name| params.get(name).ok_or_else(|| EntraError::missing(name));
    response_type(required("response_type")?)?;
    let scope = required("scope")?;
    Scopes::parse(scope)?;
    let claims = params.get("claims");
    ClaimsRequest::parse(claims)?;
    let own = |name| params.get(name).map(str::to_owned);
    let purpose = Purpose::Code(CodeRequest {
        callback: callback.clone(),
        redirect_uri: target.redirect_uri.clone(),
        spa: target.spa,
        nonce: own("nonce"),
        challenge: challenge(params)?,
        client_info: params.get("client_info") == Some("1"),
    });
    let path = asked.tenant().unwrap_or_default().to_owned();
    let (place, client_id) = (target.place.clone(), target.app.client_id.clone());
    Ok(Flow {
        claims: claims.map(str::to_owned),
        prompt: prompt(params.get("prompt").unwrap_or_default())?,
        hint: own("login_hint").or_else(|| own("sid")),
        ..Flow::new(purpose, path, place, client_id, scope.to_owned(), now)
    })
}

fn response_type(text: &str) -> Result<(), EntraError> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["code"] => Ok(()),
        words if words.contains(&"token") => Err(EntraError::aadsts(700051)),
        words if words.contains(&"id_token") => Err(EntraError::aadsts(700054)),
        _ => {
            Err(EntraError::aadsts(70005)
                .saying(format!("The response type '{}' is not supported.", echo(text))))
        }
    }
}

fn prompt(text: &str) -> Result<Prompt, EntraError> {
    let mut prompt = Prompt::default();
    let invalid = |why: &str| {
        EntraError::aadsts(90023).saying(format!("The value of the parameter 'prompt' is not valid: {why}"))
    };
    for word in text.split_whitespace() {
        match word {
            "none" => prompt.none = true,
            "login" => prompt.login = true,
            "consent" => prompt.consent = true,
            "select_account" => prompt.select_account = true,
            other => return Err(invalid(&format!("'{}' is not known.", echo(other)))),
        }
    }
    if prompt.none && prompt != (Prompt { none: true, ..Prompt::default() }) {
        return Err(invalid("'none' stands alone."));
    }
    Ok(prompt)
}

fn challenge(params: &Params) -> Result<Option<Challenge>, EntraError> {
    let method = params.get("code_challenge_method");
    let Some(challenge) = params.get("code_challenge") else {
        return match method {
            // A method without a challenge is a challenge of size 0.
            Some(_) => Err(EntraError::aadsts(50147).called("invalid_request")),
            None => Ok(None),
        };
    };
    // RFC 7636 gives it the size of a verifier.
    if !(43..=128).contains(&challenge.len()) {
        return Err(EntraError::aadsts(50147).called("invalid_request"));
    }
    match method {
        Some("S256") => Ok(Some(Challenge::S256(challenge.to_owned()))),
        None | Some("plain") => Ok(Some(Challenge::Plain(challenge.to_owned()))),
        Some(other) => Err(EntraError::aadsts(90100)
            .saying(format!("The code challenge method '{}' is not supported.", echo(other)))),
    }
}
