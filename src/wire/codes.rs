//! The table: what Entra's numbers and error names mean, whose side they are on, and what helps.
//!
//! In the texts, `{app}`, `{tenant}`, `{scope}`, `{authority}`, `{portal}`, `{consent}`, `{service}` and `{why}` stand
//! for what was asked and answered; see `explain`.

use crate::{Blame, ErrorKind};

/// What a failure means.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    pub(super) kind: ErrorKind,
    pub(super) blame: Blame,
    pub(super) message: &'static str,
    pub(super) advice: &'static str,
}

const fn verdict(kind: ErrorKind, blame: Blame, message: &'static str, advice: &'static str) -> Verdict {
    Verdict { kind, blame, message, advice }
}

const CONFIGURED: Blame = Blame::Configuration;
const FEDERATED: &str = "Compare issuer, subject and audience of the federated credential at {portal} › App \
     registrations › {app} › Certificates & secrets with those of the assertion: they are compared exactly, case \
     included. A new one takes some minutes to work.";
const CERTIFICATE: &str = "Compare the certificate with those at {portal} › App registrations › {app} › Certificates \
     & secrets, and check its dates.";
const SIGN_IN: &str = "Let the user sign in again.";
const CHALLENGED: &str = "Let the user sign in again, with the claims of this error where it has any.";
const OTHER_TENANT: &str = "Check the tenant and the cloud: the tenant's overview page in the portal shows its id and \
     its domains, and {authority} has to be the cloud that it lives in.";

