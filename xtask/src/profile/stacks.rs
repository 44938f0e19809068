//! Stacks with what each weighs: samples of a processor, or bytes that are in use.

use std::collections::BTreeMap;

/// Stacks, each from the outermost frame inwards, with what they weigh together.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    by_frames: BTreeMap<Vec<String>, f64>,
}

impl Stacks {
    pub(super) fn add(&mut self, frames: Vec<String>, weight: f64) {
        *self.by_frames.entry(frames).or_default() += weight;
    }

    pub(super) fn extend(&mut self, other: Self) {
        for (frames, weight) in other.by_frames {
            self.add(frames, weight);
        }
    }

    pub(super) fn total(&self) -> f64 {
        self.by_frames.values().sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[String], f64)> {
        self.by_frames.iter().map(|(frames, weight)| (&frames[..], *weight))
    }

    /// What every stack comes to by some word about it, the heaviest first.
    pub(super) fn by(&self, word: impl Fn(&[String]) -> String) -> Vec<(String, f64)> {
        let mut by_word = BTreeMap::<String, f64>::new();
        for (frames, weight) in self.iter() {
            *by_word.entry(word(frames)).or_default() += weight;
        }
        let mut sorted: Vec<_> = by_word.into_iter().collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
        sorted
    }

    /// The same stacks as a tree below `name`.
    pub(super) fn tree(&self, name: &str) -> Node {
        let mut root = Node::new(name);
        for (frames, weight) in self.iter() {
            root.weight += weight;
            let mut node = &mut root;
            for frame in frames {
                node = node.below.entry(frame.clone()).or_insert_with(|| Node::new(frame));
                node.weight += weight;
            }
        }
        root
    }
}

/// A frame with all that it called.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    /// With what is below.
    pub(super) weight: f64,
    pub(super) below: BTreeMap<String, Node>,
}

impl Node {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), weight: 0.0, below: BTreeMap::new() }
    }

    /// Takes away whatever weighs less than this; it stays counted where it was called.
    pub(super) fn cut(&mut self, least: f64) {
        self.below.retain(|_, node| node.weight >= least);
        self.below.values_mut().for_each(|node| node.cut(least));
    }

    /// How many frames stand upon each other at most, this one among them.
    pub(super) fn height(&self) -> usize {
        1 + self.below.values().map(Self::height).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stacks(of: &[(&str, f64)]) -> Stacks {
        let mut stacks = Stacks::default();
        for (frames, weight) in of {
            stacks.add(frames.split(';').map(str::to_owned).collect(), *weight);
        }
        stacks
    }

    #[test]
    fn equal_stacks_are_one_and_words_come_heaviest_first() {
        let stacks = stacks(&[("a;b", 1.0), ("a;c", 4.0), ("a;b", 2.0)]);
        assert_eq!(stacks.iter().count(), 2);
        assert!((stacks.total() - 7.0).abs() < 1e-9);
        let by_leaf = stacks.by(|frames| frames.last().cloned().unwrap_or_default());
        assert_eq!(by_leaf, [("c".to_owned(), 4.0), ("b".to_owned(), 3.0)]);
    }

    #[test]
    fn what_is_cut_stays_counted_above() {
        let mut tree = stacks(&[("a;b;deep", 1.0), ("a;c", 9.0), ("d", 90.0)]).tree("all");
        assert_eq!(tree.height(), 4);
        tree.cut(2.0);
        assert_eq!(tree.height(), 3);
        let a = &tree.below["a"];
        assert!((a.weight - 10.0).abs() < 1e-9 && (tree.weight - 100.0).abs() < 1e-9);
        assert_eq!(a.below.keys().collect::<Vec<_>>(), ["c"]);
        tree.cut(9.0);
        assert!(tree.below["a"].below.contains_key("c"), "what weighs as much as the least stays");
    }
}
