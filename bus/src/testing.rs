//! A real NATS server on loopback, for tests of this and other crates. Needs what `cargo xtask setup` installs.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// Names the server's binary, when it is not the one that `cargo xtask setup` installs.
pub const BINARY_ENV: &str = "HERENOW_NATS_SERVER";
/// How often a free port is looked for: another process may take it before the server does.
const PORT_ATTEMPTS: usize = 5;
/// Below 32,768, from where on Linux gives ports to connections.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// How often, and how long apart, a starting server is asked whether it is there: 10 s in all.
const READY_LOOKS: usize = 500;
const READY_PAUSE: Duration = Duration::from_millis(20);

static SERVERS: AtomicU32 = AtomicU32::new(0);
/// Processes that run at the same time begin at different ones.
static NEXT_PORT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(rand::random_range(0..u16::MAX)));

/// A server with JetStream, of its own port and directory. Killed, and its directory removed, when dropped.
#[derive(Debug)]
pub struct NatsServer {
    /// Where clients connect, such as `nats://127.0.0.1:40123`.
    pub url: String,
    port: u16,
    directory: PathBuf,
    config: Option<(PathBuf, Vec<(String, String)>)>,
    process: Option<Child>,
}

impl NatsServer {
    /// Starts a server without users and returns when it takes connections.
    ///
    /// # Panics
    /// When the server is not installed or does not start: a test can do nothing else.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts a server with a configuration file, whose ports and store are overruled, and with the environment
    /// variables that the file refers to.
    ///
    /// # Panics
    /// As [`NatsServer::start`].
    pub async fn start_with_config(config: &Path, environment: &[(&str, &str)]) -> Self {
        let owned = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self::start_with(Some((config.to_owned(), owned.collect()))).await
    }

    async fn start_with(config: Option<(PathBuf, Vec<(String, String)>)>) -> Self {
        let number = SERVERS.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("herenow-nats-{}-{number}", std::process::id()));
        let mut log = String::new();
        for _ in 0..PORT_ATTEMPTS {
            let port = free_port();
            let url = format!("nats://127.0.0.1:{port}");
            let mut server =
                Self { url, port, directory: directory.clone(), config: config.clone(), process: None };
            if server.restart().await {
                return server;
            }
            log = server.log();
        }
        panic!("{} does not start:\n{log}", binary().display());
    }

    /// Kills the server as `kill -9` does, and returns when it is gone. Its store stays.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself; then there is nothing to do.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops the server from running without ending it, as a machine that hangs would: connections stay open and
    /// nothing is answered.
    ///
    /// # Panics
    /// When the server does not run.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets a frozen server run on.
    ///
    /// # Panics
    /// When the server does not run.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Tells the server to send its clients elsewhere before it stops.
    ///
    /// # Panics
    /// When the server does not run.
    pub fn send_clients_away(&self) {
        self.signal("-USR2");
    }

    /// The id of its process, while there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// What it has written since it was started last.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("the server runs");
        let status = Command::new("kill").arg(signal).arg(process.id().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {signal} works");
    }

    /// Starts the server again on the same port and store, and returns whether it takes connections.
    ///
    /// # Panics
    /// When the server is not installed.
    pub async fn restart(&mut self) -> bool {
        self.kill();
        self.process = Some(self.spawn().expect("the NATS server can be started"));
        for _ in 0..READY_LOOKS {
            if self.has_ended() {
                return false;
            }
            if self.greets().await {
                return true;
            }
            tokio::time::sleep(READY_PAUSE).await;
        }
        false
    }

    fn spawn(&self) -> io::Result<Child> {
        std::fs::create_dir_all(&self.directory)?;
        let mut command = Command::new(binary());
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string()]);
        let store = self.directory.join("store");
        if let Some((config, environment)) = &self.config {
            let copy = self.directory.join("config");
            std::fs::write(&copy, with_store(&std::fs::read_to_string(config)?, &store))?;
            command.arg("-c").arg(copy).arg("-m=-1").envs(environment.iter().cloned());
        } else {
            command.arg("-js").arg("-sd").arg(store);
        }
        let log = std::fs::File::create(self.directory.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
    }

    fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| !matches!(process.try_wait(), Ok(None)))
    }

    /// A server that is ready says `INFO` first.
    async fn greets(&self) -> bool {
        let Ok(mut socket) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await else { return false };
        let mut greeting = [0; 4];
        let read = tokio::time::timeout(Duration::from_secs(1), socket.read_exact(&mut greeting)).await;
        matches!(read, Ok(Ok(_))) && greeting == *b"INFO"
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
        // A directory that stays behind in the temporary one harms nobody.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Lets the server itself check a configuration file.
///
/// # Errors
/// What the server says against it.
///
/// # Panics
/// When the server is not installed.
pub fn check_config(config: &Path, environment: &[(&str, &str)]) -> Result<(), String> {
    let mut command = Command::new(binary());
    command.arg("-t").arg("-c").arg(config).envs(environment.iter().copied());
    let output = command.output().expect("the NATS server can be started");
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
}

/// The configuration with another place for its store: the server refuses to be told twice.
fn with_store(config: &str, store: &Path) -> String {
    let is_store = |line: &str| line.trim_start().starts_with("store_dir");
    let line = |line| if is_store(line) { format!("store_dir: {store:?}\n") } else { format!("{line}\n") };
    config.lines().map(line).collect()
}

fn binary() -> PathBuf {
    let named = std::env::var_os(BINARY_ENV).map(PathBuf::from);
    let binary = named.unwrap_or_else(|| target().join("tools").join("nats-server"));
    assert!(binary.is_file(), "{} is missing: run cargo xtask setup", binary.display());
    binary
}

/// The workspace's target directory: tests run from somewhere below it.
fn target() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}

/// A port of loopback that nobody has, and that this process was not given before. Not one of those that systems give to connections, so that none of them takes it
/// before whoever it is for, or while that is being started again.
///
/// # Panics
/// When every port is taken.
#[must_use]
pub fn free_port() -> u16 {
    let next = || PORTS.start + NEXT_PORT.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
    let mut free = std::iter::repeat_with(next)
        .take(PORTS.len())
        .filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.next().expect("loopback has a free port")
}
