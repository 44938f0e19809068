//! Questions about the history of everybody, and of one user over time.

use axum::extract::{Query, Request, State};
use herenow_protocol::code::ErrorCode;
use herenow_protocol::{Status, UserId, WallTime};
use serde::{Deserialize, Serialize};

use super::answer::json;
use super::{Api, Outcome, refusal, value};
use crate::handshake::Refusal;

/// A question. A span has its first moment, and the first after it; without an end it ends now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// How many users had which status at a moment; none: now.
    Statuses {
        /// The moment.
        at: Option<WallTime>,
    },
    /// Who was there at a moment, page by page.
    WhoWasOnline {
        /// The moment; none: now.
        at: Option<WallTime>,
        /// The user behind whom the page begins.
        after: Option<UserId>,
    },
    /// How many users were there in each hour.
    OnlinePerHour {
        /// The first moment.
        from: WallTime,
        /// The first moment after it.
        to: Option<WallTime>,
    },
    /// How long a user was there on each day.
    TimeOnline {
        /// The user.
        user: UserId,
        /// The first moment.
        from: WallTime,
        /// The first moment after it.
        to: Option<WallTime>,
    },
    /// How many transitions there were in each minute.
    TransitionsPerMinute {
        /// The first moment.
        from: WallTime,
        /// The first moment after it.
        to: Option<WallTime>,
    },
    /// How many sessions were opened in each hour, by kind of device.
    SessionsByDevice {
        /// The first moment.
        from: WallTime,
        /// The first moment after it.
        to: Option<WallTime>,
    },
}

/// An answer, as it is sent.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum Answered {
    /// To [`Asked::Statuses`].
    Statuses {
        /// The moment.
        at: WallTime,
        /// How many had which.
        statuses: Counts,
    },
    /// To [`Asked::WhoWasOnline`].
    WhoWasOnline {
        /// The moment.
        at: WallTime,
        /// Who was there, in the order of ids.
        users: Vec<Was>,
        /// What to give as `after` for the next page; none: there is none.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<UserId>,
    },
    /// To [`Asked::OnlinePerHour`].
    OnlinePerHour {
        /// Each hour, as UTC has them.
        hours: Vec<Hour>,
    },
    /// To [`Asked::TimeOnline`].
    TimeOnline {
        /// The user.
        user_id: UserId,
        /// Each day, as UTC has them, with any.
        days: Vec<Day>,
    },
    /// To [`Asked::TransitionsPerMinute`].
    TransitionsPerMinute {
        /// Each minute with any.
        minutes: Vec<Minute>,
    },
    /// To [`Asked::SessionsByDevice`].
    SessionsByDevice {
        /// Each hour with any, as UTC has them.
        hours: Vec<SessionHour>,
    },
}

/// How many users had which status.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    /// `online`.
    pub online: u64,
    /// `idle`.
    pub idle: u64,
    /// `dnd`.
    pub dnd: u64,
    /// `offline`, as far as the history goes back.
    pub offline: u64,
}

/// How a user was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Was {
    /// The user.
    pub user_id: UserId,
    /// The status.
    pub status: Status,
}

/// An hour.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Hour {
    /// When it began.
    pub hour: WallTime,
    /// The most users at the same time.
    pub peak: u64,
    /// On average over the part of it that was asked for.
    pub average: f64,
}

/// A day.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Day {
    /// When it began.
    pub day: WallTime,
    /// Milliseconds for which the user was there.
    pub online_ms: u64,
}

/// A minute.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Minute {
    /// When it began.
    pub minute: WallTime,
    /// How many transitions.
    pub transitions: u64,
}

/// How many sessions were opened in an hour, by kind of device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct SessionHour {
    /// When it began.
    pub hour: WallTime,
    /// `web`.
    pub web: u64,
    /// `mobile`.
    pub mobile: u64,
    /// `desktop`.
    pub desktop: u64,
    /// `server`, virtual sessions among them.
    pub server: u64,
}

pub(super) async fn statuses(State(api): State<Api>, request: Request) -> Outcome {
    answer(&api, request, |given| Ok(Asked::Statuses { at: given.at })).await
}

pub(super) async fn who_was_online(State(api): State<Api>, request: Request) -> Outcome {
    answer(&api, request, |given| {
        let after = given.after.as_deref().map(|user| user_of("after", user)).transpose()?;
        Ok(Asked::WhoWasOnline { at: given.at, after })
    })
    .await
}

pub(super) async fn online_per_hour(State(api): State<Api>, request: Request) -> Outcome {
    answer(&api, request, |given| Ok(Asked::OnlinePerHour { from: given.from()?, to: given.to })).await
}

pub(super) async fn time_online(State(api): State<Api>, request: Request) -> Outcome {
    answer(&api, request, |given| {
        let user = given.user_id.as_deref().ok_or_else(|| value("the parameter `userId` is missing"))?;
        Ok(Asked::TimeOnline { user: user_of("userId", user)?, from: given.from()?, to: given.to })
    })
    .await
}

pub(super) async fn transitions_per_minute(State(api): State<Api>, request: Request) -> Outcome {
    answer(&api, request, |given| Ok(Asked::TransitionsPerMinute { from: given.from()?, to: given.to })).await
}

pub(super) async fn sessions_by_device(State(api): State<Api>, request: Request) -> Outcome {
    answer(&api, request, |given| Ok(Asked::SessionsByDevice { from: given.from()?, to: given.to })).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    at: Option<WallTime>,
    from: Option<WallTime>,
    to: Option<WallTime>,
    user_id: Option<String>,
    after: Option<String>,
}

impl Given {
    /// The beginning of the span, before its end.
    fn from(&self) -> Result<WallTime, Refusal> {
        let from = self.from.ok_or_else(|| value("the parameter `from` is missing"))?;
        let reversed = self.to.is_some_and(|to| to <= from);
        if reversed { Err(value("the parameter `to` is not after `from`")) } else { Ok(from) }
    }
}

async fn answer(
    api: &Api,
    request: Request,
    question: impl FnOnce(&Given) -> Result<Asked, Refusal>,
) -> Outcome {
    let directory = api.directory(&request)?;
    let wrong = "one of the parameters at, from and to is no time such as 2026-01-31T08:00:00.000Z";
    let Query(given) = Query::<Given>::try_from_uri(request.uri()).map_err(|_| value(wrong))?;
    let asked = question(&given)?;
    Ok(json(&directory.ask(asked).await.map_err(refusal)?))
}

fn user_of(parameter: &str, user: &str) -> Result<UserId, Refusal> {
    let invalid = |why| refusal((ErrorCode::InvalidUserId, format!("the parameter `{parameter}`: {why}")));
    UserId::new(user).map_err(invalid)
}
