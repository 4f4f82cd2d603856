//! Errors in Entra's shape.

use crate::emulator::answer::Answer;
use crate::emulator::request::Asked;
use crate::emulator::time::timestamp;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Map, Value, json};

/// What went wrong, before it is dressed with the request's ids and the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntraError {
    pub(crate) status: StatusCode,
    error: String,
    code: Option<u32>,
    message: String,
    suberror: Option<&'static str>,
    claims: Option<String>,
}

impl EntraError {
    /// The error with this AADSTS number, as the table below words it.
    pub(crate) fn aadsts(code: u32) -> Self {
        let row = TABLE.iter().find(|row| row.0 == code);
        let &(_, status, error, suberror, message) = row.unwrap_or(&UNKNOWN);
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST),
            error: error.to_owned(),
            code: Some(code),
            message: message.to_owned(),
            suberror: (!suberror.is_empty()).then_some(suberror),
            claims: matches!(code, 53003 | 50158).then(|| {
                json!({"access_token": {"capolids": {"essential": true, "values": ["c0ffee00-0000-4000-8000-000000000000"]}}})
                    .to_string()
            }),
        }
    }

    /// An error without an AADSTS number: what the front of the service says, or the emulator about itself.
    pub(crate) fn plain(status: StatusCode, error: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            error: error.to_owned(),
            code: None,
            message: message.into(),
            suberror: None,
            claims: None,
        }
    }

    pub(crate) fn internal(message: &str) -> Self {
        Self::plain(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The same error in other words.
    pub(crate) fn saying(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// The same error with another `error` value: one number comes with several of them.
    pub(crate) fn called(mut self, error: &str) -> Self {
        self.error = error.to_owned();
        self
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        Self::aadsts(900144)
            .saying(format!("The request body must contain the following parameter: '{parameter}'."))
    }

    /// A plausible error for a bare HTTP status.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let mut error = match status.as_u16() {
            401 => Self::aadsts(7000215),
            404 => Self::plain(status, "not_found", "Nothing is here."),
            408 | 504 => Self::aadsts(90012),
            429 => Self::aadsts(90055),
            500..=599 => Self::aadsts(90033),
            _ => Self::aadsts(90100),
        };
        error.status = status;
        error
    }

    /// The message with its number in front.
    fn numbered(&self) -> String {
        match self.code {
            Some(code) => format!("AADSTS{code}: {}", self.message),
            None => self.message.clone(),
        }
    }

    /// The answer of the token service.
    pub(crate) fn answer(&self, asked: &Asked, authority: &str) -> Answer {
        let time = timestamp(asked.at);
        let (trace, correlation) = (&asked.trace_id, &asked.correlation_id);
        let mut body = Map::new();
        body.insert("error".to_owned(), json!(self.error));
        body.insert(
            "error_description".to_owned(),
            json!(format!(
                "{} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {time}",
                self.numbered()
            )),
        );
        let codes: Vec<u32> = self.code.into_iter().collect();
        body.insert("error_codes".to_owned(), json!(codes));
        body.insert("timestamp".to_owned(), json!(time));
        body.insert("trace_id".to_owned(), json!(trace));
        body.insert("correlation_id".to_owned(), json!(correlation));
        if let Some(code) = self.code {
            let uri = format!("{authority}/error?code={code}");
            body.insert("error_uri".to_owned(), json!(uri));
        }
        if let Some(suberror) = self.suberror {
            body.insert("suberror".to_owned(), json!(suberror));
        }
        if let Some(claims) = &self.claims {
            body.insert("claims".to_owned(), json!(claims));
        }
        Answer::json(self.status, &Value::Object(body)).about(self.code)
    }

    /// The answer of the instance metadata service: OAuth's two members, no ids.
    pub(crate) fn imds_answer(&self) -> Answer {
        let body = json!({"error": self.error, "error_description": self.numbered()});
        Answer::json(self.status, &body).about(self.code)
    }

    /// The answer of App Service's identity endpoint.
    pub(crate) fn app_service_answer(&self, asked: &Asked) -> Answer {
        let body = json!({
            "statusCode": self.status.as_u16(),
            "message": self.numbered(),
            "correlationId": asked.correlation_id,
        });
        Answer::json(self.status, &body).about(self.code)
    }
}

/// Handlers return errors bare; the server, which knows the request, dresses them. The body of this response is never sent.
impl IntoResponse for EntraError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

