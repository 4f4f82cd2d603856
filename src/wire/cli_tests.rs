use std::time::UNIX_EPOCH;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::wire::testing::{self, MARKER};

const RESOURCE: &str = "https://vault.azure.net";
/// 2026-01-09 02:02:12 UTC.
const SENT: u64 = 1_767_924_132;

fn asked(cli: Cli, tenant: Option<&TenantId>) -> AskedCli<'_> {
    AskedCli { cli, tenant, resource: RESOURCE, sent: UNIX_EPOCH + Duration::from_secs(SENT) }
}

fn berlin() -> TimeZone {
    // One hour ahead in winter, two in summer.
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

fn read(cli: Cli, value: &Value) -> Result<(String, u64), Error> {
    parse_output(value.to_string().as_bytes(), &asked(cli, None), Some(&berlin()))
        .map(|(token, lives)| (token.expose().to_owned(), lives.as_secs()))
}

fn failed(cli: Cli, stderr: &str) -> Error {
    let tenant = TenantId::parse("contoso.com").unwrap();
    let error = explain_failure(Some(1), &[stderr.as_bytes(), b""], &asked(cli, Some(&tenant)));
    assert!(!error.advice().is_empty(), "{error}");
    assert!(error.to_string().contains(cli.name()) || error.kind() == ErrorKind::Resource, "{error}");
    error
}

#[test]
fn the_azure_clis_answer_is_read_in_both_forms() {
    let newer = json!({
        "accessToken": "ey.a.b", "expiresOn": "2026-01-09 03:32:12.000000", "expires_on": SENT + 3600,
        "subscription": "s", "tenant": "t", "tokenType": "Bearer",
    });
    assert_eq!(read(Cli::Azure, &newer).unwrap(), ("ey.a.b".to_owned(), 3600));
    let older = json!({ "accessToken": "ey.a.b", "expiresOn": "2026-01-09 03:32:12.000000" });
    assert_eq!(read(Cli::Azure, &older).unwrap(), ("ey.a.b".to_owned(), 1800), "in the machine's own zone");
    let null = json!({ "accessToken": "ey.a.b", "expiresOn": "2026-01-09 03:32:12", "expires_on": null });
    assert_eq!(read(Cli::Azure, &null).unwrap().1, 1800);
}

#[test]
fn an_hour_that_comes_twice_is_the_first_of_the_two() {
    let asked = AskedCli { sent: UNIX_EPOCH + Duration::from_secs(1_792_886_400), ..asked(Cli::Azure, None) };
    // 2026-10-25, 00:00 UTC; at 01:00 UTC the clocks go from three back to two.
    let output = br#"{"accessToken":"t","expiresOn":"2026-10-25 02:30:00.000000"}"#;
    let (_, lives) = parse_output(output, &asked, Some(&berlin())).unwrap();
    assert_eq!(lives.as_secs(), 1800);
}

#[test]
fn a_local_time_in_no_known_zone_is_not_guessed() {
    let output = br#"{"accessToken":"t","expiresOn":"2026-01-09 03:32:12.000000"}"#;
    let error = parse_output(output, &asked(Cli::Azure, None), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.advice().contains("az upgrade"), "{}", error.advice());
}

#[test]
fn the_azure_developer_clis_answer_is_read() {
    let answer = json!({ "token": "ey.a.b", "expiresOn": "2026-01-09T03:02:12Z" });
    assert_eq!(read(Cli::AzureDeveloper, &answer).unwrap(), ("ey.a.b".to_owned(), 3600));
    let offset = json!({ "token": "ey.a.b", "expiresOn": "2026-01-09T03:02:12.123+01:00" });
    assert!(read(Cli::AzureDeveloper, &offset).unwrap_err().to_string().contains("already expired"));
}

#[test]
fn what_is_no_answer_is_told_and_not_shown() {
    for (value, why) in [
        (json!([MARKER]), "not JSON"),
        (json!({}), "no token"),
        (json!({ "accessToken": "", "token": 1 }), "no token"),
        (json!({ "accessToken": "m~rk+r/= x", "token": "m~rk+r/=\n" }), "no header can carry"),
        (json!({ "accessToken": MARKER, "token": MARKER }), "unknown lifetime"),
        (
            json!({ "accessToken": MARKER, "token": MARKER, "expiresOn": MARKER, "expires_on": MARKER }),
            "unknown lifetime",
        ),
        (
            json!({ "accessToken": MARKER, "token": MARKER, "expiresOn": "2020-01-01 00:00:00" }),
            "already expired",
        ),
    ] {
        for cli in [Cli::Azure, Cli::AzureDeveloper] {
            let error = read(cli, &value).unwrap_err();
            assert_eq!((error.kind(), error.blame()), (ErrorKind::Protocol, Blame::Configuration), "{value}");
            assert!(error.to_string().contains(why) && !error.advice().is_empty(), "{why}: {error}");
            assert!(!format!("{error:?}").contains(MARKER));
        }
    }
    for garbage in
        [&b""[..], b"\xff\xfe", b"WARNING: x\n{}", b"{\"accessToken\":\"m~rk+r/=\"", &[b'['; 100_000]]
    {
        let error = parse_output(garbage, &asked(Cli::Azure, None), None).unwrap_err();
        assert!(error.to_string().ends_with("not JSON") && !format!("{error:?}").contains(MARKER), "{error}");
    }
}

#[test]
fn nobody_signed_in_is_not_available_here() {
    for (cli, stderr, login) in [
        (Cli::Azure, "ERROR: Please run 'az login' to setup account.\n", "`az login --tenant contoso.com`"),
        (Cli::Azure, "No subscription found. Run 'az account set' to select a subscription.", "`az login"),
        (
            Cli::AzureDeveloper,
            "ERROR: not logged in, run `azd auth login` to login",
            "`azd auth login --tenant-id contoso.com`",
        ),
        (Cli::AzureDeveloper, "Error: not logged in, run `azd login` to login", "`azd auth login"),
        (
            Cli::AzureDeveloper,
            r#"{"type":"consoleMessage","data":{"message":"\nERROR: not logged in, run `azd auth login` to login\n"}}"#,
            "`azd auth login",
        ),
    ] {
        let error = failed(cli, stderr);
        assert_eq!(error.kind(), ErrorKind::NotAvailable, "{stderr}");
        assert!(error.to_string().starts_with("nobody is signed in to"), "{error}");
        assert!(error.advice().contains(login), "{}", error.advice());
    }
}

#[test]
fn entras_numbers_tell_a_wrong_tenant_from_a_sign_in_that_has_ended() {
    for (stderr, kind, says) in [
        (
            "ERROR: AADSTS90002: Tenant 'x' not found. Please run: az login",
            ErrorKind::Tenant,
            "does not exist",
        ),
        (
            "AADSTS50020: User account 'me@home' from identity provider",
            ErrorKind::Tenant,
            "is not known in tenant contoso.com",
        ),
        (
            "AADSTS500011: The resource principal named",
            ErrorKind::Resource,
            "has no resource https://vault.azure.net",
        ),
        (
            "AADSTS65001: The user or administrator has not consented",
            ErrorKind::ConsentRequired,
            "may not ask",
        ),
        ("AADSTS50076: you must use multi-factor authentication", ErrorKind::SignInRequired, "sign in again"),
        ("AADSTS700082: The refresh token has expired", ErrorKind::SignInRequired, "sign in again"),
        ("AADSTS90033: A transient error has occurred", ErrorKind::Unavailable, "could not serve"),
        ("AADSTS4242424: nobody knows", ErrorKind::SignInRequired, "sign in again"),
    ] {
        for cli in [Cli::Azure, Cli::AzureDeveloper] {
            let error = failed(cli, stderr);
            assert_eq!(error.kind(), kind, "{stderr}");
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(error.aadsts().len(), 1);
            assert!(!format!("{error:?}").contains("me@home"));
        }
    }
    let azd = r#"{"data":{"message":"\nERROR: fetching token: AADSTS50076: Due to a change\n"}}
{"data":{"message":"Suggestion: re-authentication required, run `azd auth login` to acquire a new token.\n"}}"#;
    assert_eq!(failed(Cli::AzureDeveloper, azd).kind(), ErrorKind::SignInRequired);
}

#[test]
fn other_reasons_are_told_apart_by_their_words() {
    for (stderr, kind) in [
        ("Suggestion: re-authentication required, run `azd auth login`", ErrorKind::SignInRequired),
        ("ERROR: Tenant shouldn't be specified for managed identity account", ErrorKind::Tenant),
        ("ERROR: Subscription 'x' not found. Check the spelling and casing", ErrorKind::Config),
        ("ERROR: The subscription of 'x' doesn't exist in cloud 'AzureCloud'.", ErrorKind::Config),
        ("az: error: unrecognized arguments: --resource", ErrorKind::Config),
        ("Error: unknown flag: --no-prompt", ErrorKind::Config),
        ("HTTPSConnectionPool(host='login'): Max retries exceeded with url", ErrorKind::Unavailable),
        ("dial tcp: lookup login.microsoftonline.com: no such host", ErrorKind::Unavailable),
        ("Traceback (most recent call last):", ErrorKind::Unavailable),
        ("", ErrorKind::Unavailable),
    ] {
        assert_eq!(failed(Cli::Azure, stderr).kind(), kind, "{stderr}");
    }
    let missing = explain_failure(Some(127), &[b"python3: not found"], &asked(Cli::Azure, None));
    assert_eq!(missing.kind(), ErrorKind::NotAvailable);
    let killed = explain_failure(None, &[], &asked(Cli::Azure, None));
    assert!(killed.to_string().contains("ended by a signal"), "{killed}");
}

#[test]
fn claims_are_a_demand_that_a_person_has_to_meet() {
    let claims = Claims::parse(r#"{"access_token":{"acrs":{"essential":true,"value":"p1"}}}"#).unwrap();
    let error = asked(Cli::Azure, None).takes_no_claims(Some(&claims));
    assert_eq!(error.kind(), ErrorKind::SignInRequired);
    let encoded = STANDARD.encode(claims.as_str());
    assert_eq!(error.advice(), format!("Run `az login --claims-challenge {encoded}`."));
    assert_eq!(asked(Cli::Azure, None).takes_no_claims(None).kind(), ErrorKind::Config);
}

proptest! {
    #[test]
    fn any_output_is_a_token_or_an_error_that_shows_nothing(body in testing::body(), text in "\\PC{0,60}") {
        let tenant = TenantId::parse("contoso.com").unwrap();
        for cli in [Cli::Azure, Cli::AzureDeveloper] {
            for tenant in [None, Some(&tenant)] {
                let asked = asked(cli, tenant);
                if let Err(error) = parse_output(&[&body, MARKER.as_bytes()].concat(), &asked, Some(&berlin())) {
                    let shown = format!("{error:?}");
                    prop_assert!(!shown.contains(MARKER));
                }
                let error = explain_failure(Some(1), &[&body, text.as_bytes(), MARKER.as_bytes()], &asked);
                let shown = format!("{error:?}");
                prop_assert!(!error.advice().is_empty() && !shown.contains(MARKER));
            }
        }
    }

    #[test]
    fn any_expiry_gives_a_bounded_life(on in testing::value(), text in "[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}|\\PC{0,30}") {
        for members in [json!({"accessToken": "t", "expires_on": on}), json!({"accessToken": "t", "expiresOn": text})] {
            if let Ok((_, lives)) = read(Cli::Azure, &members) {
                prop_assert!((1..=28 * 3600).contains(&lives));
            }
        }
    }
}
