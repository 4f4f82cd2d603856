//! What a platform's variables may say, checked before anything is sent there.

use url::{Host, Url};

use crate::{Env, Error, Secret, sync::Arc};

/// Where the instance metadata service of a virtual machine is, on every machine.
const IMDS: &str = "http://169.254.169.254";

/// An address to ask, with nothing in it that would go elsewhere or be lost.
pub(super) fn checked(variable: &str, text: &str) -> Result<Url, Error> {
    let refused = || {
        Error::config(format!(
            "{variable}: expected an http URL on this machine or a link-local address, or https"
        ))
        .with_advice("The platform sets this variable. If you did, look at its host and scheme.")
    };
    let url = Url::parse(text.trim()).map_err(|_| refused())?;
    // Plain http goes to this machine and to link-local addresses only: whoever answers gets a say in who we are.
    let near = match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_link_local(),
        Some(Host::Ipv6(address)) => address.is_loopback() || address.is_unicast_link_local(),
        None => false,
    };
    let clean = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    match url.scheme() {
        "http" if near && clean => Ok(url),
        "https" if url.host().is_some() && clean => Ok(url),
        _ => Err(refused()),
    }
}

/// The same, where the server has to show a certificate.
pub(super) fn checked_https(variable: &str, text: &str) -> Result<Url, Error> {
    let url = checked(variable, text)?;
    if url.scheme() == "https" {
        return Ok(url);
    }
    Err(Error::config(format!("{variable}: expected an https URL, since IDENTITY_SERVER_THUMBPRINT is set"))
        .with_advice("Service Fabric's endpoint is known by its certificate; plain http shows none."))
}

pub(super) fn imds_origin(env: &Env) -> Result<Arc<str>, Error> {
    const VARIABLE: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
    let Some(host) = env.get(VARIABLE)? else { return Ok(IMDS.into()) };
    let url = checked(VARIABLE, &host)?;
    if url.path() != "/" || url.query().is_some() {
        return Err(Error::config(format!(
            "{VARIABLE}: expected http://host or http://host:port, and nothing behind it"
        )));
    }
    Ok(url.as_str().trim_end_matches('/').into())
}

/// A secret that is sent as a header.
pub(super) fn checked_header(variable: &str, value: String) -> Result<Secret, Error> {
    let value = Secret::new(value);
    if value.expose().bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Ok(value);
    }
    Err(Error::config(format!("{variable}: expected a value that a header may hold")))
}

/// The SHA-1 of a certificate, as it is shown: in hexadecimal digits of either case, with or without colons.
pub(super) fn thumbprint(variable: &str, text: &str) -> Result<[u8; 20], Error> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b':').collect();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut thumbprint = [0; 20];
    let read = digits.len() == 2 * thumbprint.len()
        && digits.chunks_exact(2).zip(&mut thumbprint).all(|(pair, byte)| {
            let value = digit(pair[0]).zip(digit(pair[1])).map(|(high, low)| high * 16 + low);
            value.and_then(|value| u8::try_from(value).ok()).map(|value| *byte = value).is_some()
        });
    if read {
        return Ok(thumbprint);
    }
    Err(Error::config(format!("{variable}: expected the SHA-1 of a certificate, 40 hexadecimal digits")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbprint_is_read_as_people_and_programs_write_it() {
        let expected: [u8; 20] = std::array::from_fn(|at| at as u8 * 13);
        let hex: Vec<String> = expected.iter().map(|byte| format!("{byte:02X}")).collect();
        for text in [hex.concat(), hex.concat().to_lowercase(), hex.join(":"), format!(" {} ", hex.join(" "))]
        {
            assert_eq!(thumbprint("T", &text).unwrap(), expected, "{text}");
        }
        let whole = hex.concat();
        for bad in
            ["", "hunter2", &whole[1..], &whole[2..], &format!("{whole}00"), &whole.replace('0', "g"), "+1"]
        {
            let error = thumbprint("T", bad).unwrap_err();
            assert!(error.to_string().starts_with("T: expected the SHA-1"), "{bad}: {error}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn a_server_that_is_known_by_its_certificate_has_to_show_one() {
        assert!(checked_https("E", "https://10.0.0.4:2377/metadata/identity/oauth2/token").is_ok());
        let error = checked_https("E", "http://127.0.0.1:2377/").unwrap_err();
        assert!(error.to_string().contains("https"), "{error}");
    }
}
