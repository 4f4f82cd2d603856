//! Which cloud, or which stand-in for one, gives out the tokens.

use std::{fmt, str::FromStr, sync::Arc};

use url::{Host, Url};

use crate::{ClientId, Error, TenantId, text::Quoted};

/// The origin of a token service: scheme, host and port.
///
/// Known aliases of a cloud are that cloud: `login.windows.net` is [`Authority::public`].
///
/// ```
/// use entra_broker::{Authority, TenantId};
///
/// let authority: Authority = "login.microsoftonline.us".parse()?;
/// assert_eq!(authority, Authority::us_government());
/// assert_eq!(
///     authority.token_endpoint(&TenantId::parse("contoso.us")?),
///     "https://login.microsoftonline.us/contoso.us/oauth2/v2.0/token",
/// );
/// # Ok::<(), entra_broker::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Authority(Cloud);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Cloud {
    Public,
    UsGovernment,
    China,
    Custom(Arc<Custom>),
}

#[derive(PartialEq, Eq, Hash)]
struct Custom {
    origin: Box<str>,
    loopback: bool,
}

impl Authority {
    /// The public cloud, `login.microsoftonline.com`.
    pub const fn public() -> Self {
        Self(Cloud::Public)
    }

    /// The cloud of the US government, `login.microsoftonline.us`.
    pub const fn us_government() -> Self {
        Self(Cloud::UsGovernment)
    }

    /// The cloud in China, `login.partner.microsoftonline.cn`.
    pub const fn china() -> Self {
        Self(Cloud::China)
    }

    /// An authority of another name: `https://host` or `https://host:port`, or a bare host, as `AZURE_AUTHORITY_HOST`
    /// often has it. A slash at the end is taken.
    ///
    /// # Errors
    /// `Config` where it is not such an origin. Plain http is only to be had through [`Authority::dangerous`].
    pub fn custom(text: &str) -> Result<Self, Error> {
        let origin = match text.split_once("://") {
            None => Origin::read("https", text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => Origin::read("https", rest),
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => {
                return Err(Error::config(
                    "authority: plain http is not taken, the secret would travel in the open",
                )
                .with_advice(
                    "Write https://; for an emulator on this machine there is \
                         Authority::dangerous().allow_plain_http().",
                ));
            }
            Some(_) => None,
        };
        let Some(Origin { origin, host, loopback, usual_port }) = origin else {
            return Err(refused("https", text));
        };
        let cloud = match host.as_str() {
            _ if !usual_port => None,
            "login.microsoftonline.com" | "login.windows.net" | "login.microsoft.com" => Some(Cloud::Public),
            "login.microsoftonline.us" | "login.usgovcloudapi.net" => Some(Cloud::UsGovernment),
            "login.partner.microsoftonline.cn" | "login.chinacloudapi.cn" => Some(Cloud::China),
            _ => None,
        };
        Ok(Self(cloud.unwrap_or_else(|| Cloud::Custom(Arc::new(Custom { origin: origin.into(), loopback })))))
    }

    /// Where hazards are: an authority over plain http, for an emulator on the same machine.
    pub const fn dangerous() -> DangerousAuthority {
        DangerousAuthority(())
    }

    /// Scheme, host and port, without a slash at the end.
    pub fn origin(&self) -> &str {
        match &self.0 {
            Cloud::Public => "https://login.microsoftonline.com",
            Cloud::UsGovernment => "https://login.microsoftonline.us",
            Cloud::China => "https://login.partner.microsoftonline.cn",
            Cloud::Custom(custom) => &custom.origin,
        }
    }

    /// True where requests go out without TLS.
    pub fn is_plain_http(&self) -> bool {
        self.origin().starts_with("http:")
    }

    /// True where the host is this machine: `localhost`, `127.0.0.0/8` or `::1`.
    pub fn is_loopback(&self) -> bool {
        matches!(&self.0, Cloud::Custom(custom) if custom.loopback)
    }

    /// The URL of a tenant's token endpoint, which is also the audience of a client assertion.
    pub fn token_endpoint(&self, tenant: &TenantId) -> String {
        self.endpoint(tenant, "oauth2/v2.0/token")
    }

    /// The audience of a federated identity credential in this cloud.
    pub fn federation_audience(&self) -> &'static str {
        match self.0 {
            Cloud::Public | Cloud::Custom(_) => "api://AzureADTokenExchange",
            Cloud::UsGovernment => "api://AzureADTokenExchangeUSGov",
            Cloud::China => "api://AzureADTokenExchangeChina",
        }
    }

