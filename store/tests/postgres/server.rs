//! A PostgreSQL of its own, as another user than root, which it refuses.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use herenow_store::{PostgresConfig, Secret};
use tempfile::TempDir;

use super::support::{certificates, free_port, is_root, program, signal, skipped};

/// Whom it runs as where this is root.
const NOBODY: &str = "65534";
pub const PASSWORD: &str = "opensesame";

/// A server; killed when dropped.
pub struct Server {
    pub port: u16,
    directory: TempDir,
    programs: PathBuf,
    process: Option<Child>,
}

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
static SCHEMAS: AtomicU32 = AtomicU32::new(0);

impl Server {
    /// The server that tests of this program share while there are any.
    pub fn shared() -> Option<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        let server = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    /// One that nobody else uses.
    pub fn start() -> Option<Self> {
        let newest_first = ["18", "17", "16", "15", "14", "13"];
        let places = newest_first.map(|version| format!("/usr/lib/postgresql/{version}/bin"));
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let Some(initdb) = program(&["initdb"], &places) else {
            skipped("PostgreSQL is not installed");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let programs = initdb.parent().unwrap().to_owned();
        let mut server = Self { port: free_port(), directory, programs, process: None };
        server.make();
        server.restart();
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    fn make(&self) {
        let place = self.directory.path();
        certificates(place);
        std::fs::write(place.join("password"), PASSWORD).unwrap();
        own(place);
        let made = as_nobody(&self.programs.join("initdb"))
            .args([
                "--no-sync",
                "--auth=scram-sha-256",
                "--username=herenow",
                "--encoding=UTF8",
                "--locale=C",
            ])
            .arg(format!("--pwfile={}", place.join("password").display()))
            .arg(self.data())
            .current_dir(place)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    }

    /// Starts it again on what it has.
    pub fn restart(&mut self) {
        self.kill();
        let place = self.directory.path();
        let log = std::fs::File::create(place.join("log")).unwrap();
        let mut command = as_nobody(&self.programs.join("postgres"));
        command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
        command.arg("-k").arg(place).args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        command.args(["-c", "ssl=on", "-c", "max_connections=200"]);
        for (setting, file) in [("ssl_cert_file", "cert.pem"), ("ssl_key_file", "key.pem")] {
            command.arg("-c").arg(format!("{setting}={}", place.join(file).display()));
        }
        command.current_dir(place).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        while !self.is_ready() {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{}", std::fs::read_to_string(place.join("log")).unwrap());
            #[expect(
                clippy::disallowed_methods,
                reason = "several tests wait for this one, and none of them can go on"
            )]
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_ready(&self) -> bool {
        let mut ask = Command::new(self.programs.join("pg_isready"));
        ask.args(["--quiet", "--host=127.0.0.1", "--dbname=postgres", "--username=herenow"]);
        ask.arg(format!("--port={}", self.port)).status().unwrap().success()
    }

    /// Stops it as a crash does: nothing is finished.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            signal(&process, "-QUIT");
            process.wait().unwrap();
        }
    }

    /// It and those it has for each connection answer nothing, as one that is very slow.
    pub fn freeze(&self) {
        self.signal_all("-STOP");
    }

    pub fn thaw(&self) {
        self.signal_all("-CONT");
    }

    fn signal_all(&self, what: &str) {
        let process = self.process.as_ref().unwrap();
        let id = process.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        for child in children.split_whitespace() {
            // One may just have ended by itself.
            let _ = Command::new("kill").args([what, child]).stderr(Stdio::null()).status();
        }
        signal(process, what);
    }

    /// Settings for a schema that nobody else uses.
    pub fn config(&self) -> PostgresConfig {
        PostgresConfig {
            port: self.port,
            database: "postgres".to_owned(),
            schema: format!("test_{}", SCHEMAS.fetch_add(1, Ordering::Relaxed)),
            password: Some(Secret::new(PASSWORD)),
            timeout: Duration::from_secs(60),
            ..PostgresConfig::default()
        }
    }

    /// A plain connection.
    pub async fn client(&self) -> tokio_postgres::Client {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).dbname("postgres").user("herenow").password(PASSWORD);
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn as_nobody(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={NOBODY}"))
        .arg(format!("--regid={NOBODY}"))
        .arg("--clear-groups")
        .arg(program);
    command
}

fn own(place: &Path) {
    let key = place.join("key.pem");
    let mut commands = vec![Command::new("chmod")];
    commands[0].arg("600").arg(&key);
    if is_root() {
        let mut own = Command::new("chown");
        own.arg("-R").arg(format!("{NOBODY}:{NOBODY}")).arg(place);
        commands.push(own);
    }
    assert!(commands.iter_mut().all(|command| command.status().unwrap().success()));
}
