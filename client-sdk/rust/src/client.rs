//! The application's handle.

use std::sync::Arc;

use futures::Stream;
use herenow_client_core::{Client as Core, ConnectionState, Failure};
use herenow_protocol::code::ErrorCode;
use herenow_protocol::{Activity, DeviceId, Presence, UserId};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::driver::{Command, Driver, answer};
use crate::hub::{Hub, closed};
use crate::options::{ClientOptions, NewStatus};
use crate::watch::Watch;

/// Most requests that wait for the driver to take them.
const MAX_COMMANDS: usize = 64;
/// Most problems that a slow listener may be behind.
const MAX_PROBLEMS: usize = 16;

/// A client of Herenow. Cheap to clone; when the last clone is dropped, its session ends in order.
///
/// See the [crate's page](crate) for an example.
#[derive(Clone, Debug)]
pub struct Client {
    hub: Arc<Hub>,
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<ConnectionState>,
    problems: broadcast::Sender<Failure>,
}

impl Client {
    /// Starts a client and waits for its first session.
    ///
    /// # Errors
    /// The options cannot be used, or the first attempt failed. Use [`Self::start`] to go on trying from the start.
    pub async fn connect(options: ClientOptions) -> Result<Self, Failure> {
        let client = Self::start(options)?;
        let mut state = client.state.clone();
        let settled = state.wait_for(|state| !matches!(state, ConnectionState::Connecting)).await;
        match settled.as_deref() {
            Ok(ConnectionState::Connected { .. }) => {}
            Ok(ConnectionState::Waiting { cause, .. }) => return Err(cause.clone()),
            Ok(ConnectionState::Stopped(cause)) => return Err(cause.clone().unwrap_or_else(closed)),
            Ok(ConnectionState::Connecting) | Err(_) => return Err(closed()),
        }
        drop(settled);
        Ok(client)
    }

    /// Starts a client that connects, and keeps trying, by itself. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `invalid_url`, `invalid_device`, `no_randomness`: the options cannot be used.
    pub fn start(options: ClientOptions) -> Result<Self, Failure> {
        let seed = random()?;
        let device = options.device.clone().unwrap_or_else(|| format!("rust-{seed:016x}"));
        DeviceId::new(&device).map_err(|error| {
            Failure::new("invalid_device", &error.to_string(), "Name the device with 1 to 64 bytes.")
        })?;
        let base = crate::url::base(&options.url, &device, options.kind)?;
        let clock = Clock::start();
        let core = Core::new(options.config.clone(), seed, clock.now());
        let hub = Arc::new(Hub::new(options.config.max_watches));
        let (commands, inbox) = mpsc::channel(MAX_COMMANDS);
        let (state_in, state) = watch::channel(ConnectionState::Connecting);
        let (problems, _) = broadcast::channel(MAX_PROBLEMS);
        let driver = Driver {
            core,
            clock,
            options,
            base,
            hub: Arc::clone(&hub),
            commands: inbox,
            state: state_in,
            problems: problems.clone(),
        };
        drop(tokio::spawn(driver.run()));
        Ok(Self { hub, commands, state, problems })
    }

    /// Follows users. The stream begins with their present values; see [`Watch`].
    ///
    /// It works while cut off, too: the gateway is told as soon as it can be. Users whom the gateway refuses to show
    /// changes of are taken off again, and told to [`Self::problems`].
    ///
    /// # Errors
    /// `invalid_user_id`, `too_many_watches`, `closed`; then nobody is watched.
    pub fn watch<I, U>(&self, users: I) -> Result<Watch, Failure>
    where
        I: IntoIterator<Item = U>,
        U: AsRef<str>,
    {
        let watch = Watch::new(Arc::clone(&self.hub));
        watch.add(users)?;
        Ok(watch)
    }

    /// Takes users off every stream of this client.
    pub fn unwatch<I, U>(&self, users: I)
    where
        I: IntoIterator<Item = U>,
        U: AsRef<str>,
    {
        let users: Vec<UserId> =
            users.into_iter().filter_map(|user| UserId::new(user.as_ref()).ok()).collect();
        self.hub.forget(&users);
    }

    /// What is known of a watched user. `None`: it is not watched, or nothing was heard of it yet.
    #[must_use]
    pub fn presence(&self, user: &str) -> Option<Presence> {
        self.hub.presence(&UserId::new(user).ok()?)
    }

    /// Asks for users once, without watching them.
    ///
    /// # Errors
    /// `invalid_user_id`, `empty_batch`, `batch_too_long`, `too_many_requests`, `timeout`, `closed`, or what the gateway
    /// answers.
    pub async fn query<I, U>(&self, users: I) -> Result<Vec<Presence>, Failure>
    where
        I: IntoIterator<Item = U>,
        U: AsRef<str>,
    {
        let users = ids(users)?;
        let (reply, receiver) = oneshot::channel();
        self.commands.send(Command::Query(users, reply)).await.map_err(|_| closed())?;
        answer(receiver).await
    }

    /// Sets, or with [`crate::ManualStatus::Auto`] ends, one's own status by hand.
    ///
    /// # Errors
    /// `too_many_requests`, `timeout`, `closed`, or what the gateway answers, as `invalid_value`.
    pub async fn set_status(&self, status: NewStatus) -> Result<(), Failure> {
        let (reply, receiver) = oneshot::channel();
        self.commands.send(Command::Status(status, reply)).await.map_err(|_| closed())?;
        answer(receiver).await
    }

    /// Says what the person does. Told at once; of changes in quick succession only the last.
    pub fn set_activity(&self, activity: Activity) {
        self.hub.set_activity(activity);
    }

    /// How the client stands with its gateway, now.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.state.borrow().clone()
    }

    /// How the client stands with its gateway: now, and after each change. Of changes that were not read in time only
    /// the latest is told. Ends after [`ConnectionState::Stopped`].
    pub fn connection_state(&self) -> impl Stream<Item = ConnectionState> + Send + Unpin + use<> {
        let mut state = self.state.clone();
        state.mark_changed();
        Box::pin(futures::stream::unfold(state, |mut state| async move {
            state.changed().await.ok()?;
            let latest = state.borrow_and_update().clone();
            Some((latest, state))
        }))
    }

    /// What went wrong without being the answer to a call: for logs. A slow reader misses the oldest.
    pub fn problems(&self) -> impl Stream<Item = Failure> + Send + Unpin + use<> {
        Box::pin(futures::stream::unfold(self.problems.subscribe(), |mut problems| async move {
            loop {
                match problems.recv().await {
                    Ok(problem) => return Some((problem, problems)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        }))
    }

    /// Ends the session in order: others see the user leave at once, without grace. Waits until it is done.
    pub async fn close(self) {
        self.hub.say_bye();
        let mut state = self.state.clone();
        // An error means that the driver has ended, which is what is waited for.
        let _ = state.wait_for(|state| matches!(state, ConnectionState::Stopped(_))).await;
    }
}

fn random() -> Result<u64, Failure> {
    getrandom::u64().map_err(|error| {
        Failure::new("no_randomness", &error.to_string(), "Let the process read the system's random numbers.")
    })
}

/// Checks user ids.
pub(crate) fn ids<I, U>(users: I) -> Result<Vec<UserId>, Failure>
where
    I: IntoIterator<Item = U>,
    U: AsRef<str>,
{
    let check = |(index, user): (usize, U)| {
        UserId::new(user.as_ref()).map_err(|error| {
            let code = ErrorCode::InvalidUserId;
            Failure::new(code.word(), &format!("user at index {index}: {error}"), code.remediation())
        })
    };
    users.into_iter().enumerate().map(check).collect()
}
