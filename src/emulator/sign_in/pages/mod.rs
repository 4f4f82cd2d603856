//! The pages themselves: plain HTML that works without script, with nothing from elsewhere.

mod account;
mod decide;
mod inform;
mod layout;

pub(crate) use account::{Known, SignInPage, choose, device, sign_in};
pub(crate) use decide::{approval, blocked, confirm, consent, proof, word};
pub(crate) use inform::{
    device_declined, device_done, device_gone, error, expired, explanation, form_post, front, signed_out,
};
pub(crate) use layout::Form;
