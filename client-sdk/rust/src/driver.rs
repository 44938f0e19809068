//! Carries bytes, tokens, time and the application's wishes to the core, and what the core wants done away from it.
//! There is no rule about presence here.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use herenow_client_core::{Client as Core, Closure, ConnectionState, Failure, Input, Output, Ticket};
use herenow_protocol::{Activity, Presence, UserId};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::hub::{Hub, closed};
use crate::options::{ClientOptions, NewStatus};
use crate::socket::{Socket, open};
use crate::url::with_activity;

/// A request that is answered.
#[derive(Debug)]
pub(crate) enum Command {
    Query(Vec<UserId>, oneshot::Sender<Result<Vec<Presence>, Failure>>),
    Status(NewStatus, oneshot::Sender<Result<(), Failure>>),
}

#[derive(Debug)]
enum Reply {
    Query(oneshot::Sender<Result<Vec<Presence>, Failure>>),
    Done(oneshot::Sender<Result<(), Failure>>),
}

/// The transport's side of a connection.
enum Line {
    None,
    Opening(BoxFuture<'static, Result<Socket, Closure>>),
    Open(Box<Socket>),
}

pub(crate) struct Driver {
    pub(crate) core: Core,
    pub(crate) clock: Clock,
    pub(crate) options: ClientOptions,
    /// The address of the handshake, up to the activity.
    pub(crate) base: String,
    pub(crate) hub: Arc<Hub>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) state: watch::Sender<ConnectionState>,
    pub(crate) problems: broadcast::Sender<Failure>,
}

/// What is under way.
struct Work {
    line: Line,
    token: Option<BoxFuture<'static, Result<String, Failure>>>,
    replies: HashMap<Ticket, Reply>,
    last_ticket: u64,
    /// A handle is left that can give commands.
    wanted: bool,
}

enum Event {
    Input(Input),
    Opened(Box<Socket>),
    Command(Option<Command>),
    Wishes,
    Timeout,
}

impl Driver {
    /// Runs until the client is stopped for good.
    pub(crate) async fn run(mut self) {
        let mut work =
            Work { line: Line::None, token: None, replies: HashMap::new(), last_ticket: 0, wanted: true };
        let mut out = Vec::new();
        self.core.handle_timeout(self.clock.now(), &mut out);
        loop {
            for output in out.drain(..) {
                self.execute(output, &mut work);
            }
            if matches!(self.core.state(), ConnectionState::Stopped(_)) {
                break;
            }
            let event = self.next_event(&mut work).await;
            self.feed(event, &mut work, &mut out);
        }
        self.hub.close();
    }

    /// What has arrived comes before the timer, which may declare a connection dead.
    async fn next_event(&mut self, work: &mut Work) -> Event {
        let due = self.core.poll_timeout().and_then(|at| self.clock.instant(at));
        tokio::select! {
            biased;
            event = work.line.next() => event,
            token = pending_or(&mut work.token) => {
                work.token = None;
                Event::Input(token.map_or_else(Input::TokenFailed, Input::Token))
            }
            command = self.commands.recv(), if work.wanted => Event::Command(command),
            () = self.hub.wished.notified() => Event::Wishes,
            () = until(due) => Event::Timeout,
        }
    }

    fn feed(&mut self, event: Event, work: &mut Work, out: &mut Vec<Output>) {
        let now = self.clock.now();
        match event {
            Event::Opened(socket) => work.line = Line::Open(socket),
            Event::Timeout => self.core.handle_timeout(now, out),
            Event::Input(input) => {
                if matches!(input, Input::Closed(_)) {
                    work.line.close();
                }
                self.core.handle(input, now, out);
            }
            Event::Command(None) => {
                work.wanted = false;
                self.core.handle(Input::Bye, now, out);
            }
            Event::Command(Some(command)) => {
                let input = work.begin(command);
                self.core.handle(input, now, out);
            }
            Event::Wishes => self.wishes(out),
        }
    }

