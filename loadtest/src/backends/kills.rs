//! `kill -9` while everybody writes: what was acknowledged longer ago than the write-behind interval is there again.
//!
//! Every write carries a number in its text; each user's grow. Of each user the load remembers which numbers were
//! acknowledged when. After the kill the process starts on what is left, and is asked about everybody.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures::future::join_all;
use serde_json::Value;
use tokio::time::Instant;

use super::http::Connection;
use super::load::{READ, users_of};
use super::process::Place;
use super::{Figures, progress};
use crate::clock;

/// Users who are written.
const USERS: u64 = 20_000;
/// How long a process is written to before it is killed: the first, and how much longer each of the next is.
const LIVES: Duration = Duration::from_millis(1_500);
const LONGER: Duration = Duration::from_millis(137);
/// How the lives begin anew.
const CYCLE: u32 = 8;
/// How long users may be unknown after a start.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(20);
/// The write-behind interval, as it is by default.
const INTERVAL: Duration = Duration::from_secs(1);
/// What a write of the store may take beside a load that leaves it little time.
const WRITE: Duration = Duration::from_secs(1);

/// Numbers that were acknowledged, and when, of each user.
type Said = Rc<RefCell<HashMap<u64, Vec<(u64, Instant)>>>>;

pub(super) async fn run(place: &Place, kills: u32, connections: u32) -> anyhow::Result<Figures> {
    let token = Place::token()?;
    let said = Said::default();
    let next = Rc::new(RefCell::new(0_u64));
    let (mut worst, mut lost, mut opened) = (Duration::ZERO, 0_u32, Duration::ZERO);
    let mut killed = clock::now();
    for round in 0..=kills {
        let began = clock::now();
        let mut process = place.start().await.with_context(|| format!("after {round} kills"))?;
        opened = opened.max(clock::now() - began);
        if round > 0 {
            let left = ask_all(process.at, &token).await?;
            let (users, oldest) = missing(&said.borrow(), &left, killed)?;
            (lost, worst) = (lost + users, worst.max(oldest));
            progress(&format!("kill {round}: {users} users have lost something, {oldest:?} old at most"));
            // What was lost is not waited for any longer.
            said.borrow_mut().iter_mut().for_each(|(user, numbers)| {
                numbers.clear();
                numbers.extend(left.get(user).map(|number| (*number, began)));
            });
        }
        if round < kills {
            let lives = LIVES + LONGER * (round % CYCLE);
            let at = process.at;
            let writers = (0..connections).map(|_| write(at, &token, Rc::clone(&said), Rc::clone(&next)));
            let killer = async {
                tokio::time::sleep(lives).await;
                killed = clock::now();
                process.kill()
            };
            tokio::join!(join_all(writers), killer).1?;
        }
    }
    ensure!(
        worst <= INTERVAL + WRITE,
        "something was lost that had been acknowledged {worst:?} before the kill"
    );
    let figures = [
        ("kills", f64::from(kills)),
        ("writes", *next.borrow() as f64),
        // One that does not open ends the run.
        ("stores opened again", f64::from(kills)),
        ("users who lost something, all kills together", f64::from(lost)),
        ("age of the oldest acknowledged write that was lost, s", worst.as_secs_f64()),
        ("longest start until ready, s", opened.as_secs_f64()),
        ("disk at the end, MiB", place.stored() as f64 / 1_048_576.0),
    ];
    Ok(figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Writes until the process is gone.
async fn write(at: SocketAddr, token: &str, said: Said, next: Rc<RefCell<u64>>) {
    let Ok(mut connection) = Connection::open(at, token).await else { return };
    loop {
        let number = *next.borrow() + 1;
        *next.borrow_mut() = number;
        let user = number.wrapping_mul(15_485_863) % USERS;
        let body = format!(r#"{{"userId":"user-{user}","status":"dnd","text":"{number}"}}"#);
        if connection.call("POST /status", &body).await.is_err() {
            return;
        }
        said.borrow_mut().entry(user).or_default().push((number, clock::now()));
    }
}

/// The number that each user has now.
async fn ask_all(at: SocketAddr, token: &str) -> anyhow::Result<HashMap<u64, u64>> {
    let mut connection = Connection::open(at, token).await?;
    let mut left = HashMap::new();
    let end = clock::now() + PATIENCE;
    let all: Vec<u64> = (0..USERS).collect();
    for some in all.chunks(READ) {
        let body = users_of(some.iter().map(|user| format!("user-{user}")));
        loop {
            let answer: Value = serde_json::from_slice(connection.call("POST /statuses", &body).await?)?;
            let users = answer["statuses"].as_array().context("no statuses")?;
            if users.iter().any(|user| user["status"] == "unknown" || !user["asOf"].is_null()) {
                ensure!(clock::now() < end, "users are unknown still: {answer}");
                tokio::time::sleep(LOOK).await;
                continue;
            }
            for (user, found) in some.iter().zip(users) {
                if let Some(text) = found["text"].as_str() {
                    left.insert(*user, text.parse().with_context(|| format!("not written: {text}"))?);
                }
            }
            break;
        }
    }
    Ok(left)
}

/// How many users have less than was acknowledged, and how old the oldest of that was when the process was killed.
fn missing(
    said: &HashMap<u64, Vec<(u64, Instant)>>,
    left: &HashMap<u64, u64>,
    killed: Instant,
) -> anyhow::Result<(u32, Duration)> {
    let (mut users, mut oldest) = (0, Duration::ZERO);
    for (user, numbers) in said {
        let has = left.get(user).copied().unwrap_or(0);
        let lost = numbers.iter().filter(|(number, _)| *number > has).map(|(_, at)| *at).min();
        if let Some(at) = lost {
            users += 1;
            oldest = oldest.max(killed.saturating_duration_since(at));
        }
    }
    if said.is_empty() {
        bail!("nothing was acknowledged");
    }
    Ok((users, oldest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_as_old_as_the_oldest_of_it() {
        let killed = clock::now() + Duration::from_secs(10);
        let at = |seconds| killed - Duration::from_secs(seconds);
        let said = HashMap::from([(1, vec![(5, at(3)), (9, at(2)), (12, at(1))]), (2, vec![(7, at(4))])]);
        let left = |one, two| HashMap::from([(1, one), (2, two)]);
        assert_eq!(missing(&said, &left(12, 7), killed).unwrap(), (0, Duration::ZERO));
        assert_eq!(missing(&said, &left(5, 7), killed).unwrap(), (1, Duration::from_secs(2)));
        assert_eq!(missing(&said, &left(13, 8), killed).unwrap(), (0, Duration::ZERO));
        assert_eq!(missing(&said, &HashMap::new(), killed).unwrap(), (2, Duration::from_secs(4)));
        assert!(missing(&HashMap::new(), &left(1, 1), killed).is_err());
    }
}
