//! Client assertions.

use crate::emulator::directory::App;
use crate::emulator::error::EntraError;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;

/// Whether an assertion proves that it comes from the app.
pub(crate) async fn verify(
    _core: &Core,
    _asked: &Asked,
    _app: &App,
    _tenant: &str,
    _assertion: &str,
) -> Result<(), EntraError> {
    Err(EntraError::aadsts(700027))
}
