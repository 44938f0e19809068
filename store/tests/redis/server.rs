//! A Redis of its own.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use herenow_store::RedisConfig;
use tempfile::TempDir;

use super::support::{answers, free_port, program, signal, skipped};

/// A server; killed when dropped.
pub struct Redis {
    pub port: u16,
    pub directory: TempDir,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl Redis {
    /// Starts one; `None` where none is installed.
    pub async fn start(arguments: &[&str]) -> Option<Self> {
        Self::start_in(tempfile::tempdir().unwrap(), arguments).await
    }

    pub async fn start_in(directory: TempDir, arguments: &[&str]) -> Option<Self> {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut server = Self { port: free_port(), directory, arguments, process: None };
        server.restart().await.then_some(server)
    }

    /// Starts it again, empty; returns whether it is installed.
    pub async fn restart(&mut self) -> bool {
        let Some(program) = program(&["redis-server", "valkey-server"], &[]) else {
            skipped("redis-server is not installed");
            return false;
        };
        self.kill();
        let port = self.port.to_string();
        let is_tls = self.arguments.iter().any(|argument| argument == "--tls-port");
        let mut command = Command::new(program);
        command.args(["--port", if is_tls { "0" } else { &port }, "--bind", "127.0.0.1", "--save", ""]);
        command.args(self.arguments.iter().map(|a| if a == "PORT" { port.clone() } else { a.clone() }));
        command.current_dir(self.directory.path()).stdin(Stdio::null()).stdout(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        while !answers(self.port).await {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "redis-server ends: {ended:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
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

    pub fn config(&self) -> RedisConfig {
        RedisConfig {
            url: format!("redis://127.0.0.1:{}", self.port),
            retry_after: Duration::from_millis(50),
            ..RedisConfig::default()
        }
    }

    /// A command of the server's own.
    pub async fn ask<T: redis::FromRedisValue>(&self, command: &[&[u8]]) -> T {
        let client = redis::Client::open(self.config().url).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut asked = redis::Cmd::new();
        for part in command {
            asked.arg(*part);
        }
        asked.query_async(&mut connection).await.unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
