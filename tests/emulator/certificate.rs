//! Certificates as an administrator uploads them.

use crate::signer::*;
use entra_broker::emulator::{Certificate, Directory, InvalidCertificate, sample};
use proptest::prelude::*;

/// A self-signed certificate with an RSA key of 1024 bits.
const SHORT: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIB/TCCAWagAwIBAgITfmuov8EU10cDeWIZgekXbeTZqjANBgkqhkiG9w0BAQsF\n\
ADAQMQ4wDAYDVQQDDAVzaG9ydDAgFw0yNjExMjExNDMwNDdaGA8yMTI2MTAyODE0\n\
MzA0N1owEDEOMAwGA1UEAwwFc2hvcnQwgZ8wDQYJKoZIhvcNAQEBBQADgY0AMIGJ\n\
AoGBANpZ7Dt7aTGWEkymVlLB9zN05SOOJYzPZ27hAXMOgZbmknlrLHuRJcWe4P1G\n\
HfwjeLDU4QT99oKccCb8CvgU6w6s9yQTT2dt83ftu0ot9eUStpxF8om65F0FfoDA\n\
cKAzoOa5MdwwleWzjiFH1SojaW4v4Qxpgx3rkp5ngJ8E3w9ZAgMBAAGjUzBRMB0G\n\
A1UdDgQWBBTy6swCuiyZ98dZnDKBsUwKil0UUjAfBgNVHSMEGDAWgBTy6swCuiyZ\n\
98dZnDKBsUwKil0UUjAPBgNVHRMBAf8EBTADAQH/MA0GCSqGSIb3DQEBCwUAA4GB\n\
AID5w1dZ73gwPB906pyJ7/69lDM2a6rIjt+CHR0v3TiMIevkUuaxrJqOJAL7XZ0g\n\
8oUbtop+dKYgiCGdC8uih/kylYRmZXbnqJyJovwUELgPNw6Tee3dyDsovGcqlVcE\n\
VSuFsNFAgN4H+1t8siMZmKSYz5oJwscZ3HcrSEDHBt8O\n\
-----END CERTIFICATE-----\n\
";

fn pem(certificate: &Certificate) -> String {
    use base64::Engine as _;
    let der = base64::engine::general_purpose::STANDARD.encode(certificate.der());
    format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n")
}

#[test]
fn a_pem_file_may_hold_the_private_key_beside_the_certificate() {
    let certificate = Signer::first().certificate();
    let key = Signer::first().rcgen().serialize_pem();
    for text in
        [pem(&certificate), format!("{key}{}", pem(&certificate)), format!("{}\n{key}", pem(&certificate))]
    {
        let read = Certificate::from_pem(&text).unwrap();
        assert_eq!(read, certificate);
        assert_eq!(read.subject(), "CN=app.contoso.test");
        assert_eq!((read.thumbprint().len(), read.thumbprint_sha256().len()), (40, 64));
    }
    let both = pem(&certificate) + &pem(&Signer::second().certificate());
    assert_eq!(Certificate::from_pem(&both).unwrap(), certificate);
}

#[test]
fn what_an_app_cannot_have_is_told_apart() {
    let key = Signer::first().rcgen().serialize_pem();
    assert_eq!(Certificate::from_pem(&key), Err(InvalidCertificate::Missing));
    assert_eq!(Certificate::from_pem(""), Err(InvalidCertificate::Missing));
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(Certificate::from_pem(garbled), Err(InvalidCertificate::Malformed(_))));
    let open = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    assert!(matches!(
        Certificate::from_pem(open),
        Err(InvalidCertificate::Malformed(_) | InvalidCertificate::Missing)
    ));
    // A key in one line, as environment variables have it, is not repeated.
    let in_one_line = Certificate::from_pem(&key.replace('\n', " ")).unwrap_err();
    assert!(in_one_line.to_string().len() < 100, "{in_one_line}");
    assert_eq!(Certificate::from_pem(SHORT), Err(InvalidCertificate::ShortKey(1024)));

    let elliptic = rcgen::generate_simple_self_signed(["app.test".to_owned()]).unwrap();
    let refused = Certificate::from_pem(&elliptic.cert.pem()).unwrap_err();
    assert_eq!(refused, InvalidCertificate::NotRsa);
    assert!(refused.to_string().contains("RSA"), "{refused}");

    let mut long = Signer::first().certificate().der().to_vec();
    long.push(0);
    assert!(matches!(Certificate::from_der(&long), Err(InvalidCertificate::Malformed(_))));
}

#[test]
fn a_certificate_is_removed_by_either_thumbprint() {
    let directory = Directory::sample();
    let (first, second) = (Signer::first().certificate(), Signer::second().certificate());
    assert!(directory.add_certificate(sample::CERT_APP, first.clone()));
    assert!(directory.add_certificate(sample::CERT_APP, second.clone()));
    assert!(!directory.add_certificate("nobody", first.clone()));
    assert!(directory.remove_certificate(sample::CERT_APP, &first.thumbprint().to_lowercase()));
    assert!(!directory.remove_certificate(sample::CERT_APP, &first.thumbprint()));
    assert!(directory.remove_certificate(sample::CERT_APP, &second.thumbprint_sha256()));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..2000_usize, to: u8) {
        let _ = Certificate::from_der(&bytes);
        let _ = Certificate::from_pem(&String::from_utf8_lossy(&bytes));
        let mut real = Signer::first().certificate().der().to_vec();
        let at = at % real.len();
        real[at] = to;
        let _ = Certificate::from_der(&real);
        let _ = Certificate::from_der(&real[..at]);
    }
}
