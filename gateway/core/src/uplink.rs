//! What a gateway tells the owners of its sessions (R3, R4): numbered reports, and all of it again when asked.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use herenow_protocol::message::{
    Ended, Ending, GatewayBeat, Report, SessionChange, SessionRecord, SessionsDigest, StreamBeat, Sync, Up,
};
use herenow_protocol::{Epoch, MonoTime, Origin, Partition, SessionNumber, UserKey, limit};

use crate::Config;
use crate::io::Slot;

#[derive(Debug, Default)]
struct Stream {
    /// The number of the last report.
    seq: u64,
    pending: Vec<SessionChange>,
    sent_at: Option<MonoTime>,
    sessions: BTreeMap<SessionNumber, (Slot, UserKey)>,
    /// Sessions that ended of late, the latest last.
    ended: VecDeque<(MonoTime, Ending, SessionRecord)>,
    /// When the last one ended that is not remembered.
    forgot: Option<MonoTime>,
}

/// Most changes of one report: each may carry the longest ids and the message stays under its limit.
const REPORT_CHANGES: usize = 500;

/// The upward streams of a gateway.
#[derive(Debug)]
pub(crate) struct Uplink {
    origin: Origin,
    streams: BTreeMap<Partition, Stream>,
    /// Partitions with changes that wait.
    waiting: Vec<Partition>,
}

impl Uplink {
    pub(crate) const fn new(origin: Origin) -> Self {
        Self { origin, streams: BTreeMap::new(), waiting: Vec::new() }
    }

    pub(crate) const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Notes a change of a session.
    pub(crate) fn push(&mut self, partition: Partition, slot: Slot, change: SessionChange) {
        let stream = self.streams.entry(partition).or_default();
        match &change {
            SessionChange::Opened(record) => {
                stream.sessions.insert(record.number, (slot, record.key));
            }
            SessionChange::Closed { number, .. } => {
                stream.sessions.remove(number);
            }
            SessionChange::Activity { .. } => {}
        }
        if stream.pending.is_empty() {
            self.waiting.push(partition);
        }
        stream.pending.push(change);
    }

    /// Notes the end of a session, and remembers it for an owner that has yet to come.
    pub(crate) fn close(
        &mut self,
        partition: Partition,
        slot: Slot,
        record: SessionRecord,
        how: Ending,
        now: MonoTime,
        config: &Config,
    ) {
        self.push(partition, slot, SessionChange::Closed { number: record.number, key: record.key, how });
        let stream = self.streams.entry(partition).or_default();
        stream.ended.push_back((now, how, record));
        while stream.ended.len() > config.max_ended {
            stream.forget_first();
        }
    }

    /// Forgets sessions that ended long ago.
    pub(crate) fn prune(&mut self, now: MonoTime, config: &Config) {
        for stream in self.streams.values_mut() {
            while stream.ended.front().is_some_and(|(at, ..)| now.since(*at) > config.ended_kept) {
                stream.forget_first();
            }
            if stream.ended.is_empty() && stream.ended.capacity() > 0 {
                stream.ended = VecDeque::new();
            }
        }
    }

    /// When the next report is to be sent: at once after a silence of one window, else at its end.
    pub(crate) fn due(&self, config: &Config) -> Option<MonoTime> {
        let due = |p: &Partition| {
            let sent = self.streams.get(p).and_then(|stream| stream.sent_at);
            sent.map_or(MonoTime::default(), |at| at.after(config.report_window))
        };
        self.waiting.iter().map(due).min()
    }

    /// Sends the reports that are due.
    pub(crate) fn flush(
        &mut self,
        now: MonoTime,
        config: &Config,
        epoch_seen: impl Fn(Partition) -> Epoch,
        out: &mut impl FnMut(Up),
    ) {
        let waiting = std::mem::take(&mut self.waiting);
        for partition in waiting {
            let Some(stream) = self.streams.get_mut(&partition) else { continue };
            if stream.sent_at.is_some_and(|at| at.after(config.report_window) > now) {
                self.waiting.push(partition);
                continue;
            }
            stream.send(&self.origin, partition, epoch_seen(partition), now, out);
        }
    }

