//! Who watches whom, by the seed.

use super::chance::Chance;
use super::scenario::Watch;

/// Of each watcher the users on its list, each once, in order.
pub(super) fn lists(watch: &Watch, people: u32, seed: u64) -> Vec<Vec<u32>> {
    let mut chance = Chance::new(seed);
    (0..people).map(|watcher| list(watch, watcher, people, &mut chance)).collect()
}

fn list(watch: &Watch, watcher: u32, people: u32, chance: &mut Chance) -> Vec<u32> {
    match watch {
        Watch::None => Vec::new(),
        Watch::Celebrity => {
            if watcher == 0 {
                Vec::new()
            } else {
                vec![0]
            }
        }
        Watch::Cliques { members } => {
            let first = watcher - watcher % members;
            let end = first.saturating_add(*members).min(people);
            (first..end).filter(|other| *other != watcher).collect()
        }
        Watch::Contacts { mean, most } => {
            let length = contacts(*mean, *most, chance).min(people.saturating_sub(1));
            let mut list = Vec::new();
            // Popular ones are drawn again and again: what is there already is not replaced.
            for _ in 0..length {
                list.push(popular(people, chance));
            }
            list.sort_unstable();
            list.dedup();
            list.retain(|other| *other != watcher);
            list
        }
    }
}

/// A length by a power law of exponent 2, whose mean is `mean` where it is not cut off.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounds down")]
fn contacts(mean: u32, most: u32, chance: &mut Chance) -> u32 {
    let length = f64::from(mean) / 2.0 / (1.0 - chance.fraction()).sqrt();
    length.clamp(1.0, f64::from(most)) as u32
}

/// Somebody; the first ones more often, by the square root.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounds down")]
pub(super) fn popular(people: u32, chance: &mut Chance) -> u32 {
    (f64::from(people) * chance.fraction().powi(2)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clique_watches_itself() {
        let lists = lists(&Watch::Cliques { members: 4 }, 10, 1);
        assert_eq!(lists[5], [4, 6, 7]);
        assert_eq!(lists[9], [8], "the last one is what remains");
    }

    #[test]
    fn one_is_watched_by_all() {
        let lists = lists(&Watch::Celebrity, 5, 1);
        assert!(lists[0].is_empty());
        assert!(lists[1..].iter().all(|list| *list == [0]));
    }

    #[test]
    fn contacts_have_the_mean_and_a_long_tail_and_follow_from_the_seed() {
        let watch = Watch::Contacts { mean: 100, most: 2_000 };
        let lists = lists(&watch, 20_000, 7);
        let all: usize = lists.iter().map(Vec::len).sum();
        let mean = all / lists.len();
        assert!((85..=110).contains(&mean), "{mean}");
        assert!(lists.iter().map(Vec::len).max().unwrap() > 1_000);
        assert!(lists.iter().all(|list| list.is_sorted_by(|a, b| a < b)));
        assert_eq!(lists[..50], super::lists(&watch, 20_000, 7)[..50]);
        assert!(lists[..50] != super::lists(&watch, 20_000, 8)[..50]);
    }
}
