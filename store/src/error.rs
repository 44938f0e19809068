//! Why a store does not do what it is asked.

use std::path::PathBuf;

/// Why a store cannot be opened, or did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It may do it later.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// It has as many users as it may have.
    #[error("the store has {0} users, its limit")]
    Full(usize),
    /// More than one call may carry.
    #[error("{given} items in one call, over the limit of {limit}")]
    TooMany {
        /// How many there were.
        given: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A setting cannot be used.
    #[error("{key}: {reason}")]
    Setting {
        /// The key within the settings of the engine.
        key: &'static str,
        /// What is wrong with its value, without the value where it may be secret.
        reason: String,
    },
    /// The server does not let this user in, or not do what is needed.
    #[error("{server}: refuses: {reason}; check the user, its password and its rights")]
    Denied {
        /// Which server.
        server: String,
        /// What it says.
        reason: String,
    },
    /// The tables of the server are not those that this program reads.
    #[error(
        "{server}: has schema {found}, this program reads {wanted}; start the version that made it, or another \
             database"
    )]
    Schema {
        /// Which server.
        server: String,
        /// The schema that it has.
        found: String,
        /// The schema that this program reads.
        wanted: u32,
    },
    /// No room is left for it.
    #[error("{}: no space is left on the device; free some, or move the store", .0.display())]
    NoSpace(PathBuf),
    /// It may not write where it is.
    #[error("{}: cannot be written: {reason}; give it a directory that this process owns", path.display())]
    NotWritable {
        /// Where.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Another process has it open.
    #[error("{}: another process has it open; two never share one", .0.display())]
    Locked(PathBuf),
    /// It was written by a program that is newer, or not by this one.
    #[error("{}: has format {found}, this program reads {wanted}; start the version that wrote it, or move it away",
            path.display())]
    Format {
        /// Where.
        path: PathBuf,
        /// The format that it has.
        found: String,
        /// The format that this program reads.
        wanted: u32,
    },
    /// It was written under another cluster secret: no user would be found.
    #[error("{}: was written under another cluster secret; give the one it was written under, or move it away",
            .0.display())]
    OtherSecret(PathBuf),
    /// What it has cannot be read.
    #[error("{}: is damaged: {reason}; move it away and restore a copy, or start with an empty one", path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
}

impl StoreError {
    /// The error in a word, as metrics name it.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Full(_) => "full",
            Self::TooMany { .. } => "too_many",
            Self::Setting { .. } => "setting",
            Self::Denied { .. } => "denied",
            Self::Schema { .. } => "schema",
            Self::NoSpace(_) => "no_space",
            Self::NotWritable { .. } => "not_writable",
            Self::Locked(_) => "locked",
            Self::Format { .. } => "format",
            Self::OtherSecret(_) => "other_secret",
            Self::Damaged { .. } => "damaged",
        }
    }
}

/// Refuses more than one call may carry.
pub(crate) const fn at_most(limit: usize, given: usize) -> Result<(), StoreError> {
    if given > limit { Err(StoreError::TooMany { given, limit }) } else { Ok(()) }
}
