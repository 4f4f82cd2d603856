//! The answer to a grant that speaks for a user: access token, and id and refresh token where they were asked for.

use crate::emulator::answer::Answer;
use crate::emulator::directory::{App, User};
use crate::emulator::error::EntraError;
use crate::emulator::ids;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::time::unix_seconds;
use crate::emulator::token_service::claims::ClaimsRequest;
use crate::emulator::token_service::grants::{RefreshToken, SignedIn};
use crate::emulator::token_service::review::Review;
use crate::emulator::token_service::scopes::{Scopes, SignIn};
use crate::emulator::token_service::token::{self, AccessToken, Minted, OnBehalf};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A grant that was found good, up to what the user and the tenant have to say.
pub(crate) struct UserGrant<'a> {
    pub(crate) app: &'a App,
    /// How the client proved itself.
    pub(crate) acr: u8,
    /// The tenant that the tokens are to be of.
    pub(crate) tenant: &'a str,
    pub(crate) signed_in: &'a SignedIn,
    /// The `scope` parameter, or what was asked for when the grant began.
    pub(crate) scope: &'a str,
    pub(crate) nonce: Option<&'a str>,
    pub(crate) claims: ClaimsRequest,
    /// The refresh token's family, where there is one already.
    pub(crate) family: Option<&'a str>,
    pub(crate) spa: bool,
}

impl Core {
    /// # Errors
    ///
    /// Whatever keeps the user or the app from these permissions: see [`Core::still_good`], [`Core::review`], 65001 where consent is missing,
    /// and the number of a policy that is not fulfilled.
    pub(crate) async fn user_tokens(
        &self,
        asked: &Asked,
        grant: UserGrant<'_>,
    ) -> Result<Answer, EntraError> {
        let UserGrant { app, tenant, signed_in, .. } = grant;
        asked.user_is(&signed_in.user);
        let user = self.still_good(signed_in, tenant, app)?;
        let scopes = Scopes::parse(grant.scope)?;
        let wanted = scopes.first();
        let reviewed = self.review(&Review { app, tenant, user: &user, wanted: &wanted })?;
        if !reviewed.missing.is_empty() {
            return Err(EntraError::aadsts(65001).saying(format!(
                "The user or administrator has not consented to use the application with ID '{}' named '{}'. Send an interactive authorization request for this user and resource.",
                app.client_id, app.name
            )));
        }
        let resource = &reviewed.resource;
        let unfulfilled = self.unfulfilled(signed_in, tenant, app, resource, &grant.claims);
        if let Some(requirement) = unfulfilled.first() {
            return Err(self.refusal(*requirement, resource, &grant.claims));
        }
        if !self.is_recent_enough(&grant.claims, self.time.now()) {
            return Err(EntraError::aadsts(50173));
        }

        let mut scp = reviewed.granted.clone();
        if scp.is_empty() {
            // To sign in is all that was asked for, and all that the token is good for.
            scp.extend(scopes.sign_in.names().map(str::to_owned));
        }
        let on_behalf = OnBehalf { user: &user, signed_in, scopes: &scp };
        let minted = self
            .mint(AccessToken {
                authority: &asked.authority,
                tenant,
                client_id: &app.client_id,
                acr: grant.acr,
                resource,
                asked_as: wanted.resource_name(),
                claims: &grant.claims,
                user: Some(on_behalf),
            })
            .await?;
        let mut body = minted.answer();
        body["scope"] = json!(scopes.answered(&reviewed.granted));
        if scopes.sign_in.offline_access {
            body["refresh_token"] = json!(self.refresh_token_of(&grant));
        }
        if scopes.sign_in.openid {
            body["id_token"] = json!(self.id_token(asked, &grant, &user, scopes.sign_in, &minted).await?);
        }
        if asked.form.get("client_info").is_some_and(|value| value == "1") {
            body["client_info"] = json!(self.client_info(&user));
        }
        Ok(Answer::ok(&body))
    }

    fn refresh_token_of(&self, grant: &UserGrant<'_>) -> String {
        self.grants.add_refresh_token(RefreshToken {
            family: grant.family.map_or_else(ids::guid, str::to_owned),
            client_id: grant.app.client_id.clone(),
            spa: grant.spa,
            signed_in: grant.signed_in.clone(),
            scope: grant.scope.to_owned(),
            used: self.time.now(),
            replaced: false,
        })
    }

    async fn id_token(
        &self,
        asked: &Asked,
        grant: &UserGrant<'_>,
        user: &User,
        sign_in: SignIn,
        minted: &Minted,
    ) -> Result<String, EntraError> {
        // Of an access token the resource decides, of an id token the endpoint: each document's issuer is that of its id tokens.
        let v1 = asked.is_v1_token();
        let issuer = if v1 {
            token::v1_issuer(grant.tenant)
        } else {
            format!("{}/{}/v2.0", asked.authority, grant.tenant)
        };
        let mut claims = json!({
            "aud": grant.app.client_id,
            "iss": issuer,
            "iat": unix_seconds(minted.from),
            "nbf": unix_seconds(minted.from),
            "exp": unix_seconds(minted.expires()),
            "auth_time": unix_seconds(grant.signed_in.at),
            "oid": user.object_id,
            "sub": token::pairwise(user, &grant.app.client_id),
            "tid": grant.tenant,
            "sid": grant.signed_in.sid,
            "uti": token::uti(),
            "ver": if v1 { "1.0" } else { "2.0" },
        });
        if v1 {
            claims["amr"] = json!(token::amr(grant.signed_in));
            claims["name"] = json!(user.display_name);
            claims["unique_name"] = json!(user.name);
            claims["upn"] = json!(user.name);
        } else if sign_in.profile {
            claims["name"] = json!(user.display_name);
            claims["preferred_username"] = json!(user.name);
        }
        if let Some(email) = user.email.as_ref().filter(|_| sign_in.email) {
            claims["email"] = json!(email);
        }
        if let Some(nonce) = grant.nonce {
            claims["nonce"] = json!(nonce);
        }
        token::add(&mut claims, token::groups(user));
        self.directory.keys().signing().await?.sign(&claims)
    }

    /// The account's name across tenants, as MSAL's clients keep it.
    pub(crate) fn client_info(&self, user: &User) -> String {
        let home = self.directory.home_of(user).unwrap_or_default();
        let info: Value = json!({"uid": user.object_id, "utid": home});
        URL_SAFE_NO_PAD.encode(info.to_string())
    }
}
