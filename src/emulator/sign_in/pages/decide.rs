//! The pages on which a user who is known decides something.

use crate::emulator::answer::Answer;
use crate::emulator::directory::{App, Requirement};
use crate::emulator::error::EntraError;
use crate::emulator::sign_in::pages::layout::{Form, alert, page};
use crate::emulator::sign_in::step::Permissible;
use http::StatusCode;
use maud::{Markup, html};

fn signed_in_as(user: &str) -> Markup {
    html! { p class="soft" { "Signed in as " (user) } }
}

/// A requirement in a form.
pub(crate) fn word(requirement: Requirement) -> &'static str {
    match requirement {
        Requirement::Mfa => "mfa",
        Requirement::MfaEnrolment => "mfa_enrolment",
        Requirement::StrongAuthentication => "strong_authentication",
        Requirement::ExternalChallenge => "external_challenge",
        Requirement::Blocked => "blocked",
        Requirement::SignInFrequency(_) => "sign_in_frequency",
    }
}

pub(crate) fn proof(form: Form<'_>, app: &App, user: &str, requirement: Requirement) -> Answer {
    let (title, text, button) = match requirement {
        Requirement::MfaEnrolment => (
            "More information required",
            "Your organization wants you to set up a second factor. Here one button does it.",
            "Set up",
        ),
        Requirement::StrongAuthentication => (
            "Strong authentication required",
            "Your organization wants a stronger proof than a password. Here one button gives it.",
            "Approve",
        ),
        Requirement::ExternalChallenge => (
            "Another check is required",
            "Your organization has another provider check who you are. Here one button passes it.",
            "Approve",
        ),
        _ => (
            "Approve sign-in request",
            "Your organization wants a second factor. Here one button stands for your phone.",
            "Approve",
        ),
    };
    let approve = html! {
        input type="hidden" name="requirement" value=(word(requirement));
        button type="submit" { (button) }
    };
    page(
        StatusCode::OK,
        title,
        &html! {
            (signed_in_as(user))
            p { (text) }
            p { "The app is " strong { (app.name) } "." }
            (form.to("proof", &approve))
            (form.second("decline", "Decline"))
        },
    )
    .about(Some(requirement.aadsts()))
}

pub(crate) fn blocked(form: Form<'_>, app: &App, user: &str) -> Answer {
    let error = EntraError::aadsts(Requirement::Blocked.aadsts());
    page(
        StatusCode::OK,
        "You cannot access this right now",
        &html! {
            (signed_in_as(user))
            (alert(Some(&error)))
            p { "Your sign-in was right, but a policy of your organization keeps " strong { (app.name) } " from you." }
            (form.button("decline", "Back to the app"))
            (form.second("account", "Use another account"))
        },
    )
    .about(error.code())
}

/// Is it this app that asks from another device?
pub(crate) fn confirm(form: Form<'_>, app: &App, user: &str) -> Answer {
    page(
        StatusCode::OK,
        &format!("Are you trying to sign in to {}?", app.name),
        &html! {
            (signed_in_as(user))
            p { "Only continue if you started this app on your device yourself." }
            (form.button("confirm", "Continue"))
            (form.second("decline", "Cancel"))
        },
    )
}

/// `publisher` is what the app's own tenant is called, `tenant` the one in which consent is asked for.
pub(crate) fn consent(form: Form<'_>, of: &Permissible, tenant: &str, publisher: &str) -> Answer {
    let title =
        if of.for_all { "Permissions requested for your organization" } else { "Permissions requested" };
    let accept = html! {
        @if of.user.admin && !of.for_all {
            label class="check" {
                input type="checkbox" name="for_all" value="1";
                span { "Consent on behalf of your organization" }
            }
        }
        button type="submit" { "Accept" }
    };
    page(
        StatusCode::OK,
        title,
        &html! {
            (signed_in_as(&of.user.name))
            p class="app" { strong { (of.app.name) } br; span class="soft" { "published by " (publisher) } }
            p {
                @if of.for_all { "This app would like permission for everyone in " (tenant) " to:" }
                @else { "This app would like to:" }
            }
            @if of.sign_in != crate::emulator::token_service::scopes::SignIn::default() || of.permissions.is_empty() {
                h2 { "Your account" }
                ul {
                    li { "Sign you in and read your profile" }
                    @if of.sign_in.email { li { "See your email address" } }
                    @if of.sign_in.offline_access { li { "Keep the access that you have given it" } }
                }
            }
            @for (resource, names) in &of.permissions {
                h2 { (resource.identifier) }
                ul {
                    @for name in names {
                        li {
                            code { (name) }
                            @if resource.scopes.get(name) == Some(&true) { small { " – for administrators only" } }
                        }
                    }
                }
            }
            (form.to("consent", &accept))
            (form.second("decline", "Decline"))
        },
    )
}

pub(crate) fn approval(form: Form<'_>, app: &App, user: &str, error: &EntraError) -> Answer {
    page(
        StatusCode::OK,
        "Need admin approval",
        &html! {
            (signed_in_as(user))
            (alert(Some(error)))
            p { "Ask an administrator to grant permission to " strong { (app.name) } " before you can use it." }
            (form.button("decline", "Return to the app without granting consent"))
            (form.second("account", "Sign in with an administrator’s account"))
        },
    )
    .about(error.code())
}
