//! What backends read and write, over REST and over NATS: the same bodies on both. JSON, versioned by path and
//! subject. Clauses: `docs/PROTOCOL.md` §3 and §4.

use serde::{Deserialize, Serialize};

use crate::code::ErrorCode;
use crate::message::ApiStatus;
use crate::{DeviceKind, Partition, Presence, Status, UserId, WallTime};

/// `POST /status`, and a request on `herenow.v1.set`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetStatus {
    /// Whose status.
    pub user_id: String,
    /// What to show: `online`, `idle`, `dnd` or `offline`.
    pub status: String,
    /// What to say beside it, at most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// For how long, 1 s to 30 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Which virtual session, 1 to 64 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
}

/// The answer to [`SetStatus`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusSet {
    /// Always true: a failure is a [`Problem`].
    pub success: bool,
    /// What happened, in words; says so when another claim stands above.
    pub message: String,
    /// What watchers see now.
    pub status: Status,
    /// When the claim or virtual session ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<WallTime>,
}

/// `POST /statuses`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetStatuses {
    /// At most 1,000.
    pub user_ids: Vec<String>,
}

/// The answer to [`GetStatuses`], in the order asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Statuses {
    /// One for each user asked for.
    pub statuses: Vec<Presence>,
}

/// A request on `herenow.v1.get`: some users, or a page of a partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Get {
    /// Some users, as over REST.
    #[serde(rename_all = "camelCase")]
    Users {
        /// At most 1,000.
        user_ids: Vec<String>,
    },
    /// A page of everybody known in a partition.
    Partition {
        /// Which partition.
        partition: Partition,
        /// The `next` of the page before; not given: the first page.
        #[serde(default)]
        after: Option<String>,
    },
}

/// A page of everybody known in a partition. A copy is repaired by taking the `n` of the *first* page as its
/// place in the changes, and of every user the newer of what it has and what the pages say.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionPage {
    /// Which partition.
    pub partition: Partition,
    /// In which epoch, as 16 hexadecimal digits.
    pub epoch: String,
    /// The number the values hold at.
    pub n: u64,
    /// Whether offline users are stated; while false, leave out nobody on their absence.
    pub settled: bool,
    /// The users.
    pub users: Vec<Presence>,
    /// What to ask for next; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A numbered batch on `herenow.v1.changes.<partition>`: what changed after `prev` up to `last`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// Which partition.
    pub partition: Partition,
    /// In which epoch, as 16 hexadecimal digits.
    pub epoch: String,
    /// The number the previous batch ended at; where it differs from yours, ask for the partition.
    pub prev: u64,
    /// The number this one ends at.
    pub last: u64,
    /// The transitions, in order.
    pub changes: Vec<Change>,
}

/// One transition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// The status before.
    pub from: Status,
    /// Why it changed.
    pub cause: Cause,
    /// The presence after.
    #[serde(flatten)]
    pub presence: Presence,
}

/// Why a presence changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A session began.
    Connected,
    /// A session's person became active, idle or went to the background.
    Activity,
    /// A client said `bye`.
    Left,
    /// The grace period of a lost connection was over.
    GraceOver,
    /// A client was silent for the heartbeat timeout.
    Silent,
    /// The user set or ended a manual claim.
    Manual,
    /// A backend set or ended a claim or virtual session.
    Api,
    /// A claim or virtual session ended by itself.
    Expired,
    /// A backend erased the user.
    Erased,
    /// A new owner rebuilt the partition from the gateways.
    Rebuilt,
}

/// A failure: `application/problem+json` (RFC 9457) over REST, the same object over NATS.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// The code as a URN; `docs/CODES.md` explains each.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: ErrorCode,
    /// What went wrong here.
    pub detail: String,
    /// What to do.
    pub remediation: String,
    /// When trying again makes sense, where that is known: different for each who is told.
    #[serde(rename = "retryAfterMs", default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Problem {
    /// A problem with what its code stands for.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:herenow:code:{}", code.word()),
            title: code.word().replace('_', " "),
            status: code.http(),
            code,
            detail: detail.into(),
            remediation: code.remediation().to_owned(),
            retry_after_ms: None,
        }
    }
}