/// By number. A number stands in one row only.
#[rustfmt::skip]
pub(super) const BY_CODE: &[(&[u32], Verdict)] = &[
    // The application's own credential.
    (&[7000215], verdict(ErrorKind::Credential, CONFIGURED,
        "the client secret of application {app} in tenant {tenant} is wrong",
        "Check that the secret's value is configured: often its id is taken instead, which the portal shows beside it. \
         The value is shown only once; create a new secret at {portal} › App registrations › {app} › Certificates & \
         secrets where it is lost.")),
    (&[7000222], verdict(ErrorKind::Credential, CONFIGURED,
        "the client secret of application {app} in tenant {tenant} has expired",
        "Create a new secret for it at {portal} › App registrations › {app} › Certificates & secrets, and configure its \
         value.")),
    (&[7000216, 7000218], verdict(ErrorKind::Credential, CONFIGURED,
        "application {app} in tenant {tenant} has to prove itself by a secret or an assertion, and sent none",
        "Configure a secret, a certificate or a federated credential for it, or, for an application that runs where no \
         secret can be kept, allow public client flows at {portal} › App registrations › {app} › Authentication.")),
    (&[700027, 7000214, 1000502, 7000274, 7000277], verdict(ErrorKind::Credential, CONFIGURED,
        "the client assertion of application {app} was refused in tenant {tenant}: its certificate is not registered, \
         no longer valid, or did not sign it", CERTIFICATE)),
    (&[700024], verdict(ErrorKind::Credential, CONFIGURED,
        "the client assertion of application {app} is not valid at this time",
        "Set this machine's clock: an assertion lives for minutes only. Where it comes from elsewhere, read it again \
         for each request.")),
    (&[700025], verdict(ErrorKind::Config, CONFIGURED,
        "application {app} is a public client, but a credential was sent",
        "Use a public client without a credential, or register the application's platform as a confidential one.")),
    (&[700211], verdict(ErrorKind::Credential, CONFIGURED,
        "no federated credential of application {app} has the issuer of the assertion", FEDERATED)),
    (&[700212], verdict(ErrorKind::Credential, CONFIGURED,
        "no federated credential of application {app} has the audience of the assertion", FEDERATED)),
    (&[700213], verdict(ErrorKind::Credential, CONFIGURED,
        "no federated credential of application {app} has the subject of the assertion", FEDERATED)),
    (&[7002138], verdict(ErrorKind::Credential, CONFIGURED,
        "a federated credential of application {app} differs from the assertion in upper and lower case", FEDERATED)),
    (&[70021], verdict(ErrorKind::Credential, CONFIGURED,
        "no federated credential of application {app} matches the assertion", FEDERATED)),
    // The tenant.
    (&[7000229, 700016], verdict(ErrorKind::Tenant, Blame::Tenant,
        "application {app} has no service principal in tenant {tenant}",
        "An administrator of that tenant has to consent to the application at {consent}. Where the tenant is your own, \
         check the client id and the tenant.")),
    (&[7000112, 70001], verdict(ErrorKind::Policy, Blame::Tenant,
        "application {app} is disabled in tenant {tenant}",
        "An administrator of that tenant can enable it at {portal} › Enterprise applications › Properties.")),
    (&[90002], verdict(ErrorKind::Tenant, CONFIGURED, "there is no tenant {tenant} at {authority}", OTHER_TENANT)),
    (&[900023, 50059, 50128], verdict(ErrorKind::Tenant, CONFIGURED,
        "{tenant} is not the id or a domain of a tenant", OTHER_TENANT)),
    (&[50194], verdict(ErrorKind::Config, CONFIGURED,
        "application {app} is not multi-tenant, but was used with {tenant}",
        "Name the application's own tenant, or allow other tenants at {portal} › App registrations › {app} › \
         Authentication.")),
    (&[9001023], verdict(ErrorKind::Config, CONFIGURED,
        "this grant cannot be used with {tenant}", "Name a tenant by its id or by one of its domains.")),
    (&[900439, 90038], verdict(ErrorKind::Config, CONFIGURED,
        "tenant {tenant} or application {app} belongs to another cloud than {authority}",
        "Choose the authority of its cloud: Authority::public(), us_government() or china().")),
    (&[50049], verdict(ErrorKind::Config, CONFIGURED,
        "{authority} is not known as an authority", "Check the host, or AZURE_AUTHORITY_HOST where that is set.")),
    // The request.
    (&[900144], verdict(ErrorKind::Config, Blame::Program,
        "{service} misses a parameter in the request", "")),
    (&[70011, 28002, 28003], verdict(ErrorKind::Config, CONFIGURED,
        "the scope {scope} is not valid",
        "Write scopes as the resource documents them, and `<resource>/.default` for app tokens.")),
    (&[1002012], verdict(ErrorKind::Config, CONFIGURED,
        "app tokens need `<resource>/.default`, which {scope} is not",
        "Write the resource's URI or id, and /.default behind it.")),
    (&[70003], verdict(ErrorKind::Config, CONFIGURED,
        "{service} does not support this grant for application {app}", "")),
    (&[50011], verdict(ErrorKind::Config, CONFIGURED,
        "the redirect URI is not one of application {app}",
        "Add it, to the letter, at {portal} › App registrations › {app} › Authentication.")),
    // The resource.
    (&[500011, 50001], verdict(ErrorKind::Resource, CONFIGURED,
        "tenant {tenant} has no resource for {scope}",
        "Check its spelling, and that the tenant is the right one; where it is, an administrator has to add the \
         resource's application to the tenant.")),
    (&[650052], verdict(ErrorKind::Resource, Blame::Tenant,
        "tenant {tenant} lacks the service that {scope} belongs to",
        "An administrator of that tenant has to subscribe to the service, or to consent at {consent}.")),
    (&[650053], verdict(ErrorKind::Resource, CONFIGURED,
        "the resource has no such scope as {scope}", "Check its spelling and case.")),
    (&[650057], verdict(ErrorKind::Resource, CONFIGURED,
        "application {app} does not list the resource of {scope}",
        "Add the resource at {portal} › App registrations › {app} › API permissions.")),
    (&[650056], verdict(ErrorKind::Config, CONFIGURED,
        "application {app} is not set up to ask for {scope} in tenant {tenant}",
        "Add the resource at {portal} › App registrations › {app} › API permissions, and have an administrator of the \
         tenant consent at {consent}.")),
    // Consent.
    (&[65001], verdict(ErrorKind::ConsentRequired, Blame::Tenant,
        "nobody has consented to {scope} for application {app} in tenant {tenant}",
        "Let the user sign in and consent, or an administrator of that tenant consent at {consent}.")),
    (&[65004], verdict(ErrorKind::ConsentRequired, Blame::User,
        "the user declined to consent to application {app}", "Ask the user again, and say what it is for.")),
    (&[90094, 90095], verdict(ErrorKind::ConsentRequired, Blame::Tenant,
        "application {app} asks for what only an administrator of tenant {tenant} can consent to",
        "Have an administrator of that tenant consent at {consent}.")),
    // The user and the tenant's policy.
    (&[50076, 50079, 50074], verdict(ErrorKind::SignInRequired, Blame::User,
        "tenant {tenant} demands multi-factor authentication", CHALLENGED)),
    (&[50158], verdict(ErrorKind::SignInRequired, Blame::User,
        "tenant {tenant} demands another proof of the user's identity", CHALLENGED)),
    (&[53003], verdict(ErrorKind::SignInRequired, Blame::User,
        "Conditional Access of tenant {tenant} denies a token for {scope}",
        "Let the user sign in again, with the claims of this error where it has any; an administrator of the tenant \
         sees in its sign-in logs which policy it was.")),
    (&[70000, 70008], verdict(ErrorKind::SignInRequired, Blame::User,
        "the grant is not valid, has expired or was revoked", SIGN_IN)),
    (&[700082, 700084, 70043], verdict(ErrorKind::SignInRequired, Blame::User,
        "the refresh token has expired", SIGN_IN)),
    (&[50173], verdict(ErrorKind::SignInRequired, Blame::User,
        "the refresh token was revoked, as by a change of the password", SIGN_IN)),
    (&[54005], verdict(ErrorKind::SignInRequired, Blame::Program,
        "the authorization code was used before", "Start the sign-in anew: a code works once.")),
    (&[501481, 50147], verdict(ErrorKind::SignInRequired, Blame::Program,
        "the code verifier does not belong to the sign-in", "Start the sign-in anew.")),
    (&[700005], verdict(ErrorKind::SignInRequired, CONFIGURED,
        "the authorization code was issued for another tenant than {tenant}",
        "Exchange a code in the tenant where the sign-in began.")),
    (&[50013], verdict(ErrorKind::SignInRequired, Blame::Program,
        "the user's token was refused: on behalf of a user, it has to be a token for application {app}",
        "Pass on the access token that your API was called with, whose audience is the application's own.")),
    (&[500131], verdict(ErrorKind::Config, Blame::Program,
        "the user's token is for another application than {app}",
        "Pass on the access token that your API was called with, whose audience is the application's own.")),
    (&[500133], verdict(ErrorKind::SignInRequired, Blame::User,
        "the user's token has expired", "Answer your caller with 401, so that it brings a fresh one.")),
    (&[50034], verdict(ErrorKind::SignInRequired, Blame::User,
        "tenant {tenant} does not know the user", SIGN_IN)),
    (&[50126], verdict(ErrorKind::SignInRequired, Blame::User, "the user's password is wrong", SIGN_IN)),
    (&[50020], verdict(ErrorKind::Policy, Blame::User,
        "the user belongs to another tenant than {tenant} and is not a guest there",
        "Sign in with an account of that tenant, or have its administrator invite the user.")),
    (&[50105], verdict(ErrorKind::Policy, Blame::Tenant,
        "the user is not assigned to application {app} in tenant {tenant}",
        "An administrator of that tenant can assign users at {portal} › Enterprise applications › Users and groups.")),
    // The service.
    (&[50196], verdict(ErrorKind::Throttled, Blame::Program,
        "application {app} asks for the same token in a loop and was stopped",
        "Find what calls in a loop, and stop it: keep tokens until they expire, and share one broker.")),
    (&[90033, 90006, 90012, 90055], BUSY),
];

