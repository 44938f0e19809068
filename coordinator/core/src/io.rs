//! What goes into a coordinator and what comes out of it.

use herenow_protocol::api::{Cause, Changes, PartitionPage, Problem};
use herenow_protocol::history::Opened;
use herenow_protocol::message::{CoordinatorBeat, Delta, Fenced, GatewayBeat, ToGateway, Up};
use herenow_protocol::record::Record;
use herenow_protocol::{
    CoordinatorId, Epoch, GatewayId, Partition, Presence, Status, UserId, UserKey, Version,
};

/// What the arbiter said to a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recorded {
    /// The claim is on record.
    Yes,
    /// The record has a higher epoch, or changed meanwhile: this is what it has now.
    Conflict(Epoch),
    /// The arbiter cannot be reached.
    Unavailable,
}

/// Everything that can happen to a coordinator.
#[derive(Debug)]
pub enum Input {
    /// A message on the upward subject of a partition.
    Up(Up),
    /// A gateway's sign of life.
    GatewayBeat(GatewayBeat),
    /// A coordinator's sign of life, also its own.
    Beat(CoordinatorBeat),
    /// A receiver saw a higher epoch.
    Fenced(Fenced),
    /// The arbiter answered an [`Output::Record`].
    Recorded {
        /// Which partition.
        partition: Partition,
        /// The epoch that was to be recorded.
        epoch: Epoch,
        /// The answer.
        outcome: Recorded,
    },
    /// What the arbiter had on record when the process began, or later.
    Known {
        /// Which partition.
        partition: Partition,
        /// The epoch on record.
        epoch: Epoch,
    },
    /// The store answered an [`Output::Load`]: a page of what it has of the partition.
    Restored {
        /// Which partition.
        partition: Partition,
        /// The epoch and the attempt that were asked for.
        epoch: Epoch,
        /// Pages of an earlier attempt are dropped.
        attempt: u32,
        /// What was kept.
        records: Vec<Record>,
        /// The newest epoch that wrote any of it.
        newest: Epoch,
        /// Nothing follows.
        last: bool,
    },
    /// Messages were lost, or the bus was away: nothing is taken for complete until confirmed.
    BusLossy,
    /// The process is about to stop: give every partition away.
    Drain,
}

/// A transition of a user, as stores and the activity history want it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transition {
    /// Which partition.
    pub partition: Partition,
    /// Whose.
    pub user: UserId,
    /// The status before.
    pub from: Status,
    /// Why.
    pub cause: Cause,
    /// The presence after, as watchers see it, with its version.
    pub presence: Presence,
    /// The sessions that the user has opened since its status changed last. None where it has not changed.
    pub opened: Opened,
}

/// Everything a coordinator can want done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Listen to the upward subject of a partition.
    Subscribe(Partition),
    /// Stop listening to it.
    Unsubscribe(Partition),
    /// Record a claim by compare-and-set, and say [`Input::Recorded`].
    Record {
        /// Which partition.
        partition: Partition,
        /// The epoch claimed; higher than every epoch on record.
        epoch: Epoch,
    },
    /// Publish a sign of life.
    Beat(CoordinatorBeat),
    /// Publish on the partition's downward subject.
    Down(Delta),
    /// Publish to one gateway.
    ToGateway(GatewayId, ToGateway),
    /// Publish to another coordinator.
    Fenced(CoordinatorId, Fenced),
    /// Publish for backends on the partition's subject of changes.
    Changes(Changes),
    /// Publish for backends that follow one user, on its subject.
    UserChange(UserId, Box<herenow_protocol::api::Change>),
    /// Answer a backend that asked for a page of a partition.
    Listed {
        /// The backend's inbox.
        reply: String,
        /// The page, or why there is none.
        page: Result<Box<PartitionPage>, Box<Problem>>,
    },
    /// Hand a transition to the history. In the order of versions per user.
    Transition(Box<Transition>),
    /// A user was erased: the history is to forget what was handed to it before.
    Erased(UserId),
    /// Read all that is kept of a partition and say [`Input::Restored`], in pages, however long it takes.
    Load {
        /// Which partition.
        partition: Partition,
        /// The epoch that it was claimed under.
        epoch: Epoch,
        /// How often it was asked for in that epoch; what was asked for before is not wanted any more.
        attempt: u32,
    },
    /// Keep this of a user, in place of whatever was kept of it.
    Keep(Box<Record>),
    /// Keep nothing of a user.
    Forget {
        /// Who.
        key: UserKey,
        /// Orders this among the writes.
        written: Version,
    },
}
