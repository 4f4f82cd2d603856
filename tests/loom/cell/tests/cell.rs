//! Each model on its own, so that they run side by side and fail by name.

use entra_broker_model_cell::models;

macro_rules! models {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            models::$name();
        })*
    };
}

models! {
    a_first_token_comes
    a_remembered_token_is_replaced
    a_remembered_token_is_withdrawn
    a_token_is_withdrawn_while_it_is_learnt
    a_token_is_withdrawn_while_another_comes
    two_tokens_come_at_once
    a_reader_follows_two_writers
    a_token_comes_while_its_entry_is_evicted
    a_remembered_entry_is_evicted
    a_reader_of_its_own_sees_a_withdrawal
    a_reader_of_its_own_follows_its_entry
    a_request_follows_its_entry
    marks_and_quiet_times_race
}
