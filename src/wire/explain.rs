//! From what an error answer says to what it means: kind, blame, message and advice.

use super::{
    codes::{BY_CODE, BY_ERROR, CLIENT_MISMATCH, PROTECTION_POLICY, THROTTLED, Verdict, by_status},
    oauth_error::Failure,
    token::Asked,
};
use crate::{Blame, Error, ErrorKind, error::ServiceAnswer, text::Quoted};

/// The error for a failure of a token service.
pub(super) fn explain(failure: Failure, cx: &Asked<'_>) -> Error {
    let Failure { answer, retry_after } = failure;
    let (verdict, known) = judge(&answer, cx.for_user);
    let mut advice = fill(verdict.advice, &answer, cx);
    if let (false, Some(code)) = (known, answer.aadsts.first()) {
        let link = format!("See https://login.microsoftonline.com/error?code={code}.");
        advice = if advice.is_empty() { link } else { format!("{advice} {link}") };
    }
    let error = Error::new(verdict.kind, fill(verdict.message, &answer, cx))
        .with_blame(verdict.blame)
        .with_advice(advice)
        .with_answer(answer);
    match retry_after {
        Some(after) => error.with_retry_after(after),
        None => error,
    }
}

/// The verdict, and whether one of the codes is known.
fn judge(answer: &ServiceAnswer, for_user: bool) -> (Verdict, bool) {
    let by_code = answer.aadsts.iter().find_map(|code| row(BY_CODE, code));
    let by_error = || answer.oauth_error.as_deref().and_then(|error| row(BY_ERROR, &error));
    let by_suberror =
        || row(BY_ERROR, &"consent_required").filter(|_| is(&answer.suberror, &["consent_required"]));
    let status = answer.status.unwrap_or_default();
    let verdict = match by_code {
        // Whatever else it says: it is about the number of requests and not about this one.
        _ if status == 429 && by_code.is_none_or(|verdict| verdict.kind != ErrorKind::Throttled) => THROTTLED,
        Some(verdict) => verdict,
        None => by_suberror().or_else(by_error).unwrap_or_else(|| by_status(status)),
    };
    let known = by_code.is_some();
    if verdict.kind != ErrorKind::SignInRequired {
        return (verdict, known);
    }
    // Sign-in is needed where the service says `interaction_required`, or `invalid_grant` for another reason than
    // these two. An app token has nobody who could sign in.
    if is(&answer.suberror, &["client_mismatch"]) {
        return (CLIENT_MISMATCH, known);
    }
    if is(&answer.suberror, &["protection_policy_required"]) {
        return (PROTECTION_POLICY, known);
    }
    let is_denied =
        is_conditional(answer) && !is(&answer.oauth_error, &["interaction_required", "invalid_grant"]);
    if !for_user {
        let advice =
            "An administrator of tenant {tenant} sees in its sign-in logs what denied the application.";
        (Verdict { kind: ErrorKind::Policy, blame: Blame::Tenant, advice, ..verdict }, known)
    } else if is_denied {
        (Verdict { kind: ErrorKind::Policy, blame: Blame::Tenant, ..verdict }, known)
    } else {
        (verdict, known)
    }
}

/// Conditional Access, which an error name other than those of sign-in makes a plain denial.
fn is_conditional(answer: &ServiceAnswer) -> bool {
    answer.aadsts.iter().any(|code| matches!(code, 53_003 | 50_158))
}

fn is(word: &Option<Box<str>>, names: &[&str]) -> bool {
    word.as_deref().is_some_and(|word| names.contains(&word))
}

fn row<K: PartialEq>(table: &[(&[K], Verdict)], key: &K) -> Option<Verdict> {
    table.iter().find(|(keys, _)| keys.contains(key)).map(|(_, verdict)| *verdict)
}

