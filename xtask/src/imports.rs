//! The import table: which of our crates each of our crates may use.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::run::Run;
use crate::workspace::Workspace;

/// What a crate may import of ours.
#[derive(Clone, Copy)]
enum May {
    /// These.
    Only(&'static [&'static str]),
    /// Whatever it composes.
    Anything,
}

/// Imports run one way: protocol, cores, bus and store, servers, node. Cores do not know each other, nor do servers.
const TABLE: [(&str, May); 15] = [
    ("herenow-protocol", May::Only(&[])),
    ("herenow-gateway-core", May::Only(&["herenow-protocol"])),
    ("herenow-coordinator-core", May::Only(&["herenow-protocol"])),
    ("herenow-client-core", May::Only(&["herenow-protocol"])),
    ("herenow-bus", May::Only(&["herenow-protocol"])),
    ("herenow-store", May::Only(&["herenow-protocol"])),
    ("herenow-archiver", May::Only(&["herenow-protocol", "herenow-bus", "herenow-store"])),
    ("herenow-gateway-server", May::Only(&["herenow-protocol", "herenow-gateway-core", "herenow-bus"])),
    (
        "herenow-coordinator-server",
        May::Only(&["herenow-protocol", "herenow-coordinator-core", "herenow-bus", "herenow-store"]),
    ),
    ("herenow-client", May::Only(&["herenow-protocol", "herenow-client-core"])),
    (
        "herenow-sim",
        May::Only(&[
            "herenow-protocol",
            "herenow-gateway-core",
            "herenow-coordinator-core",
            "herenow-client-core",
        ]),
    ),
    ("herenow-counts", May::Only(&["herenow-protocol", "herenow-gateway-core", "herenow-coordinator-core"])),
    ("herenow", May::Anything),
    ("herenow-loadtest", May::Anything),
    ("xtask", May::Only(&["herenow-protocol"])),
];

/// Every import that the table does not allow. What only tests import is free.
pub(crate) fn faults(workspace: &Workspace) -> Result<Vec<String>> {
    let text =
        Run::cargo(workspace, ["metadata", "--format-version", "1", "--no-deps", "--quiet"]).output()?;
    let metadata: Value = serde_json::from_str(&text).context("reading what cargo metadata says")?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    Ok(packages.iter().flat_map(faults_of).collect())
}

fn faults_of(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let Some((_, may)) = TABLE.iter().find(|(known, _)| *known == name) else {
        return vec![format!("{name}: not in the import table of xtask/src/imports.rs")];
    };
    let May::Only(allowed) = may else { return Vec::new() };
    let dependencies = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    dependencies
        .iter()
        .filter(|dependency| dependency["path"].is_string() && dependency["kind"] != "dev")
        .filter_map(|dependency| dependency["name"].as_str())
        .filter(|dependency| !allowed.contains(dependency))
        .map(|dependency| format!("{name}: may not import {dependency}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, kind: Value, dependency: &str) -> Value {
        json!({"name": name, "dependencies": [
            {"name": dependency, "kind": kind, "path": "/x"},
            {"name": "serde", "kind": null},
        ]})
    }

    #[test]
    fn what_the_table_does_not_allow_is_a_fault() {
        let core = "herenow-gateway-core";
        assert!(faults_of(&package(core, Value::Null, "herenow-protocol")).is_empty());
        assert_eq!(faults_of(&package(core, Value::Null, "herenow-bus")).len(), 1);
        assert_eq!(faults_of(&package(core, json!("build"), "herenow-bus")).len(), 1);
        assert!(faults_of(&package(core, json!("dev"), "herenow-bus")).is_empty());
        assert!(faults_of(&package("herenow", Value::Null, "herenow-bus")).is_empty());
        assert_eq!(faults_of(&package("herenow-utils", Value::Null, "herenow-bus")).len(), 1);
    }
}
