//! A Cassandra for tests, of the jars that Maven Central has of it: it comes in no package of Debian or Python.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::run::Run;
use crate::setup::apt;
use crate::workspace::Workspace;

/// What Cassandra 5.0 runs on.
const JAVA: &str = " 17.";
const JAVAS: [&str; 3] =
    ["/usr/lib/jvm/java-17-openjdk-amd64/bin/java", "/usr/lib/jvm/java-17-openjdk-arm64/bin/java", "java"];
/// Every jar with its SHA-256, as `sha256sum` reads and writes them.
const JARS: &str = include_str!("../cassandra/jars.sha256");

/// Puts it into `target/tools/cassandra`, and installs the Java that it needs.
pub(crate) fn install(workspace: &Workspace) -> Result<()> {
    let is_java = |java: &&str| {
        Run::new(workspace, java).arg("--version").output().is_ok_and(|version| version.contains(JAVA))
    };
    if !JAVAS.iter().any(is_java) {
        apt(workspace, &["openjdk-17-jre-headless"], "Java 17")?;
    }
    let place = workspace.tool("cassandra");
    if check(workspace, &place).is_ok() {
        return Ok(());
    }
    println!("installing Cassandra into {}", workspace.relative(&place));
    if !Run::new(workspace, "mvn").arg("--version").works() {
        apt(workspace, &["maven"], "Maven")?;
    }
    let scratch = workspace.tool("cassandra.download");
    remove(&scratch)?;
    let outcome = download(workspace, &scratch).and_then(|()| {
        remove(&place)?;
        Ok(fs::rename(&scratch, &place)?)
    });
    remove(&scratch)?;
    outcome
}

fn download(workspace: &Workspace, scratch: &Path) -> Result<()> {
    Run::new(workspace, "mvn")
        .args(["--batch-mode", "--quiet", "--file"])
        .arg(workspace.root().join("xtask").join("cassandra").join("pom.xml"))
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", scratch.display()))
        .done()?;
    check(workspace, scratch)
}

/// Whether it has the jars that are listed, and no others.
fn check(workspace: &Workspace, place: &Path) -> Result<()> {
    let there = fs::read_dir(place)?.collect::<std::io::Result<Vec<_>>>()?;
    let there = there.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let (there, wanted) = (there.collect::<BTreeSet<_>>(), names(JARS));
    if there.iter().ne(&wanted) {
        let odd: Vec<&String> = there.symmetric_difference(&wanted).collect();
        bail!("{} is not what jars.sha256 lists: {odd:?}", workspace.relative(place));
    }
    let list = workspace.root().join("xtask").join("cassandra").join("jars.sha256");
    Run::new(workspace, "sha256sum").args(["--check", "--quiet"]).arg(list).at(place).output().map(drop)
}

fn names(list: &str) -> BTreeSet<String> {
    list.lines().filter_map(|line| line.split_once("  ")).map(|(_, name)| name.to_owned()).collect()
}

fn remove(place: &Path) -> Result<()> {
    if place.exists() {
        fs::remove_dir_all(place)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_list_is_a_hash_and_a_jar() {
        let names = names(JARS);
        assert_eq!(names.len(), JARS.lines().count());
        assert!(names.contains("cassandra-all-5.0.9.jar"));
        let is_hash = |line: &str| line.split_once("  ").is_some_and(|(hash, _)| hash.len() == 64);
        assert!(JARS.lines().all(is_hash));
        assert!(names.iter().all(|name| name.ends_with(".jar")));
    }
}
