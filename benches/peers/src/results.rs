//! What was found, as it is written down: tables and pictures are made of it, and can be made again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// By contestant.
pub(crate) type Figures = BTreeMap<String, f64>;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    /// As little as says what to make of the figures.
    pub(crate) machine: String,
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub(crate) hits: Option<Hits>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scale: Option<Scale>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<Latency>,
}

impl Results {
    /// What is missing here, from there.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            machine: self.machine,
            hits: self.hits.or(other.hits),
            scale: self.scale.or(other.scale),
            latency: self.latency.or(other.latency),
        }
    }
}

/// One key, read again and again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hits {
    pub(crate) windows: usize,
    pub(crate) hit_ns: Figures,
    pub(crate) total_mops_2_threads: Figures,
    pub(crate) allocs_per_hit: Figures,
    pub(crate) bytes_per_hit: Figures,
}

/// Many keys, read at random.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Scale {
    pub(crate) windows: usize,
    pub(crate) sizes: Vec<Size>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) keys: usize,
    pub(crate) hit_ns: Figures,
    pub(crate) total_mops_2_threads: Figures,
    /// How long it took to fetch or insert all of them, one after the other.
    pub(crate) fill_seconds: Figures,
    /// What stays allocated for a key, beyond the token's own bytes.
    pub(crate) bytes_per_key: Figures,
}

/// Calls all the time, while tokens are refreshed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// How many tasks call.
    pub(crate) tasks: usize,
    pub(crate) scenarios: Vec<Scenario>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// The service, the tokens' lives, and why.
    pub(crate) what: String,
    pub(crate) runs: BTreeMap<String, Run>,
}

/// One contestant in one scenario.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    /// Calls that were Pending when first polled.
    pub(crate) waited: u64,
    /// Those of them that had a token which had not come to its last call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waited_before_last_call: Option<u64>,
    pub(crate) over_1_ms: u64,
    pub(crate) over_50_ms: u64,
    /// Of the tasks' time, how much went into calls of over a millisecond.
    pub(crate) percent_of_time_over_1_ms: f64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
    pub(crate) max_ns: u64,
    /// What the token service saw, and how much of it it answered with an error.
    pub(crate) requests: u64,
    pub(crate) failed_requests: u64,
    /// One call in so many took at least so many nanoseconds.
    pub(crate) curve: Vec<(u64, u64)>,
}
