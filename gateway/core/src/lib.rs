//! The rules of a gateway, without a socket, clock or lock.
//!
//! A gateway owns sessions. It decides when one is over ([`Config::heartbeat_timeout`]), what its person does, and who
//! watches whom; it reports session changes to the owners of the partitions, keeps the watched users as owners tell
//! them, and says to each session what changed. It never decides a user's status: that is the coordinator's.
//!
//! One [`Gateway`] is one shard of a process. The server feeds it [`Input`]s and carries out its [`Output`]s; it reads
//! both clocks once a turn.

mod claim;
mod config;
mod dating;
mod deliver;
mod drain;
mod gateway;
mod interest;
mod io;
mod live;
mod outbox;
mod owners;
mod pace;
mod repairs;
mod request;
mod rounds;
mod session;
mod slots;
mod uplink;
mod view;
mod watch;
mod watching;
mod window;

pub use config::Config;
pub use gateway::{Gateway, Stats};
pub use io::{BusEvent, Grants, Input, Opening, Output, Slot, Ticket, Viewer};
