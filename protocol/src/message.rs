//! Messages between gateways and coordinators. `docs/ARCHITECTURE.md` tells the rules (R1 to R15) they serve.
//!
//! Upward, what a gateway knows of its sessions goes to the owner of the partition; downward, the owner's
//! transitions go to every gateway with a watcher there. Each stream is numbered, and whoever finds a gap asks for
//! full values, which replace: nothing is ever merged.

mod interest;

use std::hash::{Hash as _, Hasher as _};

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

pub use self::interest::{
    Advance, Advanced, Audit, Audited, Interest, InterestBeat, InterestBody, UsersDigest,
};
use crate::code::ErrorCode;
use crate::frame::ManualStatus;
use crate::{
    Activity, CoordinatorId, DeviceId, DeviceKind, Epoch, Incarnation, Origin, Partition, SessionNumber,
    Status, UserId, UserKey, WallTime,
};

/// Gateway to owner, on the partition's upward subject.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Up {
    /// Changes of sessions.
    Report(Report),
    /// All sessions of this gateway in the partition; replaces what the owner had.
    Sync(Sync),
    /// Asks for the presence of some users.
    Pull(Pull),
    /// Sets a claim.
    Claim(ClaimRequest),
    /// Asks why a user is shown as it is.
    Explain(ExplainRequest),
    /// Asks for a page of everybody known in the partition, answered to a backend directly.
    List(ListRequest),
    /// Whom this gateway has watchers for.
    Interest(Interest),
    /// Some of the values that this gateway believes.
    Audit(Audit),
}

impl Up {
    /// The partition the message is for.
    #[must_use]
    pub const fn partition(&self) -> Partition {
        match self {
            Self::Report(m) => m.partition,
            Self::Sync(m) => m.partition,
            Self::Pull(m) => m.partition,
            Self::Claim(m) => m.partition,
            Self::Explain(m) => m.partition,
            Self::List(m) => m.partition,
            Self::Interest(m) => m.partition,
            Self::Audit(m) => m.partition,
        }
    }
}

/// Session changes, numbered per (gateway, incarnation, partition); only the next number is applied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Who reports.
    pub origin: Origin,
    /// Of which partition.
    pub partition: Partition,
    /// The highest epoch the gateway has seen of it.
    pub epoch_seen: Epoch,
    /// One more than the last report's.
    pub seq: u64,
    /// The changes, in order.
    pub changes: Vec<SessionChange>,
}

/// One change of one session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SessionChange {
    /// It began.
    Opened(SessionRecord),
    /// Its person does something else.
    Activity {
        /// The session.
        number: SessionNumber,
        /// Whose it is.
        key: UserKey,
        /// What its person does now.
        activity: Activity,
        /// Since when.
        since: WallTime,
    },
    /// It ended.
    Closed {
        /// The session.
        number: SessionNumber,
        /// Whose it was.
        key: UserKey,
        /// How it ended.
        how: Ending,
    },
}

/// How a session ended, which decides whether grace is given.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Ending {
    /// The client said `bye`: no grace.
    Bye,
    /// The connection was lost by FIN, RST, or by the gateway's own doing: grace.
    Lost,
    /// Nothing was heard for the heartbeat timeout, which has waited long enough: no grace.
    Silent,
    /// Its gateway goes away and told it to come back elsewhere: it counts on for the moving window, whatever the
    /// grace.
    Moving,
}

impl Ending {
    /// Whether the session still counts for a while, for its device may come back.
    #[must_use]
    pub const fn is_waited_for(self) -> bool {
        match self {
            Self::Lost | Self::Moving => true,
            Self::Bye | Self::Silent => false,
        }
    }
}

/// All an owner needs to know of a session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The session.
    pub number: SessionNumber,
    /// Whose it is.
    pub key: UserKey,
    /// The same as the user knows itself.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// Its kind.
    pub kind: DeviceKind,
    /// What its person does.
    pub activity: Activity,
    /// Since when.
    pub since: WallTime,
}

