//! What the service promises, measured by programs of others.

use anyhow::Result;

use crate::run::Run;
use crate::setup;
use crate::workspace::Workspace;

/// Runs every scene; the table goes to the terminal and to `target/acceptance.json`.
pub(crate) fn all(workspace: &Workspace, rest: Vec<String>) -> Result<()> {
    setup::nats_server(workspace)?;
    setup::websockets(workspace)?;
    setup::node_packages(workspace)?;
    Run::cargo(workspace, ["build", "--release", "-p", "herenow"]).done()?;
    let tests = workspace.root().join("node").join("tests");
    Run::new(workspace, "python3")
        .env("PYTHONPATH", workspace.tool("python"))
        .arg(tests.join("foreign").join("acceptance.py"))
        .arg("--herenow")
        .arg(workspace.target().join("release").join("herenow"))
        .arg("--nats-server")
        .arg(workspace.tool("nats-server"))
        .arg("--json")
        .arg(workspace.target().join("acceptance.json"))
        .args(rest)
        .done()
}
