//! Whose tokens are taken, and where their keys are.

use std::{collections::BTreeSet, fmt};

use url::{Host, Url};

use crate::{Authority, Error, TenantId, text::guid};

/// The word that stands for the tenant's id in the issuer of a multi-tenant document.
const TENANT: &str = "{tenantid}";

/// An issuer of tokens, as a [`TokenValidator`](crate::TokenValidator) trusts it: by which name, for which tenants, and
/// where its keys are read.
///
/// ```
/// use entra_broker::{Authority, TrustedIssuer};
///
/// let authority = Authority::public();
/// let one = TrustedIssuer::tenant(&authority, "72f988bf-86f1-41af-91ab-2d7cd011db47")?;
/// // Tokens say the public name; the keys come by another way.
/// let behind = TrustedIssuer::custom("https://login.example", "https://login.internal:8443/keys")?;
/// # drop((one, behind));
/// # Ok::<(), entra_broker::Error>(())
/// ```
#[derive(Clone)]
pub struct TrustedIssuer {
    names: Vec<Name>,
    keys: String,
    tenants: Tenants,
}

/// An issuer's name, in two parts where a tenant's id stands between them.
#[derive(Clone)]
struct Name {
    before: Box<str>,
    after: Option<Box<str>>,
}

#[derive(Clone)]
enum Tenants {
    /// The issuer is none of Entra's: it has no tenants.
    None,
    Only(BTreeSet<Box<str>>),
    All,
}

/// Whether a token's `iss` and `tid` are those of an issuer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Trusted,
    /// The name is the issuer's, and `tid` is no GUID or another than the name's.
    Inconsistent,
    /// A tenant that may not call.
    Foreign,
    Unknown,
}

impl TrustedIssuer {
    /// Entra's tokens of one tenant, v1 and v2. It is named by its id, since tokens name it so.
    ///
    /// # Errors
    /// `Config` where it is not a GUID.
    pub fn tenant(authority: &Authority, tenant: &str) -> Result<Self, Error> {
        let tenant = id(tenant)?;
        let keys = format!("{}/{tenant}/discovery/v2.0/keys", authority.origin());
        Ok(Self::entra(authority, keys, Tenants::Only(BTreeSet::from([tenant]))))
    }

