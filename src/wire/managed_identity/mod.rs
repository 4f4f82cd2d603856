//! Managed identity: what is asked of a platform's endpoint, and what it answers.

mod answer;
mod challenge;
mod request;

pub(crate) use answer::{AskedIdentity, parse_identity_answer};
pub(crate) use challenge::key_file;
pub(crate) use request::{
    IMDS_PATH, IdentityRequest, app_service_request, arc_request, azure_ml_request, cloud_shell_request,
    imds_probe, imds_request, service_fabric_request,
};

/// The platforms that give what runs on them an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlatformKind {
    /// Virtual machines and scale sets, and what imitates them.
    Imds,
    /// App Service, Functions, Container Apps.
    AppService,
    Arc,
    /// Whose tokens are those of the person who opened the shell.
    CloudShell,
    /// Azure Machine Learning, and the App Service of before 2019, which is asked the same way.
    AzureMl,
    ServiceFabric,
}

impl PlatformKind {
    /// As logs and records name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Imds => "imds",
            Self::AppService => "app-service",
            Self::Arc => "azure-arc",
            Self::CloudShell => "cloud-shell",
            Self::AzureMl => "azure-ml",
            Self::ServiceFabric => "service-fabric",
        }
    }

    /// Its endpoint as the subject of a sentence.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Imds => "the instance metadata service",
            Self::AppService => "the identity endpoint of App Service",
            Self::Arc => "the identity endpoint of Azure Arc",
            Self::CloudShell => "the identity endpoint of Cloud Shell",
            Self::AzureMl => "the identity endpoint of Azure ML",
            Self::ServiceFabric => "the identity endpoint of Service Fabric",
        }
    }

    /// What a person does who wants it to have an identity.
    fn assign(self) -> &'static str {
        match self {
            Self::ServiceFabric => {
                "Give the application an identity where it is deployed, and name it in its manifest. \
                 IDENTITY_HEADER may also be of another application."
            }
            Self::CloudShell => "Open the shell anew: its endpoint answers for who is signed in there.",
            Self::Arc => "Connect the machine to Azure Arc, and see in the portal that it has an identity.",
            _ => {
                "Assign the identity to this machine, site or app in the portal, under Identity, and check how it is \
                 named here: client id, object id and resource id are three different things."
            }
        }
    }

    /// Why it may have refused whoever asks.
    fn refuses(self) -> &'static str {
        match self {
            Self::AppService | Self::ServiceFabric => {
                "IDENTITY_HEADER may be of an earlier start of the app, or something else answered in its stead."
            }
            Self::AzureMl => {
                "MSI_SECRET may be of an earlier start of the app, or something else answered in its stead."
            }
            Self::Arc => {
                "The agent may have been restarted in between: it does not know the key that it asked for."
            }
            Self::Imds | Self::CloudShell => "A proxy or a firewall may have answered in its stead.",
        }
    }
}
