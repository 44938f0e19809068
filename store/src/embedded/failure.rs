//! What the engine's errors mean to an operator.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::StoreError;

/// The engine's error as one of ours.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the engine may learn more errors; what is not named is damage"
)]
pub(super) fn of(path: &Path, error: &fjall::Error) -> StoreError {
    let damaged = || StoreError::Damaged { path: path.to_owned(), reason: error.to_string() };
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => of_io(path, error),
        fjall::Error::Locked => StoreError::Locked(path.to_owned()),
        fjall::Error::Poisoned => {
            StoreError::Unavailable("a write failed before; the store is opened anew".to_owned())
        }
        fjall::Error::InvalidVersion(found) => StoreError::Format {
            path: path.to_owned(),
            found: found.map_or_else(|| "unknown tables".to_owned(), |found| format!("tables {found}")),
            wanted: super::FORMAT,
        },
        _ => damaged(),
    }
}

/// The system's error as one of ours.
#[expect(clippy::wildcard_enum_match_arm, reason = "the system has many; what is not named may pass")]
pub(super) fn of_io(path: &Path, error: &io::Error) -> StoreError {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            StoreError::NoSpace(path)
        }
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotADirectory
        | ErrorKind::AlreadyExists => StoreError::NotWritable { path, reason: error.to_string() },
        ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput => {
            StoreError::Damaged { path, reason: error.to_string() }
        }
        _ => StoreError::Unavailable(format!("{}: {error}", path.display())),
    }
}
