//! On behalf of: an API exchanges the token that it was called with for one to call further.

use crate::emulator::answer::Answer;
use crate::emulator::directory::Place;
use crate::emulator::error::EntraError;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;

pub(crate) async fn redeem(_core: &Core, _asked: &Asked, _place: Place) -> Result<Answer, EntraError> {
    Err(EntraError::aadsts(50013))
}
