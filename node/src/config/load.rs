//! Where the configuration comes from: a file, then the environment, then flags.

use std::path::PathBuf;

use config::builder::DefaultState;
use config::{ConfigBuilder, FileFormat};

use super::Config;

/// What the name of an environment variable begins with; the keys follow with two underscores between them.
pub const ENV_PREFIX: &str = "HERENOW__";

/// Keys whose value in the environment is a list, with commas between.
const LISTS: [&str; 4] = ["node.roles", "nats.servers", "gateway.origins", "store.cassandra.nodes"];

/// A value that cannot be used, and where it stands. The process ends with 78.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct LoadError {
    /// The key, or the file.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

impl LoadError {
    /// A value that cannot be used.
    pub fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key: key.into(), reason: reason.into() }
    }

    /// The error of a part, whose text begins with the key within the part.
    pub(crate) fn under(part: &str, error: &str) -> Self {
        let (key, reason) = error.split_once(": ").unwrap_or(("", error));
        let key = if key.is_empty() { part.to_owned() } else { format!("{part}.{key}") };
        Self::new(key, reason)
    }
}

/// Where to read from; what comes later wins.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// The environment, or what stands for it in a test.
    pub env: Vec<(String, String)>,
    /// Keys set by flags.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// The file, and the environment of the process.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>) -> Self {
        let text = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((key.into_string().ok()?, value.into_string().ok()?))
        };
        Self { file, env: std::env::vars_os().filter_map(text).collect(), flags: Vec::new() }
    }

    /// The same with a key set by a flag.
    #[must_use]
    pub fn with_flag(mut self, key: &'static str, value: Option<String>) -> Self {
        self.flags.extend(value.map(|value| (key, value)));
        self
    }

    /// Reads all of it. Ranges and relations are checked by [`Config::check`].
    ///
    /// # Errors
    /// The first key that is unknown or whose value cannot be read.
    pub fn load(&self) -> Result<Config, LoadError> {
        let mut builder = ConfigBuilder::<DefaultState>::default();
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                LoadError::new(path.display().to_string(), format!("cannot be read: {error}"))
            })?;
            builder = builder.add_source(config::File::from_str(&text, FileFormat::Toml));
        }
        for (name, value) in &self.env {
            if let Some(key) = name.strip_prefix(ENV_PREFIX) {
                builder = set(builder, &path(key), value, name)?;
            }
        }
        for (key, value) in &self.flags {
            builder = set(builder, key, value, key)?;
        }
        let shown = self.file.as_ref().map_or_else(String::new, |path| path.display().to_string());
        let built = builder.build().map_err(|error| LoadError::new(shown, error.to_string()))?;
        serde_path_to_error::deserialize(built).map_err(|error| explain(&error))
    }
}

/// The key that the rest of a variable's name stands for; a number counts within a list.
fn path(name: &str) -> String {
    let mut path = String::new();
    for part in name.to_ascii_lowercase().split("__") {
        if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            path.push_str(&format!("[{part}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(part);
        }
    }
    path
}

fn set(
    builder: ConfigBuilder<DefaultState>,
    key: &str,
    value: &str,
    name: &str,
) -> Result<ConfigBuilder<DefaultState>, LoadError> {
    let set = if LISTS.contains(&key) {
        let parts: Vec<String> = value.split(',').map(|part| part.trim().to_owned()).collect();
        builder.set_override(key, parts)
    } else {
        builder.set_override(key, value)
    };
    set.map_err(|error| LoadError::new(name, error.to_string()))
}

fn explain(error: &serde_path_to_error::Error<config::ConfigError>) -> LoadError {
    let path = error.path().to_string();
    let full = error.inner().to_string();
    let cause = full.split(" for key `").next().unwrap_or(&full);
    let Some(rest) = cause.strip_prefix("unknown field `") else {
        return LoadError::new(path, cause);
    };
    let (field, expected) = rest.split_once('`').unwrap_or((rest, ""));
    let key = match path.as_str() {
        "." | "" => field.to_owned(),
        path if path.ends_with(&format!(".{field}")) || path == field => path.to_owned(),
        path => format!("{path}.{field}"),
    };
    LoadError::new(key, format!("there is no such key{expected}"))
}
