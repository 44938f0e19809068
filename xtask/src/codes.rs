//! `docs/CODES.md`, made of the code: numbers and words from the compiled crate, meanings from its docstrings.

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use herenow_protocol::code::{CloseCode, Duty, ErrorCode};

use crate::workspace::Workspace;

pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    let path = path(workspace);
    fs::write(&path, text(workspace)?).with_context(|| format!("writing {}", path.display()))?;
    println!("wrote {}", workspace.relative(&path));
    Ok(())
}

pub(crate) fn faults(workspace: &Workspace) -> Result<Vec<String>> {
    let there = fs::read_to_string(path(workspace)).unwrap_or_default();
    let is_current = there == text(workspace)?;
    Ok(if is_current {
        vec![]
    } else {
        vec!["docs/CODES.md is not up to date: run cargo xtask codes".to_owned()]
    })
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.root().join("docs").join("CODES.md")
}

fn text(workspace: &Workspace) -> Result<String> {
    let source = fs::read_to_string(workspace.root().join("protocol").join("src").join("code.rs"))?;
    let close = meanings(&source, "CloseCode");
    let error = meanings(&source, "ErrorCode");
    let mut text = String::from(HEAD);
    for code in CloseCode::ALL {
        let meaning = meaning(&close, code)?;
        writeln!(text, "| {} | `{}` | {meaning} | {} |", code.number(), code.reason(), duty(code.duty()))?;
    }
    text.push_str(ERRORS);
    for code in ErrorCode::ALL {
        let meaning = meaning(&error, code)?;
        writeln!(text, "| `{}` | {} | {meaning} | {} |", code.word(), code.http(), code.remediation())?;
    }
    Ok(text)
}

const HEAD: &str = "\
# Codes

Made from `protocol/src/code.rs` by `cargo xtask codes`; do not edit.

## Close codes

The range of a code tells what a client should do, also with a code it has never seen: 4000 to 4499, come back; 4500 to
4999, stay away until something is changed. A connection that is lost without a close frame means: come back. Coming
back is always done with back-off and full jitter.

| code | reason | when | what the client does |
|---|---|---|---|
";

const ERRORS: &str = "
## Error codes

The `code` of an `error` frame, of a REST problem (`application/problem+json`), and of an answer over NATS. The codes are
stable; the messages beside them are for people and may change.

| code | HTTP | when | what to do |
|---|---|---|---|
";

fn duty(duty: Duty) -> &'static str {
    match duty {
        Duty::Done => "nothing: it asked for it",
        Duty::Reconnect => "comes back, with back-off",
        Duty::RenewToken => "gets a new token, then comes back",
        Duty::Stay => "stays away: coming back unchanged fails the same way",
    }
}

fn meaning(meanings: &HashMap<String, String>, code: impl Debug) -> Result<&str> {
    let meaning = meanings.get(&format!("{code:?}"));
    meaning.map(String::as_str).with_context(|| format!("{code:?} has no docstring in protocol/src/code.rs"))
}

/// The docstrings of an enum's variants, by name.
fn meanings(source: &str, name: &str) -> HashMap<String, String> {
    let start = format!("pub enum {name} {{");
    let body = source.lines().skip_while(|line| *line != start).skip(1).take_while(|line| *line != "}");
    let mut found = HashMap::new();
    let mut words = Vec::new();
    for line in body.map(str::trim) {
        if let Some(comment) = line.strip_prefix("///") {
            words.push(comment.trim());
        } else if let Some(variant) = line.strip_suffix(',') {
            found.insert(variant.to_owned(), words.join(" "));
            words.clear();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docstrings_are_found_by_variant() {
        let source = "/// Other.\npub enum Other {\n    /// No.\n    A,\n}\n\
                      pub enum Code {\n    /// One,\n    /// two.\n    A,\n    /// Three.\n    B,\n}\n";
        let found = meanings(source, "Code");
        assert_eq!(found["A"], "One, two.");
        assert_eq!(found["B"], "Three.");
    }
}