    /// Entra's tokens of these tenants and of no others, v1 and v2: for an API with customers of its own.
    ///
    /// # Errors
    /// `Config` where one of them is not a GUID, or there is none.
    pub fn tenants<'a>(
        authority: &Authority,
        tenants: impl IntoIterator<Item = &'a TenantId>,
    ) -> Result<Self, Error> {
        let tenants: BTreeSet<_> =
            tenants.into_iter().map(|tenant| id(tenant.as_str())).collect::<Result<_, _>>()?;
        if tenants.is_empty() {
            return Err(Error::config("trusted issuer: expected at least one tenant"));
        }
        Ok(Self::entra(authority, common_keys(authority), Tenants::Only(tenants)))
    }

    /// Entra's tokens of every tenant there is. Anybody can have a tenant: look at
    /// [`ValidToken::tenant`](crate::ValidToken::tenant) before anything is given away.
    pub fn all_tenants(authority: &Authority) -> Self {
        Self::entra(authority, common_keys(authority), Tenants::All)
    }

    /// An issuer of another kind, with the URL of its JSON Web Key Set. `issuer` is compared to the letter.
    ///
    /// # Errors
    /// `Config` where the issuer is empty, and as [`keys_at`](Self::keys_at).
    pub fn custom(issuer: &str, keys: &str) -> Result<Self, Error> {
        if issuer.is_empty() || issuer.contains(['{', '}']) {
            return Err(Error::config("trusted issuer: expected the `iss` of its tokens, to the letter"));
        }
        let name = Name { before: issuer.into(), after: None };
        Self { names: vec![name], keys: String::new(), tenants: Tenants::None }.keys_at(keys)
    }

    /// Reads the keys here, where that is not below the address that tokens name: by a private link, through a gateway.
    ///
    /// # Errors
    /// `Config` where it is no https URL. Plain http is taken for loopback addresses: who can change keys on their way can
    /// make tokens.
    pub fn keys_at(mut self, url: &str) -> Result<Self, Error> {
        let refused = || {
            Error::config("trusted issuer: expected an https URL of the keys, without a user name")
                .with_advice("Plain http is taken for localhost, 127.0.0.0/8 and [::1] only.")
        };
        let parsed = Url::parse(url).map_err(|_| refused())?;
        let loopback = match parsed.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => return Err(refused()),
        };
        let safe = parsed.scheme() == "https" || parsed.scheme() == "http" && loopback;
        let named = !parsed.username().is_empty() || parsed.password().is_some();
        if !safe || named || parsed.as_str().parse::<http::Uri>().is_err() {
            return Err(refused());
        }
        self.keys = parsed.into();
        Ok(self)
    }

    fn entra(authority: &Authority, keys: String, tenants: Tenants) -> Self {
        // The security token service of v1 has one name in all clouds but China's.
        let v1 = if *authority == Authority::china() {
            "https://sts.chinacloudapi.cn/"
        } else {
            "https://sts.windows.net/"
        };
        let v2 = format!("{}/", authority.origin());
        let name = |before: &str, after: &str| Name { before: before.into(), after: Some(after.into()) };
        Self { names: vec![name(&v2, "/v2.0"), name(v1, "/")], keys, tenants }
    }

    /// Where the keys are.
    pub(super) fn keys(&self) -> &str {
        &self.keys
    }

    /// Tokens of Entra say of which tenant and for which client they are.
    pub(super) fn is_entra(&self) -> bool {
        !matches!(self.tenants, Tenants::None)
    }

    pub(super) fn fits(&self, issuer: &str, tenant: Option<&str>) -> Fit {
        let mut fit = Fit::Unknown;
        for name in &self.names {
            let Some(within) = name.within(issuer) else { continue };
            let Some(within) = within else { return Fit::Trusted };
            let Some(named) = guid(within) else { continue };
            fit = match tenant {
                Some(tenant) if tenant == within => match &self.tenants {
                    Tenants::All => return Fit::Trusted,
                    Tenants::Only(tenants) if tenants.contains(&*named) => return Fit::Trusted,
                    _ => Fit::Foreign,
                },
                _ => Fit::Inconsistent,
            };
        }
        fit
    }

    /// Whether a key whose set says that it is `issuer`'s may sign for `tenant`. Entra's common set holds keys for all
    /// tenants and keys for some: what one of those may sign is not for it to say. It names the v2 issuer for either version.
    pub(super) fn lets_sign(&self, issuer: &str, tenant: Option<&str>) -> bool {
        self.names.first().is_some_and(|name| match name.within(issuer) {
            None => false,
            Some(None) => true,
            Some(Some(within)) => within == TENANT || Some(within) == tenant,
        })
    }
}

impl Name {
    /// None where `issuer` is another; else what stands for the tenant, if there is such a place.
    fn within<'a>(&self, issuer: &'a str) -> Option<Option<&'a str>> {
        match &self.after {
            None => (issuer == &*self.before).then_some(None),
            Some(after) => Some(Some(issuer.strip_prefix(&*self.before)?.strip_suffix(&**after)?)),
        }
    }
}

fn id(tenant: &str) -> Result<Box<str>, Error> {
    guid(tenant).map(Into::into).ok_or_else(|| {
        Error::config(
            "trusted issuer: expected a tenant's id, a GUID: tokens name it so, and not by a domain",
        )
    })
}

fn common_keys(authority: &Authority) -> String {
    format!("{}/common/discovery/v2.0/keys", authority.origin())
}

