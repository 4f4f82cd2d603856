//! A token taken apart. Nothing in it is to be believed before its signature was checked.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

/// What servers let a header have: 8 KiB (nginx) to 32 KiB (Kestrel). Tokens of Entra stay below 10 KiB: they hold no more
/// than 200 groups.
pub(super) const LONGEST: usize = 16 * 1024;

/// The parts of a compact JWS.
pub(super) struct Jws<'a> {
    /// What the signature is over.
    pub(super) signed: &'a str,
    pub(super) signature: Vec<u8>,
    pub(super) header: Header,
    pub(super) claims: Claims,
    /// The claims as they came.
    pub(super) payload: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) algorithm: Option<Box<str>>,
    pub(super) key: Option<Box<str>>,
}

/// The claims that this crate knows.
#[derive(Debug, Default, Clone)]
pub(super) struct Claims {
    pub(super) issuer: Option<Box<str>>,
    pub(super) audiences: Vec<Box<str>>,
    pub(super) expires: Option<SystemTime>,
    pub(super) begins: Option<SystemTime>,
    pub(super) tenant: Option<Box<str>>,
    pub(super) object: Option<Box<str>>,
    pub(super) subject: Option<Box<str>>,
    pub(super) azp: Option<Box<str>>,
    pub(super) appid: Option<Box<str>>,
    pub(super) scopes: Vec<Box<str>>,
    pub(super) roles: Vec<Box<str>>,
    pub(super) kind: Option<Box<str>>,
    pub(super) version: Option<Box<str>>,
}

impl<'a> Jws<'a> {
    /// # Errors
    /// Why it is none that could be taken, without any of its text.
    pub(super) fn read(token: &'a str) -> Result<Self, &'static str> {
        if token.len() > LONGEST {
            return Err("it is longer than 16 KiB");
        }
        let three = "it is not a signed JWT of three parts";
        let (signed, signature) = token.rsplit_once('.').ok_or(three)?;
        let (header, payload) = signed.split_once('.').ok_or(three)?;
        if payload.contains('.') {
            return Err(three);
        }
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| "it is not base64url");
        let header: HeaderRead = serde_json::from_slice(&decode(header)?)
            .map_err(|_| "its header is not a JSON object with each name once")?;
        let header = header.0?;
        let payload = decode(payload)?;
        let claims = serde_json::from_slice(&payload).map_err(
            |_| "its claims are not a JSON object with each name once, and of the types they should have",
        )?;
        Ok(Self { signed, signature: decode(signature)?, header, claims, payload })
    }
}

/// A header, or why none is taken that is like this.
struct HeaderRead(Result<Header, &'static str>);

/// A name that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether a name stands there twice: two readers of such an object may believe different values.
fn has_twice(names: &mut [Cow<'_, str>]) -> bool {
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

/// Reads an object member by member, each name once.
fn each<'de, A: MapAccess<'de>>(
    mut map: A,
    mut read: impl FnMut(&str, &mut A) -> Result<bool, A::Error>,
) -> Result<(), A::Error> {
    let mut names = Vec::with_capacity(32);
    while let Some(Borrowed(name)) = map.next_key::<Borrowed<'de>>()? {
        if !read(&name, &mut map)? {
            map.next_value::<IgnoredAny>()?;
        }
        names.push(name);
    }
    if has_twice(&mut names) { Err(serde::de::Error::custom("twice")) } else { Ok(()) }
}

impl<'de> Deserialize<'de> for HeaderRead {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = HeaderRead;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HeaderRead, A::Error> {
                let mut header = Header::default();
                let mut refused = None;
                each(map, |name, map| {
                    match name {
                        "alg" => header.algorithm = map.next_value()?,
                        "kid" => header.key = map.next_value()?,
                        // Who brings a key along can sign with it.
                        "jwk" | "jku" | "x5u" | "x5c" => refused = Some("its header brings a key of its own"),
                        // None of them is known here, and what is critical has to be understood.
                        "crit" => refused = Some("its header has critical extensions"),
                        _ => {}
                    }
                    Ok(matches!(name, "alg" | "kid"))
                })?;
                Ok(HeaderRead(refused.map_or(Ok(header), Err)))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Claims, A::Error> {
                let mut claims = Claims::default();
                each(map, |name, map| {
                    match name {
                        "iss" => claims.issuer = map.next_value()?,
                        "aud" => claims.audiences = map.next_value::<OneOrMany>()?.into(),
                        "exp" => claims.expires = Some(map.next_value::<Moment>()?.0),
                        "nbf" => claims.begins = Some(map.next_value::<Moment>()?.0),
                        "tid" => claims.tenant = map.next_value()?,
                        "oid" => claims.object = map.next_value()?,
                        "sub" => claims.subject = map.next_value()?,
                        "azp" => claims.azp = map.next_value()?,
                        "appid" => claims.appid = map.next_value()?,
                        "scp" => claims.scopes = map.next_value::<OneOrMany>()?.into(),
                        "roles" => claims.roles = map.next_value::<OneOrMany>()?.into(),
                        "idtyp" => claims.kind = map.next_value()?,
                        "ver" => claims.version = map.next_value()?,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                Ok(claims)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Box<str>),
    Many(Vec<Box<str>>),
}

impl From<OneOrMany> for Vec<Box<str>> {
    fn from(read: OneOrMany) -> Self {
        match read {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

/// Seconds since 1970: a number, and no text.
struct Moment(SystemTime);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let since = Duration::try_from_secs_f64(f64::deserialize(deserializer)?);
        let moment = since.ok().and_then(|since| UNIX_EPOCH.checked_add(since));
        moment.map(Self).ok_or_else(|| serde::de::Error::custom("no moment"))
    }
}