type Row = (u32, u16, &'static str, &'static str, &'static str);

const UNKNOWN: Row = (0, 400, "invalid_request", "", "The request could not be served.");

/// Number, HTTP status, `error`, `suberror` (or nothing), text. The texts say what Entra's say, in other words.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    (7000215, 401, "invalid_client", "", "Invalid client secret provided. Check that the secret's value was sent, not the secret's ID."),
    (7000222, 401, "invalid_client", "", "The provided client secret keys are expired. Create a new key for the app."),
    (7000216, 401, "invalid_client", "", "'client_assertion' or 'client_secret' is required for the 'client_credentials' grant type."),
    (7000218, 401, "invalid_client", "", "The request body must contain 'client_assertion' or 'client_secret'."),
    (7000229, 401, "invalid_client", "", "The client application is missing a service principal in the tenant."),
    (700027, 401, "invalid_client", "", "The client assertion failed signature validation: its key is not registered with the application."),
    (700025, 401, "invalid_client", "", "Client is public, so neither 'client_assertion' nor 'client_secret' should be presented."),
    (700211, 401, "invalid_client", "", "No matching federated identity record found for the presented assertion's issuer."),
    (700212, 401, "invalid_client", "", "No matching federated identity record found for the presented assertion's audience."),
    (700213, 401, "invalid_client", "", "No matching federated identity record found for the presented assertion's subject."),
    (7002138, 401, "invalid_client", "", "No matching federated identity record found: the values match but for their case."),
    (70021, 400, "invalid_request", "", "No matching federated identity record found for the presented assertion."),
    (700016, 400, "unauthorized_client", "", "The application was not found in the directory."),
    (7000112, 400, "unauthorized_client", "", "The application is disabled."),
    (70001, 400, "unauthorized_client", "", "The application is disabled."),
    (90002, 400, "invalid_request", "", "The tenant was not found. Check that the tenant ID is right and that the tenant has active subscriptions."),
    (900023, 400, "invalid_request", "", "The specified tenant identifier is neither a valid DNS name, nor a valid external domain."),
    (50059, 400, "invalid_request", "", "No tenant-identifying information was found in the request or implied by any provided credentials."),
    (50128, 400, "invalid_request", "", "Invalid domain name: no tenant-identifying information was found."),
    (50194, 400, "invalid_request", "", "The application is not configured as a multi-tenant application. The /common endpoint cannot be used for it."),
    (9001023, 400, "invalid_request", "", "The grant type is not supported over the /common or /consumers endpoints. Use a tenant-specific endpoint."),
    (900144, 400, "invalid_request", "", "The request body is missing a required parameter."),
    (900561, 405, "invalid_request", "", "The endpoint does not accept requests of this method."),
    (90100, 400, "invalid_request", "", "A parameter is empty or not valid."),
    (70011, 400, "invalid_scope", "", "The provided value for the input parameter 'scope' is not valid."),
    (1002012, 400, "invalid_scope", "", "The scope is not valid. Client credential flows need the /.default suffix on the resource identifier."),
    (28002, 400, "invalid_scope", "", "The provided value for the input parameter scope is not valid when requesting an access token."),
    (28003, 400, "invalid_scope", "", "The provided value for the input parameter scope cannot be empty."),
    (70003, 400, "unsupported_grant_type", "", "The app requested an unsupported grant type."),
    (500011, 400, "invalid_resource", "", "The resource principal was not found in the tenant."),
    (50001, 400, "invalid_resource", "", "The resource was not found in the tenant or is not valid."),
    (650052, 400, "invalid_client", "", "The app needs access to a service that the organization has not subscribed to or enabled."),
    (650056, 400, "unauthorized_client", "", "Misconfigured application: the app's permissions do not match the request."),
    (650057, 400, "invalid_resource", "", "Invalid resource: it is not listed in the requested permissions of the application's registration."),
    (65001, 400, "invalid_grant", "consent_required", "The user or administrator has not consented to use the application."),
    (65004, 400, "access_denied", "", "The user declined to consent to access the app."),
    (50076, 400, "interaction_required", "basic_action", "Multi-factor authentication must be used to access the resource."),
    (50079, 400, "interaction_required", "basic_action", "The user must enroll in multi-factor authentication."),
    (50074, 400, "interaction_required", "basic_action", "Strong authentication is required."),
    (53003, 400, "interaction_required", "message_only", "Access has been blocked by Conditional Access policies."),
    (50158, 400, "interaction_required", "basic_action", "An external security challenge was not satisfied."),
    (70000, 400, "invalid_grant", "", "The provided grant has expired, was revoked, or is malformed."),
    (70008, 400, "invalid_grant", "token_expired", "The provided authorization code or refresh token has expired due to inactivity."),
    (70016, 400, "authorization_pending", "", "The device code is still waiting for the user's approval."),
    (70018, 400, "bad_verification_code", "", "Invalid verification code."),
    (54005, 400, "invalid_grant", "", "The authorization code was already redeemed."),
    (501481, 400, "invalid_grant", "", "The code_verifier does not match the code_challenge of the authorization request."),
    (50147, 400, "invalid_grant", "", "The code challenge has an invalid size."),
    (700005, 400, "invalid_grant", "", "The provided authorization code is intended for use against another tenant."),
    (700082, 400, "invalid_grant", "bad_token", "The refresh token has expired due to inactivity."),
    (700084, 400, "invalid_grant", "token_expired", "The refresh token was issued to a single page app and has expired."),
    (70043, 400, "invalid_grant", "token_expired", "The refresh token has expired or is invalid due to sign-in frequency checks."),
    (50173, 400, "invalid_grant", "bad_token", "The provided grant has expired because it was revoked: a fresh token is needed."),
    (50013, 400, "invalid_grant", "", "The assertion is not valid."),
    (500133, 400, "invalid_grant", "", "The assertion is not within its valid time range."),
    (50011, 400, "invalid_request", "", "The redirect URI of the request does not match those configured for the application."),
    (50034, 400, "invalid_grant", "", "The user account does not exist in the directory."),
    (50020, 400, "invalid_grant", "", "The user account from an identity provider does not exist in the tenant."),
    (50105, 400, "invalid_grant", "", "The signed-in user is not assigned to a role for the application."),
    (50126, 400, "invalid_grant", "", "Invalid username or password."),
    (50049, 400, "invalid_instance", "", "Unknown or invalid instance."),
    (50196, 400, "temporarily_unavailable", "", "The server terminated the operation: the client repeats the same request in a loop."),
    (90033, 503, "temporarily_unavailable", "", "A transient error has occurred. Please try again."),
    (90006, 500, "temporarily_unavailable", "", "The service is temporarily unavailable. Please retry later."),
    (90012, 504, "temporarily_unavailable", "", "The request has timed out."),
    (90055, 429, "temporarily_unavailable", "", "The tenant has exceeded its requests limit."),
    (90038, 400, "invalid_request", "", "The tenant belongs to another cloud instance: use that cloud's endpoint."),
    (900439, 400, "invalid_request", "", "The application cannot be used over this cloud's endpoint."),
];
