//! Who users are, and their history, from PostgreSQL.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use herenow_gateway_server::{
    Answered, Asked, Counts, Day, Directory, Hour, Minute, Person, Refused, SessionHour, Was,
};
use herenow_protocol::code::ErrorCode;
use herenow_protocol::{Placement, Status, UserId, WallTime, time};
use herenow_store::{Analytics, HourSessions, PAGE, People, Span, StoreError, UserDetails};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::clock::wall;

/// What a deployment knows of people: who they are, and what they did.
pub trait Known: People + Analytics {}

impl<T: People + Analytics> Known for T {}

/// Answers gateways.
pub(crate) struct FromStore {
    store: Arc<dyn Known>,
    placement: Placement,
    failures: Family<Reason, Counter>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl FromStore {
    pub(crate) fn new(store: Arc<dyn Known>, placement: Placement, registry: &mut Registry) -> Self {
        let failures = Family::default();
        let help = "Requests for people and analytics that PostgreSQL did not answer";
        registry.register("herenow_people_failures", help, failures.clone());
        Self { store, placement, failures }
    }

    fn refused(&self, error: &StoreError) -> Refused {
        if let StoreError::Setting { key, reason } = error {
            return (ErrorCode::InvalidValue, format!("{key}: {reason}"));
        }
        self.failures.get_or_create(&Reason { reason: error.label() }).inc();
        tracing::warn!(%error, "people and analytics");
        (ErrorCode::Unavailable, "the database of people did not answer in time".to_owned())
    }

    async fn answer(&self, asked: Asked) -> Result<Answered, StoreError> {
        let now = wall();
        // What is to come has no history.
        let span = |from: WallTime, to: Option<WallTime>| Span { from, to: to.unwrap_or(now).min(now) };
        Ok(match asked {
            Asked::Statuses { at } => {
                let at = at.unwrap_or(now);
                Answered::Statuses { at, statuses: counts(&self.store.statuses_at(at).await?) }
            }
            Asked::WhoWasOnline { at, after } => {
                let at = at.unwrap_or(now);
                let users = self.store.who_was_there(at, after).await?;
                let next = users.last().filter(|_| users.len() == PAGE).map(|(user, _)| user.clone());
                let users = users.into_iter().map(|(user_id, status)| Was { user_id, status }).collect();
                Answered::WhoWasOnline { at, users, next }
            }
            Asked::OnlinePerHour { from, to } => {
                let hours = self.store.online_per_hour(span(from, to)).await?;
                let hour = |one: herenow_store::HourOnline| Hour {
                    hour: one.hour,
                    peak: one.peak,
                    average: one.average,
                };
                Answered::OnlinePerHour { hours: hours.into_iter().map(hour).collect() }
            }
            Asked::TimeOnline { user, from, to } => {
                let days = self.store.time_online(self.placement.key(&user), span(from, to)).await?;
                let day = |(day, online)| Day { day, online_ms: time::millis(online) };
                Answered::TimeOnline { user_id: user, days: days.into_iter().map(day).collect() }
            }
            Asked::TransitionsPerMinute { from, to } => {
                let minutes = self.store.transitions_per_minute(span(from, to)).await?;
                let minute = |(minute, transitions)| Minute { minute, transitions };
                Answered::TransitionsPerMinute { minutes: minutes.into_iter().map(minute).collect() }
            }
            Asked::SessionsByDevice { from, to } => {
                let hours = self.store.sessions_by_device(span(from, to)).await?;
                let hour = |one: HourSessions| SessionHour {
                    hour: one.hour,
                    web: one.web,
                    mobile: one.mobile,
                    desktop: one.desktop,
                    server: one.server,
                };
                Answered::SessionsByDevice { hours: hours.into_iter().map(hour).collect() }
            }
        })
    }
}

fn counts(statuses: &[(Status, u64)]) -> Counts {
    let mut counts = Counts::default();
    for (status, count) in statuses {
        match status {
            Status::Online => counts.online = *count,
            Status::Idle => counts.idle = *count,
            Status::Dnd => counts.dnd = *count,
            Status::Offline => counts.offline = *count,
            // Nobody becomes that; it is what a gateway says that does not know.
            Status::Unknown => {}
        }
    }
    counts
}

impl Directory for FromStore {
    fn person(&self, user: UserId) -> BoxFuture<'_, Result<Option<Person>, Refused>> {
        async move {
            let found = self.store.get(&user).await.map_err(|error| self.refused(&error))?;
            Ok(found.map(|UserDetails { username, email, created, .. }| Person {
                username,
                email,
                creation_date: created,
            }))
        }
        .boxed()
    }

    fn put(&self, user: UserId, person: Person) -> BoxFuture<'_, Result<(), Refused>> {
        let Person { username, email, creation_date: created } = person;
        async move {
            let put = self.store.put(vec![UserDetails { user, username, email, created }]).await;
            put.map_err(|error| self.refused(&error))
        }
        .boxed()
    }

    fn forget(&self, user: UserId) -> BoxFuture<'_, Result<(), Refused>> {
        async move { self.store.forget(&user).await.map_err(|error| self.refused(&error)) }.boxed()
    }

    fn ask(&self, asked: Asked) -> BoxFuture<'_, Result<Answered, Refused>> {
        async move { self.answer(asked).await.map_err(|error| self.refused(&error)) }.boxed()
    }
}
