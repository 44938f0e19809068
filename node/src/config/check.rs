//! What must hold between the values of a configuration.

use std::path::Path;
use std::time::Duration;

use herenow_protocol::Placement;
use herenow_protocol::id::ProcessId;

use super::{BusKind, Config, LoadError, Role};

/// Fewest bytes of the cluster's secret.
const SECRET_BYTES: usize = 32;
/// Longest time over which clients are spread at the end.
const LONGEST_WINDOW: Duration = Duration::from_secs(600);

impl Config {
    /// Checks every range and relation, and that no secret is missing.
    ///
    /// # Errors
    /// The first key at fault, and what it must be.
    pub fn check(&self) -> Result<(), LoadError> {
        self.check_node()?;
        self.placement()?;
        self.check_bus()?;
        self.check_store()?;
        self.check_activity()?;
        if self.plays(Role::Gateway) {
            self.gateway()?.check().map_err(|error| LoadError::under("gateway", &error))?;
        }
        if self.plays(Role::Coordinator) {
            self.coordinator.check().map_err(|error| LoadError::under("coordinator", &error))?;
        }
        let long = self.shutdown.window > LONGEST_WINDOW;
        ensure(!long, "shutdown.window", "must be at most 10min")?;
        self.check_between_roles()?;
        self.check_listeners()
    }

    /// Checks all that [`Self::check`] does, and that the files it names can be used.
    ///
    /// # Errors
    /// The first key at fault, and why.
    pub fn check_files(&self) -> Result<(), LoadError> {
        self.check()?;
        if self.plays(Role::Gateway) {
            let gateway = self.gateway()?;
            for (key, path) in
                gateway.tls.iter().flat_map(|tls| [("certificate", &tls.certificate), ("key", &tls.key)])
            {
                first_line(&format!("gateway.tls.{key}"), path)?;
            }
            herenow_gateway_server::auth::Verifier::load(&gateway.auth)
                .map_err(|error| LoadError::under("gateway.auth", &error))?;
        }
        Ok(())
    }

    /// The name of the process.
    ///
    /// # Errors
    /// `node.name` cannot be a name, or is missing.
    pub fn process(&self) -> Result<ProcessId, LoadError> {
        let required = self.cluster.bus == BusKind::Nats;
        let name = match &self.node.name {
            Some(name) => name.as_str(),
            None if required => {
                let reason = "must be given with cluster.bus = \"nats\": a name that no other process has";
                return Err(LoadError::new("node.name", reason));
            }
            None => "herenow",
        };
        ProcessId::new(name).map_err(|error| LoadError::new("node.name", error.to_string()))
    }

    /// Where users belong, by the cluster's secret.
    ///
    /// # Errors
    /// The secret is missing, unreadable or too short, or there would be too many partitions.
    pub fn placement(&self) -> Result<Placement, LoadError> {
        let bits = self.cluster.partition_bits;
        ensure(bits <= 8, "cluster.partition_bits", "must be 0 to 8")?;
        let (key, secret) = self.secret()?;
        let reason = format!("must have at least {SECRET_BYTES} bytes");
        ensure(secret.len() >= SECRET_BYTES, key, &reason)?;
        Ok(Placement::new(&secret, bits))
    }

    fn secret(&self) -> Result<(&'static str, Vec<u8>), LoadError> {
        match (&self.cluster.secret, &self.cluster.secret_file) {
            (Some(_), Some(_)) => {
                Err(LoadError::new("cluster.secret", "give either `secret` or `secret_file`"))
            }
            (Some(secret), None) => Ok(("cluster.secret", secret.expose().as_bytes().to_vec())),
            (None, Some(path)) => Ok(("cluster.secret_file", first_line("cluster.secret_file", path)?)),
            (None, None) => Err(LoadError::new(
                "cluster.secret",
                "must be given, in cluster.secret_file or as HERENOW__CLUSTER__SECRET, the same in every process; \
                 `openssl rand -base64 32` makes one",
            )),
        }
    }

