//! Gets records of one topic, gives them to the route that takes them: topic and event type → handler.

pub(crate) mod router;
pub(crate) mod event_type;
pub(crate) mod order;
pub(crate) mod route;
pub(crate) mod bound_route;
