//! How long changes for a watcher wait for others: the longer, the more frames are written.

use std::time::Duration;

use herenow_protocol::MonoTime;

use crate::Config;

/// Frames of presence a second beyond which fewer and fuller ones are written. A small frame costs 6 to 10 µs of a core,
/// nearly all of it the kernel's: so many cost a fifth of one.
const BUSY: u128 = 20_000;

/// The window as it is now: `flush_window` while few frames are written, up to `flush_window_max` under load.
#[derive(Debug, Default)]
pub(crate) struct Window {
    length: Duration,
    frames: u64,
    measured_at: MonoTime,
}

impl Window {
    /// How long changes wait for others.
    pub(crate) fn length(&self, config: &Config) -> Duration {
        self.length.max(config.flush_window)
    }

    /// To be called each time that deadlines are looked at, half a second apart, with the frames written so far: doubled while there are too many, halved when there are less
    /// than a quarter of that, so that what doubling brought does not undo it.
    pub(crate) fn measure(&mut self, frames: u64, now: MonoTime, config: &Config) {
        let elapsed = now.since(self.measured_at).as_millis().max(1);
        let rate = u128::from(frames.saturating_sub(self.frames)) * 1_000 / elapsed;
        (self.frames, self.measured_at) = (frames, now);
        if config.flush_window.is_zero() {
            return;
        }
        let length = self.length(config);
        self.length = match rate {
            _ if rate > BUSY => length * 2,
            _ if rate < BUSY / 4 => length / 2,
            _ => length,
        }
        .clamp(config.flush_window, config.flush_window_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// After so many frames in each of these seconds.
    fn after(rates: &[u64], config: &Config) -> Duration {
        let (mut window, mut frames) = (Window::default(), 0);
        for (second, rate) in (1..).zip(rates) {
            frames += rate;
            window.measure(frames, MonoTime::from_millis(1_000 * second), config);
        }
        window.length(config)
    }

    #[test]
    fn it_grows_with_load_up_to_its_limit_and_shrinks_again() {
        let config = Config::default();
        assert_eq!(after(&[], &config), ms(10));
        assert_eq!(after(&[20_000], &config), ms(10), "not too many");
        assert_eq!(after(&[20_001], &config), ms(20));
        assert_eq!(after(&[90_000; 4], &config), ms(100), "at its limit");
        assert_eq!(
            after(&[90_000, 90_000, 10_000, 10_000], &config),
            ms(40),
            "what it brought does not undo it"
        );
        assert_eq!(after(&[90_000, 90_000, 4_999, 0, 0], &config), ms(10));
    }

    #[test]
    fn without_a_window_nothing_ever_waits_and_one_that_is_at_its_limit_stays() {
        assert_eq!(after(&[90_000; 4], &Config { flush_window: ms(0), ..Config::default() }), ms(0));
        let fixed = Config { flush_window_max: ms(10), ..Config::default() };
        assert_eq!(after(&[90_000; 4], &fixed), ms(10));
    }
}
