//! What goes into a client and what comes out of it.

use std::time::Duration;

use herenow_protocol::code::Duty;
use herenow_protocol::frame::ManualStatus;
use herenow_protocol::{Activity, Presence, UserId, WallTime, code};

use crate::Failure;

/// The application's number for a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// How a connection ended, or why there was none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Closure {
    /// With a close frame of this code.
    Code(u16),
    /// Without one.
    Lost(Failure),
    /// The handshake was answered by an HTTP status other than 101.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the answer says.
        failure: Failure,
    },
}

impl Closure {
    /// What the client should do.
    #[must_use]
    pub const fn duty(&self) -> Duty {
        match self {
            Self::Code(number) => code::duty(*number),
            Self::Lost(_) => Duty::Reconnect,
            Self::Refused { status, .. } => refused_duty(*status),
        }
    }

    pub(crate) fn failure(self) -> Failure {
        match self {
            Self::Code(number) => Failure::from_close(number),
            Self::Lost(failure) | Self::Refused { failure, .. } => failure,
        }
    }
}

/// 404 is not final: proxies say it while what is behind them is being replaced.
const fn refused_duty(status: u16) -> Duty {
    match status {
        401 => Duty::RenewToken,
        404 | 408 | 425 | 429 => Duty::Reconnect,
        400..=499 => Duty::Stay,
        _ => Duty::Reconnect,
    }
}

/// Everything that can happen to a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A text frame arrived.
    Text(String),
    /// Other bytes arrived: a WebSocket ping, pong, or part of a frame.
    Heard,
    /// The connection is gone, or could not be opened.
    Closed(Closure),
    /// A token: the answer to [`Output::NeedToken`], or a newer one than the client has.
    Token(String),
    /// The application has no token now.
    TokenFailed(Failure),
    /// Follow these users too.
    Watch(Vec<UserId>),
    /// Follow these users no longer.
    Unwatch(Vec<UserId>),
    /// Ask for users once. Answered by [`Output::Answered`] or [`Output::Failed`].
    Query {
        /// Comes back in the answer.
        ticket: Ticket,
        /// The users.
        users: Vec<UserId>,
    },
    /// Set one's own status. Answered by [`Output::Done`] or [`Output::Failed`].
    SetStatus {
        /// Comes back in the answer.
        ticket: Ticket,
        /// What to show.
        status: ManualStatus,
        /// What to say beside it.
        text: Option<String>,
        /// An emoji beside it.
        emoji: Option<String>,
        /// When it ends by itself.
        expires_at: Option<WallTime>,
    },
    /// Say what the person does.
    SetActivity(Activity),
    /// End the session in order.
    Bye,
}

/// Everything a client can want done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Get a token and say [`Input::Token`] or [`Input::TokenFailed`]. Asked once until then.
    NeedToken,
    /// Open a connection. How it fares is told by [`Input::Text`] (the `welcome`) or [`Input::Closed`].
    Connect {
        /// The token to show.
        token: String,
        /// What the person does, to be named in the handshake.
        activity: Option<Activity>,
    },
    /// Send this text frame.
    Send(String),
    /// Drop the connection, or the attempt. No [`Input::Closed`] is expected for it; one is ignored only if it comes
    /// before the next [`Output::Connect`].
    Close,
    /// A watched user's presence changed visibly; the new value.
    Changed(Presence),
    /// The connection state changed.
    State(ConnectionState),
    /// The users of a query.
    Answered(Ticket, Vec<Presence>),
    /// The request was carried out.
    Done(Ticket),
    /// The request was not carried out.
    Failed(Ticket, Failure),
    /// These users could not be watched, and are not.
    WatchRefused(Vec<UserId>, Failure),
    /// Something went wrong that answers no request: for logs.
    Problem(Failure),
}

/// How a client stands with its gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConnectionState {
    /// Getting a token, or opening a connection.
    Connecting,
    /// A session is open.
    Connected {
        /// The session, for support.
        session: Box<str>,
        /// Whose session it is, as the token says.
        user: UserId,
    },
    /// Cut off; the client comes back by itself.
    Waiting {
        /// After this long.
        retry_in: Duration,
        /// Why it was cut off.
        cause: Failure,
    },
    /// Over for good. `None`: the application asked for it.
    Stopped(Option<Failure>),
}
