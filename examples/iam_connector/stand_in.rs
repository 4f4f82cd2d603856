//! A stand-in for Graph or Resource Manager: pages of items, for those whose token is good.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use entra_broker::{
    Authority, Clock, Env, TokenValidator, TrustedIssuer,
    emulator::{Emulator, sample},
};
use http::{
    Request, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::Failure;

/// What an API wants of a token besides that it is good.
#[derive(Clone, Copy)]
pub(crate) enum Demand {
    /// One that was made from now on, said in a claims challenge.
    Claims,
    /// The same, left unsaid.
    Another,
}

/// A stand-in for Graph or Resource Manager, which gives its items in pages of 20.
pub(crate) struct StandIn {
    desk: Arc<Desk>,
    pub(crate) origin: String,
}

struct Desk {
    validator: TokenValidator,
    clock: Clock,
    next: &'static str,
    items: usize,
    demand: Mutex<Option<(u64, Demand)>>,
    seen: Mutex<BTreeSet<SystemTime>>,
    refused: AtomicUsize,
}

impl StandIn {
    pub(crate) async fn start(
        entra: &Emulator,
        clock: &Clock,
        audience: &str,
        next: &'static str,
        items: usize,
    ) -> Result<Self, Failure> {
        let authority = Authority::dangerous().allow_plain_http(entra.authority())?;
        let validator = TokenValidator::builder()
            .issuer(TrustedIssuer::tenant(&authority, sample::TENANT)?)
            .audiences([audience])
            .clock(clock.clone())
            .clock_skew(Duration::ZERO)
            .env(Env::empty())
            .build()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let desk = Arc::new(Desk {
            validator,
            clock: clock.clone(),
            next,
            items,
            demand: Mutex::default(),
            seen: Mutex::default(),
            refused: AtomicUsize::new(0),
        });
        tokio::spawn(serve(listener, Arc::clone(&desk), origin.clone()));
        Ok(Self { desk, origin })
    }

    pub(crate) fn demand(&self, demand: Demand) {
        *self.desk.demand.lock().unwrap_or_else(PoisonError::into_inner) = Some((self.desk.now(), demand));
    }

    pub(crate) fn tokens(&self) -> usize {
        self.desk.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn refused(&self) -> usize {
        self.desk.refused.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, desk: Arc<Desk>, origin: String) {
    while let Ok((stream, _)) = listener.accept().await {
        let (desk, origin) = (Arc::clone(&desk), origin.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (desk, origin) = (Arc::clone(&desk), origin.clone());
            async move { Ok::<_, Infallible>(desk.answer(&request, &origin).await) }
        });
        // A client that goes away is nobody's mistake.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

impl Desk {
    async fn answer(&self, request: &Request<Incoming>, origin: &str) -> Response<Full<Bytes>> {
        let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = authorization.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if let Err(challenge) = self.look_at(token).await {
            self.refused.fetch_add(1, Ordering::SeqCst);
            let mut refusal = Response::new(Full::default());
            *refusal.status_mut() = StatusCode::UNAUTHORIZED;
            if let Ok(challenge) = challenge.try_into() {
                refusal.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            return refusal;
        }
        let query = request.uri().query().unwrap_or_default();
        let from = query.split("skiptoken=").nth(1).and_then(|from| from.parse().ok()).unwrap_or(0_usize);
        let to = self.items.min(from + 20);
        let mut page = json!({ "value": (from..to).map(|id| json!({ "id": id })).collect::<Vec<_>>() });
        if to < self.items {
            page[self.next] = format!("{origin}{}?skiptoken={to}", request.uri().path()).into();
        }
        Response::new(Full::new(page.to_string().into()))
    }

    /// Whether the token is good; if it is not, the challenge that says why.
    async fn look_at(&self, token: &str) -> Result<(), String> {
        let invalid = || "Bearer error=\"invalid_token\"".to_owned();
        let token = self.validator.validate(token).await.map_err(|_| invalid())?;
        let claims: Value = token.claims().map_err(|_| invalid())?;
        let demand = *self.demand.lock().unwrap_or_else(PoisonError::into_inner);
        match demand.filter(|(not_before, _)| claims["nbf"].as_u64() < Some(*not_before)) {
            Some((not_before, Demand::Claims)) => {
                let wanted = json!({ "access_token": { "nbf": { "essential": true, "value": not_before.to_string() } } });
                let wanted = STANDARD.encode(wanted.to_string());
                Err(format!("Bearer error=\"insufficient_claims\", claims=\"{wanted}\""))
            }
            Some((_, Demand::Another)) => Err(invalid()),
            None => {
                self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(token.expires_on());
                Ok(())
            }
        }
    }

    fn now(&self) -> u64 {
        self.clock.now().wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}