/// One page of all sessions of a gateway in a partition, as of report number `seq`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sync {
    /// Who reports.
    pub origin: Origin,
    /// Of which partition.
    pub partition: Partition,
    /// The highest epoch the gateway has seen of it.
    pub epoch_seen: Epoch,
    /// The number of the last report it includes; the next report carries one more.
    pub seq: u64,
    /// The page, from 0.
    pub page: u16,
    /// No page follows.
    pub last: bool,
    /// The sessions.
    pub sessions: Vec<SessionRecord>,
    /// Those that ended of late: a new owner must go on with the grace that was given them.
    pub ended: Vec<Ended>,
    /// How long ago the last one ended that is no longer among them, in milliseconds: whoever is in neither list ended no
    /// later than that. None when nobody was left out.
    pub forgot_ms: Option<u64>,
}

/// A session that ended of late.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// The session as it was.
    pub record: SessionRecord,
    /// How it ended.
    pub how: Ending,
    /// How long ago, in milliseconds.
    pub ago_ms: u64,
}

/// Asks for users' presence, answered by [`Snapshot`] pages to the gateway.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pull {
    /// Who asks.
    pub origin: Origin,
    /// Of which partition.
    pub partition: Partition,
    /// Comes back in the snapshot.
    pub request: u64,
    /// The number of what was stated last of the users watched there, which comes before it: an owner that has not heard
    /// that cannot leave out what it takes for not watched. `None`: nothing was stated to the owner of this epoch.
    pub interest: Option<u64>,
    /// The users asked for.
    pub users: Vec<UserKey>,
}

/// Sets a claim, answered by [`ClaimDone`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClaimRequest {
    /// Who asks.
    pub origin: Origin,
    /// Of which partition.
    pub partition: Partition,
    /// Comes back in the answer.
    pub request: u64,
    /// Whose claim it is.
    pub key: UserKey,
    /// The same as the user knows itself.
    pub user: UserId,
    /// What is claimed.
    pub command: ClaimCommand,
}

/// What is claimed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ClaimCommand {
    /// By the user, through a session.
    Manual {
        /// What to show.
        status: ManualStatus,
        /// What to say beside it.
        text: Option<Box<str>>,
        /// An emoji beside it.
        emoji: Option<Box<str>>,
        /// When the claim ends by itself.
        expires_at: Option<WallTime>,
    },
    /// By a backend.
    Api {
        /// What to show.
        status: ApiStatus,
        /// What to say beside it.
        text: Option<Box<str>>,
        /// For how many milliseconds the claim, or the virtual session, holds; not given: a claim holds until it
        /// is taken back, a virtual session for the configured time.
        ttl_ms: Option<u64>,
        /// Which virtual session; not given: the one without a name.
        session: Option<DeviceId>,
    },
    /// Forget everything about the user that no live session holds.
    Erase,
}

/// What a backend may claim.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApiStatus {
    /// Ends the API claim; without a live session, makes or renews a virtual one.
    Online,
    /// Idle while any session lives.
    Idle,
    /// Not to be disturbed while any session lives.
    Dnd,
    /// Ends the virtual session; while other sessions live, appears offline.
    Offline,
}

/// Asks why a user is shown as it is, answered by [`ToGateway::Explained`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// Who asks.
    pub origin: Origin,
    /// Of which partition.
    pub partition: Partition,
    /// Comes back in the answer.
    pub request: u64,
    /// Whose presence.
    pub key: UserKey,
}

/// Asks for a page of the users known in a partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListRequest {
    /// Of which partition.
    pub partition: Partition,
    /// Where the owner publishes the answer: a backend's inbox, kept as it came.
    pub reply: String,
    /// Only users after this one, in the order of keys.
    pub after: Option<UserKey>,
}