    fn check_node(&self) -> Result<(), LoadError> {
        self.process()?;
        ensure(!self.node.roles.is_empty(), "node.roles", "name at least one role")?;
        let twice = |role: &Role| self.node.roles.iter().filter(|other| *other == role).count() > 1;
        ensure(!self.node.roles.iter().any(twice), "node.roles", "names a role twice")
    }

    fn check_bus(&self) -> Result<(), LoadError> {
        if self.cluster.bus == BusKind::Nats {
            return self.nats.check().map_err(|error| LoadError::under("nats", &error.to_string()));
        }
        let both = self.plays(Role::Gateway) && self.plays(Role::Coordinator);
        let reason = "must be \"nats\" for a process that does not play both roles";
        ensure(both, "cluster.bus", reason)?;
        let unused = self.nats == herenow_bus::NatsConfig::default();
        ensure(unused, "nats", "is given, but cluster.bus is \"local\"")
    }

    /// Relations between what different roles may be in different processes: both parts are given to every process
    /// so that they can be checked everywhere.
    fn check_between_roles(&self) -> Result<(), LoadError> {
        let unsaid = herenow_gateway_core::Config::default();
        let gateway = self.gateway.as_ref().map_or(&unsaid, |gateway| &gateway.core);
        let coordinator = &self.coordinator;
        let longer = |key, value: Duration, than: &str, least: Duration| {
            ensure(value > least, key, &format!("must be longer than {than}"))
        };
        let beat = gateway.beat_interval;
        longer("coordinator.gateway_stale", coordinator.gateway_stale, "gateway.core.beat_interval", beat)?;
        let alive = coordinator.heartbeat_interval;
        longer("gateway.core.stale_after", gateway.stale_after, "coordinator.heartbeat_interval", alive)?;
        let dead = coordinator.dead_after;
        longer("gateway.core.fresh_for", gateway.fresh_for, "coordinator.dead_after", dead)?;
        let remembered = gateway.ended_kept >= coordinator.grace_max;
        ensure(remembered, "gateway.core.ended_kept", "must not be shorter than coordinator.grace_max")?;
        let remembered = gateway.ended_kept >= coordinator.moving_window;
        ensure(remembered, "gateway.core.ended_kept", "must not be shorter than coordinator.moving_window")?;
        let reason = "must be at least five quarters of shutdown.window, over which clients are spread";
        let spread = self.shutdown.window * 5 / 4;
        ensure(coordinator.moving_window >= spread, "coordinator.moving_window", reason)?;
        if self.cluster.bus == BusKind::Local {
            return Ok(());
        }
        let all_heard = coordinator.gateway_timeout + beat;
        let reason =
            "must not be shorter than coordinator.gateway_timeout and gateway.core.beat_interval together";
        ensure(coordinator.settle_after >= all_heard, "coordinator.settle_after", reason)?;
        longer("coordinator.ready_after", coordinator.ready_after, "coordinator.heartbeat_interval", alive)
    }

    fn check_listeners(&self) -> Result<(), LoadError> {
        let admin = self.admin.listen;
        let private = admin.ip().is_loopback() || self.admin.allow_public;
        let reason = "is not a loopback address; it asks for no credentials, so set admin.allow_public = true only \
                      behind a firewall";
        ensure(private, "admin.listen", reason)?;
        let Some(gateway) = self.gateway.as_ref().filter(|_| self.plays(Role::Gateway)) else {
            return Ok(());
        };
        let gateway = gateway.listen;
        let wild = gateway.ip().is_unspecified() || admin.ip().is_unspecified();
        let same =
            admin.port() != 0 && admin.port() == gateway.port() && (wild || admin.ip() == gateway.ip());
        ensure(!same, "admin.listen", "must differ from gateway.listen")
    }
}

pub(super) fn ensure(holds: bool, key: &str, reason: &str) -> Result<(), LoadError> {
    if holds { Ok(()) } else { Err(LoadError::new(key, reason)) }
}

/// The first line of a file, without its end.
fn first_line(key: &str, path: &Path) -> Result<Vec<u8>, LoadError> {
    let unreadable = |error| LoadError::new(key, format!("{} cannot be read: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
}
