//! In a chain, whether there is an identity here is found out fast; outside of one nobody asks that.

use super::*;

#[test]
fn in_a_chain_imds_is_asked_without_its_header_first() {
    for there in [400, 410, 429] {
        let replies = [Reply::Answer(there, ""), Reply::Answer(200, TOKEN)];
        let (ended, double, took) = fetch(&system("imds"), true, replies);
        assert_eq!(ended.unwrap().token.expose(), "a-token-of-the-platform");
        assert_eq!((double.requests(), took), (2, Duration::ZERO));
        assert_eq!(
            (double.header(0, "metadata"), double.query(0).as_str()),
            (None, "api-version=2018-02-01")
        );
        assert_eq!(double.header(1, "metadata").as_deref(), Some("true"));
        assert!(double.query(1).contains("&resource="));
    }
}

#[test]
fn in_a_chain_whatever_else_answers_is_not_imds_and_is_asked_once() {
    for status in [200, 204, 302, 401, 403, 404, 405, 500, 502, 503] {
        let (ended, double, took) = fetch(&system("imds"), true, [Reply::Answer(status, TOKEN)]);
        let error = ended.unwrap_err();
        assert_eq!((error.kind(), double.requests(), took), (ErrorKind::NotAvailable, 1, Duration::ZERO));
        assert!(error.to_string().contains(&status.to_string()) && !error.advice().is_empty(), "{error}");
    }
}

#[test]
fn in_a_chain_an_address_without_imds_is_given_up_at_once_or_after_a_second() {
    use TransportErrorKind::{Connect, Interrupted, Other, Tls, TooLarge};
    for kind in [Connect, Tls, Interrupted, TooLarge, Other] {
        let (ended, double, took) = fetch(&system("imds"), true, [Reply::Fails(kind)]);
        let error = ended.unwrap_err();
        assert_eq!((error.kind(), double.requests(), took), (ErrorKind::NotAvailable, 1, Duration::ZERO));
        assert!(all_text(&error).contains("on command"), "the cause is kept: {error:?}");
    }
    let (ended, double, took) = fetch(&system("imds"), true, [Reply::Silence]);
    let error = ended.unwrap_err();
    assert_eq!((error.kind(), double.requests()), (ErrorKind::NotAvailable, 1));
    assert_eq!(took, Duration::from_secs(1));
    assert!(error.to_string().contains("within a second"), "{error}");
}

#[test]
fn what_ends_the_fetch_as_a_whole_is_not_called_absence() {
    let (time, double) = (Time::new(), Double::new([Reply::Answer(400, "")]));
    let closed = || Err(Error::new(ErrorKind::Closed, "the broker was closed"));
    let cx = FetchContext { gate: Arc::new(closed), ..context(&double, &time.0) }.for_link();
    let request = TokenRequest::new(format!("{VAULT}/.default")).unwrap();
    let error = time.run(system("imds").fetch(&cx, &request, Grant::App)).0.unwrap_err();
    assert_eq!((error.kind(), double.requests()), (ErrorKind::Closed, 0));
    let (ended, ..) = fetch(&system("imds"), true, [Reply::Fails(TransportErrorKind::Refused)]);
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn outside_of_a_chain_no_platform_is_probed_and_in_one_only_imds_is() {
    for (name, _) in platforms() {
        for in_chain in [false, true] {
            let replies = [Reply::Answer(400, NOT_FOUND), Reply::Answer(200, TOKEN)];
            let (ended, double, _) = fetch(&system(name), in_chain, replies);
            let probed = in_chain && name == "imds";
            assert_eq!(double.requests(), if probed { 2 } else { 1 }, "{name}");
            assert_eq!(ended.is_ok(), probed, "{name}");
            let secret = ["metadata", "secret", "x-identity-header"];
            let has_header = secret.into_iter().any(|header| double.header(0, header).is_some());
            assert_eq!(has_header, !probed, "{name}");
        }
    }
}

#[test]
fn a_platform_without_an_identity_lets_a_chain_go_on_and_a_named_one_that_is_missing_ends_it() {
    let named = || ManagedIdentityId::client_id(USER).unwrap();
    for (name, _) in platforms() {
        for in_chain in [false, true] {
            let replies = || [Reply::Answer(400, NOT_FOUND), Reply::Answer(400, NOT_FOUND)];
            let (ended, ..) = fetch(&system(name), in_chain, replies());
            let kind = if in_chain { ErrorKind::NotAvailable } else { ErrorKind::Config };
            assert_eq!(ended.unwrap_err().kind(), kind, "{name}");
            if ["imds", "app-service", "azure-ml"].contains(&name) {
                let (ended, ..) = fetch(&on(name, named()), in_chain, replies());
                let error = ended.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Config, "{name}");
                assert!(error.to_string().contains(USER), "{error}");
            }
        }
    }
}

#[test]
fn an_imds_that_cannot_be_reached_is_trouble_to_who_named_it() {
    for reply in [Reply::Fails(TransportErrorKind::Connect), Reply::Silence] {
        let (ended, double, _) = fetch(&system("imds"), false, [reply]);
        let error = ended.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
        assert_eq!(double.requests(), 3);
        assert!(error.advice().contains("use another provider, or a chain"), "{}", error.advice());
    }
}

#[test]
fn an_agent_of_arc_that_is_installed_and_silent_is_absence_in_a_chain_only() {
    let installed = ManagedIdentity::detect(ManagedIdentityId::system(), &Env::empty(), |_| true).unwrap();
    let silent = || [Reply::Fails(TransportErrorKind::Connect)];
    for (identity, in_chain, kind, host) in [
        (&installed, true, ErrorKind::NotAvailable, "localhost"),
        (&installed, false, ErrorKind::Unavailable, "localhost"),
        // Its variables say that it is there.
        (&system("azure-arc"), true, ErrorKind::Unavailable, "127.0.0.1"),
    ] {
        let (ended, double, _) = fetch(identity, in_chain, silent());
        assert_eq!(ended.unwrap_err().kind(), kind);
        assert_eq!(double.seen.lock()[0].1.uri().host(), Some(host));
    }
}

#[test]
fn each_platform_is_asked_in_its_own_way() {
    for (name, method, pool, header) in [
        ("imds", "GET", Pool::ManagedIdentity, "metadata"),
        ("app-service", "GET", Pool::ManagedIdentity, "x-identity-header"),
        ("azure-arc", "GET", Pool::ManagedIdentity, "metadata"),
        ("cloud-shell", "POST", Pool::ManagedIdentity, "metadata"),
        ("azure-ml", "GET", Pool::ManagedIdentity, "secret"),
        (
            "service-fabric",
            "GET",
            Pool::ServiceFabric { thumbprint: std::array::from_fn(|at| (at as u8 % 16) * 0x11) },
            "secret",
        ),
    ] {
        let identity = system(name);
        assert_eq!(identity.platform(), name);
        let (ended, double, _) = fetch(&identity, false, [Reply::Answer(200, TOKEN)]);
        ended.unwrap();
        let seen = double.seen.lock();
        let (to, request) = &seen[0];
        assert_eq!((*to, request.method().as_str()), (pool, method), "{name}");
        assert!(request.headers()[header].is_sensitive() && request.headers().get("authorization").is_none());
        let is_form = request.headers().get("content-type").is_some();
        assert_eq!((is_form, request.body().is_empty()), (method == "POST", method == "GET"), "{name}");
        assert!(!format!("{identity:?}").contains("hunter2"));
    }
}
