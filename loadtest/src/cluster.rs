//! A cluster on loopback: nats-server, coordinators and gateways, each a process.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use herenow_bus::testing::NatsServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::clock;
use crate::token::Issuer;

const ISSUER: &str = "loadtest";
const AUDIENCE: &str = "herenow";
/// How long the processes may take until they are ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
/// What a deployment has unless told otherwise.
const PARTITIONS: u64 = 256;
/// How gateways and the load's own processes are started. Where fifty of each share a few cores, the two coordinators and
/// the NATS server would get a fiftieth each, and whoever tells others who lives has to be heard first: so the others are
/// nicer. And none of them interrupts another when something arrives for it (`SCHED_BATCH`): it has its turn later, and
/// then finds more to do.
const YIELDING: [&str; 6] = ["chrt", "--batch", "0", "nice", "-n", "10"];

/// The processes. Dropping it kills them and removes their directory.
#[derive(Debug)]
pub(crate) struct Cluster {
    processes: Vec<Process>,
    gateways: Vec<SocketAddr>,
    secret: String,
    certificate: Option<String>,
    directory: PathBuf,
    /// Last, so that it outlives those who speak to it.
    nats: NatsServer,
}

/// How many processes of each role.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) coordinators: u16,
    pub(crate) gateways: u16,
}

