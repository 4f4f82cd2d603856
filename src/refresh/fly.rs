//! The task of a flight: the order of a fetch, and its landing.

use std::{convert::Infallible, time::Duration};

use super::{
    Engine, Entry, FORSAKEN, Phase, SILENCE, closed, count,
    flight::{Flight, Lead, Outcome, Slow},
    holds::{Hold, Width},
};
use crate::{
    BoxFuture,
    claims::Claims,
    clock::{Now, nanos},
    error::{Blame, Error, ErrorKind},
    fetched::{Fetched, Grant, Reason},
    request::{Challenge, TokenRequest},
    subject::{Subject, sha256},
    sync::{Arc, select},
    token::{AccessToken, Timeline, Token},
};

/// One uncached fetch, as the engine knows it: no HTTP, no provider.
pub(crate) type Fetch = Arc<dyn Fn(Job) -> BoxFuture<'static, Result<Fetched, Error>> + Send + Sync>;

/// What is to be fetched, and within what.
pub(crate) struct Job {
    pub(crate) request: TokenRequest,
    pub(crate) grant: Grant,
    pub(crate) reason: Reason,
    /// A caller waits for it who has no token.
    pub(crate) attended: bool,
    pub(crate) challenge: Option<Claims>,
    /// What the caller who began it said that it is for.
    pub(crate) label: Option<Box<str>>,
    pub(crate) previous: Option<AccessToken>,
    /// SHA-256 of one that was refused and must not come back.
    pub(crate) refused: Option<[u8; 32]>,
    pub(crate) deadline: Now,
    /// Asked before anything is sent: whether this flight still leads, and nothing has been learnt meanwhile that
    /// makes sending futile.
    pub(crate) gate: Arc<dyn Fn() -> Result<(), Error> + Send + Sync>,
    /// Draws from 0..1, for the spread of retries.
    pub(crate) random: Arc<dyn Fn() -> f64 + Send + Sync>,
}

/// When a refresh is tried again that was cut short.
const AGAIN: Duration = Duration::from_secs(1);

/// How often a leader gives a sign of life.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);

pub(super) async fn fly(lead: Lead) {
    let engine = Arc::clone(&lead.engine);
    let flight = Arc::clone(&lead.flight);
    let deadline = engine.clock.now().after(engine.budget);
    let mut phase = engine.phase.subscribe();
    let result = select! {
        biased;
        _ = phase.wait_for(|phase| match phase {
            Phase::Open => false,
            Phase::Draining => !flight.is_durable(),
            Phase::Closed => true,
        }) => Err(closed()),
        result = engine.fetch_in_order(&lead, deadline) => result,
        () = engine.clock.sleep_until(deadline) => Err(too_long(engine.budget)),
        never = heartbeat(&lead) => match never {},
    };
    lead.land(result);
}

/// Never ends. While the leader's runtime runs, so does this, and nobody takes over.
async fn heartbeat(lead: &Lead) -> Infallible {
    let clock = &lead.engine.clock;
    loop {
        clock.sleep(HEARTBEAT).await;
        if lead.flight.term() == lead.term {
            lead.flight.prolong(clock.now().after(SILENCE));
            lead.engine.holds.prolong(lead.cell.key(), lead.flight.number, lead.flight.alive_until());
            lead.cell.set_quiet_until(lead.flight.alive_until().nanos());
        }
    }
}

/// How a flight comes to its end.
pub(super) enum Landing {
    Fetched(Result<Fetched, Error>),
    Panicked,
    /// The runtime dropped the task, or the machine slept.
    Gone,
    /// The broker is closed. A flight that spends something which must not be lost flies on.
    Closed,
}

impl Landing {
    fn failed(error: Error) -> Self {
        Self::Fetched(Err(error))
    }
}

fn panicked() -> Error {
    Error::new(ErrorKind::Unavailable, "the provider panicked while it fetched a token")
        .with_blame(Blame::Program)
        .with_advice("This is a bug in the provider: the panic's message says where.")
}

fn too_long(budget: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("the fetch was given up after {} s", budget.as_secs_f32()))
        .with_advice(
            "See whether the token service can be reached from here, and how long it takes to answer.",
        )
}

