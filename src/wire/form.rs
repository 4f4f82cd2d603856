//! The form that is posted to a token endpoint.

use std::fmt;

use bytes::Bytes;
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use crate::{Claims, ClientId, ScopeSet, Secret};

/// The content type of [`TokenForm::into_bytes`].
pub(crate) const FORM_CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

/// A request to a token endpoint, borrowed from what it is made of. `Debug` shows names and no values.
pub(crate) struct TokenForm<'a>(Vec<(&'static str, &'a str)>);

impl<'a> TokenForm<'a> {
    /// A request with any grant, for those that have no function of their own here.
    pub(crate) fn new(grant_type: &'static str, client_id: &'a ClientId) -> Self {
        Self(vec![("grant_type", grant_type), ("client_id", client_id.as_str())])
    }

    /// An app token. `scopes` is one `<resource>/.default`: see `ScopeSet::for_app`.
    pub(crate) fn client_credentials(client_id: &'a ClientId, scopes: &'a ScopeSet) -> Self {
        Self::new("client_credentials", client_id).with("scope", scopes.as_str())
    }

    /// A user token for a refresh token.
    pub(crate) fn refresh(client_id: &'a ClientId, refresh_token: &'a Secret, scopes: &'a ScopeSet) -> Self {
        Self::new("refresh_token", client_id)
            .with("refresh_token", refresh_token.expose())
            .with("scope", scopes.as_str())
            .with_client_info()
    }

    /// A user token for another of the same user, whose audience is this application.
    pub(crate) fn on_behalf_of(client_id: &'a ClientId, assertion: &'a Secret, scopes: &'a ScopeSet) -> Self {
        Self::new("urn:ietf:params:oauth:grant-type:jwt-bearer", client_id)
            .with("assertion", assertion.expose())
            .with("requested_token_use", "on_behalf_of")
            .with("scope", scopes.as_str())
            .with_client_info()
    }

    /// Adds the client's own secret.
    pub(crate) fn with_secret(self, secret: &'a Secret) -> Self {
        self.with("client_secret", secret.expose())
    }

    /// Adds an assertion in the secret's stead.
    pub(crate) fn with_assertion(self, assertion: &'a Secret) -> Self {
        self.with("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
            .with("client_assertion", assertion.expose())
    }

    /// Adds the claims that the token has to say or to prove.
    pub(crate) fn with_claims(self, claims: Option<&'a Claims>) -> Self {
        match claims {
            Some(claims) => self.with("claims", claims.as_str()),
            None => self,
        }
    }

    /// Asks for `client_info`, which tells the user's home tenant.
    pub(crate) fn with_client_info(self) -> Self {
        self.with("client_info", "1")
    }

    /// Adds any other parameter.
    pub(crate) fn with(mut self, name: &'static str, value: &'a str) -> Self {
        self.0.push((name, value));
        self
    }

    /// The body, which is overwritten when the last of its clones is dropped.
    pub(crate) fn into_bytes(self) -> Bytes {
        // The whole length at once: a vector that grows leaves copies of the secret behind.
        let longest = self.0.iter().map(|(name, value)| 2 + 3 * (name.len() + value.len())).sum();
        let mut body = Zeroizing::new(Vec::with_capacity(longest));
        for (name, value) in self.0 {
            if !body.is_empty() {
                body.push(b'&');
            }
            // Encoded piece by piece into the one buffer, so that `~ + / = %` of a secret survive.
            byte_serialize(name.as_bytes()).for_each(|piece| body.extend_from_slice(piece.as_bytes()));
            body.push(b'=');
            byte_serialize(value.as_bytes()).for_each(|piece| body.extend_from_slice(piece.as_bytes()));
        }
        debug_assert!(body.len() <= longest, "the buffer grew");
        Bytes::from_owner(body)
    }
}

impl fmt::Debug for TokenForm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::form_urlencoded;

    use super::*;

    const ID: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";

    fn pairs(form: TokenForm<'_>) -> Vec<(String, String)> {
        form_urlencoded::parse(&form.into_bytes()).into_owned().collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn each_grant_says_what_entra_wants_to_hear() {
        let id = ClientId::parse(ID).unwrap();
        let scopes = ScopeSet::parse("offline_access https://vault.azure.net/.default").unwrap();
        let token = Secret::new("token");
        let scope = pair("scope", scopes.as_str());
        assert_eq!(
            pairs(TokenForm::client_credentials(&id, &scopes).with_secret(&token)),
            [
                pair("grant_type", "client_credentials"),
                pair("client_id", ID),
                scope.clone(),
                pair("client_secret", "token")
            ]
        );
        let claims = Claims::parse(r#"{"access_token":{"a":"&="}}"#).unwrap();
        let refresh = pairs(TokenForm::refresh(&id, &token, &scopes).with_claims(Some(&claims)));
        assert!(refresh.contains(&pair("grant_type", "refresh_token")) && refresh.contains(&scope));
        assert!(
            refresh.contains(&pair("refresh_token", "token")) && refresh.contains(&pair("client_info", "1"))
        );
        assert!(refresh.contains(&pair("claims", claims.as_str())));
        let behalf = pairs(TokenForm::on_behalf_of(&id, &token, &scopes).with_claims(None));
        assert!(behalf.contains(&pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")));
        assert!(behalf.contains(&pair("assertion", "token")));
        assert!(behalf.contains(&pair("requested_token_use", "on_behalf_of")));
        assert!(
            behalf.contains(&pair("client_info", "1")) && behalf.iter().all(|(name, _)| name != "claims")
        );
    }

    #[test]
    fn debug_shows_no_values() {
        let (id, secret) = (ClientId::parse(ID).unwrap(), Secret::new("hunter2"));
        let shown = format!("{:?}", TokenForm::new("x", &id).with_secret(&secret));
        assert!(shown.contains("client_secret") && !shown.contains("hunter2"));
    }

    proptest! {
        #[test]
        fn any_secret_survives_in_one_buffer(secret in "\\PC{0,20}|[~+/=%& \\r\\n]{0,20}") {
            let (id, secret) = (ClientId::parse(ID).unwrap(), Secret::new(secret));
            let body = TokenForm::new("x", &id).with_secret(&secret).into_bytes();
            prop_assert!(body.iter().all(|byte| byte.is_ascii_graphic()));
            let read: Vec<_> = form_urlencoded::parse(&body).into_owned().collect();
            prop_assert_eq!(&read[2], &pair("client_secret", secret.expose()));
        }
    }
}
