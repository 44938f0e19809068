//! The program from its command line.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

fn herenow() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herenow"));
    command.env_clear().env("COLUMNS", "100");
    command
}

fn run(arguments: &[&str]) -> Output {
    herenow().args(arguments).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn help_teaches_a_stranger() {
    for (arguments, words) in [
        (
            &["--help"][..],
            &[
                "Who is here now?",
                "dev",
                "serve",
                "token",
                "users",
                "config",
                "Examples:",
                "HERENOW__GATEWAY__LISTEN",
            ][..],
        ),
        (
            &["dev", "--help"],
            &["--port", "--data", "--grace-period", "--heartbeat-timeout", "--scale-times", "Examples:"],
        ),
        (&["serve", "--help"], &["--config", "--roles", "gateway", "coordinator", "SIGTERM", "78"]),
        (&["token", "--help"], &["--key-file", "--user", "--scope", "--watch", "--ttl", "presence:read"]),
        (&["config", "print", "--help"], &["--default", "Examples:"]),
        (&["config", "check", "--help"], &["--config", "Example:"]),
    ] {
        let output = run(arguments);
        assert!(output.status.success());
        let text = out(&output);
        for word in words {
            assert!(text.contains(word), "{arguments:?} says nothing of {word}:\n{text}");
        }
    }
}

#[test]
fn a_wrong_flag_is_refused_and_the_right_one_named() {
    let output = run(&["dev", "--prot", "1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("--port"), "{}", err(&output));
}

#[test]
fn serve_does_not_start_without_secrets() {
    let output = run(&["serve"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(err(&output).contains("cluster.secret: "), "{}", err(&output));
    let secret = "HERENOW__CLUSTER__SECRET";
    let output = herenow().arg("serve").env(secret, "short").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(err(&output).contains("cluster.secret: must have at least 32 bytes"), "{}", err(&output));
    let output = herenow().arg("serve").env(secret, "x".repeat(32)).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(err(&output).contains("gateway.auth: "), "{}", err(&output));
}

#[test]
fn check_names_the_wrong_key_and_ends_with_78() {
    let output = herenow().args(["config", "check"]).env("HERENOW__GATWAY__LISTEN", "x").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(err(&output).contains("gatway: there is no such key"), "{}", err(&output));
    let output = run(&["config", "check", "--config", "/does/not/exist"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(err(&output).contains("/does/not/exist"), "{}", err(&output));
}

#[test]
fn the_printed_example_can_be_begun_with() {
    let example = out(&run(&["config", "print", "--default"]));
    assert!(example.contains("[gateway.auth]"), "{example}");
    let path = std::env::temp_dir().join(format!("herenow-cli-{}.toml", std::process::id()));
    std::fs::write(&path, example).unwrap();
    let output = run(&["config", "print", "--config", path.to_str().unwrap()]);
    std::fs::remove_file(&path).unwrap();
    assert!(output.status.success(), "{}", err(&output));
    assert!(out(&output).contains("heartbeat_timeout = \"30s\""));
}

#[test]
fn tokens_say_what_was_asked() {
    use base64::Engine as _;
    let path = std::env::temp_dir().join(format!("herenow-key-{}", std::process::id()));
    std::fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
    let arguments = ["--algorithm", "hs256", "--issuer", "shop", "--audience", "herenow", "--user", "ana"];
    let more =
        ["--scope", "presence:read,presence:write", "--watch", "ben", "--watch", "cleo", "--ttl", "2min"];
    let mut command = herenow();
    let output =
        command.arg("token").arg("--key-file").arg(&path).args(arguments).args(more).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(output.status.success(), "{}", err(&output));
    let token = out(&output);
    let claims = token.trim().split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["sub"], "ana");
    assert_eq!(claims["iss"], "shop");
    assert_eq!(claims["aud"], "herenow");
    assert_eq!(claims["scope"], "presence:read presence:write");
    assert_eq!(claims["watch"], serde_json::json!(["ben", "cleo"]));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 120);
}

#[test]
fn a_token_needs_a_key() {
    let output = run(&["token", "--user", "ana"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("--key-file"), "{}", err(&output));
}

struct Dev {
    process: Child,
    /// Without the scheme.
    address: String,
    welcome: String,
}

impl Dev {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(more: &[&str]) -> Self {
        let mut process =
            herenow().args(["dev", "--port", "0"]).args(more).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let url = first.strip_prefix("Herenow is ready: http://").expect("the ready line").to_owned();
        let rest = lines.map(Result::unwrap).take_while(|line| !line.starts_with("Ctrl-C"));
        let welcome = rest.collect::<Vec<_>>().join("\n");
        Self { process, address: url.trim_end_matches('/').to_owned(), welcome }
    }

    fn exchange(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// As the backend whose token was printed.
    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let token = self.welcome.lines().find_map(|line| line.trim().strip_prefix("TOKEN=")).unwrap();
        self.exchange(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        ))
    }

    /// Ends it as Ctrl-C does.
    fn interrupt(&mut self) -> Option<i32> {
        let interrupt = Command::new("kill").args(["-INT", &self.process.id().to_string()]).status().unwrap();
        assert!(interrupt.success());
        self.process.wait().unwrap().code()
    }

    fn get(&self, path: &str) -> String {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address))
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn dev_serves_the_demo_and_ends_in_order() {
    let mut dev = Dev::start();
    for path in ["/", "/demo.js", "/demo.css", "/herenow.js"] {
        let answer = dev.get(path);
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let config = dev.get("/demo/config");
    assert!(config.contains(r#""wsPath":"/v1/connect""#), "{config}");
    let body = r#"{"name":"Ana"}"#;
    let token = dev.exchange(&format!(
        "POST /demo/token HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        dev.address,
        body.len()
    ));
    assert!(token.contains(r#""expiresIn":3600"#), "{token}");
    let rebound = dev.exchange("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert!(rebound.starts_with("HTTP/1.1 403"), "{rebound}");
    assert_eq!(dev.interrupt(), Some(0));
}

#[test]
fn dev_with_data_remembers() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let start = || Dev::start_with(&["--data", data.to_str().unwrap()]);
    let mut dev = start();
    let set = dev.ask("POST", "/status", r#"{"userId":"ben","status":"dnd","text":"thinking"}"#);
    assert!(set.starts_with("HTTP/1.1 200"), "{set}");
    assert_eq!(dev.interrupt(), Some(0));
    let dev = start();
    let said = dev.ask("GET", "/status/ben", "");
    assert!(said.contains(r#""status":"dnd""#) && said.contains("thinking"), "{said}");
    drop(dev);
    std::fs::write(data.join("cluster-secret"), "of somebody else, and long enough for it").unwrap();
    let other = herenow().args(["dev", "--port", "0", "--data", data.to_str().unwrap()]).output().unwrap();
    assert_eq!(other.status.code(), Some(78));
    assert!(err(&other).contains("store.path"), "{}", err(&other));
}

#[test]
fn the_lines_that_dev_prints_work() {
    let dev = Dev::start();
    assert_eq!(dev.welcome.matches("curl -s").count(), 3, "{}", dev.welcome);
    let answer = dev.ask("GET", "/status/Ana", "");
    assert!(answer.contains(r#""status":"offline""#), "{answer}");
}
