//! `herenow dev`.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use herenow_gateway_server::auth::{Algorithm, AuthConfig, KeySource};
use tokio::sync::Notify;

use super::say;
use crate::config::{Config, Log, Secret, StoreKind};
use crate::token::{Signer, Watch};
use crate::{Embedded, Wiring, demo, shutdown};

const ISSUER: &str = "herenow-dev";
const AUDIENCE: &str = "herenow";
/// The time over which clients are spread at the end: nobody else is there to come back to.
const WINDOW: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herenow dev
      Then open http://127.0.0.1:8080/ in several windows, each as another person.
  herenow dev --port 0
      On any free port; the address is in the line `Herenow is ready: ...`.
  herenow dev --scale-times 10
      Heartbeats, idleness and grace ten times faster, to see all of it without waiting.
  herenow dev --data ./herenow-data
      Statuses that were set, and when people were last seen, are there again after a restart.

Everything runs in this one process and listens on this machine only. Keys of tokens are made anew at each start and kept
nowhere, so tokens of an earlier run are worth nothing. For anything that others use, see `herenow serve --help`.")]
pub(super) struct Dev {
    /// The port to listen on, on 127.0.0.1; 0 takes any free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Time from losing a person's last connection until others see it offline
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    grace_period: Option<Duration>,
    /// A connection that was silent this long is over
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    heartbeat_timeout: Option<Duration>,
    /// Time without a sign of its person after which a client that does not tell is idle
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    idle_after: Option<Duration>,
    /// Run all of these times so many times faster
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=15))]
    scale_times: u32,
    /// Keep claims and last seen in this directory, made where it is not there; else nothing is kept
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// What to log: error, warn, info, debug, or by module
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log: String,
}

impl Dev {
    pub(super) fn run(self) -> anyhow::Result<()> {
        crate::telemetry::start(&Log { level: self.log.clone(), ..Log::default() })?;
        super::runtime()?.block_on(self.serve())
    }

    async fn serve(self) -> anyhow::Result<()> {
        let key = random_key()?;
        let config = self.config(&key)?;
        let signer = Arc::new(Signer::new(
            Algorithm::HS256,
            key.as_bytes(),
            Some(ISSUER.to_owned()),
            Some(AUDIENCE.to_owned()),
        )?);
        let site = Some(demo::router(Arc::clone(&signer)));
        let mut wiring = Wiring { site, ..Wiring::local() };
        if self.data.is_some() {
            wiring = wiring.with_store(&config).await?;
        }
        let node = Embedded::start(config, wiring).await?;
        node.ready().await;
        let address = node.address().context("the gateway has no address")?;
        say(&welcome(address, &signer)?)?;
        let bell = Arc::new(Notify::new());
        shutdown::asked(&bell).await?;
        tokio::select! {
            () = node.leave(WINDOW) => {}
            again = shutdown::asked(&bell) => { again?; },
        }
        Ok(())
    }

    fn config(&self, key: &str) -> anyhow::Result<Config> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let listen = free(listen).with_context(|| format!("--port: {listen} cannot be bound"))?;
        let auth = AuthConfig::new(Algorithm::HS256, KeySource::Secret(key.to_owned()), ISSUER, AUDIENCE);
        let mut gateway = herenow_gateway_server::Config::new(auth);
        gateway.listen = listen;
        gateway.origins =
            ["127.0.0.1", "localhost"].map(|host| format!("http://{host}:{}", listen.port())).into();
        let mut config = Config { gateway: Some(gateway), ..Config::default() };
        config.cluster.secret = Some(Secret::new(match &self.data {
            Some(data) => {
                config.store.kind = StoreKind::Embedded;
                config.store.path = Some(data.join("store"));
                kept_secret(data).with_context(|| format!("--data: {} cannot be used", data.display()))?
            }
            None => random_key()?,
        }));
        self.set_times(&mut config);
        config.check()?;
        Ok(config)
    }

    fn set_times(&self, config: &mut Config) {
        let coordinator = &mut config.coordinator;
        coordinator.grace_period = self.grace_period.unwrap_or(coordinator.grace_period) / self.scale_times;
        coordinator.grace_max = (coordinator.grace_max / self.scale_times).max(coordinator.grace_period);
        coordinator.virtual_session_ttl /= self.scale_times;
        let Some(gateway) = &mut config.gateway else { return };
        let core = &mut gateway.core;
        if let Some(timeout) = self.heartbeat_timeout {
            core.heartbeat_timeout = timeout;
            core.heartbeat_interval = core.heartbeat_interval.min(timeout * 2 / 3);
        }
        core.heartbeat_timeout /= self.scale_times;
        core.heartbeat_interval /= self.scale_times;
        core.idle_after = self.idle_after.unwrap_or(core.idle_after) / self.scale_times;
        core.fresh_for /= self.scale_times;
        core.stale_after = core.stale_after.min(core.fresh_for / 2);
        core.beat_interval = core.beat_interval.min(core.stale_after / 4);
    }
}

/// The address with a port that is free now: the page's origin must be known before the gateway listens.
fn free(listen: SocketAddr) -> std::io::Result<SocketAddr> {
    TcpListener::bind(listen)?.local_addr()
}

/// The cluster secret of a directory, to which its store belongs.
fn kept_secret(data: &Path) -> anyhow::Result<String> {
    std::fs::create_dir_all(data)?;
    let path = data.join("cluster-secret");
    if let Ok(secret) = std::fs::read_to_string(&path) {
        return Ok(secret.trim().to_owned());
    }
    let secret = random_key()?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&path)?.write_all(secret.as_bytes())?;
    Ok(secret)
}

fn random_key() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn welcome(address: SocketAddr, signer: &Signer) -> anyhow::Result<String> {
    let day = Duration::from_secs(24 * 3600);
    let ana = signer.sign(demo::NAMES[0], "", Watch::Everybody, day)?;
    let backend = signer.sign("backend", "presence:read presence:write", Watch::Nobody, day)?;
    let url = format!("http://{address}");
    Ok(format!(
        "Herenow is ready: {url}/

Open it in several windows, each as another person, and see who is here.
WebSocket: ws://{address}/v1/connect

Tokens, good for a day or until this process ends:
  A person, {ana_name}, who may watch everybody:
    {ana}
  A backend, which may read everybody and set anybody's status:
    {backend}

To try from another terminal:
  TOKEN={backend}
  curl -s -H \"Authorization: Bearer $TOKEN\" {url}/status/{ana_name}
  curl -s -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' -d '{{\"userId\":\"{ana_name}\",\"status\":\"online\",\"ttlSeconds\":60}}' {url}/status
  curl -s -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' -d '{{\"userIds\":[\"{ana_name}\",\"{ben_name}\"]}}' {url}/statuses

Ctrl-C ends it.
",
        ana_name = demo::NAMES[0],
        ben_name = demo::NAMES[1],
    ))
}
