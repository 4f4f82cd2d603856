//! Access tokens: real JWTs, in the shape that their resource wants.

use crate::emulator::directory::{Resource, User};
use crate::emulator::error::EntraError;
use crate::emulator::ids::{self, guid_of};
use crate::emulator::service::Core;
use crate::emulator::time::unix_seconds;
use crate::emulator::token_service::claims::ClaimsRequest;
use crate::emulator::token_service::grants::SignedIn;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// More groups than these are not put into a token: it says where to ask for them.
const GROUPS: usize = 200;

/// From this lifetime on, Entra says when to refresh.
const LONG_LIVED: Duration = Duration::from_secs(2 * 60 * 60);

/// An access token to be made.
pub(crate) struct AccessToken<'a> {
    /// The address by which the token service was asked, which v2 issuers begin with.
    pub(crate) authority: &'a str,
    pub(crate) tenant: &'a str,
    pub(crate) client_id: &'a str,
    /// How the client proved itself: 0 not at all, 1 with a secret, 2 with a certificate or assertion.
    pub(crate) acr: u8,
    pub(crate) resource: &'a Resource,
    /// The resource as the request spelled it, which is what a v1 audience repeats.
    pub(crate) asked_as: &'a str,
    pub(crate) claims: &'a ClaimsRequest,
    /// The user on whose behalf the app acts; none where it acts for itself.
    pub(crate) user: Option<OnBehalf<'a>>,
}

/// A user, and what he lets the app do.
pub(crate) struct OnBehalf<'a> {
    pub(crate) user: &'a User,
    pub(crate) signed_in: &'a SignedIn,
    pub(crate) scopes: &'a BTreeSet<String>,
}

/// A token and the time that is left to it.
#[derive(Clone)]
pub(crate) struct Minted {
    pub(crate) token: String,
    pub(crate) from: SystemTime,
    pub(crate) lifetime: Duration,
}

impl Minted {
    pub(crate) fn expires(&self) -> SystemTime {
        // A lifetime beyond what the clock can hold expires at once rather than bringing the emulator down.
        self.from.checked_add(self.lifetime).unwrap_or(self.from)
    }

    /// What the answer of every grant has.
    pub(crate) fn answer(&self) -> Value {
        let seconds = self.lifetime.as_secs();
        let mut body = json!({
            "token_type": "Bearer",
            "expires_in": seconds,
            "ext_expires_in": seconds,
            "access_token": self.token,
        });
        if self.lifetime >= LONG_LIVED {
            body["refresh_in"] = json!(seconds / 2);
        }
        body
    }
}

impl Core {
    pub(crate) async fn mint(&self, wanted: AccessToken<'_>) -> Result<Minted, EntraError> {
        let key = self.directory.keys().signing().await?;
        let minted = Minted {
            token: String::new(),
            from: self.time.now(),
            lifetime: Duration::from_secs(self.directory.lifetime().as_secs()),
        };
        let token = key.sign(&self.claims(&wanted, &minted))?;
        Ok(Minted { token, ..minted })
    }

    fn claims(&self, wanted: &AccessToken<'_>, minted: &Minted) -> Value {
        let mut claims = json!({
            "iat": unix_seconds(minted.from),
            "nbf": unix_seconds(minted.from),
            "exp": unix_seconds(minted.expires()),
            "tid": wanted.tenant,
            // Without it two tokens of one second would be the same token.
            "uti": uti(),
        });
        add(&mut claims, shape(wanted));
        add(
            &mut claims,
            match &wanted.user {
                Some(user) => user_claims(wanted, user),
                None => self.app_claims(wanted),
            },
        );
        if !wanted.claims.capabilities.is_empty() {
            claims["xms_cc"] = json!(wanted.claims.capabilities);
        }
        if wanted.user.is_some() && !wanted.claims.contexts.is_empty() {
            claims["acrs"] = json!(wanted.claims.contexts);
        }
        claims
    }

    fn app_claims(&self, wanted: &AccessToken<'_>) -> Value {
        let principal = self.directory.principal(wanted.tenant, wanted.client_id);
        let object_id = principal.as_ref().map_or(wanted.client_id, |principal| &principal.object_id);
        let mut claims = json!({"idtyp": "app", "oid": object_id, "sub": object_id});
        let roles = principal.as_ref().and_then(|principal| principal.roles.get(&wanted.resource.app_id));
        if let Some(roles) = roles {
            claims["roles"] = json!(roles);
        }
        claims
    }
}

/// What a v1 and a v2 token say differently.
fn shape(wanted: &AccessToken<'_>) -> Value {
    let &AccessToken { authority, tenant, client_id, resource, .. } = wanted;
    let acr = wanted.acr.to_string();
    if resource.v2 {
        return json!({
            "aud": resource.app_id,
            "iss": format!("{authority}/{tenant}/v2.0"),
            "azp": client_id,
            "azpacr": acr,
            "ver": "2.0",
        });
    }
    let issuer = v1_issuer(tenant);
    json!({
        "aud": wanted.asked_as,
        "iss": issuer,
        "idp": issuer,
        "appid": client_id,
        "appidacr": acr,
        "ver": "1.0",
    })
}

fn user_claims(wanted: &AccessToken<'_>, of: &OnBehalf<'_>) -> Value {
    let OnBehalf { user, signed_in, scopes } = of;
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let mut claims = json!({
        "oid": user.object_id,
        "sub": pairwise(user, &wanted.resource.app_id),
        "name": user.display_name,
        "scp": scopes.join(" "),
        "sid": signed_in.sid,
    });
    if wanted.resource.v2 {
        claims["preferred_username"] = json!(user.name);
    } else {
        claims["amr"] = json!(amr(signed_in));
        claims["acr"] = json!("1");
        claims["upn"] = json!(user.name);
        claims["unique_name"] = json!(user.name);
    }
    add(&mut claims, groups(user));
    claims
}

/// The issuer of a tenant's v1 tokens, whatever the token service's address.
pub(crate) fn v1_issuer(tenant: &str) -> String {
    format!("https://sts.windows.net/{tenant}/")
}

/// How a user proved who he is.
pub(crate) fn amr(signed_in: &SignedIn) -> &'static [&'static str] {
    if signed_in.fulfilled.is_empty() { &["pwd"] } else { &["pwd", "mfa"] }
}

/// The groups, or where to ask for them if there are too many.
pub(crate) fn groups(user: &User) -> Value {
    match user.groups.len() {
        0 => json!({}),
        1..=GROUPS => json!({"groups": user.groups}),
        _ => json!({
            "_claim_names": {"groups": "src1"},
            "_claim_sources": {"src1": {
                "endpoint": format!("https://graph.microsoft.com/v1.0/users/{}/getMemberObjects", user.object_id),
            }},
        }),
    }
}

/// The subject: the same user is another one to every audience.
pub(crate) fn pairwise(user: &User, audience: &str) -> String {
    guid_of(&["subject", &user.object_id, audience]).replace('-', "")
}

pub(crate) fn uti() -> String {
    URL_SAFE_NO_PAD.encode(ids::random::<16>())
}

/// Adds the members of one object to another.
pub(crate) fn add(claims: &mut Value, more: Value) {
    if let (Value::Object(claims), Value::Object(more)) = (claims, more) {
        claims.extend(more);
    }
}
