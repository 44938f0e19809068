//! The server: what is kept in it under which keys, and what becomes of a call that it does not answer.
//!
//! A key is the prefix, the format, and the user's 16 bytes. A value is 8 bytes of generation and then what every
//! engine writes of a record: 16 bytes of version and the body, which is empty where nothing is kept of the user.
//! An entry of another generation than the one in the server is none: so all are void at once.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use herenow_protocol::{UserKey, Version};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, cmd,
};

use super::RedisConfig;
use super::breaker::Breaker;
use super::entries::{Entries, Entry};
use super::life::Life;
use crate::StoreError;
use crate::clock::now;
use crate::codec::{VERSION, version_bytes};

/// Grows when the bytes of entries change; processes of two formats share a server and no entry.
const FORMAT: u32 = 1;
/// Entries of one command: the server does nothing else meanwhile, about a millisecond.
const COMMAND: usize = 500;
/// Bytes of the generation.
const GENERATION: usize = 8;
/// Bytes of a user's key.
const KEY: usize = 16;
/// Most digits of a life in milliseconds.
const LIFE: usize = 7;

/// Makes the command for the items at these places.
type Commands<'a> = dyn Fn(Range<usize>) -> Cmd + Sync + 'a;

/// The server did not do it; the reason was logged and the store has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unreachable;

/// A connection to the server, made when it is needed.
pub(super) struct Cache {
    client: Client,
    name: String,
    prefix: Vec<u8>,
    timeout: Duration,
    connection: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    breaker: Mutex<Breaker>,
    write: Script,
    void: Script,
}