/// As an error names it: `https://login.microsoftonline.com/{tenantid}/v2.0`.
impl fmt::Display for TrustedIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.names.iter().enumerate() {
            let or = if at == 0 { "" } else { " or " };
            match &name.after {
                None => write!(f, "{or}{}", name.before)?,
                Some(after) => write!(f, "{or}{}{TENANT}{after}", name.before)?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TrustedIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustedIssuer").field("issuer", &self.to_string()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    const ONE: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
    const OTHER: &str = "22222222-3333-4444-5555-666666666666";

    fn v1(tenant: &str) -> String {
        format!("https://sts.windows.net/{tenant}/")
    }

    fn v2(tenant: &str) -> String {
        format!("https://login.microsoftonline.com/{tenant}/v2.0")
    }

    #[test]
    fn issuer_and_tenant_have_to_be_of_one_tenant_that_may_call() {
        let one = TrustedIssuer::tenant(&Authority::public(), ONE).unwrap();
        let all = TrustedIssuer::all_tenants(&Authority::public());
        for (issuer, tenant, fits, fits_all) in [
            (v2(ONE), Some(ONE), Fit::Trusted, Fit::Trusted),
            (v1(ONE), Some(ONE), Fit::Trusted, Fit::Trusted),
            (v2(OTHER), Some(OTHER), Fit::Foreign, Fit::Trusted),
            (v2(ONE), Some(OTHER), Fit::Inconsistent, Fit::Inconsistent),
            (v2(ONE), None, Fit::Inconsistent, Fit::Inconsistent),
            (v2(TENANT), Some(TENANT), Fit::Unknown, Fit::Unknown),
            (v2("common"), Some("common"), Fit::Unknown, Fit::Unknown),
            (format!("{}/", v2(ONE)), Some(ONE), Fit::Unknown, Fit::Unknown),
            (v2(ONE).replace("https", "http"), Some(ONE), Fit::Unknown, Fit::Unknown),
            (v2(&format!("{ONE}/../{ONE}")), Some(ONE), Fit::Unknown, Fit::Unknown),
            (format!("https://sts.windows.net/{ONE}"), Some(ONE), Fit::Unknown, Fit::Unknown),
            (String::new(), Some(ONE), Fit::Unknown, Fit::Unknown),
        ] {
            assert_eq!(one.fits(&issuer, tenant), fits, "{issuer} {tenant:?}");
            assert_eq!(all.fits(&issuer, tenant), fits_all, "{issuer} {tenant:?}");
        }
        assert_eq!(one.fits(&v1(ONE).replace("windows.net", "chinacloudapi.cn"), Some(ONE)), Fit::Unknown);
    }

    #[test]
    fn a_key_of_one_tenant_signs_for_that_tenant_only() {
        let all = TrustedIssuer::all_tenants(&Authority::public());
        for (key, may) in [
            (v2(TENANT), true),
            (v2(ONE), true),
            (v2(OTHER), false),
            (v1(ONE), false),
            (String::new(), false),
        ] {
            assert_eq!(all.lets_sign(&key, Some(ONE)), may, "{key}");
        }
        assert!(!all.lets_sign(&v2(ONE), None));
        let custom = TrustedIssuer::custom("https://issuer.test", "https://issuer.test/keys").unwrap();
        assert!(
            custom.lets_sign("https://issuer.test", None) && !custom.lets_sign("https://other.test", None)
        );
    }

    #[test]
    fn what_cannot_be_trusted_is_refused() {
        let public = Authority::public();
        assert_eq!(TrustedIssuer::tenant(&public, "contoso.com").unwrap_err().kind(), ErrorKind::Config);
        assert!(TrustedIssuer::tenants(&public, &[]).is_err());
        let alias = TenantId::parse("organizations").unwrap();
        assert!(TrustedIssuer::tenants(&public, [&alias]).is_err());
        for url in [
            "",
            "keys",
            "http://login.internal/keys",
            "https://user:pw@login.internal",
            "ftp://login.internal",
            "data:x",
        ] {
            let error = TrustedIssuer::all_tenants(&public).keys_at(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(!format!("{error:?}").contains("pw@"));
        }
        assert!(TrustedIssuer::custom("", "https://a.test").is_err());
        for url in [
            "https://login.internal:8443/keys",
            "http://127.0.0.1:1/keys",
            "http://[::1]/",
            "http://localhost/",
        ] {
            TrustedIssuer::all_tenants(&public).keys_at(url).unwrap();
        }
    }
}
