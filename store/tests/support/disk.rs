//! A disk that one test has for itself: full, slow or read-only as it wants, and gone with it. It is mounted where no
//! other process sees it, for a process of its own, which is this program again, running one test that is ignored
//! otherwise. Where nothing can be mounted, that is said, whatever else is captured, and nothing is tested.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{is_root, left_out};

/// Tells the other process where its disk is.
const PLACE: &str = "HERENOW_TEST_DISK";

/// What it is made of, and its size in MiB.
#[derive(Clone, Copy, Debug)]
pub enum Disk {
    /// Memory. Needs no more than namespaces of users.
    Memory(u32),
    /// A file with a file system that can stand still. Needs root.
    File(u32),
}

impl Disk {
    /// What makes it at `$PLACE`.
    fn script(self) -> String {
        match self {
            Self::Memory(size) => format!("mount -t tmpfs -o size={size}m,mode=1777 none \"$PLACE\""),
            Self::File(size) => format!(
                "truncate -s {size}m \"$PLACE.img\"; mkfs.ext4 -q \"$PLACE.img\"; \
                 mount -o loop \"$PLACE.img\" \"$PLACE\"; rmdir \"$PLACE/lost+found\"; chmod 1777 \"$PLACE\""
            ),
        }
    }

    /// Runs a command where the disk is at `place`, which nobody else sees.
    fn around(self, command: &Command, place: &Path) -> Command {
        let mut around = Command::new("unshare");
        around.arg("--mount");
        if !is_root() {
            around.args(["--map-root-user", "--user"]);
        }
        around.args(["sh", "-ec", &format!("{}; exec \"$0\" \"$@\"", self.script())]);
        around.arg(command.get_program()).args(command.get_args());
        around.env("PLACE", place);
        around
    }
}

/// This program again, for one of its tests, by its whole name.
pub fn this_program(test: &str, place: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env(PLACE, place);
    command
}

/// Where the disk of this process is; `None`: nobody has made it one, and there is nothing to test.
pub fn place() -> Option<PathBuf> {
    std::env::var_os(PLACE).map(PathBuf::from)
}

/// Runs a test, by its whole name, on a disk of its own, where its temporary directories are too.
pub fn on(disk: Disk, test: &str) {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("disk");
    std::fs::create_dir(&place).unwrap();
    let tried = disk.around(&Command::new("true"), &place).output();
    if !tried.as_ref().is_ok_and(|tried| tried.status.success()) {
        let why = tried.map_or_else(|error| error.to_string(), |tried| text(&tried.stderr));
        return left_out(&format!("{test}: {disk:?} cannot be mounted here: {}", why.trim()));
    }
    let mut command = disk.around(&this_program(test, &place), &place);
    let output = command.env(PLACE, &place).env("TMPDIR", &place).output().unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    said.lines().filter_map(|line| line.strip_prefix("SKIPPED: ")).for_each(left_out);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Fills a disk, but for what other files have already; dropping it makes room.
pub struct Ballast(PathBuf);

impl Ballast {
    pub fn fill(disk: &Path) -> Self {
        let path = disk.join("ballast");
        let mut file = File::create(&path).unwrap();
        let mut size = 1 << 20;
        while size > 0 {
            if file.write_all(&vec![1; size]).is_err() {
                size /= 2;
            }
        }
        Self(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// From now on, and for so long, nothing is written on this disk, and whoever wants to waits. It is let go by a process
/// of its own, whatever becomes of this one.
pub fn stands_still(disk: &Path, time: Duration) -> Child {
    let script =
        "trap 'fsfreeze --unfreeze \"$0\"' EXIT; fsfreeze --freeze \"$0\"; echo stands; sleep \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-ec", script]).arg(disk).arg(time.as_secs_f64().to_string()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "stands\n");
    child
}
