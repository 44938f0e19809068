//! Processes of other versions on the same bus.

use anyhow::ensure;
use bytes::Bytes;
use futures::StreamExt as _;
use herenow_bus::{Bus as _, NatsBus, NatsConfig};
use herenow_protocol::codec::VERSION;
use herenow_protocol::subject::BETWEEN_ROLES;

use super::{Bite, Scene};
use crate::chaos::fleet::GATEWAYS;

/// The versions before and after this one.
const OTHERS: [u8; 2] = [VERSION - 1, VERSION + 1];
const BY_GATEWAYS: &str = "herenow_gateway_decode_errors_total";
const BY_COORDINATORS: &str = "herenow_coordinator_decode_errors_total";

impl Scene<'_> {
    /// Whatever is said is said in two other versions as well, which have a field more. All is refused by name, and
    /// nobody is shown otherwise for it.
    pub(super) async fn mix_versions(&mut self) -> anyhow::Result<Bite> {
        let servers = self.fleet.nats.iter().map(|server| server.url.clone()).collect();
        let config = NatsConfig { servers, name: "other-version".to_owned(), ..NatsConfig::default() };
        let bus = NatsBus::connect(&config).await?;
        let mut heard = bus.subscribe(BETWEEN_ROLES, None).await?;
        let before = self.unread().await?;
        let (injected, mut said) = (self.world.now(), 0);
        let end = tokio::time::sleep(self.short(30));
        tokio::pin!(end);
        loop {
            let message = tokio::select! {
                () = &mut end => break,
                message = heard.next() => message,
            };
            let Some(message) = message else { anyhow::bail!("the bus has ended") };
            if let Some((&VERSION, body)) = message.payload.split_first() {
                for version in OTHERS {
                    let other: Bytes = [&[version, 0], body].concat().into();
                    said += usize::from(bus.publish(&message.subject, other).is_ok());
                }
            }
        }
        let bite = self.bite(injected, "");
        let after = self.unread().await?;
        let refused: Vec<f64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        ensure!(refused.iter().all(|count| *count > 0.5), "refused by each process: {refused:?}");
        let all = refused.iter().sum::<f64>();
        Ok(Bite { proof: format!("{said} messages of versions {OTHERS:?}, {all} times refused"), ..bite })
    }

    /// What each process could not read; of coordinators, since it was of another version.
    async fn unread(&self) -> anyhow::Result<Vec<f64>> {
        let mut counts = Vec::new();
        for index in 0..self.fleet.len() {
            counts.push(if GATEWAYS.contains(&index) {
                self.fleet.metric(index, BY_GATEWAYS).await?
            } else {
                self.fleet.labelled(index, BY_COORDINATORS, "\"version\"").await?
            });
        }
        Ok(counts)
    }
}