/// The owner's transitions, on the partition's downward subject. Applied when `prev` is where the receiver is;
/// otherwise the receiver pulls what it watches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Delta {
    /// The owner that says so.
    pub from: CoordinatorId,
    /// Of which partition.
    pub partition: Partition,
    /// In which epoch.
    pub epoch: Epoch,
    /// The number the previous delta ended at.
    pub prev: u64,
    /// The number this one ends at.
    pub last: u64,
    /// The changed users.
    pub entries: Vec<Entry>,
}

/// The presence of one user at one number of its partition's epoch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Whose presence it is.
    pub key: UserKey,
    /// What everybody may see.
    pub public: Shown,
    /// What the user itself sees, when it differs.
    pub own: Option<Shown>,
}

impl Entry {
    /// The number of the entry: the later of what everybody and what the user itself sees.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.own.as_ref().map_or(self.public.n, |own| own.n.max(self.public.n))
    }
}

/// A presence as somebody is shown it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shown {
    /// The number of the change that made it so.
    pub n: u64,
    /// The status; never `unknown` from an owner.
    pub status: Status,
    /// Since when; `None` for a user never seen.
    pub since: Option<WallTime>,
    /// The text beside it.
    pub text: Option<Box<str>>,
    /// The emoji beside it.
    pub emoji: Option<Box<str>>,
    /// A device in the background can be reached.
    pub reachable: bool,
    /// The kinds of device in use, where published.
    pub devices: Vec<DeviceKind>,
    /// R8: it may not be so any more as far as its owner knows, who may not say so yet, and was last sure of it then:
    /// nobody is told it as certain.
    pub held: Option<WallTime>,
}

impl Shown {
    /// A user never seen.
    #[must_use]
    pub const fn never_seen() -> Self {
        Self {
            n: 0,
            status: Status::Offline,
            since: None,
            text: None,
            emoji: None,
            reachable: false,
            devices: Vec::new(),
            held: None,
        }
    }

    /// Whether a person would see a difference, apart from the time.
    #[must_use]
    pub fn looks_like(&self, other: &Self) -> bool {
        self.status == other.status
            && self.text == other.text
            && self.emoji == other.emoji
            && self.reachable == other.reachable
            && self.devices == other.devices
            && self.held == other.held
    }
}

/// Coordinator to one gateway.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToGateway {
    /// Send all sessions of a partition.
    Resync {
        /// Of which partition.
        partition: Partition,
        /// The owner's epoch.
        epoch: Epoch,
        /// The life that is asked; another one ignores it.
        incarnation: Incarnation,
    },
    /// State whom you have watchers for in a partition: messages of interest were lost, or never came.
    Reinterest {
        /// Of which partition.
        partition: Partition,
        /// The owner's epoch.
        epoch: Epoch,
        /// The life that is asked; another one ignores it.
        incarnation: Incarnation,
    },
    /// Transitions of users with watchers at this gateway: its own stream, with numbers of its own.
    Delta(Delta),
    /// The numbers of that stream moved on.
    Advanced(Advanced),
    /// Values of an audit are not the owner's: pull.
    Differs {
        /// Of which partition.
        partition: Partition,
        /// The owner's epoch.
        epoch: Epoch,
    },
    /// One page of the answer to a pull.
    Snapshot(Snapshot),
    /// A claim was dealt with.
    ClaimDone(Box<ClaimDone>),
    /// Why a user is shown as it is.
    Explained {
        /// Of the request.
        request: u64,
        /// Sessions, claims, timers and the rule that decided, as JSON for people.
        json: String,
    },
}

