//! What gateways tell from the store while owners are not heard, and what the cache in front of it did.

use std::fmt;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use herenow_gateway_server::LastKnown;
use herenow_protocol::record::Seen;
use herenow_protocol::{Placement, UserId};
use herenow_store::{CacheCounts, Cached, StatusStore};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
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

type Count = (&'static str, &'static str, fn(&CacheCounts) -> u64);

const COUNTS: [Count; 9] = [
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

/// Shows what the cache did, as `herenow_cache_...`.
pub(crate) fn register(cache: Cached, registry: &mut Registry) {
    registry.sub_registry_with_prefix("herenow_cache").register_collector(Box::new(Counted(cache)));
}

struct Counted(Cached);

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counted").field(&self.0).finish()
    }
}

impl Collector for Counted {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.0.counts();
        for (name, help, read) in COUNTS {
            let counter = ConstCounter::new(read(&counts));
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        let gauges = [
            ("hit_ratio", "The part of reads that the cache answered, since the start", counts.hit_rate()),
            (
                "down",
                "1 while the cache failed and is left alone",
                Some(f64::from(u8::from(self.0.is_down()))),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value.unwrap_or(0.0));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let owed = ConstGauge::new(i64::try_from(counts.owed).unwrap_or(i64::MAX));
        let help = "Users whose entries may be old because the cache could not be told";
        let metric = encoder.encode_descriptor("owed", help, None, owed.metric_type())?;
        owed.encode(metric)
    }
}
