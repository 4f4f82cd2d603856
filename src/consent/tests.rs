use proptest::prelude::*;

use super::*;
use crate::ManualClock;

const APP: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const OTHER: &str = "22222222-3333-4444-5555-666666666666";

fn consent(tenant: &str) -> (AdminConsent, ManualClock) {
    let (clock, time) = Clock::manual(std::time::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let authority = Authority::public();
    let consent = AdminConsent::new(
        &authority,
        APP,
        tenant,
        "https://app.test/cb?x=1",
        "https://graph.microsoft.com/.default",
    );
    (consent.unwrap().clock(clock), time)
}

/// What comes back with the right state.
fn back(pending: &PendingConsent, rest: &str) -> String {
    format!("https://app.test/cb?x=1&{rest}&state={}", pending.state().expose())
}

fn answered(tenant: &str, rest: &str) -> Result<ConsentAnswer, Error> {
    let (_, pending) = consent(tenant).0.begin().unwrap();
    let callback = back(&pending, rest);
    pending.complete(&callback)
}

fn good() -> String {
    format!("admin_consent=True&tenant={TENANT}&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default")
}

#[test]
fn the_url_asks_for_what_is_wanted_and_has_a_state_of_its_own() {
    let (consent, _) = consent("Contoso.COM");
    let (one, pending) = consent.begin().unwrap();
    let (other, _) = consent.begin().unwrap();
    assert_ne!(one, other);
    let url = Url::parse(&one).unwrap();
    assert!(one.starts_with("https://login.microsoftonline.com/contoso.com/v2.0/adminconsent?"), "{one}");
    let pairs: Vec<_> = url.query_pairs().into_owned().collect();
    let expected = [
        ("client_id", APP),
        ("scope", "https://graph.microsoft.com/.default"),
        ("redirect_uri", "https://app.test/cb?x=1"),
        ("state", pending.state().expose()),
    ];
    assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(URL_SAFE_NO_PAD.decode(pending.state().expose()).unwrap().len(), 32);
    assert!(!format!("{pending:?}").contains(pending.state().expose()));
}

#[test]
fn common_is_whichever_tenant_signs_in() {
    for alias in ["common", "organizations"] {
        assert_eq!(consent(alias).0.begin().unwrap().1.tenant().as_str(), "organizations");
    }
}

#[test]
fn a_consent_is_a_claim_about_a_tenant() {
    for asked in [TENANT, &TENANT.to_uppercase(), "contoso.com", "organizations"] {
        let answer = answered(asked, &good()).unwrap();
        assert_eq!(answer.claimed_tenant().as_str(), TENANT);
        assert_eq!(answer.claimed_scopes().unwrap().as_str(), "https://graph.microsoft.com/.default");
    }
    let bare = answered(TENANT, &format!("admin_consent=true&tenant={}", TENANT.to_uppercase())).unwrap();
    assert_eq!((bare.claimed_tenant().as_str(), bare.claimed_scopes()), (TENANT, None));
}

#[test]
fn a_forged_answer_is_none() {
    let (_, pending) = consent(TENANT).0.begin().unwrap();
    let state = pending.state().expose().to_owned();
    let (_, stranger) = consent(TENANT).0.begin().unwrap();
    for callback in [
        String::new(),
        good(),
        format!("{}&state=", good()),
        format!("{}&state={}", good(), stranger.state().expose()),
        format!("{}&state={}", good(), &state[1..]),
        format!("{}&state={state}x", good()),
        format!("{}&state={}", good(), state.to_uppercase()),
        format!("{}&state={state}&state={state}", good()),
        format!("{}&tenant={OTHER}&state={state}", good()),
        format!("{}&%74enant={OTHER}&state={state}", good()),
        format!("https://app.test/cb#{}&state={state}", good()),
        format!("{}&state={state}&x={}", good(), "x".repeat(20_000)),
    ] {
        let again = PendingConsent {
            state: pending.state.clone(),
            question: pending.question.clone(),
            clock: pending.clock.clone(),
            ..pending
        };
        let error = again.complete(&callback).unwrap_err();
        assert_eq!((error.kind(), error.blame()), (ErrorKind::Protocol, Blame::Caller), "{callback:.200}");
        assert!(!format!("{error:?}").contains(&state));
    }
    for rest in [
        "",
        "admin_consent=True",
        "admin_consent=True&tenant=contoso.com",
        "admin_consent=True&tenant=organizations",
    ] {
        assert_eq!(answered(TENANT, rest).unwrap_err().kind(), ErrorKind::Protocol, "{rest}");
    }
    for consent in ["False", "", "1"] {
        let error = answered(TENANT, &format!("admin_consent={consent}&tenant={TENANT}")).unwrap_err();
        assert!(error.to_string().ends_with("it does not say that anybody consented"), "{error}");
    }
}

#[test]
fn another_tenant_than_was_asked_is_not_the_one() {
    let error = answered(OTHER, &good()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(
        error.to_string(),
        format!("the administrator consented in tenant {TENANT}, but {OTHER} was asked")
    );
}

#[test]
fn a_refusal_says_admin_consent_too_and_is_a_refusal() {
    for (error, code, kind, blame) in [
        ("access_denied", 65_004, ErrorKind::ConsentRequired, Blame::User),
        ("access_denied", 90_094, ErrorKind::ConsentRequired, Blame::Tenant),
        ("unauthorized_client", 700_016, ErrorKind::Tenant, Blame::Tenant),
        ("invalid_client", 650_052, ErrorKind::Resource, Blame::Tenant),
        ("access_denied", 0, ErrorKind::Policy, Blame::Tenant),
        ("what_is_this", 7, ErrorKind::Protocol, Blame::Service),
    ] {
        let told = format!("{}&error={error}&error_description=AADSTS{code}%3a+hunter2.", good());
        let error = answered(TENANT, &told).unwrap_err();
        assert_eq!((error.kind(), error.blame(), error.status()), (kind, blame, None), "{code}: {error:?}");
        assert_eq!(error.aadsts().first().copied().unwrap_or_default(), code);
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[test]
fn an_answer_that_comes_too_late_is_none() {
    let (consent, time) = consent(TENANT);
    for (after, in_time) in [(59, true), (60, false)] {
        let (_, pending) = consent.clone().lives(Duration::from_secs(60)).begin().unwrap();
        time.advance(Duration::from_secs(after));
        let callback = back(&pending, &good());
        let answer = pending.complete(&callback);
        assert_eq!(answer.is_ok(), in_time);
        assert!(answer.err().is_none_or(|error| error.kind() == ErrorKind::Timeout));
    }
}

#[test]
fn it_survives_a_restart_and_nothing_else_is_taken_for_it() {
    let (consent, _) = consent(TENANT);
    let (_, pending) = consent.begin().unwrap();
    let opaque = pending.to_opaque();
    let restored = PendingConsent::restore(&opaque).unwrap().clock(consent.clock.clone());
    let callback = back(&restored, &good());
    assert_eq!(restored.complete(&callback).unwrap().claimed_tenant().as_str(), TENANT);
    let plain = Authority::dangerous().allow_plain_http("http://127.0.0.1:8080").unwrap();
    let local = AdminConsent::new(&plain, APP, TENANT, "http://localhost:9/cb", "User.Read").unwrap();
    let opaque = local.begin().unwrap().1.to_opaque();
    assert_eq!(PendingConsent::restore(&opaque).unwrap().question.authority, plain);
    for foreign in ["", "e30", "hunter2", &URL_SAFE_NO_PAD.encode("null"), &opaque.expose()[1..]] {
        let error = PendingConsent::restore(&foreign.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[test]
fn what_cannot_be_asked_is_refused_at_once() {
    let of = |client: &str, tenant: &str, redirect: &str, scopes: &str| {
        AdminConsent::new(&Authority::public(), client, tenant, redirect, scopes).unwrap_err().to_string()
    };
    let (redirect, scopes) = ("https://app.test/cb", "User.Read");
    assert!(of("x", TENANT, redirect, scopes).starts_with("client id: "));
    assert!(of(APP, "../x", redirect, scopes).starts_with("tenant: "));
    assert!(of(APP, "consumers", redirect, scopes).starts_with("tenant: "));
    assert!(of(APP, TENANT, redirect, "").starts_with("scope: "));
    for bad in [
        "",
        "/cb",
        "http://app.test/cb",
        "javascript:alert(1)",
        "https://app.test/#x",
        "https://a:b@app.test/",
    ] {
        assert!(of(APP, TENANT, bad, scopes).starts_with("redirect uri: "), "{bad}");
    }
}

proptest! {
    #[test]
    fn any_query_is_read_without_a_panic_and_none_consents(
        text in "\\PC{0,80}|((admin_consent|tenant|state|error|True|=|&|%|\\?|#|[a-z0-9-]{1,4})){0,20}"
    ) {
        let (_, pending) = consent("organizations").0.begin().unwrap();
        prop_assert!(pending.complete(&text).is_err());
    }

    #[test]
    fn with_the_right_state_only_a_tenants_id_is_a_tenant(tenant in "\\PC{0,40}|[0-9a-f-]{36}", more in "[a-z=&%0-9]{0,40}") {
        let tenant: String = url::form_urlencoded::byte_serialize(tenant.as_bytes()).collect();
        if let Ok(answer) = answered("organizations", &format!("admin_consent=True&tenant={tenant}&{more}")) {
            prop_assert!(crate::text::guid(answer.claimed_tenant().as_str()).is_some());
        }
    }
}
