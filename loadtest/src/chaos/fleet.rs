//! The processes under test, and what can be done to them. All are children of this one, and die with the fleet.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use herenow_bus::testing::NatsServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::timers::{Timers, set};
use crate::clock;
use crate::token::Issuer;

const ISSUER: &str = "chaos";
const AUDIENCE: &str = "herenow";
/// Coordinators, and gateways.
pub(super) const EACH: usize = 3;
/// How long a process may take to be ready, to end in order, or to be seen in a state.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// Three coordinators (0 to 2), three gateways (3 to 5), and their NATS servers.
#[derive(Debug)]
pub(super) struct Fleet {
    members: Vec<Member>,
    pub(super) nats: Vec<NatsServer>,
    secret: String,
    settings: Vec<(String, String)>,
    program: PathBuf,
    directory: PathBuf,
}

#[derive(Debug)]
struct Member {
    name: String,
    role: &'static str,
    listen: SocketAddr,
    admin: SocketAddr,
    process: Option<Owned>,
}

/// A child that is killed when dropped, even when it is stopped.
#[derive(Debug)]
pub(super) struct Owned(pub(super) Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Fleet {
    /// Starts all of it and waits until it is ready. Logs go to the directory.
    pub(super) async fn start(
        program: &Path,
        directory: &Path,
        servers: usize,
        timers: Timers,
        planted: &[String],
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let nats = start_nats(directory, servers).await?;
        let secret = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
        let urls: Vec<&str> = nats.iter().map(|server| server.url.as_str()).collect();
        let replicas = if servers >= 3 { "3" } else { "1" };
        let mut settings = timers.settings()?;
        let own = [
            ("nats.servers", urls.join(",")),
            ("nats.epoch_replicas", replicas.to_owned()),
            ("cluster.secret", secret.clone()),
            ("gateway.auth.keys.0.secret", secret.clone()),
            ("gateway.auth.issuer", ISSUER.to_owned()),
            ("gateway.auth.audience", AUDIENCE.to_owned()),
            ("shutdown.window", "500ms".to_owned()),
            ("log.level", "info".to_owned()),
        ];
        settings.extend(own.map(|(key, value)| set(key, value)));
        // Later ones win.
        for setting in planted {
            let (key, value) =
                setting.split_once('=').with_context(|| format!("--set {setting}: want KEY=VALUE"))?;
            settings.push(set(key, value));
        }
        let mut members = Vec::new();
        for (role, number) in
            ["coordinator", "gateway"].into_iter().flat_map(|role| (1..=EACH).map(move |n| (role, n)))
        {
            let (listen, admin) = (free_address()?, free_address()?);
            members.push(Member { name: format!("{role}-{number}"), role, listen, admin, process: None });
        }
        let (program, directory) = (program.to_owned(), directory.to_owned());
        let mut fleet = Self { members, nats, secret, settings, program, directory };
        for index in 0..fleet.members.len() {
            fleet.spawn(index)?;
        }
        for index in 0..fleet.members.len() {
            fleet.ready(index).await?;
        }
        Ok(fleet)
    }

    pub(super) fn gateways(&self) -> Vec<String> {
        self.members[EACH..].iter().map(|member| format!("ws://{}", member.listen)).collect()
    }

    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    pub(super) fn name(&self, index: usize) -> &str {
        &self.members[index].name
    }

    pub(super) const fn len(&self) -> usize {
        self.members.len()
    }

    fn spawn(&mut self, index: usize) -> anyhow::Result<()> {
        let member = &mut self.members[index];
        let log = self.directory.join(format!("{}.log", member.name));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = Command::new(&self.program)
            .args(["serve", "--name", &member.name, "--roles", member.role])
            .args(["--listen", &member.listen.to_string(), "--admin-listen", &member.admin.to_string()])
            .envs(self.settings.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} does not start", self.program.display()))?;
        member.process = Some(Owned(child));
        Ok(())
    }

    async fn ready(&mut self, index: usize) -> anyhow::Result<()> {
        let end = clock::now() + PATIENCE;
        while !is_ready(self.members[index].admin).await {
            let member = &mut self.members[index];
            let ended = match &mut member.process {
                Some(process) => process.0.try_wait()?.is_some(),
                None => true,
            };
            if ended || clock::now() > end {
                bail!("{} is not ready; its log is in {}", member.name, self.directory.display());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn pid(&self, index: usize) -> anyhow::Result<u32> {
        let member = &self.members[index];
        Ok(member.process.as_ref().with_context(|| format!("{} does not run", member.name))?.0.id())
    }

    /// `kill -9`; the proof is that the process is gone, and with a gateway that its port refuses.
    pub(super) async fn kill(&mut self, index: usize) -> anyhow::Result<String> {
        let pid = self.pid(index)?;
        // Dropping it kills it and waits for its end.
        self.members[index].process = None;
        ensure!(state(pid).is_none(), "process {pid} is still there");
        let member = &self.members[index];
        let address = if member.role == "gateway" { member.listen } else { member.admin };
        ensure!(TcpStream::connect(address).await.is_err(), "{address} still takes connections");
        Ok(format!("{} pid {pid} gone, its port refuses", member.name))
    }

    /// Starts an ended process again, and waits until it is ready.
    pub(super) async fn restart(&mut self, index: usize) -> anyhow::Result<()> {
        self.spawn(index)?;
        self.ready(index).await
    }

    pub(super) async fn freeze(&self, index: usize) -> anyhow::Result<String> {
        let pid = self.pid(index)?;
        freeze(pid).await?;
        Ok(format!("{} pid {pid} state T", self.name(index)))
    }

    /// Wakes a stopped process; it must have been stopped until now.
    pub(super) fn thaw(&self, index: usize) -> anyhow::Result<()> {
        thaw(self.pid(index)?)
    }

    /// SIGTERM, and the wait for an end in order.
    pub(super) async fn terminate(&mut self, index: usize) -> anyhow::Result<()> {
        let pid = self.pid(index)?;
        signal(pid, "-TERM")?;
        let end = clock::now() + PATIENCE;
        let member = &mut self.members[index];
        let process = member.process.as_mut().context("it runs")?;
        let status = loop {
            if let Some(status) = process.0.try_wait()? {
                break status;
            }
            ensure!(clock::now() < end, "{} does not end", member.name);
            tokio::time::sleep(LOOK).await;
        };
        member.process = None;
        ensure!(status.success(), "{} ended with {status}", member.name);
        ensure!(state(pid).is_none(), "process {pid} is still there");
        Ok(())
    }

    /// `kill -9` of a NATS server; the proof is that its port refuses.
    pub(super) async fn kill_nats(&mut self, index: usize) -> anyhow::Result<String> {
        self.nats[index].kill();
        let address = self.nats[index].url.trim_start_matches("nats://").to_owned();
        ensure!(TcpStream::connect(&address).await.is_err(), "{address} still takes connections");
        Ok(format!("nats-{} refuses", index + 1))
    }

    pub(super) async fn restart_nats(&mut self, index: usize) -> anyhow::Result<()> {
        ensure!(self.nats[index].restart().await, "nats-{} does not start again", index + 1);
        Ok(())
    }
}

/// Signs as the gateways of a fleet with this secret accept it.
pub(super) fn issuer(secret: &str) -> Issuer {
    Issuer::new(secret.as_bytes(), Some(ISSUER.to_owned()), Some(AUDIENCE.to_owned()))
}

async fn start_nats(directory: &Path, servers: usize) -> anyhow::Result<Vec<NatsServer>> {
    if servers == 1 {
        return Ok(vec![NatsServer::start().await]);
    }
    let routes = (0..servers).map(|_| free_address()).collect::<anyhow::Result<Vec<_>>>()?;
    let list: Vec<String> = routes.iter().map(|route| format!("nats-route://{route}")).collect();
    let mut started = Vec::new();
    for (number, route) in (1..).zip(&routes) {
        let mut text = format!("server_name: nats-{number}\njetstream {{\nstore_dir: \"store\"\n}}\n");
        // Writing to a string does not fail.
        let _ =
            writeln!(text, "cluster {{\nname: chaos\nlisten: \"{route}\"\nroutes: [{}]\n}}", list.join(", "));
        let file = directory.join(format!("nats-{number}.conf"));
        std::fs::write(&file, text)?;
        started.push(NatsServer::start_with_config(&file, &[]).await);
    }
    Ok(started)
}

/// SIGSTOP; the proof is the state in `/proc`.
pub(super) async fn freeze(pid: u32) -> anyhow::Result<()> {
    signal(pid, "-STOP")?;
    let end = clock::now() + PATIENCE;
    while state(pid) != Some('T') {
        ensure!(clock::now() < end, "process {pid} does not stop");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// SIGCONT, for a process that is stopped.
pub(super) fn thaw(pid: u32) -> anyhow::Result<()> {
    ensure!(state(pid) == Some('T'), "process {pid} was not stopped all the time");
    signal(pid, "-CONT")
}

fn signal(pid: u32, signal: &str) -> anyhow::Result<()> {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status()?;
    ensure!(status.success(), "kill {signal} {pid}: {status}");
    Ok(())
}

/// The letter of the process's state; none when it is gone.
pub(super) fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

async fn is_ready(admin: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(admin).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer.ends_with(b" 200"))
    };
    ask.await.unwrap_or(false)
}