    fn wishes(&mut self, out: &mut Vec<Output>) {
        let now = self.clock.now();
        let wishes = self.hub.take_wishes();
        if !wishes.unwatch.is_empty() {
            self.core.handle(Input::Unwatch(wishes.unwatch.into_iter().collect()), now, out);
        }
        if !wishes.watch.is_empty() {
            self.core.handle(Input::Watch(wishes.watch.into_iter().collect()), now, out);
        }
        if let Some(activity) = wishes.activity {
            self.core.handle(Input::SetActivity(activity), now, out);
        }
        if wishes.bye {
            self.core.handle(Input::Bye, now, out);
        }
    }

    fn execute(&mut self, output: Output, work: &mut Work) {
        match output {
            Output::NeedToken => work.token = Some(self.options.token.get(self.options.token_timeout)),
            Output::Connect { token, activity } => work.line = self.dial(token, activity),
            Output::Send(text) => work.line.send(text),
            Output::Close => work.line.close(),
            Output::Changed(presence) => self.hub.changed(presence),
            Output::State(state) => drop(self.state.send_replace(state)),
            Output::Answered(ticket, users) => work.answer(ticket, Ok(users)),
            Output::Done(ticket) => work.answer(ticket, Ok(Vec::new())),
            Output::Failed(ticket, failure) => work.answer(ticket, Err(failure)),
            Output::WatchRefused(users, failure) => {
                self.hub.forget(&users);
                self.problem(failure);
            }
            Output::Problem(failure) => self.problem(failure),
        }
    }

    fn dial(&self, token: String, activity: Option<Activity>) -> Line {
        let url = with_activity(&self.base, activity);
        let opening = open(url, token, self.options.max_frame_bytes, self.options.tls.clone());
        Line::Opening(opening.boxed())
    }

    /// An error means that nobody listens to problems.
    fn problem(&self, failure: Failure) {
        let _ = self.problems.send(failure);
    }
}

impl Work {
    fn begin(&mut self, command: Command) -> Input {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        match command {
            Command::Query(users, reply) => {
                self.replies.insert(ticket, Reply::Query(reply));
                Input::Query { ticket, users }
            }
            Command::Status(NewStatus { status, text, emoji, expires_at }, reply) => {
                self.replies.insert(ticket, Reply::Done(reply));
                Input::SetStatus { ticket, status, text, emoji, expires_at }
            }
        }
    }

    /// Whoever asked may have stopped waiting, which is no error.
    fn answer(&mut self, ticket: Ticket, answer: Result<Vec<Presence>, Failure>) {
        match self.replies.remove(&ticket) {
            Some(Reply::Query(reply)) => drop(reply.send(answer)),
            Some(Reply::Done(reply)) => drop(reply.send(answer.map(drop))),
            None => {}
        }
    }
}

impl Line {
    /// The next thing to happen on the connection; never, when there is none.
    async fn next(&mut self) -> Event {
        match self {
            Self::None => std::future::pending().await,
            Self::Opening(opening) => match opening.await {
                Ok(socket) => Event::Opened(Box::new(socket)),
                Err(closure) => Event::Input(Input::Closed(closure)),
            },
            Self::Open(socket) => Event::Input(socket.next().await),
        }
    }

    fn send(&mut self, text: String) {
        // A socket that takes nothing is found dead by its heartbeat; until then no more than the limit waits for it.
        if let Self::Open(socket) = self
            && !socket.push(text)
        {
            self.close();
        }
    }

    fn close(&mut self) {
        if let Self::Open(socket) = std::mem::replace(self, Self::None) {
            socket.close();
        }
    }
}

async fn pending_or<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The answer to a request, or that there will be none.
pub(crate) async fn answer<T>(reply: oneshot::Receiver<Result<T, Failure>>) -> Result<T, Failure> {
    reply.await.unwrap_or_else(|_| Err(closed()))
}
