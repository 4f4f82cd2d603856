//! What a token says that was found to be good.

use std::{fmt, time::SystemTime};

use serde::de::DeserializeOwned;

use super::{forbidden, jws::Claims, refused};
use crate::{Error, text::Quoted};

/// The claims of a token that was [validated](crate::TokenValidator::validate): v1 and v2 under one face.
pub struct ValidToken {
    pub(super) claims: Claims,
    pub(super) payload: Vec<u8>,
    /// The place of the audience that was looked for.
    pub(super) audience: usize,
}

impl ValidToken {
    /// Who made it: `iss`.
    pub fn issuer(&self) -> &str {
        self.claims.issuer.as_deref().unwrap_or_default()
    }

    /// For whom it was made: the one of its audiences that the validator was told of.
    pub fn audience(&self) -> &str {
        self.claims.audiences.get(self.audience).map_or("", |audience| audience)
    }

    /// The tenant of whoever calls: `tid`. In a token of Entra it is always there, a GUID, and the one of the issuer's name.
    /// An [issuer of another kind](crate::TrustedIssuer::custom) may write anything there: look at [`issuer`](Self::issuer)
    /// first where there are both.
    pub fn tenant(&self) -> Option<&str> {
        self.claims.tenant.as_deref()
    }

    /// The application that asked for the token: `azp`, or `appid` in v1. Always there in a token of Entra.
    pub fn client_id(&self) -> Option<&str> {
        self.claims.azp.as_deref().or(self.claims.appid.as_deref())
    }

    /// Who calls, by an id that is the same in all applications of the tenant: a user, or an application's service
    /// principal. `oid`.
    pub fn object_id(&self) -> Option<&str> {
        self.claims.object.as_deref()
    }

    /// Who calls, by an id that may be this API's own: `sub`.
    pub fn subject(&self) -> Option<&str> {
        self.claims.subject.as_deref()
    }

    /// True where an application acts for itself, false where it acts for a user: `idtyp`, or where that is not there,
    /// whether there are no scopes.
    pub fn is_app(&self) -> bool {
        match self.claims.kind.as_deref() {
            Some(kind) => kind == "app",
            None => self.claims.scopes.is_empty(),
        }
    }

    /// What the user lets the application do: `scp`.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.claims.scopes.iter().flat_map(|scopes| scopes.split(' ')).filter(|scope| !scope.is_empty())
    }

    /// What whoever calls was given in this API: `roles`.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.claims.roles.iter().map(|role| &**role)
    }

    /// `1.0` or `2.0`: `ver`.
    pub fn version(&self) -> Option<&str> {
        self.claims.version.as_deref()
    }

    /// When it ends, without the clock skew for which it is taken after that.
    pub fn expires_on(&self) -> SystemTime {
        self.claims.expires.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// All claims, read as a type of your own. It is parsed anew each time.
    ///
    /// # Errors
    /// `TokenRefused` where they are not of that type.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, Error> {
        // The parser's error may quote a claim.
        serde_json::from_slice(&self.payload).map_err(|_| refused("its claims are not what was looked for"))
    }

    /// Only goes on where a user lets the application do this: `scp` has `scope`, compared to the letter.
    ///
    /// # Errors
    /// `Policy`, where it does not: to be answered with 403.
    pub fn require_scope(&self, scope: &str) -> Result<&Self, Error> {
        if self.scopes().any(|has| has == scope) {
            return Ok(self);
        }
        let has = self.scopes().collect::<Vec<_>>().join(" ");
        Err(forbidden(format!("scope {} is required, the token has {}", Quoted(scope), Quoted(&has))))
    }

    /// Only goes on where whoever calls was given this role: `roles` has `role`, compared to the letter. Users can have
    /// roles, too, where the API's registration says so: [`is_app`](Self::is_app) tells them apart.
    ///
    /// # Errors
    /// `Policy`, where it is not so: to be answered with 403.
    pub fn require_role(&self, role: &str) -> Result<&Self, Error> {
        if self.roles().any(|has| has == role) {
            return Ok(self);
        }
        let has = self.roles().collect::<Vec<_>>().join(" ");
        Err(forbidden(format!("role {} is required, the token has {}", Quoted(role), Quoted(&has))))
    }
}

/// Ids, and nothing about a person.
impl fmt::Debug for ValidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidToken")
            .field("issuer", &self.issuer())
            .field("audience", &self.audience())
            .field("client_id", &self.client_id())
            .field("object_id", &self.object_id())
            .field("is_app", &self.is_app())
            .finish_non_exhaustive()
    }
}
