//! Each scenario on its own, so that they run side by side and fail by name.

use entra_broker_model_engine::scenarios;

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            scenarios::$name();
        })*
    };
}

scenarios! {
    callers_and_scheduler_refresh_at_once
    callers_share_one_fetch
    a_leader_is_dropped
    a_provider_panics
    a_token_is_refused_while_it_is_refreshed
    an_entry_is_evicted_in_flight
    two_keys_share_one_grant
    the_engine_is_closed
    the_engine_ends_at_once
    callers_give_up
    a_silent_leader_is_taken_over_and_wakes_up
    challenges_join_their_like
    refreshes_wait_for_a_place
    everything_at_once
}
