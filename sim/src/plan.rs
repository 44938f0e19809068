//! A run as it is planned: its seed, its size, and what goes wrong when. Written as text it can be run again.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use crate::fault::{Fault, Profile, schedule};
use crate::net::Node;
use crate::process::interest_by_user_from;
use crate::world::STORM_MS;

/// Faults are drawn apart from everything else, so that a run without one of them begins as the run with it.
const FAULT_STREAM: u64 = 1;
/// Most processes of a kind, and most users, that a file may ask for.
const MAX_SIZE: usize = 1_000;

/// All that makes a run.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// What everything is drawn from but the faults.
    pub seed: u64,
    /// The size of the world. The number of faults in it counts for nothing here.
    pub profile: Profile,
    /// What goes wrong, at which virtual millisecond, in order.
    pub faults: Vec<(u64, Fault)>,
}

impl Plan {
    /// Draws what goes wrong from the seed.
    #[must_use]
    pub fn draw(seed: u64, profile: Profile) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(FAULT_STREAM);
        let profile = profile.vary(&mut rng);
        let mut faults = schedule(profile, STORM_MS, &mut rng);
        if interest_by_user_from(seed, profile.gateways) > 0 {
            // Level 2 rests on the order of one sender's messages, as NATS keeps it: whom a gateway asks for it has
            // named before.
            faults.retain(|(_, fault)| !matches!(fault, Fault::Shuffle(_)));
        }
        // Some worlds get one more than was asked for: the plan says how many it has.
        Self { seed, profile: Profile { faults: faults.len(), ..profile }, faults }
    }

    fn check(&self) -> anyhow::Result<()> {
        let Profile { coordinators, gateways, users, .. } = self.profile;
        for size in [coordinators, gateways, users] {
            ensure!((1..=MAX_SIZE).contains(&size), "sizes are between 1 and {MAX_SIZE}, not {size}");
        }
        for (at, fault) in &self.faults {
            let exists = fault.nodes().into_iter().flatten().all(|node| match node {
                Node::Coordinator(index) => index < coordinators,
                Node::Gateway(index) => index < gateways,
            });
            ensure!(exists, "there is no such process: {at} {fault}");
        }
        Ok(())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Profile {
            coordinators,
            gateways,
            users,
            faults: _,
            storm_ms,
            quiet_ms,
            claims,
            keeps,
            syncs_lost,
        } = self.profile;
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "coordinators {coordinators}\ngateways {gateways}\nusers {users}")?;
        writeln!(f, "storm {storm_ms}\nquiet {quiet_ms}")?;
        if claims {
            writeln!(f, "claims")?;
        }
        if keeps {
            writeln!(f, "keeps")?;
        }
        if syncs_lost {
            writeln!(f, "syncs-lost")?;
        }
        self.faults.iter().try_for_each(|(at, fault)| writeln!(f, "{at} {fault}"))
    }
}

impl FromStr for Plan {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut plan = Self { seed: 0, profile: Profile::normal(), faults: Vec::new() };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            plan.read(line).with_context(|| format!("in \"{line}\""))?;
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        plan.profile.faults = plan.faults.len();
        plan.check()?;
        Ok(plan)
    }
}

impl Plan {
    fn read(&mut self, line: &str) -> anyhow::Result<()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "seed" => self.seed = rest.parse()?,
            "coordinators" => self.profile.coordinators = rest.parse()?,
            "gateways" => self.profile.gateways = rest.parse()?,
            "users" => self.profile.users = rest.parse()?,
            "storm" => self.profile.storm_ms = rest.parse()?,
            "quiet" => self.profile.quiet_ms = rest.parse()?,
            "claims" => self.profile.claims = true,
            "keeps" => self.profile.keeps = true,
            "syncs-lost" => self.profile.syncs_lost = true,
            at => self.faults.push((at.parse()?, rest.parse()?)),
        }
        Ok(())
    }
}