impl Cache {
    pub(super) async fn new(config: &RedisConfig) -> Result<Self, StoreError> {
        Ok(Self {
            client: config.client().await?,
            name: config.name(),
            prefix: format!("{}:{FORMAT}:", config.prefix).into_bytes(),
            timeout: config.timeout,
            connection: tokio::sync::Mutex::default(),
            breaker: Mutex::new(Breaker::new(config.retry_after)),
            write: Script::new(include_str!("write.lua")),
            void: Script::new(include_str!("void.lua")),
        })
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    /// Only what stays as it is until an operator does something. A server that is down is no error.
    pub(super) async fn greet(&self) -> Result<(), StoreError> {
        let ping = async {
            let mut connection = self.connect().await?;
            let key = self.generation_key();
            cmd("GET").arg(key).query_async::<Option<Vec<u8>>>(&mut connection).await
        };
        match tokio::time::timeout(self.timeout, ping).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if is_refusal(&error) => {
                Err(StoreError::Denied { server: self.name.clone(), reason: error.to_string() })
            }
            Ok(Err(error)) => {
                self.failed(&error.to_string()).await;
                Ok(())
            }
            Err(_) => {
                self.failed("no answer in time").await;
                Ok(())
            }
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.breaker().is_open()
    }

    /// The values of these users; `None` where it has no entry that may be believed.
    pub(super) async fn get(&self, keys: &[UserKey]) -> Result<Vec<Option<Vec<u8>>>, Unreachable> {
        let read = |part: Range<usize>| {
            let mut command =
                Cmd::with_capacity(part.len() + 2, (part.len() + 2) * (self.prefix.len() + KEY));
            command.arg("MGET").arg(self.generation_key());
            self.add_keys(&mut command, keys.get(part).unwrap_or_default().iter().copied());
            command
        };
        let answers: Vec<Vec<Option<Vec<u8>>>> = self.ask(keys.len(), &read).await?;
        let mut values = Vec::with_capacity(keys.len());
        for answer in answers {
            let mut entries = answer.into_iter();
            let generation = entries.next().flatten();
            values.extend(entries.map(|entry| believable(entry?, generation.as_deref()?)));
        }
        if values.len() == keys.len() { Ok(values) } else { Err(Unreachable) }
    }

    /// Writes values. Returns how many were newer than what was there.
    pub(super) async fn put(&self, entries: &Entries, life: Life) -> Result<usize, Unreachable> {
        let generation = fresh_generation()?;
        let write = |part: Range<usize>| {
            let (some, keys) =
                (entries.part(part.clone()), entries.part(part.clone()).map(|entry| entry.key));
            let bytes: usize =
                some.clone().map(|entry| self.prefix.len() + KEY + LIFE + entry.value.len()).sum();
            let mut command = self.write.command(part.len() + 1, part.len() * 3, bytes);
            command.arg(self.generation_key());
            self.add_keys(&mut command, keys);
            command.arg(&generation[..]);
            for Entry { key, version, value } in some {
                let life = life.of(key, version, value);
                command.arg(herenow_protocol::time::millis(life)).arg(value);
            }
            command
        };
        self.run(&self.write, entries.users().len(), &write).await
    }

    /// Removes entries that are older than these versions.
    pub(super) async fn void(&self, users: &[(UserKey, Version)]) -> Result<(), Unreachable> {
        let void = |part: Range<usize>| {
            let some = users.get(part).unwrap_or_default();
            let bytes = some.len() * (self.prefix.len() + KEY + VERSION);
            let mut command = self.void.command(some.len(), some.len() * 2, bytes);
            self.add_keys(&mut command, some.iter().map(|(key, _)| *key));
            for (_, version) in some {
                command.arg(&version_bytes(*version)[..]);
            }
            command
        };
        self.run(&self.void, users.len(), &void).await.map(drop)
    }

    /// Makes all entries void.
    pub(super) async fn void_all(&self) -> Result<(), Unreachable> {
        let generation = fresh_generation()?;
        self.ask_once(&|| cmd("SET").arg(self.generation_key()).arg(&generation[..]).take()).await
    }

    /// Runs a script, which is sent first where the server does not have it.
    async fn run(&self, script: &Script, items: usize, command: &Commands<'_>) -> Result<usize, Unreachable> {
        let asked = self.try_ask::<usize>(items, command).await;
        let counts = match asked {
            Err(Failure::NoScript) => {
                self.ask_once::<()>(&|| cmd("SCRIPT").arg("LOAD").arg(script.code).take()).await?;
                self.ask(items, command).await?
            }
            Err(Failure::Other) => return Err(Unreachable),
            Ok(counts) => counts,
        };
        Ok(counts.into_iter().sum())
    }

    async fn ask_once<T: FromRedisValue>(
        &self,
        command: &(dyn Fn() -> Cmd + Sync),
    ) -> Result<T, Unreachable> {
        self.ask(1, &|_| command()).await?.pop().ok_or(Unreachable)
    }

    async fn ask<T: FromRedisValue>(
        &self,
        items: usize,
        command: &Commands<'_>,
    ) -> Result<Vec<T>, Unreachable> {
        self.try_ask(items, command).await.map_err(|_| Unreachable)
    }

    /// Sends a command for each part of so many items. A command is made while the server is at the one before.
    async fn try_ask<T: FromRedisValue>(
        &self,
        items: usize,
        command: &Commands<'_>,
    ) -> Result<Vec<T>, Failure> {
        if !self.breaker().lets_through(now()) {
            return Err(Failure::Other);
        }
        let asked = async {
            let connection = self.connect().await?;
            let ask = |part| {
                let mut connection = connection.clone();
                async move { command(part).query_async::<T>(&mut connection).await }
            };
            try_join_all(parts(items).map(ask)).await
        };
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(Ok(answers)) => {
                self.answered();
                Ok(answers)
            }
            Ok(Err(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.answered();
                Err(Failure::NoScript)
            }
            Ok(Err(error)) => {
                self.failed(&error.to_string()).await;
                Err(Failure::Other)
            }
            Err(_) => {
                self.failed("no answer in time").await;
                Err(Failure::Other)
            }
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = &*kept {
            return Ok(connection.clone());
        }
        // The limits of time are set around the whole call.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(kept.insert(connection).clone())
    }

    fn answered(&self) {
        if self.breaker().answered() {
            tracing::info!(server = %self.name, "the cache answers again");
        }
    }

    /// Leaves the server alone for a while, and the connection for good: it may be one of those that never end.
    async fn failed(&self, reason: &str) {
        *self.connection.lock().await = None;
        if self.breaker().failed(now()) {
            tracing::warn!(server = %self.name, reason, "the cache is left out for a while: reads go to the store");
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_keys(&self, command: &mut Cmd, users: impl Iterator<Item = UserKey>) {
        let mut key = self.prefix.clone();
        for user in users {
            key.truncate(self.prefix.len());
            key.extend_from_slice(&user.to_bytes());
            command.arg(&key[..]);
        }
    }

    fn generation_key(&self) -> Vec<u8> {
        [self.prefix.as_slice(), b"generation"].concat()
    }
}

/// A script, and what the server knows it by.
struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }

    /// A call of it, with room for so many arguments and their bytes.
    fn command(&self, keys: usize, arguments: usize, bytes: usize) -> Cmd {
        // Its name, its hash, how many keys, and two that stand before all others.
        let mut command = Cmd::with_capacity(arguments + 5, bytes + 256);
        command.arg("EVALSHA").arg(&self.hash).arg(keys);
        command
    }
}

/// The places of items, as many as one command takes at a time.
fn parts(items: usize) -> impl Iterator<Item = Range<usize>> {
    (0..items).step_by(COMMAND).map(move |first| first..items.min(first + COMMAND))
}

enum Failure {
    NoScript,
    Other,
}

/// The value of an entry of this generation.
fn believable(mut entry: Vec<u8>, generation: &[u8]) -> Option<Vec<u8>> {
    let whole = entry.len() >= GENERATION + VERSION && entry.starts_with(generation);
    (whole && generation.len() == GENERATION).then(|| {
        entry.drain(..GENERATION);
        entry
    })
}

fn fresh_generation() -> Result<[u8; GENERATION], Unreachable> {
    getrandom::u64().map(u64::to_be_bytes).map_err(|_| Unreachable)
}

/// Whether it will be the same the next time.
fn is_refusal(error: &RedisError) -> bool {
    let code = error.code().unwrap_or_default();
    error.kind() == ErrorKind::AuthenticationFailed || matches!(code, "NOAUTH" | "WRONGPASS" | "NOPERM")
}
