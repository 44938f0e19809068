//! The names of addresses of the `herenow` program, those of functions that were inlined among them.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use addr2line::{Loader, demangle_auto};
use anyhow::{Context as _, Result, anyhow};

/// The names of one program.
pub(super) struct Symbols {
    loader: Loader,
    known: HashMap<u64, Rc<[String]>>,
}

impl Symbols {
    pub(super) fn of(program: &Path) -> Result<Self> {
        let loader = Loader::new(program).map_err(|why| anyhow!("reading {}: {why}", program.display()))?;
        Ok(Self { loader, known: HashMap::new() })
    }

    /// The functions at an address of the file, from the outermost inwards.
    pub(super) fn at(&mut self, address: u64) -> Rc<[String]> {
        if let Some(names) = self.known.get(&address) {
            return Rc::clone(names);
        }
        let names: Rc<[String]> = self.look_up(address).into();
        self.known.insert(address, Rc::clone(&names));
        names
    }

    fn look_up(&self, address: u64) -> Vec<String> {
        let mut names = Vec::new();
        if let Ok(mut frames) = self.loader.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                let function = frame.function.as_ref().and_then(|function| function.demangle().ok());
                let file = frame.location.as_ref().and_then(|location| location.file);
                names.push(inlined(file.unwrap_or_default(), function.as_deref().unwrap_or("[unknown]")));
            }
        }
        // What is no copy within another function has a symbol, which tells more.
        if let Some(symbol) = self.loader.find_symbol(address) {
            names.pop();
            names.push(plain(&demangle_auto(symbol.into(), None)));
        }
        names.reverse();
        names
    }
}

/// Where a process has a program, by its `/proc/PID/maps`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// The program's first byte.
    pub(super) base: u64,
    /// How much further from it the code is than in the file.
    pub(super) shift: u64,
}

impl Place {
    pub(super) fn of(maps: &str, program: &Path) -> Result<Self> {
        let program = program.display().to_string();
        let mut parts = maps.lines().filter(|line| line.ends_with(&program)).filter_map(part);
        let (base, ..) = parts.next().with_context(|| format!("{program} is not mapped"))?;
        let code = parts.find(|(_, is_code, _)| *is_code);
        let (start, _, offset) = code.with_context(|| format!("{program} has no code"))?;
        Ok(Self { base, shift: (start - base).wrapping_sub(offset) })
    }
}

/// `55d2000-55d3000 r-xp 00001000 …`: where it begins, whether it is code, and where in the file it is.
fn part(line: &str) -> Option<(u64, bool, u64)> {
    let number = |word: &str| u64::from_str_radix(word, 16).ok();
    let mut words = line.split_ascii_whitespace();
    let start = number(words.next()?.split('-').next()?)?;
    let is_code = words.next()?.contains('x');
    Some((start, is_code, number(words.next()?)?))
}

/// A name as people read it: without the hash that the compiler ends it with, and types of types without their paths.
pub(super) fn plain(name: &str) -> String {
    let is_hash = |end: &str| {
        end.len() == 17 && end.starts_with('h') && end[1..].bytes().all(|b| b.is_ascii_hexdigit())
    };
    let name = name.rsplit_once("::").filter(|(_, end)| is_hash(end)).map_or(name, |(path, _)| path);
    let (mut plain, mut word, mut depth) = (String::new(), String::new(), 0_u32);
    for character in name.chars() {
        if character.is_alphanumeric() || "_:{}#".contains(character) {
            word.push(character);
            continue;
        }
        push(&mut plain, &std::mem::take(&mut word), depth);
        // `->` closes nothing.
        match character {
            '<' => depth += 1,
            '>' if !plain.ends_with('-') => depth = depth.saturating_sub(1),
            _ => {}
        }
        plain.push(character);
    }
    push(&mut plain, &word, depth);
    plain.replace(", Global>", ">")
}

/// Adds a path: within brackets its last name, unless it is the type that the whole name begins with.
fn push(plain: &mut String, word: &str, depth: u32) {
    let before = plain.trim_start_matches(|c: char| "<&*([ ".contains(c)).trim_end();
    let whole = depth == 0 || ["", "dyn", "mut", "const"].contains(&before);
    plain.push_str(if whole { word } else { word.rsplit("::").next().unwrap_or(word) });
}

/// An inlined function is known by its last name and its file, which tells the module.
fn inlined(file: &str, name: &str) -> String {
    let name = plain(name);
    match module(file) {
        Some(module) if !name.contains("::") || name.starts_with('{') => format!("{module}::{name}"),
        _ => name,
    }
}

