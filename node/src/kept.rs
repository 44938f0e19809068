//! What gateways tell from the store while owners are not heard, and what the caches in front of it did.

use std::fmt;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use herenow_gateway_server::LastKnown;
use herenow_protocol::record::Seen;
use herenow_protocol::{Placement, UserId};
use herenow_store::{CacheCounts, Cached, Near, NearCounts, StatusStore};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Reads a store for a gateway.
pub(crate) struct FromStore {
    pub(crate) store: Arc<dyn StatusStore>,
    pub(crate) placement: Placement,
}

impl LastKnown for FromStore {
    fn last_known(&self, users: Vec<UserId>) -> BoxFuture<'_, Result<Vec<Option<Seen>>, &'static str>> {
        async move {
            let keys = users.iter().map(|user| self.placement.key(user)).collect();
            let records = self.store.get_many(keys).await.map_err(|error| error.label())?;
            let of = |(user, record): (&UserId, Option<herenow_protocol::record::Record>)| {
                record.filter(|record| record.user == *user).map(|record| record.seen)
            };
            Ok(users.iter().zip(records).map(of).collect())
        }
        .boxed()
    }
}

type Count<C> = (&'static str, &'static str, fn(&C) -> u64);

const CACHE: [Count<CacheCounts>; 9] = [
    ("hits", "Users found in the cache", |c| c.hits),
    ("absent_hits", "Users of whom the cache knew that nothing is kept", |c| c.absent_hits),
    ("misses", "Users that were not in the cache", |c| c.misses),
    ("joined", "Misses that waited for a read which somebody else had begun", |c| c.joined),
    ("bypassed", "Users read from the store because the cache was down, or not to be believed", |c| {
        c.bypassed
    }),
    ("written", "Entries written", |c| c.written),
    ("older", "Entries not written since the cache had the same or a newer one", |c| c.older),
    ("errors", "Calls of the cache that failed or took too long", |c| c.errors),
    ("voided", "How often the whole cache was declared void", |c| c.voided),
];

const NEAR: [Count<NearCounts>; 9] = [
    ("hits", "Users told from memory", |c| c.hits),
    ("absent_hits", "Users of whom memory knew that nothing is kept", |c| c.absent_hits),
    ("misses", "Users that were not in memory", |c| c.misses),
    ("expired", "Users whose answer in memory was too old, so that the store was read", |c| c.expired),
    ("joined", "Misses that waited for a read which somebody else had begun", |c| c.joined),
    ("voided", "Users whose answer in memory a write or erasure made void", |c| c.voided),
    ("kept_newer", "Users of whom the store gave an older record than memory had", |c| c.kept_newer),
    ("evicted", "Users let go, or not let in, since others are asked for more often", |c| c.evicted),
    ("failures", "Reads of the store that failed", |c| c.failures),
];

/// Shows what the cache did, as `herenow_cache_...`.
pub(crate) fn register(cache: Cached, registry: &mut Registry) {
    registry.sub_registry_with_prefix("herenow_cache").register_collector(Box::new(OfCache(cache)));
}

/// Shows what is kept in memory, as `herenow_near_...`.
pub(crate) fn register_near(near: Near, registry: &mut Registry) {
    registry.sub_registry_with_prefix("herenow_near").register_collector(Box::new(OfNear(near)));
}

#[derive(Debug)]
struct OfCache(Cached);

impl Collector for OfCache {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.0.counts();
        counters(&mut encoder, &CACHE, &counts)?;
        let help = "The part of reads that the cache answered, since the start";
        gauge(&mut encoder, "hit_ratio", help, counts.hit_rate().unwrap_or(0.0))?;
        let down = f64::from(u8::from(self.0.is_down()));
        gauge(&mut encoder, "down", "1 while the cache failed and is left alone", down)?;
        let help = "Users whose entries may be old because the cache could not be told";
        gauge(&mut encoder, "owed", help, whole(counts.owed))
    }
}

#[derive(Debug)]
struct OfNear(Near);

impl Collector for OfNear {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.0.counts();
        counters(&mut encoder, &NEAR, &counts)?;
        let help = "The part of reads that memory answered, since the start";
        gauge(&mut encoder, "hit_ratio", help, counts.hit_rate().unwrap_or(0.0))?;
        gauge(&mut encoder, "users", "Users that are kept in memory, about", whole(counts.kept))
    }
}

fn whole(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

fn counters<C>(
    encoder: &mut DescriptorEncoder<'_>,
    counters: &[Count<C>],
    counts: &C,
) -> Result<(), fmt::Error> {
    for (name, help, read) in counters {
        let counter = ConstCounter::new(read(counts));
        let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
        counter.encode(metric)?;
    }
    Ok(())
}

fn gauge<N>(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: N) -> Result<(), fmt::Error>
where
    ConstGauge<N>: EncodeMetric,
{
    let gauge = ConstGauge::new(value);
    let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
    gauge.encode(metric)
}
