//! Requests that wait or are under way.

use std::collections::{BTreeMap, VecDeque};

use herenow_protocol::frame::{ClientFrame, ManualStatus};
use herenow_protocol::{MonoTime, Presence, UserId, WallTime};

use crate::Ticket;

/// Something the gateway is asked for and answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Job {
    Watch(Vec<UserId>),
    Unwatch(Vec<UserId>),
    Auth(String),
    Query(Query),
    Status(Box<StatusJob>),
}

/// A query, page by page; the first page is the one asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Query {
    pub(crate) ticket: Ticket,
    pub(crate) pages: VecDeque<Vec<UserId>>,
    pub(crate) got: Vec<Presence>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StatusJob {
    pub(crate) ticket: Ticket,
    pub(crate) status: ManualStatus,
    pub(crate) text: Option<String>,
    pub(crate) emoji: Option<String>,
    pub(crate) expires_at: Option<WallTime>,
}

impl Job {
    /// The application's number, if it waits for an answer.
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Query(query) => Some(query.ticket),
            Self::Status(status) => Some(status.ticket),
            Self::Watch(_) | Self::Unwatch(_) | Self::Auth(_) => None,
        }
    }

    pub(crate) fn frame(&self, id: u64) -> ClientFrame {
        match self {
            Self::Watch(users) => ClientFrame::Watch { id, users: texts(users) },
            Self::Unwatch(users) => ClientFrame::Unwatch { id, users: texts(users) },
            Self::Query(query) => ClientFrame::Query {
                id,
                users: query.pages.front().map(|page| texts(page)).unwrap_or_default(),
            },
            Self::Auth(token) => ClientFrame::Auth {
                token: token.clone(),
                device: None,
                kind: None,
                activity: None,
                id: Some(id),
            },
            Self::Status(job) => ClientFrame::Status {
                id,
                status: job.status,
                text: job.text.clone(),
                emoji: job.emoji.clone(),
                expires_at: job.expires_at,
            },
        }
    }
}

fn texts(users: &[UserId]) -> Vec<String> {
    users.iter().map(|user| user.as_str().to_owned()).collect()
}

/// A job and when it fails for want of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) job: Job,
    pub(crate) deadline: MonoTime,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    last_id: u64,
    pub(crate) waiting: VecDeque<Open>,
    pub(crate) in_flight: BTreeMap<u64, Open>,
}

impl Requests {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Counts a job as under way and gives its frame.
    pub(crate) fn start(&mut self, open: Open) -> ClientFrame {
        let id = self.next_id();
        let frame = open.job.frame(id);
        self.in_flight.insert(id, open);
        frame
    }

    /// The connection is gone: what the application waits for is asked again on the next one, in the same order. That
    /// does no harm, for reading is reading and a status set twice is set.
    pub(crate) fn cut(&mut self) {
        let mut again: VecDeque<Open> = std::mem::take(&mut self.in_flight)
            .into_values()
            .filter(|open| open.job.ticket().is_some())
            .collect();
        again.append(&mut self.waiting);
        self.waiting = again;
    }

    pub(crate) fn expired(&mut self, now: MonoTime) -> Vec<Job> {
        let late: Vec<u64> =
            self.in_flight.iter().filter(|(_, open)| open.deadline <= now).map(|(id, _)| *id).collect();
        let mut jobs: Vec<Job> =
            late.into_iter().filter_map(|id| self.in_flight.remove(&id)).map(|open| open.job).collect();
        while let Some(index) = self.waiting.iter().position(|open| open.deadline <= now) {
            jobs.extend(self.waiting.remove(index).map(|open| open.job));
        }
        jobs
    }

    /// Everything, because nothing will be answered any more.
    pub(crate) fn drain(&mut self) -> Vec<Job> {
        self.cut();
        self.waiting.drain(..).map(|open| open.job).collect()
    }

    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.in_flight.values().chain(&self.waiting).map(|open| open.deadline).min()
    }
}
