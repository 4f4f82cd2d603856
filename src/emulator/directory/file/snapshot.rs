//! The directory as JSON, without its secrets.

use crate::emulator::directory::{App, Certificate, Directory, ExpiresOn, Issuer, ManagedIdentity};
use crate::emulator::directory::{Policy, Principal, RefreshRotation};
use crate::emulator::directory::{Requirement, Resource, State, Tenant, User};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

impl Directory {
    /// Everything in it, in the form that [`from_json`](Self::from_json) reads, but for what is secret: of a secret it says only whether it
    /// has expired, of a user's password only `has_password`. Of an issuer with published keys it says `"jwks": true`.
    pub fn to_json(&self) -> Value {
        let state = self.state.read();
        let tenants = state.tenants.iter().map(|(id, tenant)| tenant_json(id, tenant));
        let principals = state.tenants.iter().flat_map(|(id, tenant)| {
            let principals = tenant.principals.iter();
            principals.map(|(client_id, principal)| principal_json(&state, id, client_id, principal))
        });
        json!({
            "settings": settings(&state),
            "tenants": tenants.collect::<Vec<_>>(),
            "users": state.users.values().map(user).collect::<Vec<_>>(),
            "resources": state.resources.iter().map(resource).collect::<Vec<_>>(),
            "apps": state.apps.values().map(app).collect::<Vec<_>>(),
            "managed_identities": state.identities.iter().map(identity).collect::<Vec<_>>(),
            "issuers": state.issuers.values().map(issuer).collect::<Vec<_>>(),
            "service_principals": principals.collect::<Vec<_>>(),
            "policies": state.policies.iter().map(policy).collect::<Vec<_>>(),
        })
    }
}

/// An object without the members that say nothing: null, false, and empty lists.
fn brief(value: Value) -> Value {
    let Value::Object(members) = value else {
        return value;
    };
    let says = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        _ => true,
    };
    members.into_iter().filter(|(_, value)| says(value)).collect::<Map<_, _>>().into()
}

/// `false` where a thing is disabled, and nothing where it is not: `true` goes without saying.
fn with_enabled(mut value: Value, enabled: bool) -> Value {
    if !enabled {
        value["enabled"] = json!(false);
    }
    value
}

fn settings(state: &State) -> Value {
    let rotation = match state.refresh_rotation {
        RefreshRotation::KeepOld => "keep-old",
        RefreshRotation::RevokeFamily => "revoke-family",
    };
    let expires_on = state.identity_answers.expires_on.map(|spelling| match spelling {
        ExpiresOn::Text => "text",
        ExpiresOn::Number => "number",
        ExpiresOn::Iso8601 => "iso8601",
        ExpiresOn::Linux => "linux",
        ExpiresOn::Windows => "windows",
    });
    json!({
        "token_lifetime": state.lifetime.as_secs(),
        "identity_cache": state.identity_cache,
        "stale_expires_in": state.identity_answers.stale_expires_in,
        "expires_on": expires_on,
        "refresh_rotation": rotation,
        "device_interval": state.device_interval.as_secs(),
    })
}

fn tenant_json(id: &str, tenant: &Tenant) -> Value {
    brief(json!({"id": id, "domains": tenant.domains, "cloud": tenant.cloud}))
}

fn user(user: &User) -> Value {
    let value = brief(json!({
        "name": user.name,
        "display_name": user.display_name,
        "object_id": user.object_id,
        "email": user.email,
        "has_password": user.password.is_some(),
        "groups": user.groups,
        "guest_in": user.guest_in,
        "admin": user.admin,
    }));
    with_enabled(value, user.enabled)
}

fn resource(resource: &Resource) -> Value {
    let scopes = |admin| {
        let scopes = resource.scopes.iter().filter(|(_, of_admins)| **of_admins == admin);
        scopes.map(|(name, _)| name).collect::<Vec<_>>()
    };
    let mut value = brief(json!({
        "identifier": resource.identifier,
        "aliases": resource.aliases,
        "app_id": resource.app_id,
        "v2": resource.v2,
        "scopes": scopes(false),
        "admin_scopes": scopes(true),
    }));
    if let Some(tenants) = &resource.tenants {
        value["only_in"] = json!(tenants);
    }
    with_enabled(value, resource.enabled)
}