/// One page of the answer to a pull: full values at number `n`.
///
/// Owners that have not settled leave out whom they would have to call offline. In a settled snapshot, whoever was
/// asked for and is on no page was never seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// The owner that says so.
    pub from: CoordinatorId,
    /// Of which partition.
    pub partition: Partition,
    /// In which epoch.
    pub epoch: Epoch,
    /// The number the values hold at.
    pub n: u64,
    /// Whether the owner may state that somebody is offline.
    pub settled: bool,
    /// When its owner was last sure of the values of this page, if it is not now ([`OwnedBeat::doubts`]). Of
    /// single users of whom it is not, each says so itself ([`Shown::held`]).
    pub as_of: Option<WallTime>,
    /// What the owner's own clock said, in milliseconds: how much later than this answer it sent a beat
    /// ([`CoordinatorBeat::clock`]).
    pub clock: u64,
    /// Of the pull.
    pub request: u64,
    /// The page, from 0.
    pub page: u16,
    /// No page follows.
    pub last: bool,
    /// The values.
    pub entries: Vec<Entry>,
}

/// What became of a claim.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClaimDone {
    /// Of the request.
    pub request: u64,
    /// In which epoch.
    pub epoch: Epoch,
    /// The presence that followed, or why the claim was refused.
    pub outcome: Result<Claimed, ErrorCode>,
}

/// A claim that was set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claimed {
    /// The presence that followed.
    pub entry: Entry,
    /// Another claim stands above the one set, so that it does not show.
    pub covered: bool,
    /// When the claim or virtual session ends by itself.
    pub expires_at: Option<WallTime>,
}

/// To one coordinator: it speaks for an epoch that is over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fenced {
    /// Of which partition.
    pub partition: Partition,
    /// The highest epoch seen.
    pub seen: Epoch,
}

/// A coordinator's sign of life, to everybody.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CoordinatorBeat {
    /// Who.
    pub id: CoordinatorId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Counts the beats of this life, so that its own beat coming back is told from an older one.
    pub number: u64,
    /// What its own clock said, in milliseconds; compared with [`Snapshot::clock`] only.
    pub clock: u64,
    /// May be given partitions.
    pub ready: bool,
    /// For how many milliseconds sessions of gateways that it knows to be gone may still be in grace. Whoever takes over
    /// from it, and never heard those gateways, says of nobody before that is over that they are absent.
    pub mourning_ms: u64,
    /// What it owns.
    pub owned: Vec<OwnedBeat>,
}

/// One partition in a coordinator's beat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OwnedBeat {
    /// Which partition.
    pub partition: Partition,
    /// In which epoch.
    pub epoch: Epoch,
    /// The number of its last change, so that a lost last delta is found.
    pub n: u64,
    /// Whether it may state that somebody is offline.
    pub settled: bool,
    /// What it says may be over: it was cut off or stood still and gateways have yet to confirm what it has of them, or
    /// most of them are silent. An owner that has just begun does not doubt what it says of who is there.
    pub doubts: bool,
    /// It wants to know whom each gateway has watchers for, and sends each only that.
    pub by_user: bool,
}

/// A gateway's sign of life, to all coordinators.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GatewayBeat {
    /// Who.
    pub origin: Origin,
    /// Its upward streams: those that ever carried a report.
    pub streams: Vec<StreamBeat>,
    /// It has left: every client was told to come back elsewhere, and nothing follows but a few more such beats.
    pub left: bool,
    /// What it has stated to owners that send by user.
    pub interests: Vec<InterestBeat>,
}

/// One upward stream in a gateway's beat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StreamBeat {
    /// Which partition.
    pub partition: Partition,
    /// The number of its last report, so that a lost last report is found.
    pub seq: u64,
    /// The highest epoch the gateway has seen of it.
    pub epoch_seen: Epoch,
    /// Now and then, what the sessions come to as of that report (R15).
    pub digest: Option<SessionsDigest>,
}

/// What a set of sessions comes to: the same for the same sessions, whatever their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SessionsDigest(u64);

impl SessionsDigest {
    /// Adds a session. It finds slips of programs, not forgeries: the keys of the hash are known.
    pub fn add(&mut self, number: SessionNumber, key: UserKey) {
        let mut hasher = SipHasher13::new_with_keys(0x6865_7265_6e6f_7721, 0x6469_6765_7374_7321);
        (number, key).hash(&mut hasher);
        self.0 ^= hasher.finish();
    }
}
