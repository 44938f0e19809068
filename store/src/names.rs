//! Statuses and causes as the tables spell them, which is as JSON does.

use herenow_protocol::Status;
use herenow_protocol::api::Cause;

const STATUSES: [Status; 5] = [Status::Online, Status::Idle, Status::Dnd, Status::Offline, Status::Unknown];
const CAUSES: [Cause; 10] = [
    Cause::Connected,
    Cause::Activity,
    Cause::Left,
    Cause::GraceOver,
    Cause::Silent,
    Cause::Manual,
    Cause::Api,
    Cause::Expired,
    Cause::Erased,
    Cause::Rebuilt,
];

pub(crate) const fn of_status(status: Status) -> &'static str {
    match status {
        Status::Online => "online",
        Status::Idle => "idle",
        Status::Dnd => "dnd",
        Status::Offline => "offline",
        Status::Unknown => "unknown",
    }
}

pub(crate) const fn of_cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Connected => "connected",
        Cause::Activity => "activity",
        Cause::Left => "left",
        Cause::GraceOver => "grace_over",
        Cause::Silent => "silent",
        Cause::Manual => "manual",
        Cause::Api => "api",
        Cause::Expired => "expired",
        Cause::Erased => "erased",
        Cause::Rebuilt => "rebuilt",
    }
}

pub(crate) fn status(name: &str) -> Option<Status> {
    STATUSES.into_iter().find(|status| of_status(*status) == name)
}

pub(crate) fn cause(name: &str) -> Option<Cause> {
    CAUSES.into_iter().find(|cause| of_cause(*cause) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_json_and_are_read_back() {
        for one in STATUSES {
            assert_eq!(serde_json::to_value(one).unwrap(), of_status(one));
            assert_eq!(status(of_status(one)), Some(one));
        }
        for one in CAUSES {
            assert_eq!(serde_json::to_value(one).unwrap(), of_cause(one));
            assert_eq!(cause(of_cause(one)), Some(one));
        }
        assert_eq!((status("away"), cause("")), (None, None));
    }
}
