//! A Cassandra of its own, of the jars that `cargo xtask setup` puts together.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use herenow_store::{CassandraConfig, Secret};
use tempfile::TempDir;

use super::support::{certificates_of, signal, skipped};

/// The user and password that a new cluster has.
pub const SUPERUSER: &str = "cassandra";
/// What it does before it takes clients; a machine that is busy needs long.
const READY: &str = "Created default superuser role";
const OPENS: [&str; 12] = [
    "java.io",
    "java.lang",
    "java.lang.module",
    "java.lang.reflect",
    "java.nio",
    "java.util",
    "jdk.internal.loader",
    "jdk.internal.math",
    "jdk.internal.module",
    "jdk.internal.ref",
    "jdk.internal.reflect",
    "sun.nio.ch",
];
const EXPORTS: [&str; 9] = [
    "java.base/java.lang.ref",
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.util.jar",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.attach/sun.tools.attach",
    "jdk.unsupported/sun.misc",
];

/// A node; killed when dropped.
pub struct Server {
    /// Its address, which no other process has: ports that are free now may be taken before it has started.
    host: String,
    seed: String,
    asks_who: bool,
    directory: TempDir,
    java: PathBuf,
    jars: PathBuf,
    settings: &'static [&'static str],
    process: Option<Child>,
}

/// Where nodes take clients.
const PORT: u16 = 9042;

static NODES: AtomicU8 = AtomicU8::new(0);
static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
static KEYSPACES: AtomicU32 = AtomicU32::new(0);

impl Server {
    /// The node that tests of this program share while there are any.
    pub fn shared() -> Option<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        // Nobody restarts it: its tables need not survive that, and are made sooner.
        let server = Arc::new(Self::start_with(&["-Dcassandra.test.flush_local_schema_changes=false"])?);
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    /// One that nobody else uses.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    fn start_with(settings: &'static [&'static str]) -> Option<Self> {
        let mut server = Self::new()?;
        server.settings = settings;
        server.make();
        server.restart();
        Some(server)
    }

    /// Three that are one cluster, which lets everybody in.
    pub fn cluster() -> Option<Vec<Self>> {
        let mut nodes: Vec<Self> = Vec::new();
        while nodes.len() < 3 {
            let mut node = Self::new()?;
            if let Some(first) = nodes.first() {
                node.seed.clone_from(&first.host);
            }
            node.asks_who = false;
            node.make();
            node.restart();
            nodes.push(node);
        }
        Some(nodes)
    }

    fn new() -> Option<Self> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
        let jars = target.join("tools").join("cassandra");
        let Some(java) = java().filter(|_| jars.is_dir()) else {
            skipped("Cassandra, or the Java 17 that it needs, is not installed");
            return None;
        };
        let host = own_address();
        Some(Self {
            seed: host.clone(),
            host,
            asks_who: true,
            directory: tempfile::tempdir().unwrap(),
            java,
            jars,
            settings: &[],
            process: None,
        })
    }

    pub fn address(&self) -> String {
        format!("{}:{PORT}", self.host)
    }

    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    fn make(&self) {
        let place = self.directory.path();
        certificates_of(&self.host, place);
        let of_server =
            ["key.pem", "cert.pem"].map(|file| std::fs::read_to_string(place.join(file)).unwrap());
        std::fs::write(place.join("server.pem"), of_server.concat()).unwrap();
        let (authenticator, authorizer) = match self.asks_who {
            true => ("PasswordAuthenticator", "CassandraAuthorizer"),
            false => ("AllowAllAuthenticator", "AllowAllAuthorizer"),
        };
        let text = include_str!("cassandra.yaml")
            .replace("PLACE", &place.display().to_string())
            .replace("HOST", &self.host)
            .replace("SEED", &self.seed)
            .replace("AUTHENTICATOR", authenticator)
            .replace("AUTHORIZER", authorizer);
        std::fs::write(place.join("cassandra.yaml"), text).unwrap();
        std::fs::write(place.join("logback.xml"), include_str!("logback.xml")).unwrap();
    }

    /// Starts it again on what it has.
    pub fn restart(&mut self) {
        self.kill();
        let place = self.directory.path();
        let log = std::fs::File::create(place.join("log")).unwrap();
        let mut command = Command::new(&self.java);
        command.args(["-Xms512m", "-Xmx512m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        // Otherwise it closes its output when it has started, and what it does after that is not seen.
        command.args(["-Dcassandra-foreground=yes", "-Djdk.attach.allowAttachSelf=true"]);
        command.args(["-Djava.net.preferIPv4Stack=true", "-Dcassandra.skip_wait_for_gossip_to_settle=0"]);
        command.args(["-Dcassandra.ring_delay_ms=100", "-Dcassandra.superuser_setup_delay_ms=0"]);
        command.arg("-Dio.netty.tryReflectionSetAccessible=true");
        command.arg(format!("-Dcassandra.config=file://{}", place.join("cassandra.yaml").display()));
        command.arg(format!("-Dcassandra.storagedir={}", place.display()));
        command.arg(format!("-Dlogback.configurationFile={}", place.join("logback.xml").display()));
        command.args(OPENS.map(|package| format!("--add-opens=java.base/{package}=ALL-UNNAMED")));
        command.arg("--add-opens=jdk.management/com.sun.management.internal=ALL-UNNAMED");
        command.args(EXPORTS.map(|package| format!("--add-exports={package}=ALL-UNNAMED")));
        command.args(self.settings);
        command.arg("-cp").arg(self.jars.join("*"));
        command.arg("org.apache.cassandra.service.CassandraDaemon");
        command.current_dir(place).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let is_new = self.asks_who && !place.join("was-started").exists();
        self.process = Some(command.spawn().unwrap());
        while !self.is_ready(is_new) {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{}", self.log());
            #[expect(
                clippy::disallowed_methods,
                reason = "several tests wait for this one, and none of them can go on"
            )]
            std::thread::sleep(Duration::from_millis(100));
        }
        std::fs::write(place.join("was-started"), "").unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn is_ready(&self, is_new: bool) -> bool {
        (!is_new || self.log().contains(READY))
            && std::net::TcpStream::connect((self.host.as_str(), PORT)).is_ok()
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// It keeps its connections and answers nothing, as one that is very slow.
    pub fn freeze(&self) {
        signal(self.process.as_ref().unwrap(), "-STOP");
    }

    pub fn thaw(&self) {
        signal(self.process.as_ref().unwrap(), "-CONT");
    }

    /// Settings for a keyspace that nobody else uses.
    pub fn config(&self) -> CassandraConfig {
        CassandraConfig {
            nodes: vec![self.address()],
            keyspace: format!("test_{}", KEYSPACES.fetch_add(1, Ordering::Relaxed)),
            replication: 1,
            user: Some(SUPERUSER.to_owned()),
            password: Some(Secret::new(SUPERUSER)),
            timeout: Duration::from_secs(60),
            ..CassandraConfig::default()
        }
    }
}

fn own_address() -> String {
    let [.., high, low] = std::process::id().to_be_bytes();
    let node = 100 + NODES.fetch_add(1, Ordering::Relaxed);
    format!("127.{node}.{high}.{low}")
}

/// The Java that this Cassandra runs on: no other version will do.
fn java() -> Option<PathBuf> {
    let debian = ["amd64", "arm64"].map(|machine| format!("/usr/lib/jvm/java-17-openjdk-{machine}/bin/java"));
    debian.into_iter().chain(["java".to_owned()]).map(PathBuf::from).find(|java| {
        let said = Command::new(java).arg("--version").output();
        said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(" 17."))
    })
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
