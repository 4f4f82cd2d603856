//! A token service as a provider, with the weather of its forecast.

use std::{collections::HashMap, sync::Arc, sync::Mutex, time::Duration};

use entra_broker::{
    BoxFuture, Error, ErrorKind, FetchContext, Fetched, Grant, Identity, Now, Provider, Subject, TenantId,
    TokenRequest, UserAssertion,
};
use fastrand::Rng;

use super::{Forecast, Oracle, Target, WEATHERS, Weather, secs};

/// What all its tokens begin with, and nothing else does.
pub(crate) const SESAME: &str = "sesame";

/// Its tokens say nothing that a broker could read: what they are, the oracle knows.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    oracle: Arc<Oracle>,
    forecast: Arc<Forecast>,
    keys: Arc<HashMap<String, usize>>,
    rng: Arc<Mutex<Rng>>,
    /// The moment at which the run began.
    begin: Now,
    generation: u64,
}

impl Target {
    /// Of all that makes it a key.
    fn name(tenant: Option<&str>, user: Option<&str>, scope: &str) -> String {
        format!("{tenant:?} {user:?} {scope}")
    }

    pub(crate) fn request(&self) -> TokenRequest {
        let mut request = TokenRequest::new(self.scope).unwrap();
        if let Some(tenant) = self.tenant {
            request = request.tenant(TenantId::parse(tenant).unwrap());
        }
        if let Some(user) = &self.user {
            request = request.subject(Subject::OnBehalfOf(UserAssertion::new(user.as_str()).unwrap()));
        }
        request
    }
}

impl Service {
    /// The service of the broker that comes first.
    pub(crate) fn new(oracle: &Arc<Oracle>, forecast: Forecast, begin: Now, rng: Rng) -> Self {
        let name = |target: &Target| Target::name(target.tenant, target.user.as_deref(), target.scope);
        let keys = oracle.targets.iter().enumerate().map(|(key, target)| (name(target), key)).collect();
        Self {
            oracle: Arc::clone(oracle),
            forecast: Arc::new(forecast),
            keys: Arc::new(keys),
            rng: Arc::new(Mutex::new(rng)),
            begin,
            generation: oracle.generation(),
        }
    }

    /// The same service, for the broker of another generation.
    pub(crate) fn of(&self, generation: u64) -> Self {
        Self { generation, ..self.clone() }
    }

    fn draw(&self, range: std::ops::Range<u64>) -> u64 {
        self.rng.lock().unwrap().u64(range)
    }

    fn millis(&self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.draw(range))
    }

    fn weather(&self, key: usize) -> Weather {
        match self.forecast.at(self.oracle.time.now(), self.oracle.targets[key].tenant_number, key) {
            Weather::Changing => self.rng.lock().unwrap().choice(WEATHERS).unwrap(),
            weather => weather,
        }
    }

    fn delay(&self, weather: Weather) -> Duration {
        match weather {
            Weather::Slow => self.millis(1_000..15_000),
            Weather::VerySlow => self.millis(15_000..70_000),
            Weather::Silent => secs(86_400),
            // Nobody there, or a bug: that shows at once.
            Weather::Refused | Weather::Panics => Duration::ZERO,
            _ => self.millis(0..1_000),
        }
    }

    fn failure(&self, weather: Weather) -> Option<Error> {
        let error = match weather {
            Weather::Throttled => Error::new(ErrorKind::Throttled, "slow down"),
            Weather::Down => Error::new(ErrorKind::Unavailable, "down"),
            Weather::Refused => Error::new(ErrorKind::Unavailable, "nobody listens"),
            Weather::Garbage => Error::new(ErrorKind::Protocol, "no answer of a token service"),
            Weather::WrongSecret => Error::new(ErrorKind::Credential, "wrong secret"),
            Weather::NoSuchResource => Error::new(ErrorKind::Resource, "no such resource"),
            _ => return None,
        };
        let asks = matches!(weather, Weather::Throttled | Weather::Down) && self.draw(0..2) == 0;
        Some(if asks { error.with_retry_after(secs(self.draw(0..400))) } else { error })
    }

    fn life(&self, weather: Weather) -> Duration {
        match weather {
            Weather::Brief => self.millis(1..20_000),
            Weather::Expired => Duration::ZERO,
            Weather::Long if self.draw(0..4) == 0 => secs(100 * 365 * 86_400),
            Weather::Long => secs(self.draw(7_200..200_000)),
            Weather::Changing | Weather::Slow => secs(self.draw(60..7_300)),
            _ => secs(self.draw(3_000..9_000)),
        }
    }

    async fn answer(&self, cx: &FetchContext, key: usize) -> Result<Fetched, Error> {
        let challenge = cx.challenge().map(ToString::to_string);
        let fetch = self.oracle.fetch_begins(key, self.generation, cx.reason(), challenge);
        let sent = self.oracle.time.now();
        assert_eq!(cx.clock().now().mono(), sent, "the clock of the crate");
        let weather = self.weather(key);
        cx.clock().sleep(self.delay(weather)).await;
        if let Some(error) = self.failure(weather) {
            fetch.fails(&error);
            return Err(error);
        }
        if weather == Weather::Panics {
            // Without a word on stderr.
            std::panic::resume_unwind(Box::new("the service panics"));
        }
        let (text, sent, lives) = match self.oracle.last_given(key) {
            Some((text, left)) if weather == Weather::Repeats => (text, self.oracle.time.now(), left),
            _ => {
                let skew = if weather == Weather::Skewed { secs(self.draw(0..1_200)) } else { secs(600) };
                let text = format!("{SESAME}-{}-{}", fetch.number, self.draw(0..u64::MAX));
                (text, sent + skew - secs(600), self.life(weather))
            }
        };
        let since = self.begin.mono();
        let fetched = Fetched::new(text.as_str(), self.begin.after(sent - since), lives);
        let at = self.begin.after(sent + secs(self.draw(0..7_200)) - since);
        fetch.gives(&text, sent, lives);
        Ok(if weather == Weather::Hinted { fetched.refresh_at(at) } else { fetched })
    }
}

impl Provider for Service {
    fn identity(&self) -> Identity {
        Identity::local()
    }

    fn fetch<'a>(
        &'a self,
        cx: &'a FetchContext,
        request: &'a TokenRequest,
        grant: Grant,
    ) -> BoxFuture<'a, Result<Fetched, Error>> {
        let user = match &grant {
            Grant::OnBehalfOf(assertion) => Some(assertion.expose()),
            _ => None,
        };
        let tenant = request.requested_tenant().map(ToString::to_string);
        let name = Target::name(tenant.as_deref(), user, request.scopes().as_ref());
        Box::pin(self.answer(cx, self.keys[&name]))
    }
}
