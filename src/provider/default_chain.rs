//! The chain that Microsoft's own clients have, of what the environment says.

#[cfg(not(feature = "cli"))]
use super::ConfidentialClient;
#[cfg(feature = "cli")]
use super::{AzureCli, AzureDeveloperCli};
use super::{Chain, Environment};
use crate::{Env, Error, error::ErrorKind};

impl Environment {
    /// The credentials that Microsoft's own clients look for, in their order:
    ///
    /// | link | available where |
    /// |---|---|
    /// | `environment` | a secret or a certificate is set in the variables above |
    /// | `workload-identity` | `AZURE_FEDERATED_TOKEN_FILE` is set |
    /// | `managed-identity` | the platform's variables are set, or IMDS answers within a second |
    /// | `azure-cli` | `az` is installed and signed in (feature `cli`) |
    /// | `azure-developer-cli` | `azd` is installed and signed in (feature `cli`) |
    ///
    /// `AZURE_TOKEN_CREDENTIALS` chooses among them: `prod` for the first three, `dev` for the last two, or the name of one,
    /// as `ManagedIdentityCredential`. Set `prod` where a developer's sign-in must never be taken for the service's identity.
    ///
    /// # Errors
    ///
    /// `Config` where a set of variables is partial or malformed, and where `AZURE_TOKEN_CREDENTIALS` names none of them.
    pub fn default_chain(&self) -> Result<Chain, Error> {
        let chosen = Choice::of(self.get("TOKEN_CREDENTIALS")?.as_deref(), &self.prefix)?;
        let mut chain = Chain::new();
        let mut has_application = false;
        if chosen.environment {
            let application = self.secret_or_certificate();
            has_application |= application.is_ok();
            chain = chain.then("environment", application)?;
        }
        if chosen.workload_identity {
            let application = self.federated();
            has_application |= application.is_ok();
            chain = chain.then("workload-identity", application)?;
        }
        if chosen.managed_identity {
            // Behind an application that is set up it is never reached. The client id is the application's then, and some
            // platforms take none.
            let identity = self.managed_identity().map_err(|error| {
                if has_application { Error::new(ErrorKind::NotAvailable, error.to_string()) } else { error }
            });
            chain = chain.then("managed-identity", identity)?;
        }
        #[cfg(feature = "cli")]
        {
            if chosen.azure_cli {
                chain = chain.then("azure-cli", Ok(AzureCli::from_env(&self.env)))?;
            }
            if chosen.azure_developer_cli {
                chain = chain.then("azure-developer-cli", Ok(AzureDeveloperCli::from_env(&self.env)))?;
            }
        }
        #[cfg(not(feature = "cli"))]
        for (name, chosen) in
            [("azure-cli", chosen.azure_cli), ("azure-developer-cli", chosen.azure_developer_cli)]
        {
            if chosen {
                let left_out = Error::new(ErrorKind::NotAvailable, "not compiled in (feature `cli`)");
                chain = chain.then::<ConfidentialClient>(name, Err(left_out))?;
            }
        }
        Ok(chain)
    }
}

/// The chain that Microsoft's own clients would make of the process's environment: see
/// [`Environment::default_chain`], which says what is in it.
///
/// # Errors
///
/// As [`Environment::default_chain`].
pub fn default_chain() -> Result<Chain, Error> {
    Environment::new(&Env::process()).default_chain()
}

/// What `AZURE_TOKEN_CREDENTIALS` leaves in the chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Choice {
    environment: bool,
    workload_identity: bool,
    managed_identity: bool,
    azure_cli: bool,
    azure_developer_cli: bool,
}

impl Choice {
    fn of(value: Option<&str>, prefix: &str) -> Result<Self, Error> {
        let none = Self::default();
        let prod = Self { environment: true, workload_identity: true, managed_identity: true, ..none };
        let dev = Self { azure_cli: true, azure_developer_cli: true, ..none };
        let value = value.map(|value| value.trim().to_ascii_lowercase());
        Ok(match value.as_deref() {
            None => Self { azure_cli: true, azure_developer_cli: true, ..prod },
            Some("prod") => prod,
            Some("dev") => dev,
            Some("environmentcredential") => Self { environment: true, ..none },
            Some("workloadidentitycredential") => Self { workload_identity: true, ..none },
            Some("managedidentitycredential") => Self { managed_identity: true, ..none },
            Some("azureclicredential") => Self { azure_cli: true, ..none },
            Some("azuredeveloperclicredential") => Self { azure_developer_cli: true, ..none },
            Some(_) => {
                return Err(Error::config(format!(
                    "environment variable {prefix}TOKEN_CREDENTIALS: expected prod, dev, EnvironmentCredential, \
                     WorkloadIdentityCredential, ManagedIdentityCredential, AzureCliCredential or \
                     AzureDeveloperCliCredential"
                ))
                .with_advice("Other credentials that Microsoft's clients know are not in this chain."));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_leaves_what_it_says() {
        let links = |value: Option<&str>| {
            let c = Choice::of(value, "AZURE_").unwrap();
            [c.environment, c.workload_identity, c.managed_identity, c.azure_cli, c.azure_developer_cli]
                .map(u8::from)
        };
        assert_eq!(links(None), [1, 1, 1, 1, 1]);
        assert_eq!(links(Some("prod")), [1, 1, 1, 0, 0]);
        assert_eq!(links(Some(" DEV ")), [0, 0, 0, 1, 1]);
        assert_eq!(links(Some("EnvironmentCredential")), [1, 0, 0, 0, 0]);
        assert_eq!(links(Some("workloadidentitycredential")), [0, 1, 0, 0, 0]);
        assert_eq!(links(Some("ManagedIdentityCredential")), [0, 0, 1, 0, 0]);
        assert_eq!(links(Some("AzureCliCredential")), [0, 0, 0, 1, 0]);
        assert_eq!(links(Some("AzureDeveloperCliCredential")), [0, 0, 0, 0, 1]);
        for other in ["VisualStudioCredential", "production", "prod,dev"] {
            let error = Choice::of(Some(other), "AZURE_").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("AZURE_TOKEN_CREDENTIALS"), "{error}");
        }
    }
}