/// `…/slab-0.4.12/src/lib.rs` is `slab`, `…/library/alloc/src/vec/mod.rs` is `alloc::vec`, and
/// `gateway/core/src/watch.rs` is `herenow_gateway_core::watch`.
fn module(file: &str) -> Option<String> {
    let (folder, path) = file.rsplit_once("/src/").or_else(|| {
        // Of files that are named from the root of the workspace.
        file.split_once("src/").filter(|(folder, _)| folder.is_empty())
    })?;
    let path = path.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path).replace('/', "::");
    let path = if ["lib", "main", "mod"].contains(&path.as_str()) { String::new() } else { path };
    let mut folders = folder.rsplit('/');
    let (last, before) = (folders.next()?, folders.next().unwrap_or_default());
    let name = match last.rsplit_once('-').filter(|(_, end)| end.starts_with(|c: char| c.is_ascii_digit())) {
        Some((name, _)) => name.to_owned(),
        None if folder.contains("library/") => last.to_owned(),
        None if ["core", "server"].contains(&last) => format!("herenow_{before}_{last}"),
        None if last == "node" => "herenow".to_owned(),
        None => format!("herenow_{last}"),
    };
    // `tikv-jemalloc-sys-0.7.1+5.3.1-0-g81034ce`
    let name = name.split_once("-0").map_or(name.as_str(), |(name, _)| name).replace('-', "_");
    Some(if path.is_empty() { name } else { format!("{name}::{path}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "55d0000-55d1000 r--p 00000000 08:01 7 /x/herenow\n\
                        55d3000-55d4000 r-xp 00002000 08:01 7 /x/herenow\n\
                        7f00000-7f01000 r--p 00000000 08:01 8 /lib/libc.so.6\n";

    #[test]
    fn a_program_begins_where_its_first_byte_is_mapped() {
        let place = Place::of(MAPS, Path::new("/x/herenow")).unwrap();
        assert_eq!(place, Place { base: 0x55d_0000, shift: 0x1000 });
        let why = |program: &str| Place::of(MAPS, Path::new(program)).unwrap_err().to_string();
        assert_eq!(why("/x/other"), "/x/other is not mapped");
        assert_eq!(why("/lib/libc.so.6"), "/lib/libc.so.6 has no code");
    }

    #[test]
    fn names_are_without_hashes_and_types_of_types_without_paths() {
        assert_eq!(plain("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(plain("a::b::h0123"), "a::b::h0123");
        assert_eq!(plain("tcp_sendmsg"), "tcp_sendmsg");
        assert_eq!(
            plain("push<slab::Entry<a::watch::Watched>, alloc::alloc::Global>"),
            "push<Entry<Watched>>"
        );
        assert_eq!(plain("<a::b::Task<c::S> as d::Future>::poll"), "<a::b::Task<S> as Future>::poll");
        assert_eq!(plain("<dyn a::B as c::D>::poll"), "<dyn a::B as D>::poll");
        assert_eq!(plain("call<fn(&a::B) -> c::D>::x::y"), "call<fn(&B) -> D>::x::y");
    }

    #[test]
    fn an_inlined_function_is_known_by_its_file() {
        let registry = "/home/x/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f";
        for (file, module_of) in [
            (format!("{registry}/slab-0.4.12/src/lib.rs"), "slab"),
            (format!("{registry}/tokio-util-0.7.20/src/sync/mod.rs"), "tokio_util::sync"),
            ("/rustc/59807616e1/library/alloc/src/vec/mod.rs".to_owned(), "alloc::vec"),
            ("/x/herenow/gateway/core/src/watch.rs".to_owned(), "herenow_gateway_core::watch"),
            ("/x/herenow/node/src/main.rs".to_owned(), "herenow"),
            ("/x/herenow/bus/src/nats/mod.rs".to_owned(), "herenow_bus::nats"),
        ] {
            assert_eq!(module(&file).as_deref(), Some(module_of), "{file}");
        }
        assert_eq!(module("jemalloc.c"), None);
        assert_eq!(inlined("/x/gateway/core/src/watch.rs", "add"), "herenow_gateway_core::watch::add");
        assert_eq!(inlined("jemalloc.c", "imalloc"), "imalloc");
    }

    #[test]
    fn this_test_finds_its_own_name() {
        let program = std::env::current_exe().unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let here = this_test_finds_its_own_name as fn() as usize as u64;
        let names = Symbols::of(&program).unwrap().at(here - Place::of(&maps, &program).unwrap().base);
        assert!(names.iter().any(|name| name.contains("this_test_finds_its_own_name")), "{names:?}");
    }
}
