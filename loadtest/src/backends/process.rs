//! One `herenow serve` with an embedded store: the configuration that needs nothing else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::clock;
use crate::cluster::{beside_this, free_address, is_ready};
use crate::run::processes::{memory, processor};
use crate::token::Issuer;

const ISSUER: &str = "loadtest";
const AUDIENCE: &str = "herenow";
const SECRET: &str = "a secret of the load, for this machine alone";
/// How long it may take until it is ready.
const READY_LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// Where it keeps what, and how it is started. Dropping it removes the directory.
#[derive(Debug)]
pub(super) struct Place {
    program: PathBuf,
    directory: PathBuf,
}

impl Place {
    pub(super) fn new(program: Option<&Path>) -> anyhow::Result<Self> {
        let program = program.map_or_else(beside_this, |file| Ok(file.to_owned()))?;
        ensure!(program.is_file(), "{} is missing: build it, or name it with --herenow", program.display());
        let directory = std::env::temp_dir().join(format!("herenow-backends-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        Ok(Self { program, directory })
    }

    /// What lets a backend read and write everybody.
    pub(super) fn token() -> anyhow::Result<String> {
        let issuer = Issuer::new(SECRET.as_bytes(), Some(ISSUER.to_owned()), Some(AUDIENCE.to_owned()));
        issuer.backend("presence:read presence:write")
    }

    /// Starts it and waits until it is ready.
    pub(super) async fn start(&self) -> anyhow::Result<Process> {
        let (at, admin) = (free_address()?, free_address()?);
        let config = self.directory.join("herenow.toml");
        let store = self.directory.join("store");
        std::fs::write(
            &config,
            format!(
                "[cluster]\nsecret = \"{SECRET}\"\n[gateway]\nlisten = \"{at}\"\n[gateway.auth]\n\
                 algorithm = \"HS256\"\nkeys = [{{ secret = \"{SECRET}\" }}]\nissuer = \"{ISSUER}\"\n\
                 audience = \"{AUDIENCE}\"\n[store]\nkind = \"embedded\"\npath = \"{}\"\n\
                 [admin]\nlisten = \"{admin}\"\n[log]\nlevel = \"warn\"\n",
                store.display()
            ),
        )?;
        let log = self.directory.join("log");
        let child = Command::new(&self.program)
            .args(["serve", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .with_context(|| format!("{} does not start", self.program.display()))?;
        let mut process = Process { child, at };
        let end = clock::now() + READY_LIMIT;
        while !is_ready(admin).await {
            if process.child.try_wait()?.is_some() || clock::now() > end {
                bail!("it is not ready:\n{}", std::fs::read_to_string(&log).unwrap_or_default());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(process)
    }

    /// Bytes that the store has on the disk.
    pub(super) fn stored(&self) -> u64 {
        bytes_under(&self.directory.join("store"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is in the directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn bytes_under(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_under(&entry.path()),
        // A file that is made longer than what is in it has blocks for what is in it.
        Ok(meta) => std::os::unix::fs::MetadataExt::blocks(&meta) * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// The process. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pub(super) at: SocketAddr,
}

impl Process {
    /// Its processor time so far.
    pub(super) fn processor(&self) -> Duration {
        Duration::from_millis(processor(self.child.id()).unwrap_or(0))
    }

    /// KiB that it has in memory.
    pub(super) fn memory(&self) -> u64 {
        memory(self.child.id()).unwrap_or(0)
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.kill();
    }
}