/// Puts what was asked and answered into a text of the table.
fn fill(template: &str, answer: &ServiceAnswer, cx: &Asked<'_>) -> String {
    let mut out = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        match name {
            "app" => out.push_str(cx.client_id.as_str()),
            "tenant" => out.push_str(cx.tenant.as_str()),
            "scope" => out.push_str(&Quoted(cx.scopes.as_str()).to_string()),
            "authority" => out.push_str(cx.authority.origin()),
            "portal" => out.push_str(cx.authority.portal()),
            "consent" => out.push_str(&cx.authority.admin_consent(cx.tenant, cx.client_id)),
            "service" => out.push_str(cx.what),
            _ => out.push_str(&why(answer)),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The error's name and number, else the status.
fn why(answer: &ServiceAnswer) -> String {
    let status = || format!("status {}", answer.status.unwrap_or_default());
    match (answer.oauth_error.as_deref(), answer.aadsts.first()) {
        (Some(error), Some(code)) => format!("{error}, AADSTS{code}"),
        (Some(error), None) => error.to_owned(),
        (None, Some(code)) => format!("AADSTS{code}"),
        (None, None) => status(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::json;

    use super::*;
    use crate::wire::{
        oauth_error,
        testing::{App, CLIENT, now},
    };

    fn judged(status: u16, error: &str, code: u32, suberror: &str, for_user: bool) -> Error {
        let mut body = json!({"error": error, "suberror": suberror});
        if code != 0 {
            body["error_codes"] = json!([code]);
        }
        let app = App::new();
        let failure = oauth_error::read(status, &HeaderMap::new(), body.as_object(), now());
        explain(failure, &Asked { for_user, ..app.asked() })
    }

    fn app(status: u16, error: &str, code: u32) -> Error {
        judged(status, error, code, "", false)
    }

    fn user(error: &str, code: u32) -> Error {
        judged(400, error, code, "", true)
    }

    #[test]
    fn every_text_of_the_table_can_be_filled_and_reads_well() {
        let by_code = BY_CODE.iter().map(|(_, verdict)| verdict);
        let statuses = [200, 400, 407, 429, 500].map(by_status);
        let all = by_code.chain(BY_ERROR.iter().map(|(_, verdict)| verdict)).chain(&statuses);
        for verdict in all.chain([&CLIENT_MISMATCH, &PROTECTION_POLICY]) {
            let app = App::new();
            let answer = ServiceAnswer { status: Some(400), ..ServiceAnswer::default() };
            let message = fill(verdict.message, &answer, &app.asked());
            let advice = fill(verdict.advice, &answer, &app.asked());
            assert!(
                !message.is_empty() && !message.ends_with('.') && !message.contains(['{', '}']),
                "{message}"
            );
            assert!(advice.is_empty() || advice.ends_with('.'), "{advice}");
            assert!(
                !advice.contains(['{', '}']) && !advice.contains("  ") && !message.contains("  "),
                "{advice}"
            );
            let known = [
                "{app}",
                "{tenant}",
                "{scope}",
                "{authority}",
                "{portal}",
                "{consent}",
                "{service}",
                "{why}",
            ];
            let rest =
                known.iter().fold(format!("{}{}", verdict.message, verdict.advice), |s, k| s.replace(k, ""));
            assert!(!rest.contains('{'), "{rest}");
        }
    }

    #[test]
    fn no_number_stands_in_two_rows() {
        let mut codes: Vec<_> = BY_CODE.iter().flat_map(|(codes, _)| *codes).collect();
        let all = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), all);
    }

    #[test]
    fn a_wrong_secret_may_be_its_id() {
        let error = app(401, "invalid_client", 7_000_215);
        assert_eq!((error.kind(), error.blame()), (ErrorKind::Credential, Blame::Configuration));
        assert_eq!(
            error.to_string(),
            format!("the client secret of application {CLIENT} in tenant contoso.com is wrong")
        );
        assert!(error.advice().contains("its id is taken instead"));
        assert_eq!((error.status(), error.aadsts()), (Some(401), &[7_000_215][..]));
    }

    #[test]
    fn an_expired_secret_is_renewed_at_the_portal() {
        let error = app(401, "invalid_client", 7_000_222);
        assert!(error.to_string().ends_with("in tenant contoso.com has expired"), "{error}");
        let place =
            format!("https://portal.azure.com › App registrations › {CLIENT} › Certificates & secrets");
        assert!(error.advice().contains(&place), "{}", error.advice());
    }

    #[test]
    fn a_missing_service_principal_is_never_a_wrong_secret() {
        for error in [app(401, "invalid_client", 7_000_229), app(400, "unauthorized_client", 700_016)] {
            assert_eq!((error.kind(), error.blame()), (ErrorKind::Tenant, Blame::Tenant));
            assert_eq!(
                error.to_string(),
                format!("application {CLIENT} has no service principal in tenant contoso.com")
            );
            let url =
                format!("https://login.microsoftonline.com/contoso.com/adminconsent?client_id={CLIENT}");
            assert!(error.advice().contains(&url), "{}", error.advice());
        }
    }

    #[test]
    fn numbers_of_an_application_have_their_kinds() {
        use ErrorKind::{
            Config, ConsentRequired, Credential, Policy, Resource, Tenant, Throttled, Unavailable,
        };
        for (kind, error, codes) in [
            (
                Credential,
                "invalid_client",
                &[7_000_216, 7_000_218, 700_027, 700_211, 700_212, 700_213, 7_002_138][..],
            ),
            (Credential, "invalid_request", &[70_021]),
            (Policy, "unauthorized_client", &[7_000_112, 70_001]),
            (Tenant, "invalid_request", &[90_002, 900_023, 50_059, 50_128]),
            (Config, "invalid_request", &[50_194, 9_001_023, 900_144, 900_439, 90_038]),
            (Config, "invalid_client", &[700_025]),
            (Config, "invalid_scope", &[70_011, 1_002_012, 28_002, 28_003]),
            (Config, "unsupported_grant_type", &[70_003]),
            (Config, "invalid_instance", &[50_049]),
            (Resource, "invalid_resource", &[500_011, 50_001, 650_052, 650_057]),
            (ConsentRequired, "invalid_grant", &[65_001]),
            (ConsentRequired, "access_denied", &[65_004]),
            (Throttled, "temporarily_unavailable", &[50_196]),
            (Unavailable, "temporarily_unavailable", &[90_033, 90_006, 90_012, 90_055]),
        ] {
            for code in codes {
                assert_eq!(app(400, error, *code).kind(), kind, "{code}");
                // The number decides whatever the name says.
                assert_eq!(app(400, "odd", *code).kind(), kind, "{code}");
                assert!(!app(400, error, *code).advice().contains("error?code="), "{code}");
            }
        }
    }

    #[test]
    fn numbers_of_a_user_ask_for_a_sign_in() {
        for code in [
            50_076, 50_079, 50_074, 70_000, 70_008, 54_005, 501_481, 50_147, 700_005, 700_082, 700_084,
            70_043, 50_173, 50_013, 500_133, 50_034, 50_126, 53_003, 50_158,
        ] {
            assert_eq!(user("invalid_grant", code).kind(), ErrorKind::SignInRequired, "{code}");
            assert_eq!(app(400, "invalid_grant", code).kind(), ErrorKind::Policy, "{code}");
        }
        for code in [50_020, 50_105] {
            assert_eq!(user("invalid_grant", code).kind(), ErrorKind::Policy, "{code}");
        }
    }

    #[test]
    fn conditional_access_is_policy_where_signing_in_does_not_help() {
        assert_eq!(user("interaction_required", 53_003).kind(), ErrorKind::SignInRequired);
        assert_eq!(user("access_denied", 53_003).kind(), ErrorKind::Policy);
        let error = judged(400, "invalid_grant", 53_003, "protection_policy_required", true);
        assert_eq!((error.kind(), error.blame()), (ErrorKind::Policy, Blame::Tenant));
        assert_eq!(app(400, "invalid_grant", 53_003).blame(), Blame::Tenant);
    }

    #[test]
    fn the_name_decides_where_no_number_is_known() {
        use ErrorKind::{
            Config, ConsentRequired, Credential, Policy, Resource, SignInRequired, Throttled, Unavailable,
        };
        for (kind, error) in [
            (Credential, "invalid_client"),
            (Config, "unauthorized_client"),
            (Config, "invalid_scope"),
            (Resource, "invalid_target"),
            (ConsentRequired, "consent_required"),
            (SignInRequired, "interaction_required"),
            (SignInRequired, "invalid_grant"),
            (Policy, "access_denied"),
            (Throttled, "slow_down"),
            (Unavailable, "server_error"),
        ] {
            assert_eq!(user(error, 0).kind(), kind, "{error}");
            let unknown = user(error, 4_242_424);
            assert_eq!(unknown.kind(), kind, "{error}");
            assert!(unknown.advice().ends_with("https://login.microsoftonline.com/error?code=4242424."));
        }
        assert_eq!(judged(400, "invalid_grant", 0, "client_mismatch", true).kind(), Config);
        assert_eq!(judged(400, "invalid_grant", 0, "bad_token", true).kind(), SignInRequired);
        assert_eq!(judged(400, "invalid_grant", 0, "consent_required", true).kind(), ConsentRequired);
    }

    #[test]
    fn the_status_decides_where_nothing_else_is_known() {
        for (status, kind, blame) in [
            (200, ErrorKind::Protocol, Blame::Service),
            (400, ErrorKind::Protocol, Blame::Service),
            (404, ErrorKind::Protocol, Blame::Service),
            (407, ErrorKind::Unavailable, Blame::Network),
            (408, ErrorKind::Unavailable, Blame::Service),
            (429, ErrorKind::Throttled, Blame::Service),
            (500, ErrorKind::Unavailable, Blame::Service),
            (599, ErrorKind::Unavailable, Blame::Service),
        ] {
            let error = app(status, "odd", 0);
            assert_eq!((error.kind(), error.blame(), error.status()), (kind, blame, Some(status)));
        }
        assert_eq!(app(429, "invalid_client", 7_000_215).kind(), ErrorKind::Throttled);
        assert_eq!(app(429, "odd", 50_196).blame(), Blame::Program);
        assert_eq!(app(503, "invalid_client", 7_000_215).kind(), ErrorKind::Credential);
    }
}
