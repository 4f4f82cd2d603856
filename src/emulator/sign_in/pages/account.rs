//! The pages that ask who is there.

use crate::emulator::answer::Answer;
use crate::emulator::error::{EntraError, echo};
use crate::emulator::sign_in::pages::layout::{Form, alert, page};
use http::StatusCode;
use maud::html;

pub(crate) struct SignInPage<'a> {
    pub(crate) app: &'a str,
    /// The tenant, where only its users may come.
    pub(crate) tenant: Option<String>,
    /// What stands in the field for the user name.
    pub(crate) name: Option<String>,
    pub(crate) error: Option<EntraError>,
    /// Why a user who was signed in is asked again.
    pub(crate) why: Option<String>,
    pub(crate) may_decline: bool,
}

pub(crate) fn sign_in(form: Form<'_>, of: &SignInPage<'_>) -> Answer {
    let is_wrong = of.error.is_some();
    let fields = html! {
        label for="username" { "User name" }
        input type="text" id="username" name="username" value=[of.name.as_deref()] autocomplete="username"
            autocapitalize="none" spellcheck="false" required aria-describedby=(if is_wrong { "alert names" } else { "names" })
            aria-invalid=[is_wrong.then_some("true")] autofocus[of.name.is_none()];
        small id="names" { "As in the emulator’s directory: alice, or alice@contoso.test" }
        label for="password" { "Password" }
        input type="password" id="password" name="password" autocomplete="current-password" required
            aria-describedby="passwords" autofocus[of.name.is_some()];
        small id="passwords" { "Any will do, unless the directory sets one for this user" }
        button type="submit" { "Sign in" }
    };
    page(
        StatusCode::OK,
        "Sign in",
        &html! {
            p class="soft" {
                "to continue to " strong { (of.app) }
                @if let Some(tenant) = &of.tenant { " in " (tenant) }
            }
            (alert(of.error.as_ref()))
            @if let Some(why) = &of.why { p role="status" { (why) } }
            (form.to("login", &fields))
            @if of.may_decline { (form.second("decline", "Cancel")) }
        },
    )
}

/// An account that is signed in already.
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) display_name: String,
}

pub(crate) fn choose(form: Form<'_>, app: &str, known: &[Known]) -> Answer {
    let account = |known: &Known| {
        html! {
            input type="hidden" name="account" value=(known.name);
            button type="submit" class="account" {
                b { (known.display_name) }
                span class="soft" { (known.name) }
            }
        }
    };
    page(
        StatusCode::OK,
        "Choose an account",
        &html! {
            p class="soft" { "to continue to " strong { (app) } }
            @for known in known { (form.to("account", &account(known))) }
            (form.second("account", "Use another account"))
        },
    )
}

/// The page for a device's code. It belongs to no flow yet: the code finds it.
pub(crate) fn device(action: &str, code: Option<&str>, error: Option<&EntraError>) -> Answer {
    let code = code.map(echo);
    let is_wrong = error.is_some();
    page(
        StatusCode::OK,
        "Enter code",
        &html! {
            p class="soft" { "Enter the code that your app or device shows." }
            (alert(error))
            form method="post" action=(action) {
                label for="user_code" { "Code" }
                input type="text" class="code" id="user_code" name="user_code" value=[code.as_deref()] required autofocus
                    autocomplete="off" autocapitalize="characters" spellcheck="false" maxlength="32"
                    aria-describedby=[is_wrong.then_some("alert")] aria-invalid=[is_wrong.then_some("true")];
                button type="submit" { "Next" }
            }
        },
    )    .about(error.and_then(EntraError::code))
}