fn app(app: &App) -> Value {
    let secrets: Vec<_> = app.secrets.iter().map(|secret| json!({"expired": secret.expired})).collect();
    let federated = app.federated.iter().map(|credential| {
        json!({
            "issuer": credential.issuer,
            "subject": credential.subject,
            "audience": credential.audience,
        })
    });
    let redirects = |spa| {
        let redirects = app.redirects.iter().filter(|redirect| redirect.spa == spa);
        redirects.map(|redirect| redirect.uri.as_str()).collect::<Vec<_>>()
    };
    let mut value = brief(json!({
        "client_id": app.client_id,
        "tenant": app.home_tenant,
        "name": app.name,
        "secrets": secrets,
        "federated": federated.collect::<Vec<_>>(),
        "redirect_uris": redirects(false),
        "spa_redirect_uris": redirects(true),
        "public": app.public,
        "multi_tenant": app.multi_tenant,
        "assignment_required": app.assignment_required,
        "cloud": app.cloud,
    }));
    let trusted = app.trusted_issuers.iter();
    let trusted =
        trusted.map(|(certificate, subject)| json!({"certificate": pem(certificate), "subject": subject}));
    add_list(&mut value, "certificates", app.certificates.iter().map(pem).map(Value::from).collect());
    add_list(&mut value, "trusted_issuers", trusted.collect());
    if let Some(permissions) = &app.permissions {
        let permissions = permissions.iter();
        let listed = permissions.map(|(resource, scopes)| json!({"resource": resource, "scopes": scopes}));
        value["permissions"] = listed.collect();
    }
    with_enabled(value, app.enabled)
}

fn add_list(value: &mut Value, name: &str, items: Vec<Value>) {
    if !items.is_empty() {
        value[name] = items.into();
    }
}

fn pem(certificate: &Certificate) -> String {
    let text = STANDARD.encode(certificate.der());
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn issuer(issuer: &Issuer) -> Value {
    brief(json!({"url": issuer.url, "jwks": !issuer.has_own_key()}))
}

fn identity(identity: &ManagedIdentity) -> Value {
    brief(json!({
        "client_id": identity.client_id,
        "tenant": identity.tenant,
        "system": identity.system,
        "object_id": identity.object_id,
        "resource_id": identity.resource_id,
    }))
}

fn principal_json(state: &State, tenant: &str, client_id: &str, principal: &Principal) -> Value {
    // What was granted on a resource that has gone is of no use to anyone.
    let known = |app_id: &str| state.resources.iter().find(|resource| resource.app_id == app_id);
    let roles = principal.roles.iter().filter_map(|(app_id, roles): (&String, &BTreeSet<_>)| {
        Some(json!({"resource": known(app_id)?.identifier, "roles": roles}))
    });
    let consents: &BTreeMap<_, _> = &principal.consents;
    let consents = consents.iter().filter_map(|((user, app_id), scopes)| {
        let resource = &known(app_id)?.identifier;
        let mut value = json!({"resource": resource, "scopes": scopes});
        if let Some(user) = user {
            value["user"] = json!(user);
        }
        Some(value)
    });
    let value = brief(json!({
        "tenant": tenant,
        "client_id": client_id,
        "roles": roles.collect::<Vec<_>>(),
        "consents": consents.collect::<Vec<_>>(),
        "assigned": principal.assigned,
    }));
    with_enabled(value, principal.enabled)
}

fn policy(policy: &Policy) -> Value {
    let (requires, seconds) = match policy.requirement {
        Requirement::Mfa => ("mfa", None),
        Requirement::MfaEnrolment => ("mfa-enrolment", None),
        Requirement::StrongAuthentication => ("strong-authentication", None),
        Requirement::ExternalChallenge => ("external-challenge", None),
        Requirement::Blocked => ("blocked", None),
        Requirement::SignInFrequency(age) => ("sign-in-frequency", Some(age.as_secs())),
    };
    brief(json!({
        "tenant": policy.tenant,
        "requires": requires,
        "seconds": seconds,
        "resource": policy.resource,
        "client": policy.client,
        "user": policy.user,
    }))
}
