//! What a load is: read from a commented TOML file. Every key has a default, and an unknown key is an error.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Sockets of one worker process: its limit of descriptors is 20,000 on most systems, and it needs a few itself.
pub(crate) const SOCKETS_PER_WORKER: u32 = 19_000;
/// Most sockets of a load.
const SESSIONS: u32 = 5_000_000;
/// What a gateway lets one session watch by default.
const WATCHES: u32 = 5_000;
/// What one `watch` frame may name.
pub(crate) const WATCH_PAGE: usize = 1_000;

/// A load.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// What everything random follows from.
    #[serde(default = "one")]
    pub(crate) seed: u64,
    #[serde(default)]
    pub(crate) target: Target,
    pub(crate) people: People,
    #[serde(default)]
    pub(crate) watch: Watch,
    #[serde(default)]
    pub(crate) phases: Phases,
    #[serde(default)]
    pub(crate) rates: Rates,
    pub(crate) storm: Option<Storm>,
    pub(crate) day: Option<Day>,
    pub(crate) slow: Option<Slow>,
    #[serde(default)]
    pub(crate) promise: Promise,
    #[serde(default)]
    pub(crate) allow: Allow,
}

/// A deployment that runs. Not needed with `--spawn`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Target {
    /// `ws://host:port`, or `wss://`; sessions are spread over all of them.
    pub(crate) gateways: Vec<String>,
    /// A file with the certificates, in PEM, that vouch for those of the gateways. Not given: those of the system.
    pub(crate) tls_ca_file: Option<PathBuf>,
    /// HS256, ES256, EdDSA or RS256.
    pub(crate) algorithm: Option<String>,
    /// A file whose first line is the secret of HS256.
    pub(crate) token_secret_file: Option<PathBuf>,
    /// A file with the private key of the other algorithms, in PEM.
    pub(crate) token_key_file: Option<PathBuf>,
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
    /// Words that begin every user id, so that loads do not meet each other's users.
    pub(crate) prefix: Option<String>,
}

/// Who connects.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct People {
    /// Users, each with one session that stays, but for what `rates` does.
    pub(crate) sessions: u32,
    /// The share of them who are there at the beginning; the others come with `rates.arrivals`.
    #[serde(default = "whole")]
    pub(crate) present: f64,
}

/// Who watches whom.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub(crate) enum Watch {
    /// Nobody watches.
    #[default]
    None,
    /// Groups; everybody watches the others of the group.
    Cliques {
        /// Members of a group.
        members: u32,
    },
    /// Lists whose length follows a power law; popular users are on more of them.
    Contacts {
        /// The mean length.
        mean: u32,
        /// The longest.
        #[serde(default = "contacts_most")]
        most: u32,
    },
    /// One is watched by all the others of its worker.
    Celebrity,
}

/// How long each part takes.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Phases {
    /// Over which everybody comes.
    #[serde(with = "duration")]
    pub(crate) ramp: Duration,
    /// Without changes, before what counts.
    #[serde(with = "duration")]
    pub(crate) settle: Duration,
    /// What counts.
    #[serde(with = "duration")]
    pub(crate) measure: Duration,
    /// Without changes, after it; then every view must be right.
    #[serde(with = "duration")]
    pub(crate) patience: Duration,
}

impl Default for Phases {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { ramp: seconds(20), settle: seconds(10), measure: seconds(60), patience: seconds(5) }
    }
}

/// Changes a second while it is measured, over all people; each at a random moment.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rates {
    /// Somebody becomes idle, or active again.
    pub(crate) flips: f64,
    /// Somebody says `bye`, and comes back after `away`.
    pub(crate) leaves: f64,
    /// Somebody's connection closes without a word, and is back after `reload`: inside the grace, and not to be seen.
    pub(crate) reloads: f64,
    /// Somebody's connection closes without a word, and stays away for the grace and `away`.
    pub(crate) cuts: f64,
    /// Somebody falls silent, as a phone in a tunnel does, and comes back after `away` from its being offline.
    pub(crate) deaths: f64,
    /// Somebody opens a second device at another gateway, and closes the first a second later: not to be seen.
    pub(crate) switches: f64,
    /// Somebody stops watching one, and watches another.
    pub(crate) churn: f64,
    /// Who is not there comes, with no return planned.
    pub(crate) arrivals: f64,
    /// The shortest and the longest time away.
    #[serde(with = "span")]
    pub(crate) away: (Duration, Duration),
    /// The shortest and the longest time of a reload.
    #[serde(with = "span")]
    pub(crate) reload: (Duration, Duration),
    /// Only this share of people, the first ones, does any of it.
    pub(crate) among: f64,
    /// In `celebrity` the one who is watched flips so often a second, beside all else.
    pub(crate) celebrity_flips: f64,
}

impl Default for Rates {
    fn default() -> Self {
        let span = |least, most| (Duration::from_millis(least), Duration::from_millis(most));
        Self {
            flips: 0.0,
            leaves: 0.0,
            reloads: 0.0,
            cuts: 0.0,
            deaths: 0.0,
            switches: 0.0,
            churn: 0.0,
            arrivals: 0.0,
            away: span(2_000, 20_000),
            reload: span(200, 4_000),
            among: 1.0,
            celebrity_flips: 0.0,
        }
    }
}

