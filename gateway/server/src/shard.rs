//! One shard: its core, the rows of its connections, and what it was asked and has to answer.
//!
//! Everything happens on one thread. A turn is: something arrived, both clocks were read once, the core was fed, its
//! outputs were carried out. Turns do not nest, and nothing is held across an `await`.

mod execute;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use herenow_bus::Bus;
use herenow_gateway_core::{Gateway, Input, Output, Slot, Ticket};
use herenow_protocol::code::CloseCode;
use herenow_protocol::codec::Bundle;
use herenow_protocol::{CoordinatorId, GatewayId, MonoTime, Now, Origin, Partition, Placement};
use slab::Slab;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::admission::Gate;
use crate::auth::Verifier;
use crate::calls::Asker;
use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::wire::{self, WIRE_FRAME_BYTES};

/// Room to read into behind the start of the longest frame.
const READ_BYTES: usize = 16 * 1024;
/// About how much is written to a socket at once.
pub(crate) const WRITE_BYTES: usize = 16 * 1024;
/// No slot: rows end long before.
const NOBODY: u32 = u32::MAX;
/// Over which pings and pongs are counted; as long as the core's average of frames.
const CONTROL_WINDOW_MS: u64 = 3_000;
/// What a reused buffer may keep.
const KEPT_BYTES: usize = 64 * 1024;

/// What all shards of a server share. Nothing in it changes.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) clock: Clock,
    pub(crate) config: Arc<Config>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) bus: Arc<dyn Bus>,
}

/// A connection's row: all that others may say to its task.
#[derive(Default)]
struct Row {
    waker: Option<Waker>,
    /// Pings and pongs within the window of that number.
    controls: u16,
    window: u32,
    ready: bool,
    close: Option<CloseCode>,
}

/// One shard; see the module's page.
pub(crate) struct Shard {
    pub(crate) common: Common,
    pub(crate) id: GatewayId,
    pub(crate) partitions: u16,
    core: RefCell<Gateway>,
    rows: RefCell<Slab<Row>>,
    outputs: RefCell<Vec<Output>>,
    /// What each owner is asked in this turn.
    bundles: RefCell<HashMap<CoordinatorId, Bundle>>,
    askers: RefCell<HashMap<u64, Asker>>,
    next_ticket: Cell<u64>,
    downs: RefCell<HashMap<Partition, AbortHandle>>,
    frame: RefCell<String>,
    read_buffer: RefCell<Box<[u8]>>,
    write_buffer: RefCell<Vec<u8>>,
    /// Told when the core wants to be called earlier than the timer is set to.
    pub(crate) earlier: Notify,
    /// Told when a connection is gone.
    pub(crate) gone: Notify,
    armed: Cell<Option<MonoTime>>,
    draining: Cell<bool>,
    over: Cell<bool>,
    /// The connection whose turn it is, if any: it needs no waking.
    current: Cell<u32>,
    /// Connections that are no session.
    pub(crate) handshakes: Cell<usize>,
    /// How fast sessions are admitted.
    pub(crate) gate: RefCell<Gate>,
}

impl Shard {
    pub(crate) fn new(common: Common, origin: Origin, placement: Placement, seed: u64) -> Rc<Self> {
        let id = origin.gateway.clone();
        let partitions = placement.partitions();
        let shards = common.config.shard_count();
        let gate = Gate::new(&common.config.admission, shards, seed.rotate_left(32));
        let core = Gateway::new(common.config.core.clone(), origin, placement, seed, common.clock.now());
        Rc::new(Self {
            common,
            id,
            partitions,
            core: RefCell::new(core),
            rows: RefCell::default(),
            outputs: RefCell::default(),
            bundles: RefCell::default(),
            askers: RefCell::default(),
            next_ticket: Cell::new(0),
            downs: RefCell::default(),
            frame: RefCell::default(),
            read_buffer: RefCell::new(vec![0; WIRE_FRAME_BYTES + READ_BYTES].into_boxed_slice()),
            write_buffer: RefCell::default(),
            earlier: Notify::new(),
            gone: Notify::new(),
            armed: Cell::new(None),
            draining: Cell::new(false),
            over: Cell::new(false),
            current: Cell::new(NOBODY),
            handshakes: Cell::new(0),
            gate: RefCell::new(gate),
        })
    }

    pub(crate) fn now(&self) -> Now {
        self.common.clock.now()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.common.metrics
    }

    /// One turn: feeds the core and carries out what it wants.
    pub(crate) fn feed(self: &Rc<Self>, input: Input, now: Now) {
        self.turn(now, |core, out| core.handle(input, now, out));
    }

    /// One turn: does what is due.
    pub(crate) fn feed_time(self: &Rc<Self>, now: Now) {
        self.turn(now, |core, out| core.handle_timeout(now, out));
    }

    fn turn(self: &Rc<Self>, now: Now, act: impl FnOnce(&mut Gateway, &mut Vec<Output>)) {
        let mut out = self.outputs.take();
        act(&mut self.core.borrow_mut(), &mut out);
        while !out.is_empty() {
            for output in std::mem::take(&mut out) {
                self.execute(output, now, &mut out);
            }
        }
        self.outputs.replace(out);
        self.send_bundles();
        let next = self.core.borrow().poll_timeout();
        if next.is_some_and(|next| self.armed.get().is_none_or(|armed| next < armed)) {
            self.earlier.notify_one();
        }
    }

    /// Until when the timer may sleep. Remembered, so that only an earlier moment wakes it.
    pub(crate) fn arm(&self) -> Option<MonoTime> {
        let next = self.core.borrow().poll_timeout();
        self.armed.set(next);
        next
    }

