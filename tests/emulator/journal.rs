//! The journal: who asked for what, on one line each, and nothing secret.

use crate::browser::*;
use crate::support::*;
use entra_broker::emulator::{Emulator, Endpoint, Fault, sample};

fn password(user: &'static str) -> Vec<(&'static str, &'static str)> {
    vec![
        ("grant_type", "password"),
        ("client_id", sample::PUBLIC_APP),
        ("username", user),
        ("password", "hunter2-hunter2"),
        ("scope", "https://graph.microsoft.com/User.Read offline_access"),
    ]
}

#[tokio::test]
async fn an_entry_reads_as_one_line() {
    let emulator = Emulator::in_memory();
    let path = "/contoso.test/oauth2/v2.0/token";
    ask(&emulator, post(path, &good())).await;
    ask(&emulator, post(path, &with("client_secret", "wrong"))).await;
    ask(&emulator, post(path, &with("scope", "a\nidentity GET /x -> 200\u{1b}[2J"))).await;
    identify(&emulator, get(IMDS, &[("metadata", "true")])).await;
    emulator.faults().add(Fault::on(Endpoint::TokenService).cut());
    let _ = emulator.call(Endpoint::TokenService, get("/cut", &[])).await;
    let lines: Vec<_> = emulator.journal().entries().iter().map(ToString::to_string).collect();
    let expected = [
        "token POST /contoso.test/oauth2/v2.0/token client_credentials aaaaaaaa-0000-0000-0000-000000000002 https://storage.azure.com/.default -> 200",
        "token POST /contoso.test/oauth2/v2.0/token client_credentials aaaaaaaa-0000-0000-0000-000000000002 https://storage.azure.com/.default -> 401 invalid_client AADSTS7000215",
        "token POST /contoso.test/oauth2/v2.0/token client_credentials aaaaaaaa-0000-0000-0000-000000000002 a\\nidentity GET /x -> 200\\u{1b}[2J -> 400 invalid_scope AADSTS70011",
        "identity GET /metadata/identity/oauth2/token https://storage.azure.com -> 200",
        "token GET /cut -> no answer",
    ];
    for (line, expected) in lines.iter().zip(expected) {
        // Which number a bad scope has is not for here to say.
        assert_eq!(line.split(" -> 400").next(), expected.split(" -> 400").next());
    }
    assert_eq!(lines.len(), expected.len());
}

#[tokio::test]
async fn an_entry_names_the_user_where_there_is_one() {
    let emulator = Emulator::in_memory();
    emulator.directory().consent_for_all(sample::TENANT, sample::PUBLIC_APP, sample::GRAPH, &["User.Read"]);
    let given = ask(&emulator, post(TOKEN_PATH, &password("alice"))).await.json();
    let token = given["refresh_token"].as_str().unwrap();
    let form = [("grant_type", "refresh_token"), ("client_id", sample::PUBLIC_APP), ("refresh_token", token)];
    ask(&emulator, post(TOKEN_PATH, &form)).await;
    // Who is not there may be somebody's password.
    ask(&emulator, post(TOKEN_PATH, &password("hunter2-hunter2"))).await;
    ask(&emulator, post(TOKEN_PATH, &good())).await;
    let users: Vec<_> = emulator.journal().entries().into_iter().map(|entry| entry.user).collect();
    assert_eq!(users, [Some(sample::ALICE.to_owned()), Some(sample::ALICE.to_owned()), None, None]);
    assert!(!format!("{:?}", emulator.journal().entries()).contains("hunter2"));
}

#[tokio::test]
async fn no_entry_holds_what_was_sent_as_a_secret() {
    const SECRET: &str = "top~secret-value";
    let emulator = Emulator::in_memory();
    let names = [
        "client_secret",
        "client_assertion",
        "assertion",
        "password",
        "username",
        "refresh_token",
        "code",
        "device_code",
        "code_verifier",
        "state",
        "nonce",
        "login_hint",
    ];
    for path in [
        TOKEN_PATH,
        "/contoso.test/oauth2/v2.0/devicecode",
        "/contoso.test/oauth2/v2.0/authorize",
        "/contoso.test/oauth2/v2.0/logout",
        "/common/oauth2/deviceauth",
        "/msi/token",
        "/nowhere",
    ] {
        for name in names {
            for endpoint in [Endpoint::TokenService, Endpoint::Identity] {
                let mut posted = post(path, &[("grant_type", "password"), (name, SECRET)]);
                let value = basic(sample::SECRET_APP, SECRET).parse().unwrap();
                posted.headers_mut().insert("authorization", value);
                let _ = call(&emulator, endpoint, posted).await;
                let path = format!("{path}?{name}={SECRET}");
                let headers = [("x-identity-header", SECRET), ("cookie", SECRET), ("secret", SECRET)];
                let _ = call(&emulator, endpoint, get(&path, &headers)).await;
            }
        }
    }
    let entries = emulator.journal().entries();
    assert_eq!(entries.len(), 7 * 12 * 2 * 2);
    assert!(!format!("{entries:?}").contains(SECRET));
}

