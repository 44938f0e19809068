//! A session as its owner counts it.

use herenow_protocol::{Activity, DeviceId, DeviceKind, MonoTime, Origin, SessionNumber, WallTime};

/// Who holds a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Holder {
    /// A gateway; the number is unique in its incarnation.
    Gateway(Origin, SessionNumber),
    /// This coordinator, for a backend: a virtual session, by the name the backend gave it.
    Virtual(Option<DeviceId>),
}

/// Until when a session counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lease {
    /// As long as its gateway says.
    Live,
    /// It was lost; it counts until the grace is over.
    Grace(MonoTime),
    /// It is virtual; it counts until its time is over.
    Virtual(MonoTime),
}

/// A session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// Who holds it.
    pub holder: Holder,
    /// On which device; the device that comes back ends the grace of its lost session.
    pub device: Option<DeviceId>,
    /// Of which kind.
    pub kind: DeviceKind,
    /// What its person does.
    pub activity: Activity,
    /// Since when.
    pub since: WallTime,
    /// Until when it counts.
    pub lease: Lease,
    /// It was lost with a gateway that never confirmed it after a doubt: when its owner was last sure of it.
    pub unconfirmed: Option<WallTime>,
    /// Its device was heard to open another one.
    pub followed: Option<Followed>,
}

/// What is known of the session that a device opened after another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Followed {
    /// It was heard to open then.
    By(MonoTime),
    /// The same, and has taken its leave.
    Left(MonoTime),
}

impl Followed {
    /// When the later session was heard to open.
    #[must_use]
    pub const fn opened(self) -> MonoTime {
        match self {
            Self::By(at) | Self::Left(at) => at,
        }
    }
}

impl Session {
    /// Whether it counts at `now`.
    #[must_use]
    pub fn counts(&self, now: MonoTime) -> bool {
        self.ends().is_none_or(|end| now < end)
    }

    /// When it stops counting by itself.
    #[must_use]
    pub const fn ends(&self) -> Option<MonoTime> {
        match self.lease {
            Lease::Live => None,
            Lease::Grace(until) | Lease::Virtual(until) => Some(until),
        }
    }

    /// The device of another session has taken its leave: whether this one, which that had followed, ends with it. If it
    /// is not heard to be lost yet, that is noted.
    pub(crate) fn leaves_with(&mut self, other: &Self) -> bool {
        let followed = self.followed.filter(|_| self.device == other.device);
        let Some(followed) = followed else { return false };
        self.followed = Some(Followed::Left(followed.opened()));
        !self.is_live()
    }

    /// Whether it was lost and its device is live in another of `sessions`, which says better what its person does.
    #[must_use]
    pub fn is_stood_for(&self, sessions: &[Self]) -> bool {
        let back = !self.is_live() && self.followed.is_some();
        back && sessions.iter().any(|other| other.is_live() && other.device == self.device)
    }

    /// Whether a gateway holds it and has not lost it.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self.lease, Lease::Live)
    }

    /// Whether it is the session of this number at this gateway's life.
    #[must_use]
    pub fn is(&self, origin: &Origin, number: SessionNumber) -> bool {
        matches!(&self.holder, Holder::Gateway(o, n) if *n == number && o == origin)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use herenow_protocol::{GatewayId, Incarnation};

    use super::*;

    pub(crate) fn origin(name: &str) -> Origin {
        let process = herenow_protocol::id::ProcessId::new(name).unwrap();
        Origin { gateway: GatewayId { process, shard: 0 }, incarnation: Incarnation(1) }
    }

    pub(crate) fn session(number: u64, activity: Activity) -> Session {
        Session {
            holder: Holder::Gateway(origin("g1"), SessionNumber(number)),
            device: None,
            kind: DeviceKind::Web,
            activity,
            since: WallTime::from_millis(0),
            lease: Lease::Live,
            unconfirmed: None,
            followed: None,
        }
    }
}