    /// A new number for a request, and who waits for its answer.
    pub(crate) fn ticket(&self, asker: Asker) -> Ticket {
        let ticket = self.next_ticket.get();
        self.next_ticket.set(ticket + 1);
        self.askers.borrow_mut().insert(ticket, asker);
        Ticket(ticket)
    }

    /// Shows the sizes of this shard.
    pub(crate) fn measure(&self) {
        let stats = self.core.borrow().stats();
        self.metrics().sizes(self.id.shard, self.sockets(), &stats);
    }
}

/// Connections.
impl Shard {
    /// A row for a new connection; none when there are as many as there may be.
    pub(crate) fn enter(&self) -> Option<u32> {
        let mut rows = self.rows.borrow_mut();
        if rows.len() >= self.common.config.caps.sockets {
            return None;
        }
        u32::try_from(rows.insert(Row::default())).ok()
    }

    /// The row is free again.
    pub(crate) fn leave(&self, slot: u32) {
        self.rows.borrow_mut().try_remove(slot as usize);
        self.gone.notify_one();
    }

    /// How long owners took to answer of late.
    pub(crate) fn answers_take(&self) -> Duration {
        self.core.borrow().answers_take()
    }

    /// Whether another connection would be taken.
    pub(crate) fn has_room(&self) -> bool {
        let sockets = self.sockets() < self.common.config.caps.sockets;
        !self.draining.get() && sockets && self.core.borrow().takes_sessions()
    }

    pub(crate) fn sockets(&self) -> usize {
        self.rows.borrow().len()
    }

    /// It is a connection's turn. Remembers whom to wake for it later.
    pub(crate) fn park(&self, slot: u32, cx: &Context<'_>) {
        self.current.set(slot);
        if let Some(row) = self.rows.borrow_mut().get_mut(slot as usize)
            && !row.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            row.waker = Some(cx.waker().clone());
        }
    }

    /// Counts a ping or pong. False: more than the frames that a session may send are sent as these.
    pub(crate) fn allows_control(&self, slot: u32, now: Now) -> bool {
        let window = u32::try_from(now.mono.as_millis() / CONTROL_WINDOW_MS).unwrap_or(u32::MAX);
        let most = u64::from(self.common.config.core.max_frames_per_second) * CONTROL_WINDOW_MS / 1_000;
        self.rows.borrow_mut().get_mut(slot as usize).is_some_and(|row| {
            if row.window != window {
                (row.window, row.controls) = (window, 0);
            }
            row.controls = row.controls.saturating_add(1);
            u64::from(row.controls) <= most
        })
    }

    /// The connection's turn is over.
    pub(crate) fn unpark(&self) {
        self.current.set(NOBODY);
    }

    /// What the core, or a drain, wants closed.
    pub(crate) fn wants_closed(&self, slot: u32) -> Option<CloseCode> {
        self.rows.borrow().get(slot as usize).and_then(|row| row.close)
    }

    fn poke(&self, slot: Slot, change: impl FnOnce(&mut Row)) {
        let waker = self.rows.borrow_mut().get_mut(slot.0 as usize).and_then(|row| {
            change(row);
            row.waker.clone()
        });
        if let Some(waker) = waker.filter(|_| slot.0 != self.current.get()) {
            waker.wake();
        }
    }

    /// No new connection gets in from now on.
    pub(crate) fn start_drain(&self) {
        self.draining.set(true);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// The shard ends: nobody is told anything any more.
    pub(crate) fn end(&self) {
        self.over.set(true);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Closes every connection.
    pub(crate) fn close_all(&self, code: CloseCode) {
        let slots: Vec<u32> =
            self.rows.borrow().iter().filter_map(|(slot, _)| u32::try_from(slot).ok()).collect();
        for slot in slots {
            self.poke(Slot(slot), |row| row.close = Some(row.close.unwrap_or(code)));
        }
    }

    /// Takes frames of a session, up to about [`WRITE_BYTES`], as they go over the wire. False: nothing waits.
    pub(crate) fn pull(&self, slot: u32, now: Now, into: &mut Vec<u8>) -> bool {
        if !self.rows.borrow().get(slot as usize).is_some_and(|row| row.ready) {
            return false;
        }
        let (mut core, mut frame) = (self.core.borrow_mut(), self.frame.borrow_mut());
        while into.len() < WRITE_BYTES {
            if !core.poll_transmit(Slot(slot), now, &mut frame) {
                if let Some(row) = self.rows.borrow_mut().get_mut(slot as usize) {
                    row.ready = false;
                }
                break;
            }
            self.metrics().frames_out.inc();
            self.count_error(&frame);
            wire::encode_text(&frame, into);
        }
        frame.clear();
        frame.shrink_to(KEPT_BYTES);
        !into.is_empty()
    }

    /// Error frames are counted by their code, which the core writes and only this reads back.
    fn count_error(&self, frame: &str) {
        use herenow_protocol::frame::ServerFrame;
        if frame.starts_with("{\"type\":\"error\"")
            && let Ok(ServerFrame::Error { code, .. }) = ServerFrame::parse(frame)
        {
            self.metrics().frame_error(code);
        }
    }

    /// Lends the buffer that every connection reads into.
    pub(crate) fn with_read_buffer<T>(&self, run: impl FnOnce(&mut [u8]) -> T) -> T {
        run(&mut self.read_buffer.borrow_mut())
    }

    /// Lends the buffer, empty, that every connection writes from.
    pub(crate) fn with_write_buffer<T>(&self, run: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut buffer = self.write_buffer.borrow_mut();
        buffer.clear();
        buffer.shrink_to(KEPT_BYTES);
        run(&mut buffer)
    }
}
