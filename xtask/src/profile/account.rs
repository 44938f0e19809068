//! What the system says a process has used.

use std::time::Duration;

use super::load::Server;

/// Processor time is told in this unit on Linux.
const TICK: Duration = Duration::from_millis(10);

/// What a process has used so far; nothing, when it is gone.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Account {
    ticks: u32,
    pub(super) resident_kib: u64,
}

/// Those of processes, in their order.
pub(super) fn of(servers: &[Server]) -> Vec<Account> {
    let of = |server: &Server| {
        let read =
            |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", server.pid)).unwrap_or_default();
        Account {
            ticks: ticks(&read("stat")).unwrap_or_default(),
            resident_kib: resident(&read("status")).unwrap_or_default(),
        }
    };
    servers.iter().map(of).collect()
}

impl Account {
    /// The cores it used since an earlier account, so many seconds ago.
    pub(super) fn cores_since(&self, earlier: &Self, seconds: u64) -> f64 {
        let used = TICK * self.ticks.saturating_sub(earlier.ticks);
        used.as_secs_f64() / Duration::from_secs(seconds.max(1)).as_secs_f64()
    }
}

/// Behind the name, which may hold anything: the state, 10 numbers, then user and system time.
fn ticks(stat: &str) -> Option<u32> {
    let mut times = stat.rsplit_once(") ")?.1.split_ascii_whitespace().skip(11);
    Some(times.next()?.parse::<u32>().ok()? + times.next()?.parse::<u32>().ok()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_user_and_system_time_and_what_is_resident() {
        let stat = "812 (a) b) S 811 812 812 0 -1 4194560 100 0 0 0 1500 500 0 0 20 0 9 0 5 6 7";
        assert_eq!(ticks(stat), Some(2_000));
        assert_eq!(resident("Name:\ta\nVmRSS:\t   39408 kB\n"), Some(39_408));
        let earlier = Account { ticks: 1_000, resident_kib: 0 };
        let cores = Account { ticks: 2_000, resident_kib: 0 }.cores_since(&earlier, 20);
        assert!((cores - 0.5).abs() < 1e-9, "{cores}");
    }
}
