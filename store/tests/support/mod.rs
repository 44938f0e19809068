//! Servers that tests start themselves, each on a port and in a directory of its own. Where one is not installed, a
//! test says so, whatever else is captured, and does nothing.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each file of tests uses a part, and may fail so"
)]

pub mod disk;

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures::future::{BoxFuture, FutureExt as _};
use herenow_protocol::record::Record;
use herenow_protocol::{UserKey, Version};
use herenow_store::{KeyRange, Page, StatusStore, StoreError, Written};
use tokio::sync::Semaphore;

/// Says that something was not tested, and why: what it needs can be installed.
pub fn skipped(why: &str) {
    left_out(&format!("{why}; run cargo xtask setup"));
}

/// Says that something was not tested, and why.
pub fn left_out(why: &str) {
    // Past the capture of outputs: who runs the tests must see it.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

pub fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}

/// A program by its name, where the system has it.
pub fn program(names: &[&str], places: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps some where PATH does not look; others may have put a part of them elsewhere.
    let everywhere: Vec<PathBuf> =
        places.iter().map(PathBuf::from).chain(std::env::split_paths(&path)).collect();
    names.iter().find_map(|name| everywhere.iter().map(|place| place.join(name)).find(|file| file.is_file()))
}

pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

pub async fn answers(port: u16) -> bool {
    tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()
}

pub fn signal(child: &Child, signal: &str) {
    let sent = Command::new("kill").arg(signal).arg(child.id().to_string()).status();
    assert!(sent.unwrap().success());
    // A thread on another processor goes on until it is told.
    while signal == "-STOP" && !is_stopped(child.id()) {
        std::thread::yield_now();
    }
}

/// Whether no thread of a process runs any more.
fn is_stopped(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let states = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    // The state follows the name, which is in brackets.
    states.into_iter().all(|stat| {
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        matches!(state, Some('T' | 't' | 'Z' | 'X'))
    })
}

/// Certificates for 127.0.0.1, in a directory: `ca.pem`, `cert.pem`, `key.pem`.
pub fn certificates(directory: &Path) {
    certificates_of("127.0.0.1", directory);
}

/// The same for another address.
pub fn certificates_of(address: &str, directory: &Path) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec![address.to_owned(), "localhost".to_owned()];
    let of_server = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(directory.join("ca.pem"), certificate.pem()).unwrap();
    std::fs::write(directory.join("cert.pem"), of_server.pem()).unwrap();
    std::fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
}

/// A store that counts how often it is read, and whose reads can be held up after they were made.
pub struct Watched {
    pub store: Arc<dyn StatusStore>,
    pub reads: AtomicUsize,
    pub keys_read: AtomicU64,
    pub gate: Semaphore,
    /// How many reads have been made and wait at the gate.
    pub waiting: AtomicUsize,
}

impl Watched {
    /// Its reads go through.
    pub fn new(store: impl StatusStore + 'static) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::new(store),
            reads: AtomicUsize::new(0),
            keys_read: AtomicU64::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            waiting: AtomicUsize::new(0),
        })
    }

    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    /// From now on reads are held up until [`Self::open_gate`].
    pub fn shut_gate(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub fn open_gate(&self) {
        self.gate.add_permits(Semaphore::MAX_PERMITS);
    }

    /// Until so many reads are held up.
    pub async fn held_up(&self, reads: usize) {
        while self.waiting.load(Ordering::SeqCst) < reads {
            tokio::task::yield_now().await;
        }
    }
}

impl StatusStore for Watched {
    fn put_batch(&self, records: Vec<Record>) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.store.put_batch(records)
    }

    fn get_many(&self, keys: Vec<UserKey>) -> BoxFuture<'_, Result<Vec<Option<Record>>, StoreError>> {
        async move {
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.keys_read.fetch_add(keys.len() as u64, Ordering::SeqCst);
            let read = self.store.get_many(keys).await;
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let _pass = self.gate.acquire().await.unwrap();
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            read
        }
        .boxed()
    }

    fn scan(&self, range: KeyRange, from: Option<UserKey>) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.store.scan(range, from)
    }

    fn erase(&self, users: Vec<(UserKey, Version)>) -> BoxFuture<'_, Result<Written, StoreError>> {
        self.store.erase(users)
    }
}
