//! What a worker knows of a user and of a user's devices; a million of them shall fit.

use std::rc::Rc;

use super::plan::Moment;
use super::stream::Writer;

/// How a device is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Link {
    #[default]
    Off,
    /// An attempt runs.
    Opening,
    /// Welcome.
    Open,
    /// Said `bye`; the close is on its way.
    Leaving,
    /// Pretends to be dead.
    Dead,
    /// Lost against its will, and waits for another attempt.
    Waiting,
}

/// How a session ends that is not open yet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    Leave,
    Cut,
    Die,
}

/// A device of a user.
#[derive(Debug, Default)]
pub(super) struct Device {
    pub(super) link: Link,
    /// Counts its connections, so that what belongs to an earlier one is known.
    pub(super) generation: u32,
    pub(super) attempt: u8,
    /// It was idle in what the gateway heard last.
    pub(super) idle: bool,
    /// Snapshots that are not complete.
    pub(super) awaited: u16,
    /// What it does as soon as it is welcome.
    pub(super) then: Option<Then>,
    /// When it was meant to come; when it was welcome; when it wrote last.
    pub(super) meant: Moment,
    pub(super) welcome: Moment,
    pub(super) wrote: Moment,
    pub(super) writer: Option<Rc<Writer>>,
}

/// A user.
#[derive(Debug, Default)]
pub(super) struct Person {
    pub(super) devices: [Device; 2],
    pub(super) idle: bool,
    /// Whose frames are heard: the device that was welcome last.
    pub(super) watching: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_small() {
        assert!(size_of::<Person>() <= 104, "{}", size_of::<Person>());
    }
}
