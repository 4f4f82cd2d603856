//! Which platform this is, told by the variables that it sets.

use std::{fmt, path::Path};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header::CONTENT_TYPE};

use super::{
    arc,
    endpoint::{checked, checked_header, checked_https, imds_origin, thumbprint},
};
use crate::{
    ClientId, Env, Error, ManagedIdentityId, Secret,
    http::{Pool, RetryPolicy},
    identity_id::IdentityKind,
    sync::Arc,
    wire::{
        form::FORM_CONTENT_TYPE,
        managed_identity::{
            IMDS_PATH, IdentityRequest, PlatformKind, app_service_request, arc_request, azure_ml_request,
            cloud_shell_request, imds_probe, imds_request, service_fabric_request,
        },
    },
};

/// The platforms, with what is needed to ask each.
#[derive(Clone)]
pub(super) enum Platform {
    Imds {
        origin: Arc<str>,
    },
    AppService {
        endpoint: Arc<str>,
        header: Secret,
    },
    Arc {
        endpoint: Arc<str>,
        /// The directory of its key files.
        keys: Arc<Path>,
        /// It is installed, but has set no variable.
        assumed: bool,
    },
    CloudShell {
        endpoint: Arc<str>,
    },
    AzureMl {
        endpoint: Arc<str>,
        secret: Secret,
        /// The identity that is meant where none is named.
        default: Option<ClientId>,
    },
    ServiceFabric {
        endpoint: Arc<str>,
        secret: Secret,
        thumbprint: [u8; 20],
    },
}

impl Platform {
    /// In the order in which Microsoft's own clients look. A half of what a platform sets is an error that names the other
    /// half: what comes later in the order may be another identity's.
    pub(super) fn detect(env: &Env, arc_is_installed: impl Fn(&Env) -> bool) -> Result<Self, Error> {
        let endpoint = env.get("IDENTITY_ENDPOINT")?;
        let header = env.get("IDENTITY_HEADER")?;
        let (msi_endpoint, msi_secret) = (env.get("MSI_ENDPOINT")?, env.get("MSI_SECRET")?);
        let url = |variable, text: &str| Ok::<Arc<str>, Error>(checked(variable, text)?.as_str().into());
        match (endpoint, header, msi_endpoint, msi_secret) {
            (Some(endpoint), Some(header), ..) => Self::app_service_or_fabric(env, &endpoint, header),
            (_, _, Some(endpoint), Some(secret)) => Ok(Self::AzureMl {
                endpoint: url("MSI_ENDPOINT", &endpoint)?,
                secret: checked_header("MSI_SECRET", secret)?,
                default: default_identity(env)?,
            }),
            (Some(endpoint), None, ..) if env.get("IMDS_ENDPOINT")?.is_some() => Ok(Self::Arc {
                endpoint: url("IDENTITY_ENDPOINT", &endpoint)?,
                keys: arc::key_dir(env)?.into(),
                assumed: false,
            }),
            (Some(_), None, ..) => Err(half("IDENTITY_ENDPOINT", "IDENTITY_HEADER").with_advice(
                "The platform sets both, or, on Azure Arc, IMDS_ENDPOINT with it. Pass on what it sets, or nothing of it.",
            )),
            (None, Some(_), ..) => Err(half("IDENTITY_HEADER", "IDENTITY_ENDPOINT")),
            (None, None, None, Some(_)) => Err(half("MSI_SECRET", "MSI_ENDPOINT")),
            _ if arc_is_installed(env) => {
                Ok(Self::Arc { endpoint: arc::ENDPOINT.into(), keys: arc::key_dir(env)?.into(), assumed: true })
            }
            (None, None, Some(endpoint), None) => {
                Ok(Self::CloudShell { endpoint: url("MSI_ENDPOINT", &endpoint)? })
            }
            (None, None, None, None) => {
                if env.get("IDENTITY_SERVER_THUMBPRINT")?.is_some() {
                    return Err(half("IDENTITY_SERVER_THUMBPRINT", "IDENTITY_ENDPOINT"));
                }
                // With IMDS_ENDPOINT alone, Microsoft's own clients ask IMDS.
                Ok(Self::Imds { origin: imds_origin(env)? })
            }
        }
    }

    fn app_service_or_fabric(env: &Env, endpoint: &str, header: String) -> Result<Self, Error> {
        const ENDPOINT: &str = "IDENTITY_ENDPOINT";
        const THUMBPRINT: &str = "IDENTITY_SERVER_THUMBPRINT";
        let header = checked_header("IDENTITY_HEADER", header)?;
        match env.get(THUMBPRINT)? {
            None => Ok(Self::AppService { endpoint: checked(ENDPOINT, endpoint)?.as_str().into(), header }),
            Some(text) => Ok(Self::ServiceFabric {
                endpoint: checked_https(ENDPOINT, endpoint)?.as_str().into(),
                secret: header,
                thumbprint: thumbprint(THUMBPRINT, &text)?,
            }),
        }
    }

    pub(super) fn kind(&self) -> PlatformKind {
        match self {
            Self::Imds { .. } => PlatformKind::Imds,
            Self::AppService { .. } => PlatformKind::AppService,
            Self::Arc { .. } => PlatformKind::Arc,
            Self::CloudShell { .. } => PlatformKind::CloudShell,
            Self::AzureMl { .. } => PlatformKind::AzureMl,
            Self::ServiceFabric { .. } => PlatformKind::ServiceFabric,
        }
    }