#[derive(Debug)]
struct Process {
    name: String,
    child: Child,
    admin: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that leaves the processor to who needs it more.
pub(crate) fn yielding(program: &Path) -> Command {
    let [first, rest @ ..] = YIELDING;
    let mut command = Command::new(first);
    command.args(rest).arg(program);
    command
}

impl Cluster {
    /// Starts everything and waits until it is ready. `set` is `key=value` of the processes' configuration.
    /// `tls`: gateways speak it, with a certificate that is made for it.
    pub(crate) async fn start(
        herenow: Option<&Path>,
        set: &[String],
        size: Size,
        tls: bool,
    ) -> anyhow::Result<Self> {
        let program = herenow.map_or_else(beside_this, |file| Ok(file.to_owned()))?;
        ensure!(program.is_file(), "{} is missing: build it, or name it with --herenow", program.display());
        let directory = std::env::temp_dir().join(format!("herenow-loadtest-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let nats = NatsServer::start().await;
        let secret = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
        let config = directory.join("herenow.toml");
        let mut text = configuration(&nats.url, &secret);
        let certificate = tls.then(|| certificate(&directory, &mut text)).transpose()?;
        std::fs::write(&config, text)?;
        let mut cluster = Self {
            processes: Vec::new(),
            gateways: (0..size.gateways).map(|_| free_address()).collect::<anyhow::Result<_>>()?,
            secret,
            certificate,
            directory,
            nats,
        };
        let variables = variables(set)?;
        for number in 1..=size.coordinators {
            let name = format!("coordinator-{number}");
            cluster.spawn(&program, &config, &variables, &name, &["--roles", "coordinator"])?;
        }
        for (number, address) in (1..).zip(cluster.gateways.clone()) {
            let listen = address.to_string();
            let role = ["--roles", "gateway", "--listen", &listen];
            cluster.spawn(&program, &config, &variables, &format!("gateway-{number}"), &role)?;
        }
        cluster.wait_until_ready().await?;
        Ok(cluster)
    }

    pub(crate) fn gateways(&self) -> Vec<String> {
        self.gateways.iter().map(|address| format!("ws://{address}")).collect()
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.gateways
    }

    /// The processes by name, the NATS server among them.
    pub(crate) fn pids(&self) -> Vec<(String, u32)> {
        let own = self.processes.iter().map(|process| (process.name.clone(), process.child.id()));
        own.chain(self.nats.pid().map(|pid| ("nats".to_owned(), pid))).collect()
    }

    /// What tokens are signed with, by HS256.
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    /// The certificate of the gateways, in PEM, where they speak TLS.
    pub(crate) fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }

    /// The issuer and the audience of tokens.
    pub(crate) fn names() -> (String, String) {
        (ISSUER.to_owned(), AUDIENCE.to_owned())
    }

    pub(crate) fn issuer(&self) -> Issuer {
        Issuer::new(self.secret.as_bytes(), Some(ISSUER.to_owned()), Some(AUDIENCE.to_owned()))
    }

    fn spawn(
        &mut self,
        program: &Path,
        config: &Path,
        variables: &[(String, String)],
        name: &str,
        role: &[&str],
    ) -> anyhow::Result<()> {
        let admin = free_address()?;
        let log = std::fs::File::create(self.log(name))?;
        let mut command = Command::new(program);
        if name.starts_with("gateway-") {
            command = yielding(program);
        }
        let child = command
            .args(["serve", "--config"])
            .arg(config)
            .args(["--name", name, "--admin-listen", &admin.to_string()])
            .args(role)
            .envs(variables.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} does not start", program.display()))?;
        self.processes.push(Process { name: name.to_owned(), child, admin });
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let end = clock::now() + READY_LIMIT;
        for index in 0..self.processes.len() {
            while !is_ready(self.processes[index].admin).await {
                let process = &mut self.processes[index];
                if process.child.try_wait()?.is_some() || clock::now() > end {
                    let name = process.name.clone();
                    let log = std::fs::read_to_string(self.log(&name)).unwrap_or_default();
                    bail!("{name} is not ready:\n{log}");
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        while self.settled().await < PARTITIONS {
            ensure!(clock::now() < end, "the coordinators do not settle");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Partitions whose owner has heard of every gateway: what is measured before is the cluster's beginning.
    async fn settled(&self) -> u64 {
        let coordinators = self.processes.iter().filter(|process| process.name.starts_with("coordinator-"));
        let mut settled = 0;
        for coordinator in coordinators {
            settled +=
                metric(coordinator.admin, "herenow_coordinator_partitions_settled ").await.unwrap_or(0);
        }
        settled
    }
}

/// One number of a process's metrics.
async fn metric(admin: SocketAddr, name: &str) -> Option<u64> {
    let text = ask(admin, "/metrics").await.ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.processes.clear();
        // What cannot be removed is in the directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn beside_this() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("herenow"))
}

fn configuration(nats: &str, secret: &str) -> String {
    let mut text = String::new();
    let lines = [
        "[cluster]".to_owned(),
        "bus = \"nats\"".to_owned(),
        format!("secret = \"{secret}\""),
        "[nats]".to_owned(),
        format!("servers = [\"{nats}\"]"),
        "[gateway.auth]".to_owned(),
        "algorithm = \"HS256\"".to_owned(),
        format!("keys = [{{ secret = \"{secret}\" }}]"),
        format!("issuer = \"{ISSUER}\""),
        format!("audience = \"{AUDIENCE}\""),
        "[log]".to_owned(),
        "level = \"warn\"".to_owned(),
    ];
    for line in lines {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{line}");
    }
    text
}

/// Makes a certificate for loopback, and has gateways use it; the certificate.
fn certificate(directory: &Path, configuration: &mut String) -> anyhow::Result<String> {
    let made = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])?;
    let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    let files =
        format!("[gateway.tls]\ncertificate = \"{}\"\nkey = \"{}\"\n", certificate.display(), key.display());
    configuration.push_str(&files);
    Ok(made.cert.pem())
}

/// Settings as environment variables, which is how they win over the file.
fn variables(set: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let variable = |setting: &String| {
        let (key, value) =
            setting.split_once('=').with_context(|| format!("--set {setting}: want KEY=VALUE"))?;
        let path = key.trim().to_ascii_uppercase().replace('.', "__");
        Ok((format!("HERENOW__{path}"), value.trim().to_owned()))
    };
    set.iter().map(variable).collect()
}

pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

pub(crate) async fn is_ready(admin: SocketAddr) -> bool {
    ask(admin, "/readyz").await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

async fn ask(admin: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(admin).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