#[tokio::test]
async fn entries_after_a_number_come_in_their_order() {
    let emulator = Emulator::in_memory();
    for _ in 0..3 {
        ask(&emulator, get("/x", &[])).await;
    }
    let numbers = |after| {
        let entries = emulator.journal().after(after);
        entries.into_iter().map(|entry| entry.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(0), [1, 2, 3]);
    assert_eq!(numbers(2), [3]);
    assert!(numbers(3).is_empty() && numbers(u64::MAX).is_empty());
    emulator.journal().clear();
    ask(&emulator, get("/x", &[])).await;
    assert_eq!(numbers(1), [4]);
}

#[tokio::test]
async fn a_page_asked_for_has_an_entry_with_its_client_and_scope() {
    let emulator = Emulator::in_memory();
    let path =
        format!("/contoso.test/oauth2/v2.0/authorize?client_id={}&scope=openid&state=x", sample::PUBLIC_APP);
    ask(&emulator, get(&path, &[])).await;
    let entry = emulator.journal().entries().remove(0);
    assert_eq!(entry.path, "/contoso.test/oauth2/v2.0/authorize");
    assert_eq!(entry.tenant.as_deref(), Some("contoso.test"));
    assert_eq!(entry.client_id.as_deref(), Some(sample::PUBLIC_APP));
    assert_eq!(entry.scope.as_deref(), Some("openid"));
}

#[tokio::test]
async fn who_signs_in_and_what_pages_refuse_is_told() {
    let emulator = Emulator::in_memory();
    let mut browser = Browser::new(&emulator);
    let page = browser.through(&request(&[]), "alice", &[]).await;
    redeem(&emulator, &page).await;
    browser.open(&request(&[])).await;
    browser.open(&request(&[("response_mode", "cookie")])).await;
    let entries = emulator.journal().entries();
    let users: Vec<_> = entries.iter().map(|entry| entry.user.as_deref()).collect();
    let alice = Some(sample::ALICE);
    assert_eq!(users, [None, alice, alice, alice, None]);
    assert_eq!((entries[4].aadsts, entries[4].error.as_deref()), (Some(70007), Some("invalid_request")));
    for entry in &entries {
        assert!(!format!("{entry:?}").contains(&page.callback()["code"]));
    }
}

#[tokio::test]
async fn faults_can_be_narrowed_to_a_grant_or_a_user() {
    let emulator = Emulator::in_memory();
    emulator.directory().consent_for_all(sample::TENANT, sample::PUBLIC_APP, sample::GRAPH, &["User.Read"]);
    let fault = || Fault::on(Endpoint::TokenService);
    emulator.faults().add(fault().user("BOB@contoso.test").status(503));
    emulator.faults().add(fault().grant_type("refresh_token").status(500));
    emulator.faults().add(fault().grant_type("jwt-bearer").status(502));
    assert_eq!(ask(&emulator, post(TOKEN_PATH, &good())).await.status, 200);
    assert_eq!(ask(&emulator, post(TOKEN_PATH, &password("bob@contoso.test"))).await.status, 503);
    let given = ask(&emulator, post(TOKEN_PATH, &password("alice@contoso.test"))).await;
    assert_eq!(given.status, 200);
    let form = [("grant_type", "refresh_token"), ("refresh_token", "x")];
    assert_eq!(ask(&emulator, post(TOKEN_PATH, &form)).await.status, 500);
    let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")];
    assert_eq!(ask(&emulator, post(TOKEN_PATH, &form)).await.status, 502);
}

#[tokio::test]
async fn entries_with_long_texts_make_way_sooner() {
    let emulator = Emulator::in_memory();
    emulator.faults().add(Fault::on(Endpoint::TokenService).body("text/plain", ""));
    let long = "x".repeat(512);
    let names =
        ["accept", "user-agent", "x-app-name", "x-app-ver", "x-client-cpu", "x-client-os", "x-client-sku"];
    let headers: Vec<(&str, &str)> = names.iter().map(|name| (*name, long.as_str())).collect();
    for _ in 0..20_000 {
        emulator.call(Endpoint::TokenService, get("/x", &headers)).await.unwrap();
    }
    let entries = emulator.journal().entries();
    // 3.6 KiB each, of 64 MiB.
    assert!((17_000..19_000).contains(&entries.len()), "{}", entries.len());
    assert_eq!((emulator.journal().len(), entries.last().unwrap().number), (20_000, 20_000));
    emulator.journal().clear();
    emulator.call(Endpoint::TokenService, get("/x", &headers)).await.unwrap();
    assert_eq!(emulator.journal().entries().len(), 1);
}
