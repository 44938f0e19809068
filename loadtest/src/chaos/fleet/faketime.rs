//! Clocks that can be moved, by `libfaketime`.

use std::path::{Path, PathBuf};

/// Where Debian puts the library.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
];

/// Why no clock can be moved on this machine, if so.
pub(in crate::chaos) fn missing() -> Option<String> {
    library().is_none().then(|| "needs libfaketime; on Debian: apt-get install faketime".to_owned())
}

fn library() -> Option<&'static str> {
    LIBRARIES.into_iter().find(|library| Path::new(library).exists())
}

pub(super) fn clock_file(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.clock"))
}

/// Makes the wall clock of a process follow a file; its monotonic one stays as it is.
pub(super) fn own_clock(file: &Path) -> anyhow::Result<Vec<(String, String)>> {
    turn(file, "+0")?;
    let file = file.canonicalize()?;
    let variables = [
        ("LD_PRELOAD", library().unwrap_or_default().to_owned()),
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    Ok(variables.map(|(name, value)| (name.to_owned(), value)).to_vec())
}

/// Sets a clock so far off, such as `+30m`.
pub(in crate::chaos) fn turn(file: &Path, offset: &str) -> anyhow::Result<()> {
    // Moved to its place, so that nobody reads half of it.
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{offset}\n"))?;
    Ok(std::fs::rename(new, file)?)
}
