//! The file that says what a directory holds: so that nothing else is ever taken for a store, and no store misread.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use super::failure::of_io;
use crate::StoreError;

/// The format of the embedded store that this program writes and reads. Grows when keys or values change.
pub const FORMAT: u32 = 1;

const FILE: &str = "herenow-store";

/// Checks that `path` holds a store of this format under this mark; makes an empty one where nothing is.
pub(super) fn check(path: &Path, mark: u64) -> Result<(), StoreError> {
    fs::create_dir_all(path).map_err(|error| of_io(path, &error))?;
    let file = path.join(FILE);
    if !file.exists() {
        refuse_others(path)?;
        return write(path, &wanted(mark));
    }
    let found = fs::read_to_string(&file).map_err(|error| of_io(&file, &error))?;
    probe(path)?;
    if found == wanted(mark) { Ok(()) } else { Err(difference(path, &found)) }
}

fn wanted(mark: u64) -> String {
    format!("herenow store\nformat {FORMAT}\nsecret {mark:016x}\n")
}

/// What stands here is not ours to write into.
fn refuse_others(path: &Path) -> Result<(), StoreError> {
    let mut there = fs::read_dir(path).map_err(|error| of_io(path, &error))?.flatten();
    // What a process left that died while it made the store.
    let other = there.find(|entry| !entry.file_name().to_string_lossy().starts_with(FILE));
    match other {
        None => Ok(()),
        Some(entry) => Err(StoreError::Format {
            path: path.to_owned(),
            found: format!("none, but other files, such as {}", entry.file_name().to_string_lossy()),
            wanted: FORMAT,
        }),
    }
}

fn write(path: &Path, text: &str) -> Result<(), StoreError> {
    let unfinished = path.join(format!("{FILE}.new"));
    let made = || {
        let mut file = File::create(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, path.join(FILE))?;
        File::open(path)?.sync_all()
    };
    made().map_err(|error| of_io(path, &error))
}

/// Fails now, by name, where nothing can be written, rather than in the middle of work.
fn probe(path: &Path) -> Result<(), StoreError> {
    let probe = path.join(format!("{FILE}.new"));
    let written = || {
        let mut file = File::create(&probe)?;
        file.write_all(b"can be written\n")?;
        file.sync_all()?;
        fs::remove_file(&probe)
    };
    written().map_err(|error| of_io(path, &error))
}

fn difference(path: &Path, found: &str) -> StoreError {
    let path = path.to_owned();
    let lines: Vec<&str> = found.lines().collect();
    match lines.as_slice() {
        ["herenow store", format, secret] if *format == format!("format {FORMAT}") => {
            match secret.strip_prefix("secret ").and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
                Some(_) => StoreError::OtherSecret(path),
                None => damaged(path),
            }
        }
        ["herenow store", format, ..] if format.starts_with("format ") => {
            let found = format.trim_start_matches("format ").chars().take(20).collect();
            StoreError::Format { path, found, wanted: FORMAT }
        }
        _ => damaged(path),
    }
}

fn damaged(path: std::path::PathBuf) -> StoreError {
    StoreError::Damaged { path, reason: format!("its file {FILE} cannot be understood") }
}
