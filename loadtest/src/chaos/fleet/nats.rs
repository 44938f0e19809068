//! The NATS servers of a fleet.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use herenow_bus::testing::NatsServer;

use super::free_address;
use crate::chaos::proxy::{Options, Proxy, Thread, Wire};

/// Where servers say that others reach them when their routes go through proxies: nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";

/// What a fault needs of the servers that no other does.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::chaos) struct Shape {
    /// Routes between servers go through proxies too.
    pub(in crate::chaos) routes: bool,
    /// Lines for the configuration.
    pub(in crate::chaos) lines: &'static str,
    /// Lines for its part about JetStream.
    pub(in crate::chaos) jetstream: &'static str,
    /// The size of the buffers of the proxies' sockets.
    pub(in crate::chaos) buffers: Option<usize>,
    /// The first gateway has a network of its own.
    pub(in crate::chaos) namespace: bool,
    /// Settings of every process that are not the usual ones.
    pub(in crate::chaos) settings: &'static [(&'static str, &'static str)],
    /// Processes whose clocks can be moved.
    pub(in crate::chaos) clocks: bool,
}

/// The way from a server to another.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) proxy: Proxy,
}

/// Servers, and the proxies between them when the shape wants them.
pub(super) async fn start(
    directory: &Path,
    servers: usize,
    shape: Shape,
    thread: &mut Thread,
) -> anyhow::Result<(Vec<NatsServer>, Vec<Route>)> {
    let addresses: Vec<_> = (0..servers).map(|_| free_address()).collect();
    let routes = if shape.routes { routes(&addresses, thread)? } else { Vec::new() };
    let mut started = Vec::new();
    for number in 0..servers {
        let cluster = if servers > 1 { cluster(number, &addresses, &routes) } else { String::new() };
        let text = format!(
            "server_name: nats-{}\njetstream {{\nstore_dir: \"store\"\n{}\n}}\n{}\n{cluster}",
            number + 1,
            shape.jetstream,
            shape.lines
        );
        let file = directory.join(format!("nats-{}.conf", number + 1));
        std::fs::write(&file, text)?;
        started.push(NatsServer::start_with_config(&file, &[]).await);
    }
    Ok((started, routes))
}

fn routes(addresses: &[SocketAddr], thread: &mut Thread) -> anyhow::Result<Vec<Route>> {
    let mut routes = Vec::new();
    for from in 0..addresses.len() {
        for (to, address) in addresses.iter().enumerate().filter(|(to, _)| *to != from) {
            let proxy = thread.open(
                *address,
                Options { wire: Wire::Route, buffers: None, at: Ipv4Addr::LOCALHOST.into() },
            )?;
            routes.push(Route { from, to, proxy });
        }
    }
    Ok(routes)
}

fn cluster(number: usize, addresses: &[SocketAddr], routes: &[Route]) -> String {
    let direct = routes.is_empty();
    let reached: Vec<String> = if direct {
        addresses.iter().map(|address| format!("nats-route://{address}")).collect()
    } else {
        let own = routes.iter().filter(|route| route.from == number);
        own.map(|route| format!("nats-route://{}", route.proxy.address)).collect()
    };
    let mut text = format!("cluster {{\nname: chaos\nlisten: \"{}\"\n", addresses[number]);
    if !direct {
        // Writing to a string does not fail.
        let _ = writeln!(text, "advertise: \"{NOWHERE}\"");
    }
    let _ = writeln!(text, "routes: [{}]\n}}", reached.join(", "));
    text
}
