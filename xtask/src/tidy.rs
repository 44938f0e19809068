//! The rules that only this repository has.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::workspace::Workspace;
use crate::{codes, imports};

/// The one file that spells subjects.
const SUBJECTS: &str = "protocol/src/subject.rs";
/// What the subjects of this service begin with; the WebSocket subprotocol looks alike and is none.
const SUBJECT_STARTS: [&str; 7] = [
    "herenow.i1.",
    "herenow.v1.changes",
    "herenow.v1.user",
    "herenow.v1.get",
    "herenow.v1.set",
    "herenow.v1.activity",
    "herenow.v1.dead",
];
/// Files of one idea are shorter.
const LINES: usize = 600;

pub(crate) fn all(workspace: &Workspace) -> Result<()> {
    for file in workspace.files(&[".rs", ".ts", ".mjs"])? {
        let lines = fs::read_to_string(&file)?.lines().count();
        if lines > LINES {
            println!(
                "warning: {} has {lines} lines; files of one idea have fewer",
                workspace.relative(&file)
            );
        }
    }
    let mut faults = imports::faults(workspace)?;
    faults.extend(subject_faults(workspace)?);
    faults.extend(codes::faults(workspace)?);
    if !faults.is_empty() {
        bail!("not tidy:\n  {}", faults.join("\n  "));
    }
    println!("tidy");
    Ok(())
}

fn subject_faults(workspace: &Workspace) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for file in workspace.files(&[".rs"])? {
        let name = workspace.relative(&file).to_string();
        if name != SUBJECTS && !name.starts_with("xtask/") && !is_test(&file) {
            let lines = spelled_subjects(&fs::read_to_string(&file)?);
            faults.extend(
                lines.into_iter().map(|line| format!("{name}:{line}: spells a subject; use {SUBJECTS}")),
            );
        }
    }
    Ok(faults)
}

fn is_test(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "tests")
        || file.file_name().is_some_and(|name| name == "tests.rs")
}

/// The numbers of the lines, outside of comments and tests, that spell a subject.
fn spelled_subjects(text: &str) -> Vec<usize> {
    let product = text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    product
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .filter(|(_, line)| SUBJECT_STARTS.iter().any(|start| line.contains(&format!("\"{start}"))))
        .map(|(index, _)| index + 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_found_outside_of_comments_and_tests() {
        let text = "let a = \"herenow.i1.up.3\";\n// \"herenow.i1.up\"\nlet p = \"herenow.v1.json\";\n\
                    let g = \"herenow.v1.get\";\n#[cfg(test)]\nlet t = \"herenow.i1.up.3\";";
        assert_eq!(spelled_subjects(text), [1, 4]);
    }
}
