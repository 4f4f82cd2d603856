//! The pages on which nothing is left to decide.

use crate::emulator::answer::Answer;
use crate::emulator::codes::Row;
use crate::emulator::directory::App;
use crate::emulator::error::EntraError;
use crate::emulator::request::Asked;
use crate::emulator::sign_in::pages::layout::{SEND, alert, page, with_script};
use crate::emulator::time::timestamp;
use crate::emulator::token_service::device_code;
use http::StatusCode;
use maud::{Markup, html};

/// An error that no app can be told.
pub(crate) fn error(error: &EntraError, asked: Option<&Asked>) -> Answer {
    page(
        error.status,
        "Sorry, but we’re having trouble signing you in",
        &html! {
            (alert(Some(error)))
            @if let Some(asked) = asked {
                dl {
                    dt { "Trace ID" } dd { (asked.trace_id) }
                    dt { "Correlation ID" } dd { (asked.correlation_id) }
                    dt { "Timestamp" } dd { (timestamp(asked.at)) }
                }
            }
        },
    )
    .about(error.code())
    .named(error.name())
}

/// A form of a flow that is not known, or not any more.
pub(crate) fn expired() -> Answer {
    error(&EntraError::aadsts(50089), None)
}

/// Takes the answer to the app in the body of a request: by itself, or by a button where there is no script.
pub(crate) fn form_post(uri: &str, parameters: &[(&'static str, String)]) -> Answer {
    with_script(
        StatusCode::OK,
        "Back to the app",
        &html! {
            p class="soft" { "Choose Continue if this page stays." }
            form method="post" action=(uri) {
                @for (name, value) in parameters { input type="hidden" name=(name) value=(value); }
                button type="submit" { "Continue" }
            }
        },
        Some(SEND),
    )
}

pub(crate) fn device_done(app: &App, user: &str) -> Answer {
    last(
        &format!("You have signed in to {}", app.name),
        &html! {
            p class="soft" { "Signed in as " (user) }
            p { "Your device goes on by itself. You may close this window." }
        },
    )
}

pub(crate) fn device_declined() -> Answer {
    let text = html! { p { "Your device was not signed in. You may close this window." } };
    last("You declined", &text)
}

pub(crate) fn device_gone() -> Answer {
    let text = html! { p { "The code has expired or was used already. Start again on your device." } };
    last("This code is not good any more", &text)
}

pub(crate) fn signed_out() -> Answer {
    last(
        "You signed out",
        &html! { p { "It is a good idea to close all browser windows of apps that you used." } },
    )
}

fn last(title: &str, text: &Markup) -> Answer {
    page(StatusCode::OK, title, &html! { div role="status" { (text) } })
}

/// What a number means.
pub(crate) fn explanation(number: Option<u32>, row: Option<&Row>) -> Answer {
    let title = number.map_or_else(|| "Error codes".to_owned(), |number| format!("AADSTS{number}"));
    page(
        StatusCode::OK,
        &title,
        &html! {
            @match row {
                Some((_, status, error, suberror, text)) => {
                    p { (text) }
                    dl {
                        dt { "error" } dd { code { (error) } }
                        @if !suberror.is_empty() { dt { "suberror" } dd { code { (suberror) } } }
                        dt { "HTTP status" } dd { (status) }
                    }
                }
                None if number.is_some() => p { "The emulator does not know this number." },
                None => p { "Name one in the address, as in " code { "/error?code=50011" } "." },
            }
        },
    )
}

/// The front door.
pub(crate) fn front(authority: &str, identity_endpoint: &str) -> Answer {
    page(
        StatusCode::OK,
        "A local Entra, for tests",
        &html! {
            p {
                "This address speaks the protocol of Microsoft Entra ID, so that programs can be tried without it. "
                "Its tokens open no door in Azure."
            }
            h2 { "Authority" }
            p { code { (authority) "/{tenant}" } }
            h2 { "Managed identity" }
            p { code { (identity_endpoint) } }
            h2 { "Pages" }
            ul {
                li { a href=(device_code::PAGE) { "Enter a device’s code" } }
                li { a href="/common/v2.0/.well-known/openid-configuration" { "Discovery" } }
                li { a href="/common/oauth2/v2.0/logout" { "Sign out" } }
            }
        },
    )
}