/// Connections cut at once.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Storm {
    /// After the beginning of what counts.
    #[serde(with = "duration")]
    pub(crate) at: Duration,
    /// How many of those who are there.
    #[serde(default = "whole")]
    pub(crate) share: f64,
    /// They come back at random moments of this; zero: all at once, as naive clients do.
    #[serde(with = "duration")]
    pub(crate) jitter: Duration,
}

/// Rates that rise and fall as over a day, squeezed into the time that is measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Day {
    /// The share of people who are there in the deepest night; at noon it is all of them.
    pub(crate) night: f64,
}

/// Watchers who do not read.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slow {
    /// How many of all.
    pub(crate) share: f64,
    /// They read nothing for so long, then all there is, again and again.
    #[serde(with = "duration")]
    pub(crate) pause: Duration,
}

/// What the deployment promises, from which the truth follows: its defaults, if it runs with them.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Promise {
    /// `coordinator.grace_period`: from a lost connection to offline.
    #[serde(with = "duration")]
    pub(crate) grace: Duration,
    /// The longest it stretches to in this load (more than `grace_rate` times `grace` lost at once); zero: as `grace`.
    #[serde(with = "duration")]
    pub(crate) grace_longest: Duration,
    /// `gateway.core.heartbeat_timeout`: silence after which a session is over.
    #[serde(with = "duration")]
    pub(crate) heartbeat_timeout: Duration,
    /// A view that is wrong for longer is counted as over the bound.
    #[serde(with = "duration")]
    pub(crate) bound: Duration,
}

impl Default for Promise {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            grace: seconds(10),
            grace_longest: Duration::ZERO,
            heartbeat_timeout: seconds(30),
            bound: seconds(1),
        }
    }
}

/// What the referee lets pass.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Allow {
    /// Sessions that the service may close against their will, those of slow watchers aside.
    pub(crate) forced: u64,
    /// Wrong intervals over the bound.
    pub(crate) over_bound: u64,
}

impl Scenario {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// It cannot be read, or a value is not in its range; named.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
        Self::parse(&text).with_context(|| file.display().to_string())
    }

    /// Reads and checks a text.
    ///
    /// # Errors
    /// As [`Scenario::read`].
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// # Errors
    /// A value is not in its range.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let sessions = self.people.sessions;
        ensure!((1..=SESSIONS).contains(&sessions), "people.sessions: 1 to {SESSIONS}");
        let shares = [
            ("people.present", self.people.present),
            ("rates.among", self.rates.among),
            ("storm.share", self.storm.as_ref().map_or(0.0, |storm| storm.share)),
            ("slow.share", self.slow.as_ref().map_or(0.0, |slow| slow.share)),
            ("day.night", self.day.as_ref().map_or(0.0, |day| day.night)),
        ];
        for (key, share) in shares {
            ensure!((0.0..=1.0).contains(&share), "{key}: 0 to 1");
        }
        for (key, rate) in self.rates.all() {
            ensure!((0.0..=1e6).contains(&rate), "rates.{key}: 0 to 1000000 a second");
        }
        for (key, (least, most)) in [("away", self.rates.away), ("reload", self.rates.reload)] {
            ensure!(least <= most, "rates.{key}: the shortest first");
        }
        ensure!(self.rates.reload.1 < self.promise.grace, "rates.reload: shorter than promise.grace");
        ensure!(!self.phases.measure.is_zero(), "phases.measure: longer than nothing");
        match self.watch {
            Watch::None | Watch::Celebrity => {}
            Watch::Cliques { members } => {
                ensure!((2..=WATCHES + 1).contains(&members), "watch.members: 2 to {}", WATCHES + 1);
            }
            Watch::Contacts { mean, most } => {
                ensure!(mean >= 1 && mean <= most && most <= WATCHES, "watch: 1 ≤ mean ≤ most ≤ {WATCHES}");
            }
        }
        Ok(())
    }

    /// Processes that are needed, when each has at most so many sockets.
    pub(crate) fn workers(&self, most: u32) -> u32 {
        self.people.sessions.div_ceil(most.clamp(1, SOCKETS_PER_WORKER)).max(1)
    }

    /// The part of the load that one worker carries: people are split evenly, rates with them.
    pub(crate) fn part(&self, index: u32, workers: u32) -> Self {
        let (all, workers) = (self.people.sessions, workers.max(1));
        let mut part = self.clone();
        part.resize(all / workers + u32::from(index < all % workers));
        part.seed = self.seed.wrapping_mul(1_000_003).wrapping_add(u64::from(index));
        part
    }

    /// The same with another number of people, who do as much each.
    pub(crate) fn resize(&mut self, sessions: u32) {
        let share = f64::from(sessions) / f64::from(self.people.sessions);
        self.people.sessions = sessions;
        for (_, rate) in self.rates.all_mut() {
            *rate *= share;
        }
    }

    /// The longest that a lost session may count on.
    pub(crate) fn grace_longest(&self) -> Duration {
        self.promise.grace.max(self.promise.grace_longest)
    }
}