impl Engine {
    /// Everywhere the same order: shared level, lease of the grant or of the key, shared level again, fetch, the
    /// rotated refresh token kept, shared level put. The process cache, before and after, is the caller's.
    async fn fetch_in_order(self: &Arc<Self>, lead: &Lead, deadline: Now) -> Result<Fetched, Error> {
        let (key, flight) = (lead.cell.key(), &lead.flight);
        let previous = lead.cell.peek().map(AccessToken);
        // What a challenge demands, no other machine can know of.
        let newer = async || match flight.challenge {
            None => self.shared.newer(key, previous.as_ref()).await,
            Some(_) => None,
        };
        if let Some(fetched) = newer().await {
            return Ok(fetched);
        }
        let lease = match &flight.subject {
            Subject::App => None,
            subject => Some(self.grants.take(subject, deadline).await?),
        };
        let _until_the_end = match key.subject() {
            Subject::App => Some(self.shared.lease(key, deadline).await?),
            // Its refresh token may rotate, and the new one must not be lost.
            Subject::User(_) => lead.set_durable().map(|()| None)?,
            Subject::OnBehalfOf(_) => None,
        };
        if let Some(fetched) = newer().await {
            return Ok(fetched);
        }
        let gate = {
            let (engine, cell, flight) = (Arc::clone(self), Arc::clone(&lead.cell), Arc::clone(flight));
            let term = lead.term;
            Arc::new(move || engine.may_send(&cell, &flight, term))
        };
        gate()?;
        let job = Job {
            request: TokenRequest::of(key.asked_by(flight.subject.clone())),
            grant: lease.as_ref().map_or(Grant::App, |lease| lease.grant.clone()),
            reason: flight.reason,
            attended: flight.attended,
            challenge: flight.challenge.as_ref().and_then(Challenge::claims).cloned(),
            label: flight.label.clone(),
            previous,
            refused: lead.cell.slow(|slow| slow.refused),
            deadline,
            gate,
            random: {
                let engine = Arc::clone(self);
                Arc::new(move || engine.draw())
            },
        };
        count(&self.counters.fetches);
        let fetched = (self.fetch)(job).await?;
        if let Some(lease) = lease {
            self.grants.commit(lease, &fetched).await?;
        }
        self.shared.put(key, &fetched).await;
        Ok(fetched)
    }

    /// See [`Job::gate`].
    fn may_send(&self, cell: &Entry, flight: &Flight, term: u64) -> Result<(), Error> {
        if flight.term() != term {
            return Err(Error::new(ErrorKind::Timeout, "another fetch has taken this one's place"));
        }
        let is_it = |current: &Arc<Flight>| std::ptr::eq(&raw const **current, flight);
        if !cell.slow(|slow| slow.flight.as_ref().is_some_and(is_it)) {
            // It was ended while its task was busy, by who closed the engine.
            return Err(closed());
        }
        self.holds.check(cell.key(), None, self.clock.now(), flight.number).map_or(Ok(()), Err)
    }

    /// The one place where a flight ends.
    pub(super) fn land(
        self: &Arc<Self>,
        cell: &Arc<Entry>,
        flight: &Arc<Flight>,
        term: u64,
        landing: Landing,
    ) {
        let now = self.clock.now();
        let outcome = cell.slow(|slow| {
            let current = slow.flight.as_ref().is_some_and(|current| Arc::ptr_eq(current, flight));
            let spared = matches!(landing, Landing::Closed) && flight.is_durable();
            if !current || flight.term() != term || spared {
                return None;
            }
            slow.flight = None;
            cell.set_flying(false);
            cell.set_quiet_until(0);
            let accepted = match landing {
                Landing::Fetched(Ok(fetched)) => self.accept(cell, flight, slow.refused, &fetched, now),
                Landing::Closed => Err(Landing::failed(closed())),
                landing => Err(landing),
            };
            Some(match accepted {
                Ok(token) => {
                    slow.hold = None;
                    slow.refused = None;
                    Outcome::Token(token)
                }
                Err(Landing::Fetched(Err(error))) => {
                    self.remember(cell, flight, &mut slow.hold, &error, now);
                    Outcome::Failed(error)
                }
                Err(Landing::Panicked) => {
                    self.forget(cell, flight, slow, now);
                    Outcome::Failed(panicked())
                }
                Err(Landing::Fetched(Ok(_)) | Landing::Gone | Landing::Closed) => {
                    self.forget(cell, flight, slow, now);
                    Outcome::Interrupted
                }
            })
        });
        let Some(outcome) = outcome else { return };
        self.report(cell, flight, &outcome);
        flight.finish(outcome);
        self.flying.send_modify(|flying| *flying -= 1);
        self.leave_background(flight);
    }

