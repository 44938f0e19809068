//! Ways of single clients to gateways. Each comes to its gateway from an address of its own, and can be narrow, dead
//! or torn; what happens to one client happens to nobody else.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet, spawn_local};

use super::world::{Habit, User};

/// Of the users who only stay, those with a smaller number have lines.
const ON_LINES: usize = 20;
/// Bytes carried at once; over a narrow line about as many as in one packet.
const CHUNK: usize = 16 * 1024;
const NARROW_CHUNK: usize = 1_024;
/// A segment of a packet of Ethernet, and the room of a socket at a narrow line: with what is usual within one machine
/// the system itself would hold minutes of it.
const SEGMENT: u32 = 1_400;
const NARROW_ROOM: u32 = 8 * 1024;

/// What happens to the connections of a line.
#[derive(Clone, Copy, Debug)]
struct State {
    /// Where connections of the client seem to come from.
    from: Ipv4Addr,
    /// Nothing passes, neither side is told, and what the gateway sends is not taken.
    dead: bool,
    /// How often the client lost its connection without a word to the gateway.
    torn: u32,
}

/// A way of one client to one gateway.
#[derive(Debug)]
pub(super) struct Line {
    address: SocketAddr,
    state: watch::Sender<State>,
    passed: Rc<Cell<u64>>,
    opened: Rc<Cell<usize>>,
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    /// Opens a way to a gateway; a narrow one lets so many bytes through each second from the gateway to the client.
    pub(super) async fn open(gateway: &str, from: Ipv4Addr, narrow: Option<u32>) -> anyhow::Result<Self> {
        let to: SocketAddr = gateway.trim_start_matches("ws://").parse().context("a gateway's address")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (state, states) = watch::channel(State { from, dead: false, torn: 0 });
        let (passed, opened) = (Rc::default(), Rc::default());
        let ends = Ends { to, narrow, states, passed: Rc::clone(&passed), opened: Rc::clone(&opened) };
        let task = spawn_local(serve(listener, ends));
        Ok(Self { address, state, passed, opened, task })
    }

    /// Where the client connects instead of to the gateway.
    pub(super) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Bytes that came to the client.
    pub(super) fn passed(&self) -> u64 {
        self.passed.get()
    }

    /// From now on nothing passes, and neither side is told.
    pub(super) fn die(&self) {
        self.state.send_modify(|state| state.dead = true);
    }

    /// The client loses its connection, and the gateway hears nothing of it. The next one comes from this address.
    pub(super) fn tear(&self, from: Ipv4Addr) {
        self.state.send_modify(|state| *state = State { from, dead: false, torn: state.torn + 1 });
    }
}

/// What the connections of a line share.
#[derive(Clone)]
struct Ends {
    to: SocketAddr,
    narrow: Option<u32>,
    states: watch::Receiver<State>,
    passed: Rc<Cell<u64>>,
    opened: Rc<Cell<usize>>,
}

async fn serve(listener: TcpListener, ends: Ends) {
    let mut links = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        links.spawn_local(carry(client, ends.clone()));
    }
}

async fn carry(client: TcpStream, ends: Ends) {
    let mut states = ends.states.clone();
    let State { from, torn, .. } = *states.borrow();
    let Ok(gateway) = ends.connect(from).await else { return };
    ends.opened.set(ends.opened.get() + 1);
    // Without it connections are slower, and nothing else.
    let _ = client.set_nodelay(true);
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_gateway, mut to_gateway) = gateway.into_split();
    let up = Cell::new(0);
    tokio::select! {
        _ = pump(&mut from_client, &mut to_gateway, None, &up) => return,
        _ = pump(&mut from_gateway, &mut to_client, ends.narrow, &ends.passed) => return,
        _ = states.wait_for(|state| state.dead || state.torn != torn) => {}
    }
    let _ = states.wait_for(|state| state.torn != torn).await;
    drop((from_client, to_client));
    // The gateway's end stays, and says nothing, until the line goes.
    std::future::pending::<()>().await;
    drop((from_gateway, to_gateway));
}

impl Ends {
    async fn connect(&self, from: Ipv4Addr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if self.narrow.is_some() {
            socket.set_recv_buffer_size(NARROW_ROOM)?;
            socket2::SockRef::from(&socket).set_tcp_mss(SEGMENT)?;
        }
        socket.bind((from, 0).into())?;
        let stream = socket.connect(self.to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    narrow: Option<u32>,
    passed: &Cell<u64>,
) -> io::Result<()> {
    let mut buffer = vec![0; if narrow.is_some() { NARROW_CHUNK } else { CHUNK }];
    loop {
        let got = from.read(&mut buffer).await?;
        if got == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..got]).await?;
        passed.set(passed.get() + got as u64);
        if let Some(rate) = narrow {
            tokio::time::sleep(Duration::from_secs(1) * u32::try_from(got).unwrap_or(u32::MAX) / rate).await;
        }
    }
}

/// The lines of a scenario: of some users who only stay, to every gateway.
#[derive(Debug, Default)]
pub(super) struct Lines {
    ways: RefCell<HashMap<(usize, usize), Line>>,
    /// Whoever loses a connection over a line now was not cut off by the service.
    pub(super) breaking: Cell<bool>,
}

impl Lines {
    /// Opens those of a scenario. Every second user comes to one gateway whatever it asks for, so that it also comes
    /// back to the one where its old session still is.
    pub(super) async fn open(&self, gateways: &[String], users: &[User]) -> anyhow::Result<()> {
        let on_lines = |(index, user): &(usize, &User)| *index < ON_LINES && user.habit == Habit::Steady;
        for (number, (index, user)) in users.iter().enumerate().filter(on_lines).enumerate() {
            for asked in 0..gateways.len() {
                let to = if number % 2 == 0 { asked } else { user.home };
                let line = Line::open(&gateways[to], address(1), None).await?;
                self.ways.borrow_mut().insert((index, asked), line);
            }
        }
        Ok(())
    }

    /// Where a user connects who asks for this gateway; none: to the gateway itself.
    pub(super) fn way(&self, user: usize, gateway: usize) -> Option<String> {
        self.ways.borrow().get(&(user, gateway)).map(Line::url)
    }

    /// Whether this client, named with its device, loses its connection because its line breaks.
    pub(super) fn broke(&self, users: &[User], who: &str) -> bool {
        let own = |user: &usize| who.split('/').next() == Some(users[*user].name.as_str());
        self.breaking.get() && self.users().iter().any(own)
    }

    /// Who has lines.
    pub(super) fn users(&self) -> Vec<usize> {
        let mut users: Vec<usize> = self.ways.borrow().keys().map(|(user, _)| *user).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// Connections so far.
    pub(super) fn opened(&self) -> usize {
        self.ways.borrow().values().map(|line| line.opened.get()).sum()
    }

    pub(super) fn die(&self) {
        self.ways.borrow().values().for_each(Line::die);
    }

    pub(super) fn tear(&self, from: Ipv4Addr) {
        self.ways.borrow().values().for_each(|line| line.tear(from));
    }
}

/// An address that clients of this process alone come from.
pub(super) fn address(last: u8) -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | (high & 63), low, last)
}
