//! Admin consent as the crate asks for it, and reads what the emulator's pages bring back.
#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use crate::browser::*;
use entra_broker::emulator::{Emulator, sample};
use entra_broker::{AdminConsent, Authority, ErrorKind, PendingConsent};
use url::Url;

const SCOPES: &str = "https://graph.microsoft.com/User.Read";

/// The path that a browser opens, and what is kept.
fn begin(emulator: &Emulator, tenant: &str) -> (String, PendingConsent) {
    let authority = Authority::dangerous().allow_plain_http(emulator.authority()).unwrap();
    let consent = AdminConsent::new(&authority, sample::SECRET_APP, tenant, sample::REDIRECT_URI, SCOPES);
    let (url, pending) = consent.unwrap().begin().unwrap();
    let url = Url::parse(&url).unwrap();
    (format!("{}?{}", url.path(), url.query().unwrap()), pending)
}

#[tokio::test]
async fn an_administrators_consent_comes_back_as_a_claim_on_the_tenant() {
    for asked in
        [sample::CUSTOMER_WITHOUT_CONSENT, sample::CUSTOMER_WITHOUT_CONSENT_DOMAIN, "organizations", "common"]
    {
        let emulator = Emulator::in_memory();
        let (path, pending) = begin(&emulator, asked);
        let back =
            Browser::new(&emulator).through(&path, sample::CUSTOMER_ADMIN, &["Accept"]).await.location();
        let answer = pending.complete(back.as_str()).unwrap();
        assert_eq!(answer.claimed_tenant().as_str(), sample::CUSTOMER_WITHOUT_CONSENT, "{asked}");
        assert_eq!(answer.claimed_scopes().unwrap().as_str(), SCOPES);
    }
}

#[tokio::test]
async fn an_administrator_who_declines_is_a_refusal_though_it_says_admin_consent() {
    let emulator = Emulator::in_memory();
    let (path, pending) = begin(&emulator, sample::TENANT);
    let back = Browser::new(&emulator).through(&path, sample::ADMIN, &["Decline"]).await.location();
    assert!(back.query().unwrap().contains("admin_consent=True"));
    let error = pending.complete(back.as_str()).unwrap_err();
    assert_eq!((error.kind(), error.aadsts()), (ErrorKind::ConsentRequired, &[65_004][..]), "{error:?}");
}

#[tokio::test]
async fn whoever_is_no_administrator_is_told_to_find_one() {
    let emulator = Emulator::in_memory();
    let (path, pending) = begin(&emulator, sample::TENANT);
    let back = Browser::new(&emulator).through(&path, sample::ALICE, &["Return to the app"]).await.location();
    let error = pending.complete(back.as_str()).unwrap_err();
    assert_eq!((error.kind(), error.aadsts()), (ErrorKind::ConsentRequired, &[90_094][..]), "{error:?}");
    assert!(error.advice().contains(&format!("/{}/adminconsent?client_id=", sample::TENANT)));
}

#[tokio::test]
async fn an_answer_is_for_its_own_question_only_and_a_changed_one_is_none() {
    let emulator = Emulator::in_memory();
    let (path, pending) = begin(&emulator, sample::CUSTOMER_WITHOUT_CONSENT);
    let (_, other) = begin(&emulator, sample::CUSTOMER_WITHOUT_CONSENT);
    let opaque = pending.to_opaque();
    let back = Browser::new(&emulator).through(&path, sample::CUSTOMER_ADMIN, &["Accept"]).await.location();
    let query = back.query().unwrap();
    assert_eq!(other.complete(query).unwrap_err().kind(), ErrorKind::Protocol);
    let changed = query.replace(sample::CUSTOMER_WITHOUT_CONSENT, sample::OTHER_TENANT);
    assert_eq!(pending.complete(&changed).unwrap_err().kind(), ErrorKind::Protocol);
    // Another process goes on with it.
    let restored = PendingConsent::restore(&opaque).unwrap();
    let answer = restored.complete(query).unwrap();
    assert_eq!(answer.claimed_tenant().as_str(), sample::CUSTOMER_WITHOUT_CONSENT);
}
