//! What the tests of this room share.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use serde_json::Value;

use super::token::Asked;
use crate::{Authority, ClientId, ScopeSet, TenantId};

pub(super) const CLIENT: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
/// Stands in bodies, and must not be seen in any error. None of the bounded fields may hold such characters.
pub(super) const MARKER: &str = "m~rk+r/=";

pub(super) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_924_132)
}

pub(super) struct App {
    pub(super) authority: Authority,
    pub(super) tenant: TenantId,
    pub(super) client_id: ClientId,
    pub(super) scopes: ScopeSet,
}

impl App {
    pub(super) fn new() -> Self {
        Self {
            authority: Authority::public(),
            tenant: TenantId::parse("contoso.com").unwrap(),
            client_id: ClientId::parse(CLIENT).unwrap(),
            scopes: ScopeSet::parse("https://vault.azure.net/.default").unwrap(),
        }
    }

    pub(super) fn asked(&self) -> Asked<'_> {
        Asked {
            what: "the token service",
            authority: &self.authority,
            tenant: &self.tenant,
            client_id: &self.client_id,
            scopes: &self.scopes,
            for_user: false,
            sent: now(),
            now: now(),
        }
    }
}

/// Any JSON, with a liking for what looks almost right.
pub(super) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0..5000_i32).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[0-9]{1,12}|Bearer|ey[a-zA-Z0-9_.-]{1,9}|AADSTS[0-9]{1,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("code|message|\\PC{0,3}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A body: an object with names that matter and any values, or any bytes.
pub(super) fn body() -> impl Strategy<Value = Vec<u8>> {
    let names = "access_token|refresh_token|id_token|token_type|expires_in|expires_on|refresh_in|scope|client_info|\
                 client_id|error|error_description|error_codes|suberror|claims|trace_id|correlation_id|statusCode|\
                 message|correlationId|[a-z]{1,3}";
    let object = prop::collection::btree_map(names, value(), 0..9)
        .prop_map(|map| Value::Object(map.into_iter().collect()).to_string().into_bytes());
    prop_oneof![
        3 => object,
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => "[\\[\\]{}\",:a-e0-9\\\\]{0,100}".prop_map(String::into_bytes),
    ]
}
