//! The pages against whatever may be sent to them.

use crate::browser::*;
use crate::support::*;
use entra_broker::emulator::{Emulator, sample};
use proptest::prelude::*;

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        Just(sample::REDIRECT_URI.to_owned()),
        Just(sample::SECRET_APP.to_owned()),
        Just("code".to_owned()),
        Just("none".to_owned()),
        Just("openid User.Read".to_owned()),
        Just("\"><script>x</script>".to_owned()),
        Just("javascript:x".to_owned()),
        "[a-z ]{0,40}",
    ]
}

fn names() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "client_id",
        "response_type",
        "redirect_uri",
        "scope",
        "state",
        "nonce",
        "response_mode",
        "prompt",
        "login_hint",
        "domain_hint",
        "code_challenge",
        "code_challenge_method",
        "claims",
        "client_info",
        "user_code",
        "code",
        "flow",
        "account",
        "username",
        "password",
        "requirement",
        "post_logout_redirect_uri",
        "logout_hint",
        "sid",
    ])
}

const PATHS: &[&str] = &[
    "/",
    "/error",
    "/common/oauth2/v2.0/authorize",
    AUTHORIZE,
    "/common/login",
    "/common/account",
    "/common/proof",
    "/common/decline",
    "/common/consent",
    "/common/confirm",
    "/common/oauth2/deviceauth",
    "/common/v2.0/adminconsent",
    "/contoso.test/adminconsent",
    "/common/oauth2/v2.0/logout",
    "/%00/oauth2/v2.0/authorize",
    "/../oauth2/authorize",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_is_sent_upsets_the_pages_or_comes_back_as_markup(
        path in prop::sample::select(PATHS),
        pairs in prop::collection::vec((names(), value()), 0..10),
        posted in any::<bool>(),
        signed_in in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let emulator = Emulator::in_memory();
            let mut browser = Browser::new(&emulator);
            let mut flow = String::new();
            if signed_in {
                let page = browser.open(&request(&[])).await;
                flow = page.forms()[0].fields[0].1.clone();
                browser.sign_in(&page, "alice").await;
            }
            let mut pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
            if posted && signed_in {
                pairs.insert(0, ("flow", &flow));
            }
            let request =
                if posted { post(path, &pairs) } else { get(&format!("{path}?{}", encoded(&pairs)), &[]) };
            let answer = ask(&emulator, request).await;
            assert!(answer.status.as_u16() < 500);
            let text = String::from_utf8_lossy(&answer.body);
            let markup = text.contains("<script>x");
            assert!(!markup || answer.header("content-type").starts_with("application/json"), "{text}");
            if let Some(location) = answer.headers.get("location") {
                let location = location.to_str().unwrap();
                assert!(location.starts_with("http://localhost:9999/cb"), "{location}");
            }
        });
    }
}

#[tokio::test]
async fn the_journal_keeps_no_password_no_code_and_no_token() {
    let emulator = Emulator::in_memory();
    let mut browser = Browser::new(&emulator);
    let page = browser.open(&request(&[("state", "st4te")])).await;
    let flow = page.forms()[0].fields[0].1.clone();
    let page = browser.press(&page, "Sign in", &[("username", "alice"), ("password", "hunter2~")]).await;
    let callback = page.callback();
    let cookie = page.headers["set-cookie"].to_str().unwrap().to_owned();
    let cookie = cookie.split(['=', ';']).nth(1).unwrap().to_owned();
    let body = redeem(&emulator, &page).await;
    browser.open(&request(&[("prompt", "none")])).await;
    let journal = format!("{:?}", emulator.journal().entries());
    let tokens = ["access_token", "refresh_token", "id_token"].map(|name| body[name].as_str().unwrap());
    for secret in ["hunter2~", &flow, &callback["code"], &cookie, sample::SECRET].into_iter().chain(tokens) {
        assert!(secret.len() > 7 && !journal.contains(secret), "{secret}");
    }
    assert!(journal.contains("/login"));
}
