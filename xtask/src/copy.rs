//! A copy of the workspace in which things may be broken.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::rules::Edit;
use crate::run::Run;
use crate::workspace::Workspace;

/// What else than sources goes into the service.
const PARTS: [&str; 8] = [".html", ".css", ".js", ".json", ".cql", ".sql", ".lua", "herenow.example.toml"];
const SDK: &str = "client-sdk/js/dist/herenow.js";

/// A copy of the workspace that may be broken.
pub(crate) struct Copy {
    root: PathBuf,
}

impl Copy {
    /// Copies what has changed since the last copy, and nothing else, so that little is built anew.
    pub(crate) fn make(workspace: &Workspace) -> Result<Self> {
        let root = workspace.target().join("mutate");
        let mut files = workspace.files(&[".rs", ".toml", "Cargo.lock"])?;
        files.extend(workspace.files(&PARTS)?);
        files.push(workspace.root().join(SDK));
        for file in files {
            let to = root.join(file.strip_prefix(workspace.root())?);
            let text = fs::read(&file)?;
            if fs::read(&to).ok().as_ref() != Some(&text) {
                fs::create_dir_all(to.parent().context("a file is in a directory")?)?;
                fs::write(&to, text).with_context(|| format!("writing {}", to.display()))?;
            }
        }
        Ok(Self { root })
    }

    /// Does something while all of this is changed.
    pub(crate) fn with_edits<'a, T>(
        &self,
        edits: impl IntoIterator<Item = &'a Edit> + Clone,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let read = |edit: &'a Edit| Ok((edit.file, self.read(edit.file)?));
        let before = edits.clone().into_iter().map(read).collect::<Result<Vec<_>>>()?;
        let outcome = edits.into_iter().try_for_each(|edit| self.apply(edit)).and_then(|()| work());
        for (file, text) in before {
            fs::write(self.root.join(file), text)?;
        }
        outcome
    }

    fn apply(&self, edit: &Edit) -> Result<()> {
        let text = self.read(edit.file)?;
        if text.matches(edit.from).count() != 1 {
            bail!("{} does not have this once; say anew what to break: {}", edit.file, edit.from);
        }
        fs::write(self.root.join(edit.file), text.replacen(edit.from, edit.to, 1))?;
        Ok(())
    }

    fn read(&self, file: &str) -> Result<String> {
        fs::read_to_string(self.root.join(file)).with_context(|| format!("reading {file} of the copy"))
    }

    /// Builds the service of the copy.
    pub(crate) fn service(&self, workspace: &Workspace) -> Result<PathBuf> {
        self.build(workspace, ["--package", "herenow"]).done()?;
        Ok(self.target().join("debug").join("herenow"))
    }

    /// Builds the simulation of the copy, and puts it where the next one does not take its place.
    pub(crate) fn simulation(&self, workspace: &Workspace, name: &str) -> Result<PathBuf> {
        // Built once for each rule and run for seconds: a quick build counts for more than quick code.
        self.build(workspace, ["--release", "--package=herenow-sim"])
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_INCREMENTAL", "true")
            .done()?;
        let programs = self.root.join("programs");
        fs::create_dir_all(&programs)?;
        let program = programs.join(name);
        fs::copy(self.target().join("release").join("herenow-sim"), &program)
            .with_context(|| format!("writing {}", program.display()))?;
        Ok(program)
    }

    fn build(&self, workspace: &Workspace, what: [&str; 2]) -> Run {
        Run::cargo(workspace, ["build", "--quiet"])
            .args(what)
            .at(&self.root)
            .env("CARGO_TARGET_DIR", self.target())
            .env("RUSTFLAGS", "--allow warnings")
    }

    fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// Removes the simulations that were built and all that they were built of.
    pub(crate) fn tidy_up(&self) -> Result<()> {
        for made in [self.target().join("release"), self.root.join("programs")] {
            remove(&made).with_context(|| format!("removing {}", made.display()))?;
        }
        Ok(())
    }
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tasks themselves, and tests, are not built there.
    fn is_built(file: &Path) -> bool {
        let parts: Vec<_> = file.components().map(|part| part.as_os_str()).collect();
        !parts.iter().any(|part| *part == "xtask" || *part == "tests")
    }

    #[test]
    fn whatever_the_sources_include_is_copied() {
        let workspace = Workspace::find().unwrap();
        for file in workspace.files(&[".rs"]).unwrap() {
            if !is_built(file.strip_prefix(workspace.root()).unwrap()) {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            for included in text.split("include_str!(\"").skip(1) {
                let name = included.split('"').next().unwrap();
                let copied = name.ends_with(SDK) || PARTS.iter().any(|part| name.ends_with(part));
                assert!(copied, "{} includes {name}", file.display());
            }
        }
    }
}
