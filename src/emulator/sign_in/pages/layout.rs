//! What all pages have in common.

use crate::emulator::answer::Answer;
use crate::emulator::error::EntraError;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_FRAME_OPTIONS};
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("style.css");

/// Sends the page's only form, for browsers that have script; the others show its button.
pub(crate) const SEND: &str = "document.forms[0].submit();";

/// What a form of a flow needs to find its way back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form<'a> {
    /// The tenant as the path spells it.
    pub(crate) path: &'a str,
    pub(crate) flow: &'a str,
}

impl Form<'_> {
    /// A form with the flow's id in it.
    pub(crate) fn to(self, action: &str, content: &Markup) -> Markup {
        html! {
            form method="post" action={ "/" (self.path) "/" (action) } {
                input type="hidden" name="flow" value=(self.flow);
                (content)
            }
        }
    }

    /// A form that is only a button.
    pub(crate) fn button(self, action: &str, label: &str) -> Markup {
        self.to(action, &html! { button type="submit" { (label) } })
    }

    /// One for what is not the usual choice.
    pub(crate) fn second(self, action: &str, label: &str) -> Markup {
        self.to(action, &html! { button type="submit" class="second" { (label) } })
    }
}

/// What went wrong, said aloud by screen readers.
pub(crate) fn alert(error: Option<&EntraError>) -> Markup {
    html! {
        @if let Some(error) = error {
            p class="alert" role="alert" id="alert" { (error.numbered()) }
        }
    }
}

pub(crate) fn page(status: StatusCode, title: &str, content: &Markup) -> Answer {
    with_script(status, title, content, None)
}

pub(crate) fn with_script(status: StatusCode, title: &str, content: &Markup, script: Option<&str>) -> Answer {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " – local emulator" }
                // So that no browser asks for one.
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                p class="banner" role="note" {
                    "This is a " strong { "local emulator" } ", not Microsoft Entra ID. Do not type a real password here."
                }
                main {
                    h1 { (title) }
                    (content)
                }
                @if let Some(script) = script {
                    script { (PreEscaped(script)) }
                }
            }
        }
    };
    let script = script.map_or_else(|| "'none'".to_owned(), hash);
    // No form-action: browsers hold it against the redirect that answers a form, and that goes wherever the app is.
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {script}; img-src data:; base-uri 'none'; frame-ancestors 'none'",
        hash(STYLE)
    );
    Answer::new(status, "text/html; charset=utf-8", page.into_string())
        .header(CONTENT_SECURITY_POLICY, &policy)
        .header(X_FRAME_OPTIONS, "DENY")
        // With less than the origin, a browser says `Origin: null` to the app that a form posts to.
        .header(REFERRER_POLICY, "strict-origin-when-cross-origin")
}

/// How a content security policy names inline text.
fn hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes())))
}