/// A session in an explanation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedSession {
    /// The gateway and session number, or `api` and the name of a virtual session.
    pub session: String,
    /// The kind of device.
    pub kind: DeviceKind,
    /// What its person does.
    pub activity: crate::Activity,
    /// `live`, or why and until when it still counts.
    pub state: String,
}

/// Why a user is shown as it is: `GET /status/{userId}?explain=true`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The partition of the user.
    pub partition: Partition,
    /// Its owner.
    pub owner: String,
    /// Its epoch, as 16 hexadecimal digits.
    pub epoch: String,
    /// Whether the owner may state that somebody is offline.
    pub settled: bool,
    /// The rule of `derive` that decided.
    pub rule: String,
    /// The sessions that count.
    pub sessions: Vec<ExplainedSession>,
    /// The claims in force, in words.
    pub claims: Vec<String>,
    /// The timers that run, in words.
    pub timers: Vec<String>,
}

/// A request to set a status that was checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckedSet {
    /// Whose status.
    pub user: UserId,
    /// What is claimed.
    pub command: crate::message::ClaimCommand,
}

impl SetStatus {
    /// Checks every value.
    ///
    /// # Errors
    /// The code and the field at fault.
    pub fn check(self) -> Result<CheckedSet, (ErrorCode, String)> {
        let invalid = |message: &str| (ErrorCode::InvalidValue, message.to_owned());
        let user = UserId::new(&self.user_id)
            .map_err(|error| (ErrorCode::InvalidUserId, format!("the field `userId`: {error}")))?;
        let status = match self.status.as_str() {
            "online" => ApiStatus::Online,
            "idle" => ApiStatus::Idle,
            "dnd" => ApiStatus::Dnd,
            "offline" => ApiStatus::Offline,
            _ => {
                let message = "the field `status` is none of online, idle, dnd, offline";
                return Err((ErrorCode::InvalidStatus, message.to_owned()));
            }
        };
        if self.text.as_ref().is_some_and(|text| text.len() > crate::limit::STATUS_TEXT_BYTES) {
            return Err(invalid("the field `text` has more than 256 bytes"));
        }
        if self.ttl_seconds.is_some_and(|ttl| !(1..=30 * 24 * 3600).contains(&ttl)) {
            return Err(invalid("the field `ttlSeconds` is not from 1 to 2,592,000"));
        }
        let session = self.session_id.as_deref().map(crate::DeviceId::new).transpose();
        let session = session.map_err(|error| invalid(&format!("the field `sessionId`: {error}")))?;
        let command = crate::message::ClaimCommand::Api {
            status,
            text: self.text.map(String::into_boxed_str),
            ttl_ms: self.ttl_seconds.map(|ttl| ttl * 1_000),
            session,
        };
        Ok(CheckedSet { user, command })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bodies_have_the_fields_of_the_contract() {
        let set: SetStatus = serde_json::from_str(r#"{"userId":"ana","status":"online"}"#).unwrap();
        assert!(set.check().is_ok());
        let get: Get = serde_json::from_str(r#"{"userIds":["ana"]}"#).unwrap();
        assert!(matches!(get, Get::Users { .. }));
        let get: Get = serde_json::from_str(r#"{"partition":7}"#).unwrap();
        assert_eq!(get, Get::Partition { partition: Partition(7), after: None });
    }

    #[test]
    fn each_bad_value_is_named() {
        let good = SetStatus {
            user_id: "ana".to_owned(),
            status: "idle".to_owned(),
            text: None,
            ttl_seconds: None,
            session_id: None,
        };
        let code = |set: SetStatus| set.check().unwrap_err().0;
        assert_eq!(code(SetStatus { user_id: String::new(), ..good.clone() }), ErrorCode::InvalidUserId);
        assert_eq!(
            code(SetStatus { status: "invisible".to_owned(), ..good.clone() }),
            ErrorCode::InvalidStatus
        );
        assert_eq!(code(SetStatus { text: Some("x".repeat(257)), ..good.clone() }), ErrorCode::InvalidValue);
        assert_eq!(code(SetStatus { ttl_seconds: Some(0), ..good.clone() }), ErrorCode::InvalidValue);
        assert_eq!(code(SetStatus { ttl_seconds: Some(2_592_001), ..good.clone() }), ErrorCode::InvalidValue);
        assert_eq!(code(SetStatus { session_id: Some(String::new()), ..good }), ErrorCode::InvalidValue);
    }
}