impl Rates {
    const fn all(&self) -> [(&'static str, f64); 9] {
        [
            ("flips", self.flips),
            ("leaves", self.leaves),
            ("reloads", self.reloads),
            ("cuts", self.cuts),
            ("deaths", self.deaths),
            ("switches", self.switches),
            ("churn", self.churn),
            ("arrivals", self.arrivals),
            ("celebrity_flips", self.celebrity_flips),
        ]
    }

    /// Those that are split between workers: each worker has a celebrity of its own.
    const fn all_mut(&mut self) -> [(&'static str, &mut f64); 8] {
        [
            ("flips", &mut self.flips),
            ("leaves", &mut self.leaves),
            ("reloads", &mut self.reloads),
            ("cuts", &mut self.cuts),
            ("deaths", &mut self.deaths),
            ("switches", &mut self.switches),
            ("churn", &mut self.churn),
            ("arrivals", &mut self.arrivals),
        ]
    }
}

const fn one() -> u64 {
    1
}

const fn whole() -> f64 {
    1.0
}

const fn contacts_most() -> u32 {
    2_000
}

fn read_duration<E: serde::de::Error>(text: &str) -> Result<Duration, E> {
    humantime::parse_duration(text).map_err(|error| E::custom(format!("`{text}`: {error}")))
}

/// Durations carry their unit: "250ms", "30s".
mod duration {
    use super::{Deserialize as _, Deserializer, Duration, Serializer, read_duration};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        read_duration(&String::deserialize(from)?)
    }

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&humantime::format_duration(*value).to_string())
    }
}

/// Two durations, the shortest and the longest.
mod span {
    use super::{Deserialize as _, Deserializer, Duration, Serialize as _, Serializer, read_duration};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<(Duration, Duration), D::Error> {
        let [least, most] = <[String; 2]>::deserialize(from)?;
        Ok((read_duration(&least)?, read_duration(&most)?))
    }

    pub(super) fn serialize<S: Serializer>(value: &(Duration, Duration), to: S) -> Result<S::Ok, S::Error> {
        [value.0, value.1].map(|each| humantime::format_duration(each).to_string()).serialize(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "name = \"a\"\n[people]\nsessions = 10\n";

    #[test]
    fn every_key_but_the_people_has_a_default() {
        let scenario = Scenario::parse(LEAST).unwrap();
        assert_eq!(scenario.phases.measure, Duration::from_secs(60));
        assert_eq!(scenario.grace_longest(), Duration::from_secs(10));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (more, named) in [
            ("[rates]\nflip = 1.0", "flip"),
            ("[rates]\nflips = -1.0", "rates.flips"),
            ("[rates]\nreload = [\"1s\", \"10s\"]", "rates.reload"),
            ("[rates]\naway = [\"2s\", \"1s\"]", "rates.away"),
            ("[phases]\nmeasure = \"0s\"", "phases.measure"),
            ("[phases]\nmeasure = \"soon\"", "soon"),
            ("[watch]\nkind = \"cliques\"\nmembers = 1", "watch.members"),
            ("[watch]\nkind = \"contacts\"\nmean = 100\nmost = 5001", "5000"),
            ("[slow]\nshare = 1.5\npause = \"1s\"", "slow.share"),
        ] {
            let error = Scenario::parse(&format!("{LEAST}{more}\n")).unwrap_err();
            assert!(format!("{error:#}").contains(named), "{more}: {error:#}");
        }
        assert!(Scenario::parse("name = \"a\"\n[people]\nsessions = 0\n").is_err());
    }

    #[test]
    fn parts_are_the_whole() {
        let mut scenario = Scenario::parse(LEAST).unwrap();
        scenario.rates.flips = 30.0;
        let parts: Vec<_> = (0..3).map(|index| scenario.part(index, 3)).collect();
        assert_eq!(parts.iter().map(|part| part.people.sessions).sum::<u32>(), 10);
        assert!((parts.iter().map(|part| part.rates.flips).sum::<f64>() - 30.0).abs() < 1e-9);
        assert!(parts[0].seed != parts[1].seed);
        scenario.people.sessions = SOCKETS_PER_WORKER + 1;
        assert_eq!((scenario.workers(u32::MAX), scenario.workers(100)), (2, 191));
    }

    #[test]
    fn the_scenarios_that_come_with_it_are_read() {
        let directory = |name| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let files = ["scenarios", "bench"].map(|name| std::fs::read_dir(directory(name)).unwrap());
        let files = files.into_iter().flatten().map(|file| file.unwrap().path());
        let names: Vec<_> = files.map(|file| Scenario::read(&file).unwrap().name).collect();
        for name in [
            "idle",
            "cliques",
            "contacts",
            "celebrity",
            "day",
            "flapping",
            "storm",
            "silent-death",
            "slow-watchers",
            "churn",
            "idle-watching",
        ] {
            assert!(names.iter().any(|known| known == name), "{name} is missing");
        }
    }
}