    /// The endpoint of one region of this cloud, for app tokens.
    ///
    /// # Errors
    /// `Config` where it is no name of a region, or the authority is none of Azure's clouds.
    pub(crate) fn regional(&self, region: &str) -> Result<Self, Error> {
        // As MSAL has it: `^[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$`, one label of a host name.
        let bytes = region.as_bytes();
        let named = bytes.len() <= 63
            && bytes.first().is_some_and(u8::is_ascii_lowercase)
            && bytes.last().is_some_and(|last| *last != b'-')
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        if !named {
            return Err(Error::config("region: expected the name of a region of Azure such as westeurope")
                .with_advice(
                    "Write it as `az account list-locations` does, in lower case and without blanks.",
                ));
        }
        let host = match self.0 {
            Cloud::Public => "login.microsoft.com",
            Cloud::UsGovernment => "login.microsoftonline.us",
            Cloud::China => "login.partner.microsoftonline.cn",
            Cloud::Custom(_) => {
                return Err(Error::config(format!("region: {self} has no regional endpoints"))
                    .with_advice("Azure's own clouds have them. Leave the region out elsewhere."));
            }
        };
        let origin = format!("https://{region}.{host}").into();
        Ok(Self(Cloud::Custom(Arc::new(Custom { origin, loopback: false }))))
    }

    /// The URL of `path` in a tenant. Origin and tenant were checked when they were read, so it is always one.
    pub(crate) fn endpoint(&self, tenant: &TenantId, path: &'static str) -> String {
        format!("{}/{tenant}/{path}", self.origin())
    }

    /// Where an administrator of `tenant` consents to all that an application's registration lists. The page of v2 wants to
    /// be told scopes and where it goes on, and shows an error without: this one needs the application alone.
    pub(crate) fn admin_consent(&self, tenant: &TenantId, client_id: &ClientId) -> String {
        // `common` and `consumers` have no administrator; `organizations` leads to whichever tenant signs in.
        let tenant = if tenant.is_multi_tenant_alias() { "organizations" } else { tenant.as_str() };
        format!("{}/{tenant}/adminconsent?client_id={client_id}", self.origin())
    }

    /// Where people administer this cloud.
    pub(crate) fn portal(&self) -> &'static str {
        match self.0 {
            Cloud::Public | Cloud::Custom(_) => "https://portal.azure.com",
            Cloud::UsGovernment => "https://portal.azure.us",
            Cloud::China => "https://portal.azure.cn",
        }
    }
}

/// What should be typed only by someone who knows why. See [`Authority::dangerous`].
#[derive(Debug)]
pub struct DangerousAuthority(());

impl DangerousAuthority {
    /// An authority over plain http on this machine: `http://127.0.0.1:8080`, `http://[::1]` or `http://localhost`.
    ///
    /// # Errors
    /// `Config` where it is not plain http or the host is not a loopback address. A secret over plain http to any
    /// other host could be read on the way, so there is no way to say that.
    pub fn allow_plain_http(self, text: &str) -> Result<Authority, Error> {
        let origin = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => Origin::read("http", rest),
            _ => None,
        };
        match origin {
            None => Err(refused("http", text)),
            Some(origin) if !origin.loopback => {
                Err(Error::config("authority: plain http is taken for localhost, 127.0.0.0/8 and [::1] only"))
            }
            Some(origin) => Ok(Authority(Cloud::Custom(Arc::new(Custom {
                origin: origin.origin.into(),
                loopback: true,
            })))),
        }
    }
}

/// The text is not shown where it holds user information, which may be a password.
fn refused(scheme: &str, text: &str) -> Error {
    let expected = format!("authority: expected {scheme}://host or {scheme}://host:port");
    Error::config(match text {
        _ if text.trim().is_empty() => format!("{expected}; got nothing"),
        _ if text.contains('@') => format!("{expected}, without a user name"),
        _ => format!("{expected}; got {}", Quoted(text)),
    })
    .with_advice("The tenant and the endpoint's path do not belong to the authority.")
}

struct Origin {
    origin: String,
    host: String,
    loopback: bool,
    usual_port: bool,
}

