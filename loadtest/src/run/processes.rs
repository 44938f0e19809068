//! Memory and processor time of processes of this machine, from `/proc`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Processor time is told in this unit on Linux.
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// A process that is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// `gateway-1`.
    pub(crate) name: String,
    /// `gateway`, `coordinator`, `nats`, `load`.
    pub(crate) class: &'static str,
    pub(crate) pid: u32,
}

/// What was seen of a process, one value for each second.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) class: String,
    /// KiB in memory.
    pub(crate) rss_kib: Vec<u64>,
    /// Milliseconds of processor time since it began.
    pub(crate) cpu_millis: Vec<u64>,
}

impl Seen {
    pub(crate) fn of(subject: &Subject) -> Self {
        Self {
            name: subject.name.clone(),
            class: subject.class.to_owned(),
            rss_kib: Vec::new(),
            cpu_millis: Vec::new(),
        }
    }

    /// Adds what is true now; a process that is gone has nothing.
    pub(crate) fn look(&mut self, pid: u32) {
        self.rss_kib.push(memory(pid).unwrap_or(0));
        self.cpu_millis.push(processor(pid).unwrap_or_else(|| self.cpu_millis.last().copied().unwrap_or(0)));
    }

    /// The cores it used in each second.
    pub(crate) fn cores(&self) -> Vec<f64> {
        let seconds = self.cpu_millis.windows(2);
        seconds.map(|pair| millis(pair[1].saturating_sub(pair[0])) / 1_000.0).collect()
    }
}

fn millis(value: u64) -> f64 {
    Duration::from_millis(value).as_secs_f64() * 1_000.0
}

/// KiB that a process has in memory.
pub(crate) fn memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Milliseconds of processor time of a process since it began.
pub(crate) fn processor(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything: state, then 10 numbers, then user and system time.
    let mut times = stat.rsplit_once(") ")?.1.split_ascii_whitespace().skip(11);
    let ticks: u64 = times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?;
    u64::try_from(CLOCK_TICK.as_millis()).ok().map(|tick| ticks * tick)
}

/// Cores, KiB of memory, and the processor's name.
pub(crate) fn machine() -> (usize, u64, String) {
    let cores = std::thread::available_parallelism().map_or(0, Into::into);
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
    };
    let memory = field("/proc/meminfo", "MemTotal");
    let memory = memory.split_ascii_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
    (cores, memory, field("/proc/cpuinfo", "model name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_there_and_grows_older() {
        let subject = Subject { name: "me".to_owned(), class: "load", pid: std::process::id() };
        let mut seen = Seen::of(&subject);
        seen.look(subject.pid);
        seen.look(u32::MAX);
        assert!(seen.rss_kib[0] > 1_000 && seen.rss_kib[1] == 0, "{seen:?}");
        assert_eq!(seen.cpu_millis[0], seen.cpu_millis[1]);
        assert_eq!(seen.cores().len(), 1);
        assert!(machine().0 > 0 && machine().1 > 0);
    }
}
