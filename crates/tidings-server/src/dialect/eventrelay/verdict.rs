//! What holds for one event of a call, whichever of EventRelay's doors it came through.
//!
//! Owns: which faults are one event's own, told in its `errors`, and which are the whole call's. What was refused is
//! kept in `$dead`.

use crate::Door;
use tidings_engine::{DeadEvent, Error};
use tidings_model::{NewEvent, Principal};

/// The event, or what is wrong with it. `is_granted` where the caller may publish to its address for certain.
///
/// # Errors
/// What holds for the whole call.
pub fn verdict(
    door: &Door,
    who: &Principal,
    new: NewEvent,
    index: usize,
    is_granted: bool,
) -> Result<Result<NewEvent, Vec<String>>, Error> {
    let address = is_granted.then(|| new.topic.clone());
    match door.tidings.check(who, &new, index, address.as_ref()) {
        Ok(()) => Ok(Ok(new)),
        Err(Error::Event { source, .. }) => Ok(Err(vec![source.to_string()])),
        Err(Error::Schema { source, .. }) => Ok(Err(vec![source.to_string()])),
        Err(error @ (Error::EventTooLarge { .. } | Error::ScheduleTooFar { .. })) => {
            Ok(Err(vec![error.to_string()]))
        }
        Err(error) => Err(error),
    }
}

/// Keeps refused events. To be called last: what was accepted is answered also where this fails.
pub async fn bury(door: &Door, who: &Principal, dead: Vec<DeadEvent>) {
    if let Err(error) = door.tidings.bury(who, dead).await {
        tracing::error!(%error, "refused events could not be kept in $dead");
    }
}