    /// Makes a token of what was fetched and puts it in the cell.
    fn accept(
        &self,
        cell: &Arc<Entry>,
        flight: &Flight,
        refused: Option<[u8; 32]>,
        fetched: &Fetched,
        now: Now,
    ) -> Result<AccessToken, Landing> {
        let timeline = Timeline::new(fetched.sent, fetched.lives, fetched.refresh_in, self.draw());
        if now.nanos() >= timeline.expiry() {
            if now.has_reached(flight.started.after(self.budget)) {
                // The machine slept meanwhile: what came says nothing of the source.
                return Err(Landing::Gone);
            }
            let error = Error::new(ErrorKind::Protocol, "the token that came back has already expired")
                .with_blame(Blame::Service)
                .with_advice("Compare this machine's clock with the service's.");
            return Err(Landing::failed(error));
        }
        let text = fetched.token.expose();
        let again = match flight.challenge {
            Some(_) => cell.peek().is_some_and(|token| token.secret() == text),
            None => false,
        };
        if again || refused.is_some_and(|refused| refused == sha256(text)) {
            let error = Error::new(ErrorKind::TokenRefused, "the source returned a token again that was refused")
                .with_advice(
                    "Most managed-identity endpoints keep a token for hours and cannot be told to renew it: a new role or \
                     a revoked session shows when that token ends.",
                );
            return Err(Landing::failed(error));
        }
        let token = Token::new(text, fetched.scopes.clone(), timeline, fetched.sent, cell.key());
        let token = Arc::new(token.map_err(Landing::failed)?);
        cell.publish(Arc::clone(&token));
        self.holds.succeeded(cell.key());
        self.scheduler.look_at(cell, timeline.due());
        Ok(AccessToken(token))
    }

    /// The flight ended and nothing was learnt of the source, so nothing is held. A token in use is tried again soon.
    fn forget(&self, cell: &Arc<Entry>, flight: &Flight, slow: &mut Slow, now: Now) {
        if let Some(hold) = &mut slow.hold {
            hold.leave(flight.number);
        }
        self.holds.leave(cell.key(), flight.number, false);
        self.scheduler.look_at(cell, now.after(AGAIN).nanos());
    }

    /// Keeps a failure at the width of its cause, and what is left of the token for as long as it lives.
    fn remember(&self, cell: &Arc<Entry>, flight: &Flight, hold: &mut Option<Hold>, error: &Error, now: Now) {
        let key = cell.key();
        // What the gate said. The error of a broker that the provider asks may look the same, and is a failure.
        let gated = |hold: &Option<Hold>| self.holds.check(key, hold.as_ref(), now, flight.number).is_some();
        let not_sent = self.phase.borrow().is_over() || (error.held_for().is_some() && gated(hold));
        let answered = !not_sent && error.status().is_some() && Width::of(error) != Width::Service;
        let until = if not_sent {
            self.holds.until(key).unwrap_or_default()
        } else {
            let random = self.draw();
            self.holds.failed(key, error, flight.started, now, random).unwrap_or_else(|| {
                let next = Hold::after(error.clone(), hold.as_ref(), flight.started, now, random);
                hold.insert(next).until()
            })
        };
        if let Some(hold) = hold {
            hold.leave(flight.number);
        }
        self.holds.leave(key, flight.number, answered);
        cell.set_quiet_until(until);
        // A token in use is worth another try when the hold ends; a key that never had one waits for a caller.
        let forsaken =
            |token: &Arc<Token>| now.nanos() >= token.timeline().expiry().saturating_add(nanos(FORSAKEN));
        let kept = if cell.peek().is_none_or(|token| forsaken(&token)) { nanos(FORSAKEN) } else { 0 };
        self.scheduler.look_at(cell, until.max(now.nanos()).saturating_add(kept));
    }

    fn report(&self, cell: &Entry, flight: &Flight, outcome: &Outcome) {
        let (scopes, reason) = (cell.key().scopes(), flight.reason);
        match outcome {
            Outcome::Token(token) => {
                if flight.refreshes {
                    count(&self.counters.refreshes);
                }
                let expires_on = token.expires_on();
                tracing::debug!(%scopes, ?reason, ?expires_on, "token fetched");
            }
            Outcome::Failed(error) if error.kind() == ErrorKind::Closed || error.held_for().is_some() => {
                tracing::debug!(%scopes, ?reason, %error, "fetch not sent");
            }
            Outcome::Failed(error) => {
                count(&self.counters.failures);
                let kind = error.kind().name();
                tracing::warn!(%scopes, ?reason, kind, %error, advice = error.advice(), "fetch failed");
            }
            Outcome::Interrupted => {
                count(&self.counters.failures);
                tracing::warn!(%scopes, ?reason, "fetch interrupted: its runtime went away");
            }
        }
    }
}
