//! Requests of backends over the bus: the same bodies as over HTTP. Who may ask is decided by the permissions of the
//! bus, so every backend sees everybody.

use std::rc::Rc;

use herenow_bus::Message;
use herenow_gateway_core::{Grants, Input, Viewer};
use herenow_protocol::api::{Get, SetStatus};
use herenow_protocol::code::ErrorCode;
use herenow_protocol::message::ListRequest;
use herenow_protocol::{Partition, UserId, frame, limit, subject};

use crate::calls::{Asker, Question, reply_subject};
use crate::inbox::{Begun, pump};
use crate::json;
use crate::shard::Shard;

type Refused = (ErrorCode, String);
type Take = fn(&Rc<Shard>, &[u8], &str) -> Result<(), Refused>;

/// Answers `herenow.v1.get`.
pub(crate) async fn get(shard: Rc<Shard>, begun: Begun) {
    pump(&shard, subject::GET, Some(subject::BACKEND_QUEUE), Some(begun), |shard, message, _| {
        serve(shard, message, take_get)
    })
    .await;
}

/// Answers `herenow.v1.set`.
pub(crate) async fn set(shard: Rc<Shard>, begun: Begun) {
    pump(&shard, subject::SET, Some(subject::BACKEND_QUEUE), Some(begun), |shard, message, _| {
        serve(shard, message, take_set)
    })
    .await;
}

fn serve(shard: &Rc<Shard>, message: &Message, take: Take) {
    shard.metrics().backend_requests.inc();
    let Some(reply) = reply_subject(message) else {
        shard.metrics().decode_errors.inc();
        return;
    };
    let outcome = if message.payload.len() > limit::BODY_BYTES {
        Err((ErrorCode::BodyTooBig, "the request has more than 256 KiB".to_owned()))
    } else {
        take(shard, &message.payload, &reply)
    };
    if let Err((code, detail)) = outcome {
        shard.refuse(&reply, code, detail);
    }
}

fn take_get(shard: &Rc<Shard>, body: &[u8], reply: &str) -> Result<(), Refused> {
    match json::read(body)? {
        Get::Users { user_ids } => {
            let users = frame::check_users(&user_ids)?;
            shard.ask(Question::Users { viewer: backend()?, users }, Asker::Bus(reply.to_owned()));
        }
        Get::Partition { partition, after } => {
            check_partition(shard, partition)?;
            let invalid =
                |_| (ErrorCode::InvalidValue, "the field `after` is no `next` of a page".to_owned());
            let after = after.map(|after| after.parse()).transpose().map_err(invalid)?;
            let request = ListRequest { partition, reply: reply.to_owned(), after };
            shard.feed(Input::List(request), shard.now());
        }
    }
    Ok(())
}

fn take_set(shard: &Rc<Shard>, body: &[u8], reply: &str) -> Result<(), Refused> {
    let set = json::read::<SetStatus>(body)?.check()?;
    shard.ask(Question::Claim { user: set.user, command: set.command }, Asker::Bus(reply.to_owned()));
    Ok(())
}

fn check_partition(shard: &Shard, partition: Partition) -> Result<(), Refused> {
    if partition.index() < usize::from(shard.partitions) {
        return Ok(());
    }
    Err((
        ErrorCode::InvalidValue,
        format!("the field `partition`: there are {} partitions", shard.partitions),
    ))
}

/// Backends are nobody in particular: a viewer needs a name, and this one sees everybody as others do.
fn backend() -> Result<Viewer, Refused> {
    let user =
        UserId::new("urn:herenow:backend").map_err(|why| (ErrorCode::InvalidUserId, why.to_string()))?;
    Ok(Viewer { user, grants: Grants::Everybody })
}
