//! What the token service publishes about itself.

use crate::emulator::answer::Answer;
use crate::emulator::directory::Place;
use crate::emulator::error::EntraError;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::token_service::token;
use crate::emulator::token_service::user_info;
use axum::Extension;
use axum::extract::{Path, State};
use http::header::CACHE_CONTROL;
use serde_json::json;
use std::sync::Arc;
use url::Url;

/// Hosts that stand for the public cloud: asking a local service about them is no mistake.
pub(crate) const PUBLIC_CLOUD: &[&str] =
    &["login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"];

impl Core {
    /// A tenant's id in its issuer. Where the path names no tenant that is a template: `{tenantid}` stands there literally.
    fn issuing(&self, asked: &Asked) -> Result<String, EntraError> {
        let place = self.directory.place(asked.tenant().unwrap_or_default());
        Ok(match place.map_err(|error| error.called("invalid_tenant"))? {
            Place::Tenant(id) => id,
            Place::Any(_) => "{tenantid}".to_owned(),
        })
    }

    /// The issuer of a tenant's v2 tokens.
    fn v2_issuer(&self, asked: &Asked) -> Result<String, EntraError> {
        Ok(format!("{}/{}/v2.0", asked.authority, self.issuing(asked)?))
    }
}

pub(crate) async fn configuration(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    let tenant = asked.tenant().unwrap_or_default();
    let base = format!("{}/{tenant}", asked.authority);
    Ok(published(&json!({
        "issuer": core.v2_issuer(&asked)?,
        "token_endpoint": format!("{base}/oauth2/v2.0/token"),
        "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
        "device_authorization_endpoint": format!("{base}/oauth2/v2.0/devicecode"),
        "end_session_endpoint": format!("{base}/oauth2/v2.0/logout"),
        "jwks_uri": format!("{base}/discovery/v2.0/keys"),
        "userinfo_endpoint": format!("{}{}", asked.authority, user_info::PATH),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "claims_supported": [
            "sub", "iss", "cloud_instance_name", "aud", "exp", "iat", "auth_time", "nonce", "preferred_username", "name", "tid",
            "ver", "email",
        ],
        "http_logout_supported": true,
        "frontchannel_logout_supported": true,
        "request_uri_parameter_supported": false,
        "tenant_region_scope": null,
        "cloud_instance_name": "microsoftonline.com",
        "cloud_graph_host_name": "graph.windows.net",
        "msgraph_host": "graph.microsoft.com",
    })))
}

pub(crate) async fn keys(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    let issuer = core.v2_issuer(&asked)?;
    key_set(&core, Some(&issuer)).await
}

/// What the v1 endpoints are, and the issuer of v1 tokens.
pub(crate) async fn v1_configuration(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    let base = format!("{}/{}", asked.authority, asked.tenant().unwrap_or_default());
    Ok(published(&json!({
        "issuer": token::v1_issuer(&core.issuing(&asked)?),
        "token_endpoint": format!("{base}/oauth2/token"),
        "authorization_endpoint": format!("{base}/oauth2/authorize"),
        "device_authorization_endpoint": format!("{base}/oauth2/devicecode"),
        "end_session_endpoint": format!("{base}/oauth2/logout"),
        "jwks_uri": format!("{base}/discovery/keys"),
        "userinfo_endpoint": format!("{}{}", asked.authority, user_info::PATH),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "response_types_supported": ["code", "id_token", "code id_token", "token id_token", "token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid"],
        "claims_supported": [
            "sub", "iss", "cloud_instance_name", "aud", "exp", "iat", "auth_time", "acr", "amr", "nonce", "email", "given_name",
            "family_name", "nickname",
        ],
        "http_logout_supported": true,
        "frontchannel_logout_supported": true,
        "microsoft_multi_refresh_token": true,
        "tenant_region_scope": null,
        "cloud_instance_name": "microsoftonline.com",
        "cloud_graph_host_name": "graph.windows.net",
        "msgraph_host": "graph.microsoft.com",
    })))
}

/// The same keys: a token's version has nothing to do with what signs it.
pub(crate) async fn v1_keys(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    core.issuing(&asked)?;
    key_set(&core, None).await
}

async fn key_set(core: &Core, issuer: Option<&str>) -> Result<Answer, EntraError> {
    let keys = core.directory.keys().published().await?;
    let keys: Vec<_> = keys.iter().map(|key| key.jwk(issuer)).collect();
    Ok(published(&json!({ "keys": keys })))
}

pub(crate) async fn instance(Extension(asked): Extension<Arc<Asked>>) -> Result<Answer, EntraError> {
    let missing = |name| {
        EntraError::aadsts(900144)
            .saying(format!("The request must contain the following parameter: '{name}'."))
    };
    asked.query.get("api-version").ok_or_else(|| missing("api-version"))?;
    let endpoint =
        asked.query.get("authorization_endpoint").ok_or_else(|| missing("authorization_endpoint"))?;

    let here = asked.authority.split_once("://").map_or(asked.authority.as_str(), |(_, host)| host);
    let url = Url::parse(endpoint).ok();
    let host = url.as_ref().map(|url| &url[url::Position::BeforeHost..url::Position::AfterPort]);
    // MSAL for Python leaves the port out.
    let bare = here.rsplit_once(':').map_or(here, |(bare, _)| bare);
    if !host.is_some_and(|host| host == here || host == bare || PUBLIC_CLOUD.contains(&host)) {
        return Err(EntraError::aadsts(50049));
    }
    let tenant = url
        .as_ref()
        .and_then(|url| url.path_segments()?.next().map(str::to_owned))
        .filter(|tenant| !tenant.is_empty())
        .unwrap_or_else(|| "common".to_owned());
    Ok(published(&json!({
        "tenant_discovery_endpoint": format!("{}/{tenant}/v2.0/.well-known/openid-configuration", asked.authority),
        "api-version": "1.1",
        "metadata": [
            {"preferred_network": here, "preferred_cache": here, "aliases": [here, bare]},
            {
                "preferred_network": "login.microsoftonline.com",
                "preferred_cache": "login.windows.net",
                "aliases": PUBLIC_CLOUD,
            },
        ],
    })))
}

/// Where a user's password is checked: what clients ask before they send one. Here nobody is federated.
pub(crate) async fn user_realm(
    State(core): State<Arc<Core>>,
    Path((_, user)): Path<(String, String)>,
) -> Answer {
    let domain = user.rsplit('@').next().unwrap_or_default();
    let known = core.directory.tenant_id(domain).is_some();
    Answer::ok(&json!({
        "ver": "1.0",
        "account_type": if known { "Managed" } else { "Unknown" },
        "domain_name": domain,
        "cloud_instance_name": "microsoftonline.com",
        "cloud_audience_urn": "urn:federation:MicrosoftOnline",
    }))
}

/// Keys and metadata may be kept for a day, unlike anything else that is answered.
fn published(body: &serde_json::Value) -> Answer {
    Answer::ok(body).header(CACHE_CONTROL, "max-age=86400, private")
}