    /// Sends every report that waits, window or not: nothing comes after it.
    pub(crate) fn flush_all(
        &mut self,
        now: MonoTime,
        epoch_seen: impl Fn(Partition) -> Epoch,
        out: &mut impl FnMut(Up),
    ) {
        for partition in std::mem::take(&mut self.waiting) {
            if let Some(stream) = self.streams.get_mut(&partition) {
                stream.send(&self.origin, partition, epoch_seen(partition), now, out);
            }
        }
    }

    /// Sends everything about a partition: what waits, then the whole, which replaces what the owner has.
    pub(crate) fn sync<'a>(
        &mut self,
        partition: Partition,
        epoch_seen: Epoch,
        now: MonoTime,
        record: impl Fn(Slot) -> Option<SessionRecord> + 'a,
        out: &mut impl FnMut(Up),
    ) {
        let stream = self.streams.entry(partition).or_default();
        stream.send(&self.origin, partition, epoch_seen, now, out);
        let sessions: Vec<SessionRecord> =
            stream.sessions.values().filter_map(|(slot, _)| record(*slot)).collect();
        let ended: Vec<Ended> =
            stream.ended.iter().map(|(at, how, record)| ended(*at, *how, record, now)).collect();
        let forgot_ms = stream.forgot.map(|at| herenow_protocol::time::millis(now.since(at)));
        let pages = sessions.len().max(ended.len()).div_ceil(limit::SYNC_PAGE_SESSIONS).max(1);
        let (mut rest, mut rest_ended) = (sessions.into_iter(), ended.into_iter());
        for page in 0..pages {
            out(Up::Sync(Sync {
                origin: self.origin.clone(),
                partition,
                epoch_seen,
                seq: stream.seq,
                page: u16::try_from(page).unwrap_or(u16::MAX),
                last: page + 1 == pages,
                sessions: rest.by_ref().take(limit::SYNC_PAGE_SESSIONS).collect(),
                ended: rest_ended.by_ref().take(limit::SYNC_PAGE_SESSIONS).collect(),
                forgot_ms,
            }));
        }
    }

    /// R4: how far each stream is; in the partitions of `digests`, what its sessions come to there (R15).
    pub(crate) fn beat(
        &self,
        epoch_seen: impl Fn(Partition) -> Epoch,
        digests: &Range<usize>,
    ) -> GatewayBeat {
        let spoken = self.streams.iter().filter(|(_, stream)| stream.seq > 0);
        let beat = |(p, stream): (&Partition, &Stream)| StreamBeat {
            partition: *p,
            seq: stream.seq,
            epoch_seen: epoch_seen(*p),
            digest: if digests.contains(&p.index()) { stream.digest() } else { None },
        };
        GatewayBeat {
            origin: self.origin.clone(),
            streams: spoken.map(beat).collect(),
            interests: Vec::new(),
            left: false,
        }
    }
}

fn ended(at: MonoTime, how: Ending, record: &SessionRecord, now: MonoTime) -> Ended {
    Ended { record: record.clone(), how, ago_ms: herenow_protocol::time::millis(now.since(at)) }
}

impl Stream {
    fn forget_first(&mut self) {
        self.forgot = self.ended.pop_front().map(|(at, ..)| at).or(self.forgot);
    }

    /// What the sessions come to as of the last report; none while changes wait to be reported.
    fn digest(&self) -> Option<SessionsDigest> {
        let mut digest = SessionsDigest::default();
        for (number, (_, key)) in &self.sessions {
            digest.add(*number, *key);
        }
        self.pending.is_empty().then_some(digest)
    }

    fn send(
        &mut self,
        origin: &Origin,
        partition: Partition,
        epoch_seen: Epoch,
        now: MonoTime,
        out: &mut impl FnMut(Up),
    ) {
        let mut pending = std::mem::take(&mut self.pending).into_iter().peekable();
        while pending.peek().is_some() {
            self.seq += 1;
            self.sent_at = Some(now);
            let changes = pending.by_ref().take(REPORT_CHANGES).collect();
            out(Up::Report(Report { origin: origin.clone(), partition, epoch_seen, seq: self.seq, changes }));
        }
    }
}
