//! Which platform this is, told by the variables that it sets.

use std::fmt;

use bytes::Bytes;
use http::{HeaderValue, Request};
use url::{Host, Url};

use crate::{
    Env, Error, ErrorKind, ManagedIdentityId, Secret,
    error::Blame,
    http::RetryPolicy,
    sync::Arc,
    wire::managed_identity::{IMDS_PATH, app_service_request, imds_request},
};

/// Where the instance metadata service of a virtual machine is, on every machine.
const IMDS: &str = "http://169.254.169.254";

/// The platforms that can be asked, with what is needed to ask.
#[derive(Clone)]
pub(super) enum Platform {
    /// Virtual machines and scale sets, and what imitates them.
    Imds { origin: Arc<str> },
    /// App Service, Functions, Container Apps.
    AppService { endpoint: Arc<str>, header: Secret },
}

impl Platform {
    /// In the order in which Microsoft's own clients look.
    pub(super) fn detect(env: &Env) -> Result<Self, Error> {
        let endpoint = env.get("IDENTITY_ENDPOINT")?;
        let header = env.get("IDENTITY_HEADER")?;
        let msi_endpoint = env.get("MSI_ENDPOINT")?.is_some();
        match (endpoint, header) {
            (Some(_), Some(_)) if env.get("IDENTITY_SERVER_THUMBPRINT")?.is_some() => {
                Err(unsupported("Service Fabric"))
            }
            (Some(endpoint), Some(header)) => Ok(Self::AppService {
                endpoint: checked("IDENTITY_ENDPOINT", &endpoint)?.as_str().into(),
                header: checked_header(header)?,
            }),
            _ if msi_endpoint && env.get("MSI_SECRET")?.is_some() => Err(unsupported("Azure ML")),
            (Some(_), None) if env.get("IMDS_ENDPOINT")?.is_some() => Err(unsupported("Azure Arc")),
            (Some(_), None) => Err(Error::config("IDENTITY_ENDPOINT is set, but IDENTITY_HEADER is not")
                .with_advice("The platform sets both. Pass both on, or neither.")),
            _ if msi_endpoint => Err(unsupported("Cloud Shell")),
            _ => Ok(Self::Imds { origin: imds_origin(env)? }),
        }
    }

    /// As the subject of a sentence.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Imds { .. } => "the instance metadata service",
            Self::AppService { .. } => "the identity endpoint of App Service",
        }
    }

    pub(super) fn retries(&self) -> RetryPolicy {
        match self {
            Self::Imds { .. } => RetryPolicy::imds(),
            Self::AppService { .. } => RetryPolicy::managed_identity(),
        }
    }

    /// The request for a token of `resource`.
    pub(super) fn request(&self, id: &ManagedIdentityId, resource: &str) -> Result<Request<Bytes>, Error> {
        let (base, asked) = match self {
            Self::Imds { origin } => (format!("{origin}{IMDS_PATH}"), imds_request(id, resource)),
            Self::AppService { endpoint, header } => {
                (endpoint.to_string(), app_service_request(id, resource, header))
            }
        };
        let separator = if base.contains('?') { '&' } else { '?' };
        let mut request = Request::get(format!("{base}{separator}{}", asked.query))
            .body(Bytes::new())
            .map_err(|error| Error::config("managed identity: its endpoint is no URL").with_source(error))?;
        for (name, value) in asked.headers {
            let mut value = HeaderValue::from_str(value.expose())
                .map_err(|_| Error::config("IDENTITY_HEADER: expected a value that a header may hold"))?;
            value.set_sensitive(true);
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }
}

/// Without the endpoint, whose query somebody may have put a secret into.
impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Imds { .. } => "Imds",
            Self::AppService { .. } => "AppService",
        })
    }
}

fn imds_origin(env: &Env) -> Result<Arc<str>, Error> {
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

/// Plain http goes to this machine and to link-local addresses only: whoever answers gets a say in who we are.
fn checked(variable: &'static str, text: &str) -> Result<Url, Error> {
    let refused = || {
        Error::config(format!(
            "{variable}: expected an http URL on this machine or a link-local address, or https"
        ))
        .with_advice("The platform sets this variable. If you did, look at its host and scheme.")
    };
    let url = Url::parse(text.trim()).map_err(|_| refused())?;
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

fn checked_header(value: String) -> Result<Secret, Error> {
    let value = Secret::new(value);
    if value.expose().bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Ok(value);
    }
    Err(Error::config("IDENTITY_HEADER: expected a value that a header may hold"))
}

fn unsupported(platform: &'static str) -> Error {
    Error::new(
        ErrorKind::NotAvailable,
        format!("managed identity on {platform} is not supported by this version"),
    )
    .with_blame(Blame::Configuration)
    .with_advice("Use a client secret or a workload identity there for now.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(variables: &[(&str, &str)]) -> Env {
        variables.iter().fold(Env::empty(), |env, (name, value)| env.set(*name, *value))
    }

    fn detected(variables: &[(&str, &str)]) -> String {
        match Platform::detect(&env(variables)) {
            Ok(Platform::Imds { origin }) => format!("imds {origin}"),
            Ok(Platform::AppService { endpoint, .. }) => format!("app service {endpoint}"),
            Err(error) => format!("{}: {error}", error.kind().name()),
        }
    }

    #[test]
    fn the_platform_is_told_by_its_variables() {
        let endpoint = ("IDENTITY_ENDPOINT", "http://127.0.0.1:41741/msi/token");
        let header = ("IDENTITY_HEADER", "h");
        let msi = ("MSI_ENDPOINT", "http://localhost:50342/oauth2/token");
        assert_eq!(detected(&[]), "imds http://169.254.169.254");
        let pod = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://169.254.1.2/");
        assert_eq!(detected(&[pod]), "imds http://169.254.1.2");
        for more in ["http://169.254.1.2/metadata", "http://169.254.1.2/?x"] {
            assert!(
                detected(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", more)]).contains("nothing behind it"),
                "{more}"
            );
        }
        assert_eq!(detected(&[endpoint, header]), "app service http://127.0.0.1:41741/msi/token");
        assert!(
            detected(&[endpoint, header, ("IDENTITY_SERVER_THUMBPRINT", "t")]).contains("Service Fabric")
        );
        assert!(detected(&[endpoint, ("IMDS_ENDPOINT", "http://localhost:40342")]).contains("Azure Arc"));
        assert!(detected(&[msi, ("MSI_SECRET", "s")]).contains("Azure ML"));
        assert!(detected(&[msi]).contains("Cloud Shell"));
        assert!(detected(&[endpoint]).contains("IDENTITY_HEADER is not"));
        assert_eq!(detected(&[msi, endpoint, header]), "app service http://127.0.0.1:41741/msi/token");
    }

    #[test]
    fn plain_http_goes_to_this_machine_or_a_link_local_address_only() {
        let header = ("IDENTITY_HEADER", "h");
        for near in [
            "http://localhost:1/",
            "http://[::1]:1/",
            "http://169.254.130.4:8081/msi/token",
            "https://far.example/",
        ] {
            assert!(detected(&[("IDENTITY_ENDPOINT", near), header]).starts_with("app service"), "{near}");
        }
        for far in [
            "http://10.0.0.1/",
            "http://far.example/",
            "http://localhost.far.example/",
            "http://user:hunter2@localhost/",
            "ftp://localhost/",
            "localhost",
            "",
        ] {
            let told = detected(&[("IDENTITY_ENDPOINT", far), header]);
            assert!(!told.starts_with("app service") && !told.contains("hunter2"), "{far}: {told}");
        }
    }
}
