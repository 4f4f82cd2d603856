//! Key files: which are read, and what is said of the others.

use std::time::Duration;

use entra_broker::{Blame, Certificate, Error, ErrorKind, Secret};
use proptest::prelude::*;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::certificate_material::*;

/// The SHA-1 thumbprint, by the emulator.
fn thumbprint(pem: &[u8]) -> String {
    entra_broker::emulator::Certificate::from_pem(std::str::from_utf8(pem).unwrap()).unwrap().thumbprint()
}

fn encrypted(name: &str) -> Vec<u8> {
    [fixture(name), fixture("app.pem")].concat()
}

/// What is said of an error: its text, its advice, and nothing of what was read.
fn refused(result: Result<Certificate, Error>, kind: ErrorKind, words: &str) {
    let error = result.unwrap_err();
    let said = format!("{error} {error:?} {}", error.advice());
    assert!(error.to_string().contains(words), "{error} does not say {words}");
    assert_eq!((error.kind(), error.blame()), (kind, Blame::Configuration), "{error}");
    assert!(!error.advice().is_empty(), "{error}");
    assert!(!said.contains(PASSWORD) && !said.contains("MII"), "{said}");
}

fn refused_pem(pem: &str, words: &str) {
    refused(Certificate::from_pem(pem.as_bytes(), None), ErrorKind::Config, words);
    refused(Certificate::from_bytes(pem.as_bytes(), None), ErrorKind::Config, words);
}

#[test]
fn keys_are_read_in_each_form_that_openssl_writes() {
    let expected = thumbprint(&fixture("app.pem"));
    let password = password();
    for name in ["encrypted-aes.pem", "encrypted-sha512.pem", "encrypted-des3.pem", "encrypted-v1.pem"] {
        let bytes = encrypted(name);
        let read = Certificate::from_pem(&bytes, Some(&password)).unwrap();
        assert_eq!(read.thumbprint(), expected, "{name}");
        refused(Certificate::from_pem(&bytes, None), ErrorKind::Config, "there is no password");
        let wrong = Secret::new("wrong");
        refused(Certificate::from_pem(&bytes, Some(&wrong)), ErrorKind::Credential, "the password is wrong");
    }
    let old = Secret::new("pässwörd€");
    for (name, password) in [
        ("modern.p12", Some(&password)),
        ("legacy.p12", Some(&password)),
        ("java.p12", Some(&password)),
        ("old-ciphers.p12", Some(&old)),
    ] {
        let bytes = fixture(name);
        assert_eq!(Certificate::from_pkcs12(&bytes, password).unwrap().thumbprint(), expected, "{name}");
        refused(Certificate::from_pkcs12(&bytes, None), ErrorKind::Config, "there is no password");
        let wrong = Secret::new("wrong");
        refused(
            Certificate::from_pkcs12(&bytes, Some(&wrong)),
            ErrorKind::Credential,
            "the password is wrong",
        );
    }
    let empty = Secret::new("");
    for name in ["empty.p12", "legacy-empty.p12", "plain.p12"] {
        for password in [None, Some(&empty)] {
            let read = Certificate::from_bytes(&fixture(name), password).unwrap();
            assert_eq!(read.thumbprint(), expected, "{name}");
        }
    }
}

#[test]
fn a_vaults_base64_of_pkcs12_is_read() {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(fixture("modern.p12"));
    let read = Certificate::from_bytes(format!("{text}\n").as_bytes(), Some(&password())).unwrap();
    assert_eq!(read.thumbprint(), thumbprint(&fixture("app.pem")));
}

#[test]
fn pem_is_read_with_any_line_ends_around_a_byte_order_mark_and_in_either_order() {
    let (key, certificate) = (key(0).serialize_pem(), self_signed(key(0)).pem());
    let expected = thumbprint(certificate.as_bytes());
    for text in [
        format!("{key}{certificate}"),
        format!("{certificate}{key}"),
        format!("\u{feff}{key}{certificate}"),
        format!("{key}{certificate}").replace('\n', "\r\n"),
        format!("{key}{certificate}").replace('\n', " "),
        format!("Bag Attributes\n    friendlyName: ä\n{key}\n\n# comment\n{certificate}\n\n"),
    ] {
        // A password that is not needed is passed over.
        for password in [None, Some(&password())] {
            assert_eq!(Certificate::from_pem(text.as_bytes(), password).unwrap().thumbprint(), expected);
            assert_eq!(Certificate::from_bytes(text.as_bytes(), password).unwrap().thumbprint(), expected);
        }
    }
}