    /// Whether it can be asked for this identity. One that it would not heed is refused here: the token would be another's.
    pub(super) fn accepts(&self, id: &ManagedIdentityId) -> Result<(), Error> {
        let (takes, advice) = match (self, &id.0) {
            (_, IdentityKind::System) | (Self::Imds { .. } | Self::AppService { .. }, _) => return Ok(()),
            (Self::AzureMl { .. }, IdentityKind::ClientId(_)) => return Ok(()),
            (Self::AzureMl { .. }, _) => ("a client id only", "Name the identity by its client id."),
            (Self::Arc { .. }, _) => (
                "no identity by name: a machine has one, its own",
                "Ask for the system-assigned identity, and give that one the role.",
            ),
            (Self::CloudShell { .. }, _) => (
                "no identity by name: it answers for the person who opened the shell",
                "Ask for the system-assigned identity.",
            ),
            (Self::ServiceFabric { .. }, _) => (
                "no identity by name: which one an application has, its manifest says",
                "Ask for the system-assigned identity: it is the one that the manifest binds to this service.",
            ),
        };
        Err(Error::config(format!("managed identity: {} takes {takes}", self.kind().what()))
            .with_advice(advice))
    }

    /// The same with other key files, where it is one that has any.
    pub(super) fn set_arc_keys(&mut self, dir: &Path) {
        if let Self::Arc { keys, .. } = self {
            *keys = dir.into();
        }
    }

    pub(super) fn pool(&self) -> Pool {
        match self {
            Self::ServiceFabric { thumbprint, .. } => Pool::ServiceFabric { thumbprint: *thumbprint },
            _ => Pool::ManagedIdentity,
        }
    }

    pub(super) fn retries(&self) -> RetryPolicy {
        match self {
            Self::Imds { .. } => RetryPolicy::imds(),
            _ => RetryPolicy::managed_identity(),
        }
    }

    /// The request for a token of `resource`. `refused` is the hash of a token that is not to be given again, which two
    /// platforms can be told.
    pub(super) fn request(
        &self,
        id: &ManagedIdentityId,
        resource: &str,
        refused: Option<&str>,
    ) -> Result<Request<Bytes>, Error> {
        match self {
            Self::Imds { origin } => build(&format!("{origin}{IMDS_PATH}"), imds_request(id, resource)),
            Self::AppService { endpoint, header } => {
                build(endpoint, app_service_request(id, resource, header, refused))
            }
            Self::Arc { endpoint, .. } => build(endpoint, arc_request(resource)),
            Self::CloudShell { endpoint } => build(endpoint, cloud_shell_request(resource)),
            Self::AzureMl { endpoint, secret, default } => {
                let named = match &id.0 {
                    IdentityKind::ClientId(id) => Some(id),
                    _ => default.as_ref(),
                };
                build(endpoint, azure_ml_request(named, resource, secret))
            }
            Self::ServiceFabric { endpoint, secret, .. } => {
                build(endpoint, service_fabric_request(resource, secret, refused))
            }
        }
    }

    /// The request that finds out whether the platform is there, where its variables do not say so.
    pub(super) fn probe(&self) -> Option<Result<Request<Bytes>, Error>> {
        let Self::Imds { origin } = self else { return None };
        Some(build(&format!("{origin}{IMDS_PATH}"), imds_probe()))
    }

    /// Whose token is to come: what was asked for, or what stands for that here.
    pub(super) fn expected(&self, id: &ManagedIdentityId) -> ManagedIdentityId {
        match (self, id) {
            (Self::AzureMl { default: Some(default), .. }, id) if id.is_system() => {
                ManagedIdentityId(IdentityKind::ClientId(default.clone()))
            }
            (_, id) => id.clone(),
        }
    }
}

fn build(base: &str, asked: IdentityRequest) -> Result<Request<Bytes>, Error> {
    let separator = match base.contains('?') {
        _ if asked.query.is_empty() => "",
        true => "&",
        false => "?",
    };
    let method = if asked.form.is_some() { Method::POST } else { Method::GET };
    let is_form = asked.form.is_some();
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{base}{separator}{}", asked.query))
        .body(Bytes::from(asked.form.unwrap_or_default()))
        .map_err(|error| Error::config("managed identity: its endpoint is no URL").with_source(error))?;
    let headers = request.headers_mut();
    for (name, value) in asked.headers {
        let mut value = HeaderValue::from_str(value.expose())
            .map_err(|_| Error::config("managed identity: its secret is no value that a header may hold"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    if is_form {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(FORM_CONTENT_TYPE));
    }
    Ok(request)
}

fn default_identity(env: &Env) -> Result<Option<ClientId>, Error> {
    const VARIABLE: &str = "DEFAULT_IDENTITY_CLIENT_ID";
    let Some(text) = env.get(VARIABLE)? else { return Ok(None) };
    let parsed = ClientId::parse(text.trim());
    parsed
        .map(Some)
        .map_err(|_| Error::config(format!("{VARIABLE}: expected the client id of an identity, a GUID")))
}

fn half(set: &str, missing: &str) -> Error {
    Error::config(format!("{set} is set, but {missing} is not"))
        .with_advice("The platform sets both. Pass both on, or neither.")
}

/// Without the endpoint, whose query somebody may have put a secret into.
impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind().fmt(f)
    }
}
