//! What users granted: sign-ins, authorization codes, refresh tokens, device codes. All in memory, all bounded.

use crate::emulator::directory::Requirement;
use crate::emulator::ids;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, SystemTime};

/// So many of each kind are kept; the oldest make room.
const KEPT: usize = 100_000;
/// So many of those that live for minutes, and that anyone can begin.
const KEPT_BRIEFLY: usize = 10_000;

/// How long an authorization code can be redeemed.
pub(crate) const CODE_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// How long a device code can be approved and redeemed.
pub(crate) const DEVICE_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// A refresh token ends when it is not used for so long.
pub(crate) const REFRESH_IDLE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// A refresh token of a single-page app ends so long after the sign-in, used or not.
pub(crate) const REFRESH_SPA: Duration = Duration::from_secs(24 * 60 * 60);

/// A user who proved who he is, once, in one tenant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SignedIn {
    /// Names the sign-in, as the `sid` claim does.
    pub(crate) sid: String,
    /// The user principal name.
    pub(crate) user: String,
    /// The tenant that was signed in to.
    pub(crate) tenant: String,
    pub(crate) at: SystemTime,
    /// What was fulfilled on top of the password.
    pub(crate) fulfilled: BTreeSet<Requirement>,
    /// The user's count of revocations at the time.
    pub(crate) revoked: u64,
}

/// What an authorization code stands for.
#[derive(Debug, Clone)]
pub(crate) struct Code {
    pub(crate) client_id: String,
    /// To the letter as the authorize request had it.
    pub(crate) redirect_uri: String,
    pub(crate) spa: bool,
    pub(crate) signed_in: SignedIn,
    pub(crate) scope: String,
    pub(crate) nonce: Option<String>,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) claims: Option<String>,
    pub(crate) issued: SystemTime,
    pub(crate) redeemed: bool,
}

/// A PKCE challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Plain(String),
    S256(String),
}

/// What a refresh token stands for.
#[derive(Debug, Clone)]
pub(crate) struct RefreshToken {
    /// All refresh tokens that go back to one sign-in of one app.
    pub(crate) family: String,
    pub(crate) client_id: String,
    pub(crate) spa: bool,
    pub(crate) signed_in: SignedIn,
    /// What was asked for first, for a request that names no scope.
    pub(crate) scope: String,
    pub(crate) used: SystemTime,
    /// A newer one was given for it.
    pub(crate) replaced: bool,
}

/// What a device code stands for.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) user_code: String,
    pub(crate) client_id: String,
    /// The tenant of the request's path, as it was spelled.
    pub(crate) tenant: String,
    pub(crate) scope: String,
    pub(crate) claims: Option<String>,
    pub(crate) issued: SystemTime,
    pub(crate) interval: Duration,
    pub(crate) polled: Option<SystemTime>,
    pub(crate) state: DeviceState,
}

#[derive(Debug, Clone)]
pub(crate) enum DeviceState {
    Pending,
    Declined,
    Approved(SignedIn),
    Redeemed,
}

/// A map that forgets its oldest entries.
pub(crate) struct Bounded<K, V> {
    pub(crate) map: HashMap<K, V>,
    order: VecDeque<K>,
    kept: usize,
}

impl<K, V> Default for Bounded<K, V> {
    fn default() -> Self {
        Self::of(KEPT)
    }
}

impl<K, V> Bounded<K, V> {
    pub(crate) fn of(kept: usize) -> Self {
        Self { map: HashMap::new(), order: VecDeque::new(), kept }
    }
}

impl<K: Eq + Hash + Clone, V> Bounded<K, V> {
    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.map.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > self.kept {
            if let Some(oldest) = self.order.pop_front() {
                self.map.remove(&oldest);
            }
        }
    }
}

/// All grants of one emulator.
pub(crate) struct Grants {
    sign_ins: Mutex<Bounded<String, SignedIn>>,
    codes: Mutex<Bounded<String, Code>>,
    refresh_tokens: Mutex<Bounded<String, RefreshToken>>,
    revoked_families: Mutex<Bounded<String, ()>>,
    devices: Mutex<Bounded<String, Device>>,
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            sign_ins: Mutex::default(),
            codes: Mutex::new(Bounded::of(KEPT_BRIEFLY)),
            refresh_tokens: Mutex::default(),
            revoked_families: Mutex::default(),
            devices: Mutex::new(Bounded::of(KEPT_BRIEFLY)),
        }
    }
}

impl Grants {
    /// Remembers a sign-in, for assertions that name it by its `sid`.
    pub(crate) fn add_sign_in(&self, signed_in: &SignedIn) {
        self.sign_ins.lock().insert(signed_in.sid.clone(), signed_in.clone());
    }

    pub(crate) fn sign_in(&self, sid: &str) -> Option<SignedIn> {
        self.sign_ins.lock().map.get(sid).cloned()
    }

    pub(crate) fn add_code(&self, code: Code) -> String {
        let text = opaque("1.A");
        self.codes.lock().insert(text.clone(), code);
        text
    }

    pub(crate) fn code(&self, text: &str) -> Option<Code> {
        self.codes.lock().map.get(text).cloned()
    }

    /// Marks a code as redeemed; `false` where it was so already.
    pub(crate) fn redeem_code(&self, text: &str) -> bool {
        let mut codes = self.codes.lock();
        codes.map.get_mut(text).is_some_and(|code| !std::mem::replace(&mut code.redeemed, true))
    }

    pub(crate) fn add_refresh_token(&self, token: RefreshToken) -> String {
        let text = opaque("1.B");
        self.refresh_tokens.lock().insert(text.clone(), token);
        text
    }

    pub(crate) fn refresh_token(&self, text: &str) -> Option<RefreshToken> {
        self.refresh_tokens.lock().map.get(text).cloned()
    }

    /// Changes a refresh token in place.
    pub(crate) fn change_refresh_token<R>(
        &self,
        text: &str,
        change: impl FnOnce(&mut RefreshToken) -> R,
    ) -> Option<R> {
        self.refresh_tokens.lock().map.get_mut(text).map(change)
    }

    pub(crate) fn revoke_family(&self, family: &str) {
        self.revoked_families.lock().insert(family.to_owned(), ());
    }

    pub(crate) fn is_family_revoked(&self, family: &str) -> bool {
        self.revoked_families.lock().map.contains_key(family)
    }

    /// Returns the device code.
    pub(crate) fn add_device(&self, device: Device) -> String {
        let text = opaque("1.C");
        self.devices.lock().insert(text.clone(), device);
        text
    }

    /// Looks at a device code, or changes it.
    pub(crate) fn with_device<R>(&self, device_code: &str, look: impl FnOnce(&mut Device) -> R) -> Option<R> {
        self.devices.lock().map.get_mut(device_code).map(look)
    }

    /// The device code that belongs to what the user typed, however it is spaced and cased.
    pub(crate) fn device_by_user_code(&self, typed: &str) -> Option<(String, Device)> {
        let typed: String = typed.chars().filter(char::is_ascii_alphanumeric).collect();
        let typed = typed.to_ascii_uppercase();
        let devices = self.devices.lock();
        let found = devices.map.iter().find(|(_, device)| device.user_code == typed);
        found.map(|(code, device)| (code.clone(), device.clone()))
    }
}

/// A text that means nothing to anyone else.
pub(crate) fn opaque(prefix: &str) -> String {
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(ids::random::<48>()))
}

/// Nine letters and digits that a person can type, none of which looks like another.
pub(crate) fn user_code() -> String {
    const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    ids::random::<9>().iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}