const BUSY: Verdict = verdict(
    ErrorKind::Unavailable,
    Blame::Service,
    "{service} is not available at the moment: {why}",
    "It is on the service's side, and usually passes: try again later.",
);

pub(super) const THROTTLED: Verdict = verdict(
    ErrorKind::Throttled,
    Blame::Service,
    "{service} asked application {app} to slow down",
    "Wait for as long as it asked, and share one broker between all that ask for tokens.",
);

const CONSENT: Verdict = verdict(
    ErrorKind::ConsentRequired,
    Blame::Tenant,
    "consent to {scope} for application {app} is missing in tenant {tenant}",
    "Let the user sign in and consent, or an administrator of that tenant consent at {consent}.",
);

/// `invalid_grant` of one application's refresh token that another sent.
pub(super) const CLIENT_MISMATCH: Verdict = verdict(
    ErrorKind::Config,
    CONFIGURED,
    "the grant belongs to another application than {app}",
    "A refresh token works for the application that it was given to only.",
);

/// An app-protection policy, which signing in again does not meet.
pub(super) const PROTECTION_POLICY: Verdict = verdict(
    ErrorKind::Policy,
    Blame::Tenant,
    "tenant {tenant} demands an app that is under an app-protection policy",
    "An administrator of the tenant has to exempt the application.",
);

