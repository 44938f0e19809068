//! What is profiled: the scenarios of the benchmark and of the load test, of a size at which each takes less than a minute.

use anyhow::{Context as _, Result};
use toml::{Table, Value};

/// A scenario, and which part of it is looked at.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) name: &'static str,
    /// What happens, for the page.
    pub(super) what: &'static str,
    pub(super) file: &'static str,
    pub(super) sessions: u32,
    /// Seconds of `ramp`, `settle` and `measure`.
    pub(super) phases: [u64; 3],
    /// The phase whose processor time is sampled.
    pub(super) sampled: Phase,
    /// Seconds from the beginning of `measure` until the memory in use is written down.
    pub(super) written: u64,
    pub(super) gateways: u16,
    /// More for the command line.
    pub(super) arguments: &'static [&'static str],
}

/// A part of a load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Ramp,
    Measure,
}

impl Phase {
    /// As the load's lines of progress call it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ramp => "ramp",
            Self::Measure => "measure",
        }
    }
}

impl Scene {
    /// The scenario with this size, and its ramp so many times as long; what happens is the file's.
    ///
    /// # Errors
    /// It is no scenario.
    pub(super) fn scaled(&self, text: &str, slower: u64) -> Result<String> {
        let mut scenario: Table =
            text.parse().with_context(|| format!("reading loadtest/{}.toml", self.file))?;
        let mut set = |part: &str, key: &str, value: Value| {
            let table = scenario.entry(part).or_insert_with(|| Value::Table(Table::new())).as_table_mut();
            table.with_context(|| format!("{part} is no table"))?.insert(key.to_owned(), value);
            anyhow::Ok(())
        };
        set("people", "sessions", Value::Integer(self.sessions.into()))?;
        let [ramp, settle, measure] = self.phases;
        for (key, seconds) in
            [("ramp", ramp * slower), ("settle", settle), ("measure", measure), ("patience", 1)]
        {
            set("phases", key, Value::String(format!("{seconds}s")))?;
        }
        Ok(scenario.to_string())
    }

    /// How long the phase takes that is sampled.
    pub(super) const fn seconds(&self) -> u64 {
        match self.sampled {
            Phase::Ramp => self.phases[0],
            Phase::Measure => self.phases[2],
        }
    }
}

const fn scene(name: &'static str, file: &'static str, what: &'static str) -> Scene {
    Scene {
        name,
        what,
        file,
        sessions: 4_000,
        phases: [8, 1, 15],
        sampled: Phase::Measure,
        written: 13,
        gateways: 2,
        arguments: &[],
    }
}

/// Every scene.
pub(super) const SUITE: [Scene; 13] = [
    Scene {
        sessions: 6_000,
        gateways: 1,
        ..scene("idle", "bench/idle", "sessions that do nothing but send heartbeats")
    },
    Scene {
        sessions: 5_959,
        phases: [12, 2, 20],
        gateways: 1,
        ..scene("idle-watching", "bench/idle-watching", "the same, each watching 100 users")
    },
    Scene {
        sessions: 5_959,
        phases: [12, 2, 20],
        sampled: Phase::Ramp,
        gateways: 1,
        ..scene(
            "arrivals",
            "bench/idle-watching",
            "500 sessions a second come, each with a watch list of 100",
        )
    },
    Scene {
        sessions: 2_040,
        ..scene("cliques", "bench/cliques", "200 changes a second, each told to 50 watchers")
    },
    Scene {
        sessions: 6_000,
        ..scene("celebrity", "bench/celebrity", "one user changes each 4 s, and all the others watch it")
    },
    Scene {
        sessions: 6_000,
        // Cut after 5 s; they come back over 6 s.
        written: 9,
        ..scene("storm", "bench/storm", "all sessions are cut at once and come back within 6 s")
    },
    Scene {
        sessions: 2_040,
        ..scene(
            "slow-watchers",
            "scenarios/slow-watchers",
            "40 changes a second to 50 watchers, 5 % of whom do not read",
        )
    },
    scene("churn", "scenarios/churn", "sessions and watch lists come and go"),
    scene("contacts", "scenarios/contacts", "watch lists by a power law, 100 on the mean, and few changes"),
    Scene {
        sessions: 2_040,
        ..scene("flapping", "scenarios/flapping", "a fifth of the sessions break each ten seconds")
    },
    Scene {
        sessions: 2_040,
        // Longer than the heartbeat timeout of 30 s.
        phases: [8, 1, 38],
        written: 36,
        ..scene("silent-death", "scenarios/silent-death", "3 sessions a second fall silent, and time out")
    },
    scene("day", "scenarios/day", "a day of coming, idling and leaving, in 15 s"),
    Scene {
        sessions: 6_000,
        gateways: 1,
        arguments: &["--tls"],
        ..scene("idle-tls", "bench/idle", "sessions that do nothing but send heartbeats, under TLS 1.3")
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_scaled_and_keeps_what_happens() {
        let text = "name = \"x\"\n[people]\nsessions = 18000\npresent = 0.5\n[rates]\nflips = 2.0\n";
        let scaled: Table = scene("x", "x", "").scaled(text, 2).unwrap().parse().unwrap();
        assert_eq!(scaled["people"]["sessions"].as_integer(), Some(4_000));
        assert_eq!(scaled["people"]["present"].as_float(), Some(0.5));
        assert_eq!(scaled["phases"]["measure"].as_str(), Some("15s"));
        assert_eq!(scaled["phases"]["ramp"].as_str(), Some("16s"));
        assert_eq!(scaled["rates"]["flips"].as_float(), Some(2.0));
        assert!(scene("x", "x", "").scaled("people = 1", 1).is_err());
    }

    #[test]
    fn every_scene_has_a_name_of_its_own_a_file_and_less_than_a_minute() {
        for (index, scene) in SUITE.iter().enumerate() {
            assert!(SUITE[..index].iter().all(|other| other.name != scene.name), "{}", scene.name);
            let file = format!("{}/../loadtest/{}.toml", env!("CARGO_MANIFEST_DIR"), scene.file);
            assert!(std::path::Path::new(&file).is_file(), "{file}");
            assert!(
                scene.phases.iter().sum::<u64>() < 60 && scene.written < scene.phases[2],
                "{}",
                scene.name
            );
        }
    }
}
