//! The processes under test, and what can be done to them. All are children of this one, and die with the fleet.

mod admin;
mod faketime;
mod namespace;
mod nats;
mod process;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use herenow_bus::testing::{NatsServer, free_port};
use tokio::net::TcpStream;

use self::faketime::clock_file;
use self::namespace::Namespace;
use self::nats::Route;
use self::process::{LOOK, PATIENCE, signal};
use super::proxy::{Counts, Options, Proxy, Rules, Thread, Wire};
use super::timers::{Timers, set};
use crate::clock;
use crate::token::Issuer;

pub(super) use self::faketime::{missing as no_faketime, turn};
pub(super) use self::namespace::missing as no_namespace;
pub(super) use self::nats::Shape;
pub(super) use self::process::{Owned, freeze, resident, state, thaw};

const ISSUER: &str = "chaos";
const AUDIENCE: &str = "herenow";
/// Coordinators, and gateways.
pub(super) const EACH: usize = 3;
/// The members that are gateways, by index; those before them are coordinators.
pub(super) const GATEWAYS: Range<usize> = EACH..2 * EACH;
/// Coordinators have no more to hand over when nothing has changed for so long: two beats.
const STILL: Duration = Duration::from_secs(2);
/// At least so many are each coordinator's when they are spread.
const SHARE: f64 = 40.0;
/// Partitions of a deployment with the default settings.
const PARTITIONS: f64 = 256.0;

/// What a fleet is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan<'a> {
    /// The `herenow` program.
    pub(super) program: &'a Path,
    /// Where logs go.
    pub(super) directory: &'a Path,
    /// How many NATS servers.
    pub(super) servers: usize,
    pub(super) timers: Timers,
    /// Settings that win over those of the test.
    pub(super) planted: &'a [String],
    pub(super) seed: u64,
    pub(super) shape: Shape,
}

/// Three coordinators (0 to 2), three gateways (3 to 5), their NATS servers, and a proxy between each process and each
/// server.
#[derive(Debug)]
pub(super) struct Fleet {
    members: Vec<Member>,
    pub(super) nats: Vec<NatsServer>,
    routes: Vec<Route>,
    secret: String,
    settings: Vec<(String, String)>,
    program: PathBuf,
    directory: PathBuf,
    /// Its proxies end with it.
    _proxies: Thread,
}

#[derive(Debug)]
struct Member {
    name: String,
    role: &'static str,
    listen: SocketAddr,
    admin: SocketAddr,
    /// One to each NATS server.
    ways: Vec<Proxy>,
    /// More of its environment than others have.
    environment: Vec<(String, String)>,
    process: Option<Owned>,
    /// Ends after the process.
    namespace: Option<Namespace>,
    /// The control group that it is started in.
    group: Option<PathBuf>,
}

impl Fleet {
    /// Starts all of it and waits until it is ready.
    pub(super) async fn start(plan: Plan<'_>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(plan.directory)?;
        let mut proxies = Thread::new(plan.seed);
        let (nats, routes) = nats::start(plan.directory, plan.servers, plan.shape, &mut proxies).await?;
        let secret = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
        let settings = settings(&plan, &secret)?;
        let mut members = Vec::new();
        for role in ["coordinator", "gateway"] {
            for number in 0..EACH {
                members.push(Member::new(role, number, &nats, &plan, &mut proxies)?);
            }
        }
        proxies.run()?;
        let (program, directory) = (plan.program.to_owned(), plan.directory.to_owned());
        let mut fleet =
            Self { members, nats, routes, secret, settings, program, directory, _proxies: proxies };
        for index in 0..fleet.members.len() {
            fleet.spawn(index)?;
        }
        for index in 0..fleet.members.len() {
            fleet.ready(index).await?;
        }
        Ok(fleet)
    }

    pub(super) fn gateways(&self) -> Vec<String> {
        self.members[GATEWAYS].iter().map(|member| format!("ws://{}", member.listen)).collect()
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
        let process = self.run(&self.members[index])?;
        self.members[index].process = Some(process);
        Ok(())
    }

    fn run(&self, member: &Member) -> anyhow::Result<Owned> {
        let log = self.directory.join(format!("{}.log", member.name));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = match (&member.namespace, &member.group) {
            (Some(namespace), _) => namespace.command(&self.program),
            (None, Some(group)) => within(group, &self.program),
            (None, None) => Command::new(&self.program),
        };
        let child = command
            .args(["serve", "--name", &member.name, "--roles", member.role])
            .args(["--listen", &member.listen.to_string(), "--admin-listen", &member.admin.to_string()])
            .envs(self.settings.iter().chain(&member.environment).map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} does not start", self.program.display()))?;
        Ok(Owned(child))
    }

