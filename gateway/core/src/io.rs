//! What goes into a gateway and what comes out of it.

use std::collections::HashSet;

use herenow_protocol::api::Explanation;
use herenow_protocol::code::{CloseCode, ErrorCode};
use herenow_protocol::frame::{ClientFrame, FrameError};
use herenow_protocol::message::{
    ClaimCommand, Claimed, CoordinatorBeat, Delta, Ending, Fenced, GatewayBeat, ListRequest, ToGateway, Up,
};
use herenow_protocol::{
    Activity, CoordinatorId, DeviceId, DeviceKind, Partition, Presence, UserId, Version, WallTime,
};

/// The server's number for a connection; free to be used again after [`Input::Closed`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub u32);

/// The server's number for a request of a backend.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// Whom a token lets its bearer see. Oneself always.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Grants {
    /// Nobody else.
    #[default]
    Nobody,
    /// These.
    Some(Box<HashSet<UserId>>),
    /// Everybody.
    Everybody,
}

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Viewer {
    /// The user of the token, if the token is a person's.
    pub user: UserId,
    /// Whom it may see.
    pub grants: Grants,
}

impl Viewer {
    /// Denied unless granted; oneself always.
    #[must_use]
    pub fn may_see(&self, user: &UserId) -> bool {
        self.user == *user
            || match &self.grants {
                Grants::Nobody => false,
                Grants::Some(users) => users.contains(user),
                Grants::Everybody => true,
            }
    }
}

/// A session to open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opening {
    /// Whose session, and whom it may see.
    pub viewer: Viewer,
    /// On which device.
    pub device: DeviceId,
    /// Of which kind.
    pub kind: DeviceKind,
    /// What its person does; `None`: the client does not say, so it is active until `idle_after`.
    pub activity: Option<Activity>,
    /// When its token runs out.
    pub token_expires: WallTime,
}

/// Whether messages get through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BusEvent {
    /// They do, from now on; some may have been lost before.
    Connected,
    /// They do not.
    Disconnected,
    /// Some of what was for us was dropped.
    Lossy,
}

/// Everything that can happen to a gateway.
#[derive(Debug)]
pub enum Input {
    /// A connection was authenticated. Answered by a `welcome` frame, or by [`Output::Close`].
    Open(Slot, Box<Opening>),
    /// Bytes arrived that are no frame: a ping, or part of a frame.
    Heard(Slot),
    /// A frame arrived. `auth` comes back as [`Output::Verify`].
    Frame(Slot, ClientFrame),
    /// A text arrived that is no frame.
    BadFrame(Slot, FrameError),
    /// The token of an [`Output::Verify`] is good.
    Renewed {
        /// The session.
        slot: Slot,
        /// Of the `auth` frame.
        id: Option<u64>,
        /// Whose token it is, and whom it lets see.
        viewer: Viewer,
        /// When it runs out.
        token_expires: WallTime,
    },
    /// The token of an [`Output::Verify`] is not accepted.
    NotRenewed {
        /// The session.
        slot: Slot,
        /// Of the `auth` frame.
        id: Option<u64>,
        /// Why.
        code: ErrorCode,
    },
    /// The connection is gone. Also after [`Output::Close`] was carried out.
    Closed(Slot, Ending),
    /// A delta from an owner.
    Down(Delta),
    /// A message for this gateway.
    Message(ToGateway),
    /// A coordinator's sign of life.
    Beat(CoordinatorBeat),
    /// Something about the bus.
    Bus(BusEvent),
    /// A backend, or a person over REST, asks for users. Answered by [`Output::Answered`].
    Query {
        /// Comes back in the answer.
        ticket: Ticket,
        /// Who asks.
        viewer: Viewer,
        /// The users; at most 1,000.
        users: Vec<UserId>,
    },
    /// A backend sets a status. Answered by [`Output::ClaimDone`].
    Claim {
        /// Comes back in the answer.
        ticket: Ticket,
        /// Whose.
        user: UserId,
        /// What is claimed.
        command: ClaimCommand,
    },
    /// An operator asks why. Answered by [`Output::Explained`].
    Explain {
        /// Comes back in the answer.
        ticket: Ticket,
        /// Whose presence.
        user: UserId,
    },
    /// A backend asks for a page of a partition; the owner answers it directly.
    List(ListRequest),
    /// The process is about to stop: tell every client to come back within the window (milliseconds).
    Drain {
        /// The length of the window.
        within_ms: u64,
    },
    /// The process stops now: sessions that are left move too, and coordinators are told not to wait for this gateway.
    Leave,
}

/// Everything a gateway can want done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// The session has something to send: call [`crate::Gateway::poll_transmit`] while its socket takes bytes.
    Ready(Slot),
    /// Send what waits, then close the connection, then say [`Input::Closed`]. The session is already over.
    Close(Slot, CloseCode),
    /// Check this token and say [`Input::Renewed`] or [`Input::NotRenewed`].
    Verify {
        /// The session.
        slot: Slot,
        /// Of the `auth` frame.
        id: Option<u64>,
        /// The token.
        token: String,
    },
    /// Publish to the owner of the message's partition.
    Up(Up),
    /// Publish a sign of life.
    Beat(GatewayBeat),
    /// Tell a coordinator that its epoch is over.
    Fenced(CoordinatorId, Fenced),
    /// Listen to the deltas of a partition.
    Subscribe(Partition),
    /// Stop listening to them.
    Unsubscribe(Partition),
    /// The answer to a query, in the order asked.
    Answered(Ticket, Vec<Presence>),
    /// The answer to a claim, with the version that any read will show from now on.
    ClaimDone(Ticket, Result<(Version, Claimed), ErrorCode>),
    /// The answer to an operator.
    Explained(Ticket, Result<Box<Explanation>, ErrorCode>),
}