impl Origin {
    /// Reads `host[:port][/]`. The characters are checked before the URL parser sees them, because it mends what it
    /// should refuse: it drops tabs and line breaks, and takes a backslash for a slash.
    fn read(scheme: &str, rest: &str) -> Option<Self> {
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        if rest.is_empty() || rest.len() > 300 || !rest.bytes().all(fits) {
            return None;
        }
        let url = Url::parse(&format!("{scheme}://{rest}")).ok()?;
        let loopback = match url.host()? {
            Host::Domain(name) => {
                if name.split('.').any(str::is_empty) {
                    return None;
                }
                name == "localhost"
            }
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        if url.port() == Some(0) {
            return None;
        }
        Some(Self {
            origin: url.origin().ascii_serialization(),
            host: url.host_str()?.to_owned(),
            loopback,
            usual_port: url.port().is_none(),
        })
    }
}

impl Default for Authority {
    /// The public cloud.
    fn default() -> Self {
        Self::public()
    }
}

impl FromStr for Authority {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::custom(text)
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.origin())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authority").field(&self.origin()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn the_names_of_a_cloud_are_that_cloud() {
        for (typed, cloud) in [
            ("https://login.microsoftonline.com", Authority::public()),
            ("https://login.microsoftonline.com/", Authority::public()),
            ("HTTPS://Login.MicrosoftOnline.com:443", Authority::public()),
            ("login.windows.net", Authority::public()),
            ("login.microsoft.com", Authority::public()),
            ("login.microsoftonline.us/", Authority::us_government()),
            ("https://login.chinacloudapi.cn/", Authority::china()),
            ("login.partner.microsoftonline.cn", Authority::china()),
        ] {
            assert_eq!(Authority::custom(typed).unwrap(), cloud, "{typed}");
        }
        assert_ne!(Authority::custom("login.microsoftonline.com:8443").unwrap(), Authority::public());
    }

    #[test]
    fn a_custom_origin_is_kept_without_its_slash() {
        let authority = Authority::custom("https://Entra.Example:8443/").unwrap();
        assert_eq!(authority.origin(), "https://entra.example:8443");
        assert!(!authority.is_plain_http() && !authority.is_loopback());
        assert_eq!(authority, Authority::custom("entra.example:8443").unwrap());
        assert!(Authority::custom("https://[::1]:1").unwrap().is_loopback());
    }

    #[test]
    fn anything_but_an_origin_is_refused() {
        for bad in [
            "",
            " ",
            "https://",
            "https:///",
            "https://host/path",
            "https://host//",
            "https://host?q",
            "https://host#f",
            "https://host\\evil",
            "https://ho st",
            "https://host\n",
            "https://h\u{e9}",
            "https://%41",
            "ftp://host",
            "://host",
            "https://host:99999",
            "https://host:0",
            "https://a..b",
            "https:host/",
            "javascript:alert",
            "https://https://host",
            "//host",
            "https://[::1",
            "https://*",
        ] {
            let error = Authority::custom(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
            assert!(error.to_string().starts_with("authority: expected https://host"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_password_in_the_authority_is_not_shown() {
        for bad in ["https://user:hunter2@host", "hunter2@host", "http://user:hunter2@127.0.0.1"] {
            assert!(!format!("{:?}", Authority::custom(bad).unwrap_err()).contains("hunter2"));
            assert!(
                !format!("{:?}", Authority::dangerous().allow_plain_http(bad).unwrap_err())
                    .contains("hunter2")
            );
        }
    }

    #[test]
    fn plain_http_is_dangerous_and_for_loopback_only() {
        let error = Authority::custom("http://127.0.0.1:8080").unwrap_err();
        assert!(error.advice().contains("Authority::dangerous()"));
        let hosts = "http://127.0.0.1:8080 http://127.9.9.9/ http://localhost http://[::1]:1 \
                    HTTP://LOCALHOST";
        for good in hosts.split_whitespace() {
            let authority = Authority::dangerous().allow_plain_http(good).unwrap();
            assert!(authority.is_plain_http() && authority.is_loopback(), "{good}");
            assert!(!authority.origin().ends_with('/'));
        }
        let hosts = "http://example.com http://127.0.0.1.example.com http://localhost.example.com \
                    http://10.0.0.1 http://[::2] http://0.0.0.0 https://localhost localhost \
                    http://localhost/a http://169.254.169.254";
        for bad in hosts.split_whitespace() {
            let error = Authority::dangerous().allow_plain_http(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
        }
    }

    #[test]
    fn each_cloud_has_its_own_audience_and_portal() {
        let clouds = [Authority::public(), Authority::us_government(), Authority::china()];
        let audiences = clouds.each_ref().map(Authority::federation_audience);
        assert_eq!(audiences[0], "api://AzureADTokenExchange");
        assert_eq!(audiences[1], "api://AzureADTokenExchangeUSGov");
        assert_eq!(audiences[2], "api://AzureADTokenExchangeChina");
        assert_eq!(clouds[2].portal(), "https://portal.azure.cn");
        assert_eq!(clouds[1].to_string(), "https://login.microsoftonline.us");
    }

    #[test]
    fn consent_is_asked_of_the_tenant_and_of_organizations_where_there_is_none() {
        let id = ClientId::parse("00001111-aaaa-2222-bbbb-3333cccc4444").unwrap();
        let url = |tenant| Authority::public().admin_consent(&TenantId::parse(tenant).unwrap(), &id);
        assert!(
            url("contoso.com")
                .starts_with("https://login.microsoftonline.com/contoso.com/adminconsent?client_id=0")
        );
        assert!(url("common").contains("/organizations/"));
    }

    proptest! {
        #[test]
        fn an_accepted_origin_is_one_and_reads_as_itself(text in "\\PC{0,40}|(https?://)?[a-z0-9.:\\[\\]/_-]{1,20}") {
            for authority in [Authority::custom(&text), Authority::dangerous().allow_plain_http(&text)].into_iter().flatten() {
                let endpoint = authority.token_endpoint(&TenantId::parse("common").unwrap());
                prop_assert!(endpoint.parse::<http::Uri>().is_ok(), "{}", endpoint);
                let url = Url::parse(&endpoint).unwrap();
                prop_assert_eq!(url.path(), "/common/oauth2/v2.0/token");
                prop_assert_eq!(url.origin().ascii_serialization(), authority.origin());
                prop_assert!(!authority.is_plain_http() || authority.is_loopback());
                if !authority.is_plain_http() {
                    prop_assert_eq!(Authority::custom(authority.origin()).unwrap(), authority);
                }
            }
        }
    }
}