#[test]
fn a_key_in_pkcs1_is_read_plain_and_refused_where_encrypted_the_old_way() {
    // Cut out of PKCS#8: a head of 26 octets, for a key of 2048 bits.
    let pkcs8 = key(0).serialize_der();
    let pkcs1 = pem("RSA PRIVATE KEY", &pkcs8[26..]);
    let certificate = self_signed(key(0));
    let read = Certificate::from_pem(format!("{pkcs1}{}", certificate.pem()).as_bytes(), None).unwrap();
    assert_eq!(read.thumbprint(), registered(&certificate).thumbprint());

    let result = Certificate::from_pem(&encrypted("encrypted-traditional.pem"), Some(&password()));
    assert!(result.as_ref().unwrap_err().advice().contains("openssl pkcs8 -topk8"));
    refused(result, ErrorKind::Config, "OpenSSL's old way");
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

#[test]
fn what_is_encrypted_in_other_ways_is_refused_with_the_command_that_converts_it() {
    let password = password();
    for (bytes, words) in [
        (encrypted("encrypted-scrypt.pem"), "scrypt"),
        (encrypted("encrypted-md5.pem"), "single DES"),
        (fixture("rc4.p12"), "RC4"),
    ] {
        let result = Certificate::from_bytes(&bytes, Some(&password));
        assert!(result.as_ref().unwrap_err().advice().contains("openssl pk"));
        refused(result, ErrorKind::Config, words);
    }
}

#[test]
fn keys_that_entra_does_not_take_are_refused_with_the_reason() {
    let elliptic = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = self_signed(&elliptic);
    let reason = "elliptic-curve key, and Entra takes RSA only";
    refused_pem(&both(&elliptic, &certificate), reason);
    let sec1 = both(&elliptic, &certificate).replace("PRIVATE KEY", "EC PRIVATE KEY");
    refused_pem(&sec1, reason);
    refused(Certificate::from_pkcs12(&fixture("elliptic.p12"), Some(&password())), ErrorKind::Config, reason);
    refused_pem(std::str::from_utf8(&fixture("short.pem")).unwrap(), "RSA key of 1024 bits");
    // A version, and a modulus of 8193 bits.
    let modulus = [&[0x30, 0x82, 4, 8, 2, 1, 0, 2, 0x82, 4, 1, 1][..], &[0; 1024]].concat();
    refused_pem(&pem("RSA PRIVATE KEY", &modulus), "RSA key of 8193 bits");
    let own = key(0).serialize_pem();
    refused_pem(&own.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY"), "OpenSSH");
}

#[test]
fn what_is_missing_or_too_much_is_named() {
    let (first, second) = (key(0).serialize_pem(), key(1).serialize_pem());
    let certificate = self_signed(key(0)).pem();
    let request = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
    let public = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    refused_pem(&certificate, "no private key");
    refused_pem(&first, "no certificate");
    refused_pem(&format!("{first}{second}{certificate}"), "several private keys");
    refused_pem(&format!("{first}{first}{certificate}"), "several private keys");
    refused_pem(request, "certificate request");
    refused_pem(&format!("{first}{request}"), "certificate request");
    refused_pem(public, "public key");
    refused_pem(&format!("{certificate}{public}"), "public key");
    refused_pem("-----BEGIN X-----\nAAAA\n-----END X-----\n", "neither a private key nor a certificate");
    let password = password();
    for (name, words) in [("no-key.p12", "no private key"), ("no-certificate.p12", "no certificate")] {
        refused(Certificate::from_pkcs12(&fixture(name), Some(&password)), ErrorKind::Config, words);
    }
}

#[test]
fn what_is_damaged_or_something_else_is_named() {
    let good = both(key(0), &self_signed(key(0)));
    refused_pem(&good[..good.len() - 40], "without an end");
    refused_pem(&good.replace('\n', "\\n"), "not base64");
    let certificate = self_signed(key(0)).pem();
    refused_pem(&format!("{}{certificate}", pem("PRIVATE KEY", &[0; 9])), "damaged");
    refused_pem(&format!("{}{}", key(0).serialize_pem(), pem("CERTIFICATE", &[0; 9])), "damaged");
    refused_pem("", "empty");
    refused_pem(" \r\n", "empty");
    let any = |bytes: &[u8], words: &str| {
        refused(Certificate::from_bytes(bytes, None), ErrorKind::Config, words);
    };
    any(b"\xef\xbb\xbf", "empty");
    any(b"garbage", "neither PEM nor PKCS#12");
    any(&[0; 1000], "neither PEM nor PKCS#12");
    any(&fixture("java.jks"), "neither PEM nor PKCS#12");
    any(self_signed(key(0)).der(), "in DER");
    any(&key(0).serialize_der(), "private key in DER");
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    any(&[&[0xff, 0xfe], &utf16[..]].concat(), "UTF-16");
    any(&vec![b'x'; 200_000], "larger than");
    let modern = fixture("modern.p12");
    any(&modern[..modern.len() - 1], "damaged");
    refused(Certificate::from_pem(&modern, None), ErrorKind::Config, "is PKCS#12 and not PEM");
    refused(Certificate::from_pem(b"garbage", None), ErrorKind::Config, "no PEM block");
    refused(Certificate::from_pkcs12(good.as_bytes(), None), ErrorKind::Config, "is PEM and not PKCS#12");
}

#[test]
fn a_second_key_is_told_before_it_is_decrypted() {
    let text = both(key(0), &self_signed(key(0)));
    let protected = String::from_utf8(encrypted("encrypted-aes.pem")).unwrap();
    refused_pem(&format!("{text}{protected}"), "several private keys");
}

#[test]
fn a_key_that_is_not_the_certificates_is_told_at_construction() {
    let mixed = both(key(0), &self_signed(key(1)));
    refused(Certificate::from_pem(mixed.as_bytes(), None), ErrorKind::Credential, "does not belong");
}

#[test]
fn a_certificate_out_of_its_time_is_told_at_construction_with_the_dates() {
    let expired = self_signed_with(key(0), |params| params.not_after = rcgen::date_time_ymd(2020, 2, 3));
    let early = self_signed_with(key(0), |params| {
        params.not_before = rcgen::date_time_ymd(3000, 1, 2);
        params.not_after = rcgen::date_time_ymd(3001, 1, 2);
    });
    for (certificate, words) in
        [(expired, "expired on 2020-02-03T00:00:01Z"), (early, "not valid before 3000-01-02T00:00:00Z")]
    {
        let text = both(key(0), &certificate);
        refused(Certificate::from_pem(text.as_bytes(), None), ErrorKind::Credential, words);
    }
}

#[test]
fn of_several_certificates_the_keys_own_is_used_and_of_those_the_one_that_is_good_for_longest() {
    let year = |year| self_signed_with(key(0), |params| params.not_after = rcgen::date_time_ymd(year, 1, 1));
    let (old, new) = (year(2020), year(3000));
    let foreign = self_signed(key(1));
    let key_text = key(0).serialize_pem();
    let expected = registered(&new).thumbprint();
    for order in [[&foreign, &old, &new], [&new, &foreign, &old], [&old, &new, &foreign]] {
        let text: String = order.iter().map(|certificate| certificate.pem()).collect();
        let read = Certificate::from_pem(format!("{key_text}{text}").as_bytes(), None).unwrap();
        assert_eq!(read.thumbprint(), expected);
    }
}

#[test]
fn a_path_that_leads_to_no_small_file_is_told_at_once() {
    let folder = Folder::new();
    let from = |name: &str| Certificate::from_file(folder.path(name), None);
    std::fs::File::create(folder.path("huge")).unwrap().set_len(1 << 30).unwrap();
    std::fs::create_dir(folder.path("folder")).unwrap();
    folder.write("empty", "");
    for (name, words) in [
        ("huge", "larger than"),
        ("folder", "a directory"),
        ("empty", "is empty"),
        ("none", "does not exist"),
    ] {
        let error = from(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(words) && error.to_string().contains(name), "{error}");
    }
    folder.write("garbage", "garbage");
    refused(from("garbage"), ErrorKind::Config, "neither PEM nor PKCS#12");
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        mknodat(CWD, folder.path("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(from("pipe").unwrap_err().to_string().contains("a pipe"));
    }
}

#[test]
fn debug_tells_which_certificate_it_is_and_nothing_of_the_key() {
    let bytes = encrypted("encrypted-aes.pem");
    let certificate = Certificate::from_pem(&bytes, Some(&password())).unwrap();
    let shown = format!("{certificate:?}");
    assert!(shown.contains("app.contoso.test") && shown.contains(&certificate.thumbprint()), "{shown}");
    assert!(shown.len() < 600 && !shown.contains(PASSWORD), "{shown}");
    let folder = Folder::new();
    let path = folder.write("app.pem", &bytes);
    let certificate = Certificate::from_file(&path, Some(password())).unwrap();
    let shown = format!("{certificate:?}");
    assert!(shown.contains("app.pem") && !shown.contains(PASSWORD), "{shown}");
    let year = Duration::from_secs(365 * 86_400);
    assert!(certificate.expires_on() > std::time::UNIX_EPOCH + 900 * year);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Certificate::from_bytes(&bytes, None);
        let _ = Certificate::from_pem(&bytes, None);
        let _ = Certificate::from_pkcs12(&bytes, None);
    }

    #[test]
    fn no_text_in_the_dress_of_pem_makes_it_panic(
        parts in proptest::collection::vec(prop::sample::select(vec![
            "-----BEGIN ", "-----END ", "PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "CERTIFICATE", "-----",
            "\n", "MIIB", "Proc-Type: 4,ENCRYPTED", "ü", "=", " ",
        ]), 0..30),
    ) {
        let _ = Certificate::from_bytes(parts.concat().as_bytes(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_damage_to_a_good_file_makes_it_panic(
        name in prop::sample::select(vec!["modern.p12", "legacy.p12", "plain.p12"]),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = fixture(name);
        for (at, to) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *to;
        }
        let _ = Certificate::from_bytes(&bytes, Some(&password()));
        let _ = Certificate::from_bytes(&bytes[..cut.index(bytes.len())], Some(&password()));
    }

    #[test]
    fn no_damage_to_pem_makes_it_panic(
        name in prop::sample::select(vec!["encrypted-aes.pem", "encrypted-v1.pem", "short.pem"]),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encrypted(name);
        for (at, to) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *to;
        }
        let _ = Certificate::from_bytes(&bytes, Some(&password()));
    }
}
