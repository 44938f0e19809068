//! The configuration: where it comes from, and what it refuses. Each refusal names the key at fault.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::path::PathBuf;
use std::time::Duration;

use herenow::config::{BusKind, Config, EXAMPLE, LoadError, Role, Sources};

const GOOD: &str = r#"
[cluster]
secret = "0123456789abcdef0123456789abcdef"

[gateway.auth]
algorithm = "HS256"
keys = [{ secret = "0123456789abcdef0123456789abcdef" }]
issuer = "shop"
audience = "herenow"
"#;

/// A file that is gone when the test is over.
struct File(PathBuf);

impl File {
    fn with(text: &str) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("herenow-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn load_with(text: &str, env: &[(&str, &str)]) -> Result<Config, LoadError> {
    let file = File::with(text);
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let config = Sources { file: Some(file.0.clone()), env, flags: Vec::new() }.load()?;
    config.check()?;
    Ok(config)
}

fn load(text: &str) -> Result<Config, LoadError> {
    load_with(text, &[])
}

fn key_at_fault(text: &str) -> String {
    load(text).unwrap_err().key
}

/// The good file with keys set by the environment.
fn refused(env: &[(&str, &str)]) -> LoadError {
    load_with(GOOD, env).unwrap_err()
}

#[test]
fn a_file_of_a_few_lines_is_enough() {
    let config = load(GOOD).unwrap();
    assert_eq!(config.cluster.bus, BusKind::Local);
    assert_eq!(config.node.roles, [Role::Gateway, Role::Coordinator]);
    assert_eq!(config.coordinator, herenow_coordinator_core::Config::default());
    assert_eq!(config.gateway().unwrap().core, herenow_gateway_core::Config::default());
}

#[test]
fn environment_wins_over_the_file_and_flags_over_both() {
    let text = format!("{GOOD}\n[gateway.core]\nheartbeat_timeout = \"40s\"\n[log]\nlevel = \"warn\"");
    let env = [
        ("HERENOW__GATEWAY__CORE__HEARTBEAT_TIMEOUT", "50s"),
        ("HERENOW__GATEWAY__CORE__MAX_WATCHES", "7"),
        ("HERENOW__GATEWAY__ORIGINS", "https://a.example, https://b.example"),
        ("HERENOW__GATEWAY__AUTH__KEYS__0__SECRET", "another secret that has 32 bytes!"),
        ("HERENOW__COORDINATOR__PUBLISH_DEVICES", "true"),
        ("HERENOW__GATEWAY__LISTEN", "127.0.0.1:1"),
        ("HERENOW_BIN", "is no key"),
    ];
    let file = File::with(&text);
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let sources = Sources { file: Some(file.0.clone()), env, flags: Vec::new() };
    let config = sources.with_flag("gateway.listen", Some("127.0.0.1:2".to_owned())).load().unwrap();
    let gateway = config.gateway().unwrap();
    assert_eq!(gateway.core.heartbeat_timeout, Duration::from_secs(50));
    assert_eq!(gateway.core.max_watches, 7);
    assert_eq!(gateway.origins, ["https://a.example", "https://b.example"]);
    assert_eq!(gateway.listen.port(), 2);
    assert!(config.coordinator.publish_devices);
    assert_eq!(config.log.level, "warn");
}

#[test]
fn a_secret_that_looks_like_a_number_stays_a_text() {
    let digits = "12345678901234567890123456789012";
    let config = load_with(GOOD, &[("HERENOW__CLUSTER__SECRET", digits)]).unwrap();
    assert_eq!(config.cluster.secret.unwrap().expose(), digits);
}

#[test]
fn everything_can_come_from_the_environment() {
    let env = [
        ("HERENOW__CLUSTER__SECRET", "0123456789abcdef0123456789abcdef"),
        ("HERENOW__GATEWAY__AUTH__ALGORITHM", "HS256"),
        ("HERENOW__GATEWAY__AUTH__KEYS__0__SECRET", "0123456789abcdef0123456789abcdef"),
        ("HERENOW__GATEWAY__AUTH__ISSUER", "shop"),
        ("HERENOW__GATEWAY__AUTH__AUDIENCE", "herenow"),
        ("HERENOW__NODE__ROLES", "gateway,coordinator"),
    ];
    assert!(load_with("", &env).is_ok());
}

#[test]
fn an_unknown_key_is_refused_with_its_path() {
    for (text, key) in [
        ("[gatway]\nlisten = \"127.0.0.1:1\"", "gatway"),
        ("[coordinator]\ngrace = \"1s\"", "coordinator.grace"),
        ("[gateway.core]\nheartbeat = \"1s\"", "gateway.core.heartbeat"),
        ("[nats]\nserver = \"x\"", "nats.server"),
    ] {
        let error = load(&format!("{GOOD}\n{text}")).unwrap_err();
        assert_eq!(error.key, key);
        assert!(error.reason.contains("no such key"), "{error}");
    }
    assert_eq!(refused(&[("HERENOW__GATEWAY__LISTN", "x")]).key, "gateway.listn");
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_its_path() {
    for (name, value, key) in [
        ("HERENOW__GATEWAY__CORE__MAX_WATCHES", "many", "gateway.core.max_watches"),
        ("HERENOW__COORDINATOR__GRACE_PERIOD", "10", "coordinator.grace_period"),
        ("HERENOW__GATEWAY__LISTEN", "nowhere", "gateway.listen"),
        ("HERENOW__CLUSTER__BUS", "pigeons", "cluster.bus"),
        ("HERENOW__NODE__ROLES", "gateway,archivist", "node.roles[1]"),
        ("HERENOW__GATEWAY__AUTH__ALGORITHM", "none", "gateway.auth.algorithm"),
    ] {
        let error = refused(&[(name, value)]);
        assert_eq!(error.key, key, "{error}");
    }
    let error = refused(&[("HERENOW__COORDINATOR__GRACE_PERIOD", "10")]);
    assert!(error.reason.contains("unit"), "{error}");
}

#[test]
fn a_store_that_cannot_be_used_is_refused_with_its_key() {
    let embedded = ("HERENOW__STORE__KIND", "embedded");
    assert!(load_with(GOOD, &[embedded, ("HERENOW__STORE__PATH", "/var/lib/herenow/store")]).is_ok());
    assert_eq!(refused(&[embedded]).key, "store.path");
    assert_eq!(refused(&[("HERENOW__STORE__PATH", "/var/lib/herenow/store")]).key, "store.path");
    let many = [("HERENOW__CLUSTER__BUS", "nats"), ("HERENOW__NODE__NAME", "one")];
    assert!(load_with(GOOD, &many).is_ok());
    let cassandra = ("HERENOW__STORE__KIND", "cassandra");
    let nodes = ("HERENOW__STORE__CASSANDRA__NODES", "10.0.0.1:9042, 10.0.0.2:9042");
    let config = load_with(GOOD, &[many[0], many[1], cassandra, nodes]).unwrap();
    assert_eq!(config.store.cassandra.nodes, ["10.0.0.1:9042", "10.0.0.2:9042"]);
    let wrong = ("HERENOW__STORE__CASSANDRA__REPLICATION", "10");
    assert_eq!(refused(&[cassandra, wrong]).key, "store.cassandra.replication");
    assert_eq!(refused(&[nodes]).key, "store.cassandra");
    assert_eq!(refused(&[many[0], many[1], embedded, ("HERENOW__STORE__PATH", "/x")]).key, "store.kind");
    let users = |most| ("HERENOW__STORE__NEAR__MAX_USERS", most);
    assert_eq!(refused(&[cassandra, users("10000001")]).key, "store.near.max_users");
    assert_eq!(refused(&[users("5000")]).key, "store.near");
    let with = |most| load_with(GOOD, &[many[0], many[1], cassandra, users(most)]).unwrap();
    assert_eq!(with("10000000").store.near().map(|near| near.max_users), Some(10_000_000));
    assert_eq!(with("0").store.near(), None, "nothing is kept in memory");
    assert_eq!(refused(&[("HERENOW__STORE__MAX_WAITING", "0")]).key, "store.max_waiting");
    assert_eq!(refused(&[("HERENOW__STORE__INTERVAL", "2min")]).key, "store.interval");
}

#[test]
fn nothing_secret_has_a_default() {
    let (cluster, auth) = GOOD.split_at(GOOD.find("[gateway.auth]").unwrap());
    assert_eq!(key_at_fault(auth), "cluster.secret");
    assert_eq!(key_at_fault(cluster), "gateway.auth");
    let keyless = GOOD.replace("[{ secret = \"0123456789abcdef0123456789abcdef\" }]", "[]");
    assert_eq!(key_at_fault(&keyless), "gateway.auth.keys");
}

#[test]
fn short_secrets_are_refused() {
    let short = "31 bytes are one byte too short";
    assert_eq!(short.len(), 31);
    assert_eq!(refused(&[("HERENOW__CLUSTER__SECRET", short)]).key, "cluster.secret");
    assert_eq!(refused(&[("HERENOW__GATEWAY__AUTH__KEYS__0__SECRET", short)]).key, "gateway.auth.keys");
}

#[test]
fn a_secret_comes_from_the_first_line_of_its_file() {
    let secret = File::with("0123456789abcdef0123456789abcdef\n# not this\n");
    let path = secret.0.display().to_string();
    let text =
        GOOD.replace("secret = \"0123456789abcdef0123456789abcdef\"\n", &format!("secret_file = {path:?}\n"));
    let by_file = load(&text).unwrap().placement().unwrap();
    let user = herenow_protocol::UserId::new("ana").unwrap();
    assert_eq!(by_file.key(&user), load(GOOD).unwrap().placement().unwrap().key(&user));
    assert_eq!(refused(&[("HERENOW__CLUSTER__SECRET_FILE", &path)]).key, "cluster.secret");
    let missing = text.replace(&path, "/does/not/exist");
    assert_eq!(key_at_fault(&missing), "cluster.secret_file");
}

#[test]
fn every_relation_names_its_key() {
    for (name, value, key) in [
        ("HERENOW__GATEWAY__CORE__HEARTBEAT_TIMEOUT", "20s", "gateway.core.heartbeat_timeout"),
        ("HERENOW__GATEWAY__CORE__FRESH_FOR", "2s", "gateway.core.fresh_for"),
        ("HERENOW__GATEWAY__CORE__STALE_AFTER", "200ms", "gateway.core.stale_after"),
        ("HERENOW__GATEWAY__CORE__REQUEST_TIMEOUT", "150ms", "gateway.core.request_timeout"),
        ("HERENOW__GATEWAY__CORE__MAX_SESSIONS", "0", "gateway.core.max_sessions"),
        ("HERENOW__GATEWAY__CORE__MAX_OUTBOX_BYTES", "4095", "gateway.core.max_outbox_bytes"),
        ("HERENOW__GATEWAY__TIMEOUTS__AUTH", "0s", "gateway.timeouts.auth"),
        ("HERENOW__GATEWAY__CAPS__SOCKETS", "0", "gateway.caps.sockets"),
        ("HERENOW__GATEWAY__ADMISSION__BURST", "0", "gateway.admission.burst"),
        ("HERENOW__GATEWAY__ADMISSION__LONGEST_WAIT", "301s", "gateway.admission.longest_wait"),
        ("HERENOW__GATEWAY__ORIGINS", "*", "gateway.origins"),
        ("HERENOW__GATEWAY__AUTH__LEEWAY", "6s", "gateway.auth.leeway"),
        ("HERENOW__COORDINATOR__DEAD_AFTER", "100ms", "coordinator.dead_after"),
        ("HERENOW__COORDINATOR__GATEWAY_TIMEOUT", "2s", "coordinator.gateway_timeout"),
        ("HERENOW__COORDINATOR__GRACE_MAX", "9s", "coordinator.grace_max"),
        ("HERENOW__COORDINATOR__GRACE_RATE", "0", "coordinator.grace_rate"),
        ("HERENOW__COORDINATOR__MAX_RESYNCS", "0", "coordinator.max_resyncs"),
        ("HERENOW__COORDINATOR__GATEWAY_STALE", "200ms", "coordinator.gateway_stale"),
        ("HERENOW__CLUSTER__PARTITION_BITS", "9", "cluster.partition_bits"),
        ("HERENOW__SHUTDOWN__WINDOW", "601s", "shutdown.window"),
        ("HERENOW__ADMIN__LISTEN", "0.0.0.0:9090", "admin.listen"),
        ("HERENOW__NODE__NAME", "a.b", "node.name"),
        ("HERENOW__NODE__ROLES", "gateway,gateway", "node.roles"),
    ] {
        let error = refused(&[(name, value)]);
        assert_eq!(error.key, key, "{error}");
    }
}

#[test]
fn relations_between_roles_name_their_key() {
    let slow_coordinator =
        [("HERENOW__COORDINATOR__HEARTBEAT_INTERVAL", "2s"), ("HERENOW__COORDINATOR__DEAD_AFTER", "3s")];
    assert_eq!(refused(&slow_coordinator).key, "gateway.core.stale_after");
    let long_dead = [("HERENOW__COORDINATOR__DEAD_AFTER", "20s")];
    assert_eq!(refused(&long_dead).key, "gateway.core.fresh_for");
    let long_grace = [("HERENOW__COORDINATOR__GRACE_MAX", "61s")];
    assert_eq!(refused(&long_grace).key, "gateway.core.ended_kept");
    let long_move = [("HERENOW__COORDINATOR__MOVING_WINDOW", "61s")];
    assert_eq!(refused(&long_move).key, "gateway.core.ended_kept");
    let long_spread = [("HERENOW__SHUTDOWN__WINDOW", "12s 100ms")];
    assert_eq!(refused(&long_spread).key, "coordinator.moving_window");
    let same = [("HERENOW__GATEWAY__LISTEN", "0.0.0.0:7000"), ("HERENOW__ADMIN__LISTEN", "127.0.0.1:7000")];
    assert_eq!(refused(&same).key, "admin.listen");
}

#[test]
fn a_process_of_one_role_needs_nats_and_a_name() {
    let roles = ("HERENOW__NODE__ROLES", "gateway");
    let nats = ("HERENOW__CLUSTER__BUS", "nats");
    let name = ("HERENOW__NODE__NAME", "gateway-1");
    assert_eq!(refused(&[roles]).key, "cluster.bus");
    assert_eq!(refused(&[roles, nats]).key, "node.name");
    assert!(load_with(GOOD, &[roles, nats, name]).is_ok());
    let bad_server = ("HERENOW__NATS__SERVERS", "nats://user:password@127.0.0.1:4222");
    assert_eq!(refused(&[roles, nats, name, bad_server]).key, "nats.servers");
    let soon = ("HERENOW__COORDINATOR__SETTLE_AFTER", "5s");
    assert_eq!(refused(&[roles, nats, name, soon]).key, "coordinator.settle_after");
    let at_once = ("HERENOW__COORDINATOR__READY_AFTER", "0s");
    assert_eq!(refused(&[roles, nats, name, at_once]).key, "coordinator.ready_after");
    assert_eq!(refused(&[("HERENOW__NATS__CLIENT_CAPACITY", "100")]).key, "nats");
}

#[test]
fn a_coordinator_alone_needs_no_way_to_verify_tokens() {
    let cluster = &GOOD[..GOOD.find("[gateway.auth]").unwrap()];
    let env = [
        ("HERENOW__NODE__ROLES", "coordinator"),
        ("HERENOW__NODE__NAME", "coordinator-1"),
        ("HERENOW__CLUSTER__BUS", "nats"),
    ];
    assert!(load_with(cluster, &env).is_ok());
}

#[test]
fn secrets_are_not_printed() {
    let env = [
        ("HERENOW__CLUSTER__BUS", "nats"),
        ("HERENOW__NODE__NAME", "n"),
        ("HERENOW__NATS__USER", "herenow"),
        ("HERENOW__NATS__PASSWORD", "hush-hush"),
    ];
    let config = load_with(GOOD, &env).unwrap();
    let (printed, debug) = (config.print().unwrap(), format!("{config:?}"));
    for text in [&printed, &debug] {
        assert!(!text.contains("0123456789abcdef"), "{text}");
        assert!(!text.contains("hush-hush"), "{text}");
    }
    assert!(printed.contains("heartbeat_timeout = \"30s\""), "{printed}");
}

/// The example with every default that stands in a comment made a setting.
fn example_with_all_defaults() -> String {
    let is_setting = |line: &str| {
        line.starts_with("#[")
            || line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
    };
    EXAMPLE
        .lines()
        .map(|line| if is_setting(line) { &line[1..] } else { line })
        .collect::<Vec<_>>()
        .join("\n")
}

fn read_only(text: &str) -> Config {
    let file = File::with(text);
    Sources { file: Some(file.0.clone()), ..Sources::default() }.load().unwrap()
}

#[test]
fn the_example_shows_the_defaults() {
    let example = read_only(EXAMPLE);
    let mut all = read_only(&example_with_all_defaults());
    assert!(all.gateway().unwrap().tls.is_some());
    assert_eq!(all.nats.user.as_deref(), Some("herenow"));
    all.nats = herenow_bus::NatsConfig { user: None, password_file: None, ..all.nats };
    (all.node.name, all.store.path) = (None, None);
    let kept = &mut all.store.cassandra;
    assert!(kept.tls.is_some());
    (kept.datacenter, kept.user, kept.password_file, kept.tls) = (None, None, None, None);
    if let Some(gateway) = &mut all.gateway {
        gateway.tls = None;
    }
    let redis = all.store.redis.take().unwrap();
    let redis = herenow_store::RedisConfig { user: None, password_file: None, ..redis };
    assert_eq!(redis, herenow_store::RedisConfig::default());
    let people = herenow_store::PostgresConfig { password_file: None, ..all.people.take().unwrap() };
    assert_eq!(people, herenow_store::PostgresConfig::default());
    assert_eq!(all, example);
    assert_eq!(example.coordinator, herenow_coordinator_core::Config::default());
}

#[test]
fn the_example_names_every_key() {
    let mut config = read_only(EXAMPLE);
    config.node.name = Some("n".to_owned());
    config.store.redis = Some(herenow_store::RedisConfig::default());
    config.people = Some(herenow_store::PostgresConfig::default());
    let printed: toml::Table = config.print().unwrap().parse().unwrap();
    let shown: toml::Table = example_with_all_defaults().parse().unwrap();
    assert_eq!(missing(&printed, &shown, ""), Vec::<String>::new());
}

fn missing(printed: &toml::Table, shown: &toml::Table, path: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (key, value) in printed {
        match (value, shown.get(key)) {
            (_, None) => all.push(format!("{path}{key}")),
            (toml::Value::Table(inner), Some(toml::Value::Table(other))) => {
                all.extend(missing(inner, other, &format!("{path}{key}.")));
            }
            (_, Some(_)) => {}
        }
    }
    all
}

/// What the compose file gives every process: the lines `KEY: value` of its environment.
fn compose_environment() -> Vec<(String, String)> {
    let text = include_str!("../../deploy/compose.yaml");
    let line = |line: &str| {
        let (key, value) = line.trim().split_once(": ")?;
        key.starts_with("HERENOW__").then(|| (key.to_owned(), value.trim_matches('"').to_owned()))
    };
    text.lines().filter_map(line).collect()
}

#[test]
fn each_role_of_the_compose_file_takes_its_settings() {
    let secrets = tempfile::tempdir().unwrap();
    for name in ["cluster-secret", "token-secret", "postgres-password"] {
        std::fs::write(secrets.path().join(name), "0123456789abcdef0123456789abcdef\n").unwrap();
    }
    let mut env = compose_environment();
    for (_, value) in &mut env {
        *value = value.replace("/run/secrets", secrets.path().to_str().unwrap());
    }
    let load = |role: &str, env: Vec<(String, String)>| {
        let flags = Vec::new();
        let sources = Sources { file: None, env, flags };
        let sources = sources.with_flag("node.roles", Some(role.to_owned()));
        let config = sources.with_flag("node.name", Some(format!("{role}-1"))).load()?;
        config.check_files().map(|()| config)
    };
    for role in ["gateway", "coordinator", "archiver"] {
        let config = load(role, env.clone()).unwrap();
        assert!(config.store.redis.is_some() && config.people.is_some() && config.activity.keep);
        assert_eq!(config.store.kind, herenow::config::StoreKind::Cassandra);
    }
    env.push(("HERENOW__STORE__KINDD".to_owned(), "x".to_owned()));
    assert!(load("gateway", env).is_err(), "a key that is wrong there would be found");
}
