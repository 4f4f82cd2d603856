//! Which directory is asked.

use std::{fmt, str::FromStr};

use arcstr::ArcStr;

use crate::{Error, text::guid};

/// The longest name that DNS knows.
const MAX_DOMAIN: usize = 253;
/// The longest part of a name between two dots.
const MAX_LABEL: usize = 63;

/// A tenant: its GUID, one of its domains, or one of the words `common`, `organizations` and `consumers`.
///
/// It becomes a part of the path of every request to Entra, so nothing is accepted that could lead anywhere else.
/// The spelling is folded to lower case: two spellings of one tenant are one tenant.
///
/// ```
/// use entra_broker::TenantId;
///
/// let tenant: TenantId = "Contoso.OnMicrosoft.com".parse()?;
/// assert_eq!(tenant.as_str(), "contoso.onmicrosoft.com");
/// assert!(TenantId::parse("../evil").is_err());
/// # Ok::<(), entra_broker::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(ArcStr);

impl TenantId {
    /// Reads a tenant.
    ///
    /// # Errors
    /// `Config` where the text is neither a GUID, nor a domain name, nor one of the three words.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let lower = text.to_ascii_lowercase();
        if guid(&lower).is_some() || is_alias(&lower) || is_domain(&lower) {
            return Ok(Self(lower.into()));
        }
        // What was given is not shown: it may be a secret that was put in the wrong place.
        let got = if text.trim().is_empty() { "nothing" } else { "something else" };
        Err(Error::config(format!(
            "tenant: expected a GUID, a domain such as contoso.onmicrosoft.com, or one of common, organizations \
             and consumers; got {got}"
        ))
        .with_advice("The overview page of Microsoft Entra ID in the portal shows the tenant's id and domains."))
    }

    /// The tenant as it stands in a request's path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for `common`, `organizations` and `consumers`, which stand for whatever tenant the person who signs in
    /// belongs to. No app token can be had from them.
    pub fn is_multi_tenant_alias(&self) -> bool {
        is_alias(&self.0)
    }
}

fn is_alias(text: &str) -> bool {
    matches!(text, "common" | "organizations" | "consumers")
}

/// A domain has a dot: Entra knows no other, and a GUID with a digit lost is not taken for one.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= MAX_DOMAIN && text.contains('.') && text.split('.').all(is_label)
}

impl FromStr for TenantId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl AsRef<str> for TenantId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TenantId").field(&&*self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;

    const GUID: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

    #[test]
    fn guids_domains_and_the_three_words_are_folded_to_lower_case() {
        for (typed, read) in [
            ("72F988BF-86F1-41AF-91AB-2D7CD011DB47", GUID),
            ("Contoso.OnMicrosoft.COM", "contoso.onmicrosoft.com"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("Common", "common"),
        ] {
            assert_eq!(TenantId::parse(typed).unwrap().as_str(), read);
        }
        assert_eq!(TenantId::parse(GUID).unwrap(), GUID.to_uppercase().parse().unwrap());
    }

    #[test]
    fn only_the_three_words_are_aliases() {
        for word in ["common", "organizations", "consumers"] {
            assert!(TenantId::parse(word).unwrap().is_multi_tenant_alias());
        }
        assert!(!TenantId::parse(GUID).unwrap().is_multi_tenant_alias());
        assert!(!TenantId::parse("common.example").unwrap().is_multi_tenant_alias());
    }

    #[test]
    fn nothing_that_leads_elsewhere_is_a_tenant() {
        let long = "a".repeat(300);
        let long_domain = format!("{}.com", "a.".repeat(126) + "a");
        for bad in [
            "",
            " ",
            "\t",
            "../evil",
            "a/b",
            "a?b",
            "a#b",
            "//evil",
            "%2e%2e",
            "a.com%2f",
            ".",
            "..",
            ".a.com",
            "a.com.",
            "a..com",
            "-a.com",
            "a.com-",
            "a.-b.com",
            "a\0.com",
            "a\n.com",
            "a.com\r\n",
            " a.com",
            "a.com ",
            "a@b.com",
            "a.com:80",
            "a\\b.com",
            "bücher.de",
            "contoso",
            &GUID[1..],
            &long,
            &long_domain,
            "https://login.microsoftonline.com/common",
        ] {
            let error = TenantId::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad:?}");
            let words = error.to_string();
            assert!(words.starts_with("tenant: expected a GUID") && words.len() < 250, "{words}");
            assert!(words.bytes().all(|byte| byte >= b' '), "{words:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_one_safe_path_segment(text in "\\PC{0,40}|[a-zA-Z0-9.-]{1,40}") {
            if let Ok(tenant) = TenantId::parse(&text) {
                let path = format!("https://host/{tenant}/x");
                let url = url::Url::parse(&path).unwrap();
                prop_assert_eq!(url.as_str(), path);
                prop_assert_eq!(TenantId::parse(tenant.as_str()).unwrap(), tenant);
            }
        }
    }
}