/// By the `error` member, where no number is known.
#[rustfmt::skip]
pub(super) const BY_ERROR: &[(&[&str], Verdict)] = &[
    (&["invalid_client"], verdict(ErrorKind::Credential, CONFIGURED,
        "the credential of application {app} was refused in tenant {tenant}: {why}",
        "Check it at {portal} › App registrations › {app} › Certificates & secrets.")),
    (&["unauthorized_client"], verdict(ErrorKind::Config, CONFIGURED,
        "application {app} may not do this in tenant {tenant}: {why}", "")),
    (&["invalid_request", "unsupported_grant_type", "unsupported_response_type"],
        verdict(ErrorKind::Config, CONFIGURED, "{service} refused the request: {why}", "")),
    (&["invalid_scope"], verdict(ErrorKind::Config, CONFIGURED,
        "the scope {scope} was refused: {why}",
        "Write scopes as the resource documents them, and `<resource>/.default` for app tokens.")),
    (&["invalid_resource", "invalid_target"], verdict(ErrorKind::Resource, CONFIGURED,
        "there is no resource for {scope} in tenant {tenant}: {why}", "")),
    (&["invalid_tenant"], verdict(ErrorKind::Tenant, CONFIGURED,
        "there is no tenant {tenant} at {authority}", OTHER_TENANT)),
    (&["invalid_instance"], verdict(ErrorKind::Config, CONFIGURED,
        "{authority} is not known as an authority", "Check the host, or AZURE_AUTHORITY_HOST where that is set.")),
    (&["consent_required"], CONSENT),
    (&["interaction_required", "login_required"], verdict(ErrorKind::SignInRequired, Blame::User,
        "the user has to sign in again: {why}", CHALLENGED)),
    (&["invalid_grant"], verdict(ErrorKind::SignInRequired, Blame::User,
        "the grant was refused: {why}", CHALLENGED)),
    (&["expired_token", "bad_verification_code", "authorization_pending"],
        verdict(ErrorKind::SignInRequired, Blame::User, "the user has not signed in: {why}", SIGN_IN)),
    (&["authorization_declined"], verdict(ErrorKind::SignInRequired, Blame::User,
        "the user declined to sign in", SIGN_IN)),
    (&["access_denied"], verdict(ErrorKind::Policy, Blame::Tenant,
        "access for application {app} was denied in tenant {tenant}: {why}", "")),
    (&["slow_down"], THROTTLED),
    (&["temporarily_unavailable", "server_error"], BUSY),
];

/// What nothing but a status is known of.
pub(super) fn by_status(status: u16) -> Verdict {
    match status {
        429 => THROTTLED,
        408 | 500.. => BUSY,
        407 => verdict(
            ErrorKind::Unavailable,
            Blame::Network,
            "a proxy on the way to {service} wants to know who asks",
            "Configure the proxy's user, or a way around it.",
        ),
        _ => verdict(
            ErrorKind::Protocol,
            Blame::Service,
            "{service} refused in a way that is not understood: {why}",
            "Where {authority} is reached through a proxy or a gateway, that may have answered in its stead.",
        ),
    }
}
