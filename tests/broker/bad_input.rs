//! What is malformed is refused where it is given, with the name of the field.

use entra_broker::{
    Authority, Broker, Claims, ClientSecret, Env, ErrorKind, ManagedIdentity, ManagedIdentityId, StaticToken,
    TenantId, TokenRequest, UserAssertion, UserId, emulator::sample,
};

use crate::support::*;

fn long(letter: &str) -> String {
    letter.repeat(300)
}

#[test]
fn a_tenant_cannot_change_host_or_path() {
    let long = long("a");
    for tenant in [
        "",
        " ",
        "../evil",
        "a/b",
        "a?b",
        "a#b",
        "//evil",
        "%2e%2e",
        "..",
        ".",
        "a\\b",
        "a\nb",
        "a\0b",
        "a@b",
        "a:b",
        "tenant\u{202e}.test",
        "-a.test",
        "a..test",
        ".a.test",
        &long,
    ] {
        let error = ClientSecret::new(tenant, sample::SECRET_APP, "secret").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{tenant:?}");
        assert!(error.to_string().starts_with("tenant: "), "{tenant:?}: {error}");
        assert_eq!(TenantId::parse(tenant).unwrap_err().to_string(), error.to_string());
    }
}

#[test]
fn each_field_is_named_and_no_secret_is_echoed() {
    let fields = [
        (ClientSecret::new("~hunter2", sample::SECRET_APP, sample::TENANT).map(drop), "tenant: "),
        (ClientSecret::new("contoso.test", "hunter2", "hunter2").map(drop), "client id: "),
        (ClientSecret::new("contoso.test", "", "hunter2").map(drop), "client id: "),
        (ClientSecret::new("contoso.test", sample::SECRET_APP, "").map(drop), "client secret: "),
        (ClientSecret::new("contoso.test", sample::SECRET_APP, "hunter2\n").map(drop), "client secret: "),
        (
            ClientSecret::new("contoso.test", sample::SECRET_APP, "\u{feff}hunter2\r").map(drop),
            "client secret: ",
        ),
        (TokenRequest::new("").map(drop), "scope"),
        (TokenRequest::new("  \t ").map(drop), "scope"),
        (TokenRequest::new("https://a/.default https://b/.default").map(drop), "scope"),
        (TokenRequest::new("https://a/.default User.Read").map(drop), "scope"),
        (TokenRequest::new("sc\"ope").map(drop), "scope"),
        (TokenRequest::new(long("s") + &long("s").repeat(100)).map(drop), "scope"),
        (Authority::custom("").map(drop), "authority: "),
        (Authority::custom("http://login.example").map(drop), "authority: "),
        (Authority::custom("https://user:hunter2@login.example").map(drop), "authority: "),
        (Authority::custom("https://login.example/path").map(drop), "authority: "),
        (Authority::custom("https://login.example?x").map(drop), "authority: "),
        (Authority::dangerous().allow_plain_http("http://login.example").map(drop), "authority: "),
        (Authority::dangerous().allow_plain_http("http://10.0.0.1:80").map(drop), "authority: "),
        (Claims::parse("[1]").map(drop), "claims: "),
        (Claims::parse("{").map(drop), "claims: "),
        (ManagedIdentityId::client_id("hunter2").map(drop), "client id: "),
        (ManagedIdentityId::resource_id("hunter2").map(drop), "resource id: "),
        (StaticToken::new("a\r\nb").map(drop), "static token: "),
        (StaticToken::new("").map(drop), "static token: "),
        (UserId::new(" ").map(drop), "user id: "),
        (UserAssertion::new("").map(drop), "user assertion: "),
        (Broker::builder().capacity(0).build(StaticToken::new("t").unwrap()).map(drop), "capacity: "),
        (
            Broker::builder().background_fetches(0).build(StaticToken::new("t").unwrap()).map(drop),
            "background fetches: ",
        ),
        (Broker::builder().binding("a b").build(StaticToken::new("t").unwrap()).map(drop), "binding: "),
        (
            Broker::builder()
                .root_certificates_pem("hunter2")
                .build(StaticToken::new("t").unwrap())
                .map(drop),
            "certificate",
        ),
    ];
    for (result, name) in fields {
        let error = result.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(name), "{name} is not named: {error}");
        assert!(!format!("{error:?}{error}{}", error.advice()).contains("hunter2"), "{name}");
    }
}

#[test]
fn the_environment_is_read_with_care() {
    let header = "IDENTITY_HEADER";
    let env =
        |endpoint: &str, value: &str| Env::empty().set("IDENTITY_ENDPOINT", endpoint).set(header, value);
    let of = |env: &Env| ManagedIdentity::from_env(ManagedIdentityId::system(), env);
    assert!(of(&env("http://127.0.0.1:1/msi/token", "hunter2")).is_ok());
    let error = of(&env("http://127.0.0.1:1/msi/token", "hunter2\r\nX-Evil: 1")).unwrap_err();
    assert!(error.to_string().contains(header) && !format!("{error:?}").contains("hunter2"), "{error}");
    let error = of(&env("http://evil.example/msi/token", "hunter2")).unwrap_err();
    assert!(error.to_string().contains("IDENTITY_ENDPOINT"), "{error}");
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt as _;
        let raw = std::ffi::OsString::from_vec(vec![0xff, 0xfe]);
        let error = of(&Env::empty().set("IDENTITY_ENDPOINT", raw)).unwrap_err();
        assert!(error.to_string().contains("IDENTITY_ENDPOINT"), "{error}");
    }
}

#[tokio::test]
async fn a_scope_that_is_no_default_never_reaches_the_wire_for_an_app_token() {
    let world = World::new().await;
    let broker = world.broker();
    for scope in ["https://vault.azure.net", "User.Read", "openid", "https://graph.microsoft.com/User.Read"] {
        let error = world.get(broker.get_token(scope)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{scope}");
        assert!(format!("{error}{}", error.advice()).contains("/.default"), "{error}");
    }
    assert_eq!(world.requests(), 0);
}

#[tokio::test]
async fn an_app_token_is_not_asked_for_in_no_tenant() {
    let world = World::new().await;
    for alias in ["common", "organizations", "consumers"] {
        let client = ClientSecret::new(alias, sample::SECRET_APP, sample::SECRET)
            .unwrap()
            .authority(world.authority());
        let broker = world.builder().build(client).unwrap();
        let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(alias), "{error}");
    }
    assert_eq!(world.requests(), 0);
}