    /// Starts another process of the same name on ports of its own, and waits until it is ready.
    pub(super) async fn start_twin(&self, index: usize) -> anyhow::Result<Owned> {
        let member = &self.members[index];
        let (listen, admin) = (free_address(), free_address());
        let (name, environment) = (member.name.clone(), member.environment.clone());
        let (role, ways, process, namespace, group) = (member.role, Vec::new(), None, None, None);
        let twin = Member { name, role, listen, admin, ways, environment, process, namespace, group };
        let process = self.run(&twin)?;
        answers(&twin).await?;
        Ok(process)
    }

    async fn ready(&mut self, index: usize) -> anyhow::Result<()> {
        let end = clock::now() + PATIENCE;
        while !admin::is_ready(self.members[index].admin).await {
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

    /// Waits until every partition has its lasting owner, which may state who is offline. Each coordinator hands over by
    /// its own clock, so that all may be settled when the last of them has not yet got its share of every other.
    pub(super) async fn settled(&self) -> anyhow::Result<()> {
        let end = clock::now() + PATIENCE;
        let (mut before, mut since) = ([0.0; EACH], clock::now());
        loop {
            let mut own = [0.0; EACH];
            for (index, own) in own.iter_mut().enumerate() {
                *own = self.metric(index, "herenow_coordinator_partitions_settled").await.unwrap_or(0.0);
            }
            let settled: f64 = own.iter().sum();
            let spread = own.iter().all(|own| *own >= SHARE) && (settled - PARTITIONS).abs() < 0.5;
            if !spread || own != before {
                (before, since) = (own, clock::now());
            } else if clock::now() - since >= STILL {
                return Ok(());
            }
            ensure!(clock::now() < end, "{settled} of {PARTITIONS} partitions are settled");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What a process counts; over all labels.
    pub(super) async fn metric(&self, index: usize, name: &str) -> anyhow::Result<f64> {
        self.labelled(index, name, "").await
    }

    /// What a process counts under the labels that hold this text.
    pub(super) async fn labelled(&self, index: usize, name: &str, label: &str) -> anyhow::Result<f64> {
        admin::metric(self.members[index].admin, name, label).await
    }

    pub(super) fn pid(&self, index: usize) -> anyhow::Result<u32> {
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

    /// Ends a process in order and starts it again in a control group.
    pub(super) async fn move_into(&mut self, index: usize, group: &Path) -> anyhow::Result<()> {
        self.terminate(index).await?;
        self.members[index].group = Some(group.to_owned());
        self.restart(index).await
    }

    /// Starts ended processes again all at once, and waits until all are ready.
    pub(super) async fn restart_all(&mut self, members: Range<usize>) -> anyhow::Result<()> {
        for index in members.clone() {
            self.spawn(index)?;
        }
        for index in members {
            self.ready(index).await?;
        }
        Ok(())
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

    /// From now on this happens between these members and all NATS servers.
    pub(super) fn disturb(&self, members: Range<usize>, rules: Rules) {
        self.members[members].iter().flat_map(|member| &member.ways).for_each(|way| way.set(rules));
    }

    /// What faults did between these members and all NATS servers since the fleet began.
    pub(super) fn counts(&self, members: Range<usize>) -> Counts {
        self.members[members].iter().flat_map(|member| &member.ways).map(Proxy::counts).sum()
    }

    /// Of a hundred packets between a process with a network of its own and NATS so many are lost from now on.
    pub(super) fn lose_packets(&self, index: usize, percent: u32) -> anyhow::Result<()> {
        let member = &self.members[index];
        let ports: Vec<u16> = member.ways.iter().map(|way| way.address.port()).collect();
        member.namespace.as_ref().context("it has a network of its own")?.lose(percent, &ports)
    }

    /// Loses no more; how many were lost.
    pub(super) fn keep_packets(&self, index: usize) -> anyhow::Result<u64> {
        self.members[index].namespace.as_ref().context("it has a network of its own")?.heal()
    }

    /// How many messages went over each NATS server since the fleet began.
    pub(super) fn passed(&self) -> Vec<u64> {
        let over = |server: usize| self.members.iter().filter_map(move |member| member.ways.get(server));
        (0..self.nats.len()).map(|server| over(server).map(|way| way.counts().passed).sum()).collect()
    }

    /// What it answers to any request, with the date that it believes.
    pub(super) async fn date(&self, index: usize) -> anyhow::Result<String> {
        admin::date(self.members[index].admin).await
    }

    /// The file that says how far the clock of a process is off.
    pub(super) fn clock_of(&self, index: usize) -> PathBuf {
        clock_file(&self.directory, &self.members[index].name)
    }

    /// From now on this happens between this NATS server and the others.
    pub(super) fn disturb_routes(&self, server: usize, rules: Rules) {
        self.routes_of(server).for_each(|proxy| proxy.set(rules));
    }

    pub(super) fn route_counts(&self, server: usize) -> Counts {
        self.routes_of(server).map(Proxy::counts).sum()
    }

    fn routes_of(&self, server: usize) -> impl Iterator<Item = &Proxy> {
        let own = self.routes.iter().filter(move |route| route.from == server || route.to == server);
        own.map(|route| &route.proxy)
    }
}

impl Member {
    fn new(
        role: &'static str,
        number: usize,
        nats: &[NatsServer],
        plan: &Plan<'_>,
        proxies: &mut Thread,
    ) -> anyhow::Result<Self> {
        let name = format!("{role}-{}", number + 1);
        let alone = plan.shape.namespace && role == "gateway" && number == 0;
        let namespace = if alone { Some(Namespace::new("net")?) } else { None };
        let at = namespace.as_ref().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), Namespace::outside);
        let options = Options { wire: Wire::Client, buffers: plan.shape.buffers, at };
        let mut ways = Vec::new();
        // With proxies between servers it must be known who is on whose side.
        let only = plan.shape.routes.then_some(number % nats.len());
        for (_, server) in nats.iter().enumerate().filter(|(index, _)| only.is_none_or(|only| only == *index))
        {
            let address = server.url.trim_start_matches("nats://").parse()?;
            ways.push(proxies.open(address, options)?);
        }
        let urls: Vec<String> = ways.iter().map(|way| format!("nats://{}", way.address)).collect();
        let mut environment = vec![set("nats.servers", urls.join(","))];
        if plan.shape.clocks {
            environment.extend(faketime::own_clock(&clock_file(plan.directory, &name))?);
        }
        let (mut listen, mut admin) = (free_address(), free_address());
        if let Some(namespace) = &namespace {
            listen.set_ip(namespace.inside());
            admin.set_ip(namespace.inside());
            environment.push(set("admin.allow_public", "true"));
        }
        Ok(Self { name, role, listen, admin, ways, environment, process: None, namespace, group: None })
    }
}

fn settings(plan: &Plan<'_>, secret: &str) -> anyhow::Result<Vec<(String, String)>> {
    let mut settings = plan.timers.settings()?;
    let own = [
        ("nats.epoch_replicas", if plan.servers >= 3 { "3" } else { "1" }),
        ("cluster.secret", secret),
        ("gateway.auth.keys.0.secret", secret),
        ("gateway.auth.issuer", ISSUER),
        ("gateway.auth.audience", AUDIENCE),
        ("shutdown.window", "500ms"),
        ("log.level", "info"),
    ];
    settings.extend(own.map(|(key, value)| set(key, value)));
    // Later ones win.
    settings.extend(plan.shape.settings.iter().map(|(key, value)| set(key, *value)));
    for setting in plan.planted {
        let (key, value) =
            setting.split_once('=').with_context(|| format!("--set {setting}: want KEY=VALUE"))?;
        settings.push(set(key, value));
    }
    Ok(settings)
}

/// Runs a program in a control group from its first byte on; it keeps its process id.
fn within(group: &Path, program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(group.join("cgroup.procs")).arg(program);
    command
}

/// Waits until a process that is none of the fleet's own is ready.
async fn answers(member: &Member) -> anyhow::Result<()> {
    let end = clock::now() + PATIENCE;
    while !admin::is_ready(member.admin).await {
        ensure!(clock::now() < end, "one more {} is not ready", member.name);
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Signs as the gateways of a fleet with this secret accept it.
pub(super) fn issuer(secret: &str) -> Issuer {
    Issuer::new(secret.as_bytes(), Some(ISSUER.to_owned()), Some(AUDIENCE.to_owned()))
}

fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}
