//! What the service promises, measured by programs that share no code with it: clients made of `websockets` for Python
//! and `ws` for Node.js. This is the short form of `cargo xtask acceptance`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What setup installs; no test is left out because it is missing.
fn installed(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing: run cargo xtask setup", path.display());
    path
}

#[test]
fn clients_of_others_see_changes_losses_and_returns_in_time() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
    installed(root.join("client-sdk").join("js").join("node_modules").join("ws"));
    let packages = installed(target.join("tools").join("python"));
    let binary = std::env::var("HERENOW_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_herenow").to_owned());
    let output = Command::new("python3")
        .env("PYTHONPATH", packages)
        .arg(root.join("node").join("tests").join("foreign").join("acceptance.py"))
        .args(["--herenow", &binary, "--short", "--changes", "20"])
        // Other tests run beside this one.
        .args(["--slack", "3"])
        .output()
        .expect("python3, which cargo xtask setup looks for");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{}", said.join("\n"));
}
