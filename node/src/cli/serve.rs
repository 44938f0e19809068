//! `herenow serve`.

use clap::Args;
use tokio::task::LocalSet;

use super::config::FileArg;
use crate::config::{Role, Sources};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herenow serve --config /etc/herenow/herenow.toml
      One process that plays both roles (cluster.bus = \"local\"), or one of many (cluster.bus = \"nats\").
  herenow serve --config herenow.toml --roles coordinator --name coordinator-1
  herenow serve --config herenow.toml --roles gateway --name gateway-1 --listen 0.0.0.0:8080
  herenow serve --config herenow.toml --roles archiver --name archiver-1
      The same file for every process; what differs is said by flags or in the environment.

What it needs and has no default for: a cluster secret of at least 32 bytes (cluster.secret_file), and the key that
tokens are verified with (gateway.auth). It ends with 78 when the configuration is at fault.

SIGTERM and SIGINT tell every client to come back, spread over shutdown.window, give the partitions to the other
coordinators, and end the process with 0.")]
pub(super) struct Serve {
    #[command(flatten)]
    file: FileArg,
    /// The roles to play, instead of node.roles
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ROLES")]
    roles: Vec<Role>,
    /// The name of the process, instead of node.name
    #[arg(long)]
    name: Option<String>,
    /// Where clients and backends connect, instead of gateway.listen
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where operators connect, instead of admin.listen
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let roles: Vec<&str> = self.roles.iter().map(|role| role.word()).collect();
        let config = Sources::of_process(self.file.config)
            .with_flag("node.roles", (!roles.is_empty()).then(|| roles.join(",")))
            .with_flag("node.name", self.name)
            .with_flag("gateway.listen", self.listen)
            .with_flag("admin.listen", self.admin_listen)
            .load()?;
        config.check_files()?;
        crate::telemetry::start(&config.log)?;
        if config.is_one_gateway() {
            let thread = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            return thread.block_on(LocalSet::new().run_until(crate::serve::serve(config)));
        }
        super::runtime()?.block_on(crate::serve::serve(config))
    }
}
