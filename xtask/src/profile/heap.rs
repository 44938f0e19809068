//! What jemalloc writes about the memory that is in use: a text of sampled stacks, and where what was mapped.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::place::Place;
use super::stacks::Stacks;
use super::symbols::Symbols;

/// One place that memory was asked for at.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Site {
    /// Where each call returns to, from the innermost outwards.
    pub(super) returns: Vec<u64>,
    /// Allocations that are in use, as far as samples tell.
    pub(super) count: f64,
    /// Bytes of them, as the allocator rounds them.
    pub(super) bytes: f64,
}

/// A heap profile.
#[derive(Debug)]
pub(super) struct Heap {
    pub(super) sites: Vec<Site>,
    /// As in `/proc/PID/maps`.
    pub(super) maps: String,
}

impl Heap {
    /// Adds its bytes and counts to those of other processes, under the names of their stacks.
    pub(super) fn add_to(
        &self,
        bytes: &mut Stacks,
        counts: &mut Stacks,
        program: &Path,
        symbols: &mut Symbols,
    ) -> Result<()> {
        let base = super::symbols::Place::of(&self.maps, program)?.base;
        for site in &self.sites {
            let mut frames: Vec<String> = Vec::new();
            for at in site.returns.iter().rev() {
                // The call is before where it returns to.
                frames.extend(symbols.at(at.wrapping_sub(base).wrapping_sub(1)).iter().cloned());
            }
            while frames.last().is_some_and(|frame| Place::of(frame) == Place::Allocator) {
                frames.pop();
            }
            counts.add(frames.clone(), site.count);
            bytes.add(frames, site.bytes);
        }
        Ok(())
    }
}

/// Reads `heap_v2`.
///
/// # Errors
/// It is no such profile.
pub(super) fn read(text: &str) -> Result<Heap> {
    let (stacks, maps) = text.split_once("MAPPED_LIBRARIES:").context("it has no MAPPED_LIBRARIES")?;
    let mut lines = stacks.lines();
    let period = lines.next().and_then(|line| line.strip_prefix("heap_v2/")?.parse::<u32>().ok());
    let period = f64::from(period.context("it does not begin with heap_v2/PERIOD")?);
    let mut sites = Vec::new();
    while let Some(line) = lines.next() {
        let Some(addresses) = line.strip_prefix('@') else { continue };
        let address = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16);
        let returns = addresses.split_ascii_whitespace().map(address).collect::<Result<Vec<_>, _>>();
        let returns = returns.with_context(|| format!("no addresses: {line}"))?;
        let sums = lines.next().and_then(in_use);
        let (count, bytes) = sums.with_context(|| format!("no sums follow {line}"))?;
        if count > 0.0 {
            let times = unsampled(bytes / count, period);
            sites.push(Site { returns, count: count * times, bytes: bytes * times });
        }
    }
    ensure!(!sites.is_empty(), "it has no samples: was the program built with the feature heap-profile?");
    Ok(Heap { sites, maps: maps.to_owned() })
}

/// `  t*: 5: 1600 [0: 0]`: objects and bytes in use.
fn in_use(line: &str) -> Option<(f64, f64)> {
    let (count, rest) = line.trim().strip_prefix("t*:")?.split_once(':')?;
    Some((count.trim().parse().ok()?, rest.trim().split(' ').next()?.parse().ok()?))
}

/// How many allocations of this size stand behind each sample, where each byte begins one with a chance of 1 in
/// `period`. jemalloc writes its sums so that this comes out right, as `jeprof` does it.
fn unsampled(size: f64, period: f64) -> f64 {
    1.0 / (1.0 - (-size / period).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "heap_v2/1024\n  t*: 3: 2148 [0: 0]\n  t0: 3: 2148 [0: 0]\n@ 0x10 0x2f\n  t*: 1: 2048 [0: 0]\n  \
                        t0: 1: 2048 [0: 0]\n@ 0x11 0x2f\n  t*: 2: 100 [7: 350]\n@ 0x12\n  t*: 0: 0 [7: 350]\n\n\
                        MAPPED_LIBRARIES:\n5500-5600 r--p 00000000 08:01 1 /bin/herenow\n";

    #[test]
    fn sites_are_read_with_what_stands_behind_their_samples() {
        let heap = read(TEXT).unwrap();
        assert_eq!(heap.sites.len(), 2, "what is not in use any more is left out");
        assert_eq!(heap.sites[0].returns, [0x10, 0x2f]);
        // Of 2 KiB, all but e^-2 are sampled; of 50 B, every twenty-first.
        assert!((heap.sites[0].bytes - 2_368.5).abs() < 1.0, "{:?}", heap.sites[0]);
        assert!((heap.sites[1].count - 41.97).abs() < 0.1, "{:?}", heap.sites[1]);
        assert!(heap.maps.contains("/bin/herenow"));
    }

    #[test]
    fn what_is_no_profile_is_told() {
        let why = |text: &str| format!("{:#}", read(text).unwrap_err());
        assert!(why("heap_v1/5\nMAPPED_LIBRARIES:\n").contains("heap_v2"));
        assert!(why("heap_v2/5\n").contains("MAPPED_LIBRARIES"));
        assert!(why("heap_v2/5\nMAPPED_LIBRARIES:\n").contains("heap-profile"));
        assert!(why("heap_v2/5\n@ 0xzz\n t*: 1: 1 [0: 0]\nMAPPED_LIBRARIES:\n").contains("0xzz"));
    }
}
