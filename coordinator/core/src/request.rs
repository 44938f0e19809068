//! What gateways ask of an owner: presence, claims, explanations, pages for backends.

use herenow_protocol::api::{Cause, ExplainedSession, Explanation, PartitionPage, Problem};
use herenow_protocol::code::ErrorCode;
use herenow_protocol::frame::ManualStatus;
use herenow_protocol::history::Opened;
use herenow_protocol::message::{
    ApiStatus, ClaimCommand, ClaimDone, ClaimRequest, Claimed, Entry, ExplainRequest, ListRequest, Pull,
    Snapshot, ToGateway,
};
use herenow_protocol::{
    Activity, CoordinatorId, DeviceId, DeviceKind, MonoTime, Now, UserId, UserKey, WallTime, limit,
};

use crate::claims::Claim;
use crate::derive::derive;
use crate::keep::Source;
use crate::partition::{PartitionState, presence};
use crate::session::{Holder, Lease, Session};
use crate::taken::Mark;
use crate::user::User;
use crate::{Config, Output};

impl PartitionState {
    /// Answers with full values at the present number. While unsettled, whoever would be offline and was not told
    /// as there is left out.
    ///
    /// `sure_at`: when the coordinator was last sure of what it hears, if it is not now.
    pub(crate) fn answer_pull(
        &self,
        from: &CoordinatorId,
        pull: Pull,
        sure_at: Option<WallTime>,
        now: MonoTime,
        out: &mut Vec<Output>,
    ) {
        let stated = |user: &User| self.settled || user.public.n > 0;
        let known =
            |key: &UserKey| self.users.get(key).filter(|user| stated(user)).map(|user| user.entry(*key));
        let entries: Vec<Entry> = pull.users.iter().filter_map(known).collect();
        let as_of = self.sure_at.into_iter().chain(sure_at).min();
        // What ends the answer speaks for whoever is on no page.
        let count = entries.len().div_ceil(limit::SNAPSHOT_PAGE_ENTRIES).max(1);
        let mut entries = entries.into_iter();
        for page in 0..count {
            let snapshot = Snapshot {
                from: from.clone(),
                partition: self.partition,
                epoch: self.epoch,
                n: self.n,
                settled: self.settled,
                as_of,
                clock: now.as_millis(),
                request: pull.request,
                page: u16::try_from(page).unwrap_or(u16::MAX),
                last: page + 1 == count,
                entries: entries.by_ref().take(limit::SNAPSHOT_PAGE_ENTRIES).collect(),
            };
            out.push(Output::ToGateway(pull.origin.gateway.clone(), ToGateway::Snapshot(snapshot)));
        }
    }

    /// Sets a claim, and answers with the presence that followed. One that was taken before is only answered.
    ///
    /// To answer is to state what the user is shown as (R8). Where there is a store and that cannot be stated yet, because
    /// a gateway not heard may know better, or the user may hide, there is no answer: the gateway asks again.
    pub(crate) fn answer_claim(
        &mut self,
        request: ClaimRequest,
        now: Now,
        config: &Config,
        out: &mut Vec<Output>,
    ) {
        let mark = Mark::of(&request);
        let repeated = self.taken.repeated(&mark);
        if request.command == ClaimCommand::Erase && !self.settled && repeated.is_none() {
            // To erase states that nobody is there, and a gateway not heard yet may know better.
            out.push(refuse_claim(&request, ErrorCode::Unavailable));
            return;
        }
        let ClaimRequest { origin, request: number, key, user, command, .. } = request;
        let by_backend = matches!(command, ClaimCommand::Api { .. });
        if by_backend && repeated.is_none() && !self.has_waited(now.mono, config) {
            return;
        }
        let manual = self.users.get(&key).and_then(|user| user.claims.manual(now.mono));
        let covered = by_backend && manual.is_some_and(|claim| claim.status != ManualStatus::Auto);
        let expires_at = repeated.unwrap_or_else(|| {
            let ends = self.claim(key, &user, command, now, config, out);
            self.taken.note(mark, ends, config.max_claims_remembered);
            ends
        });
        let entry = self.users.get(&key).map_or_else(|| gone(key, self.n), |user| user.entry(key));
        if config.keeps() && !self.settled && entry.n() == 0 {
            return;
        }
        let claimed = Claimed { entry, covered, expires_at };
        let done = ClaimDone { request: number, epoch: self.epoch, outcome: Ok(claimed) };
        out.push(Output::ToGateway(origin.gateway, ToGateway::ClaimDone(Box::new(done))));
    }

    /// Does what is claimed; when it ends, if it does.
    fn claim(
        &mut self,
        key: UserKey,
        user: &UserId,
        command: ClaimCommand,
        now: Now,
        config: &Config,
        out: &mut Vec<Output>,
    ) -> Option<WallTime> {
        self.user(key, user, config);
        match command {
            ClaimCommand::Manual { status, text, emoji, expires_at } => {
                self.claim_manual(key, Claim { status, text, emoji, until: None, expires_at }, now, config)
            }
            ClaimCommand::Api { status, text, ttl_ms, session } => {
                let claim = Claim { status, text, emoji: None, until: None, expires_at: None };
                self.claim_api(key, claim, ttl_ms, session, now, config)
            }
            ClaimCommand::Erase => {
                self.erase(key, now, config, out);
                None
            }
        }
    }

    fn claim_manual(
        &mut self,
        key: UserKey,
        mut claim: Claim<ManualStatus>,
        now: Now,
        config: &Config,
    ) -> Option<WallTime> {
        claim.until = claim.expires_at.map(|end| now.mono.after(now.wall.until(end)));
        let expires_at = claim.expires_at;
        let says_nothing =
            claim.status == ManualStatus::Auto && claim.text.is_none() && claim.emoji.is_none();
        self.note_asserted(key, Source::Manual, config);
        let user = self.users.get_mut(&key)?;
        user.claims.manual = if says_nothing { None } else { Some(claim) };
        self.evaluate(key, Cause::Manual, now, config);
        expires_at
    }

    fn claim_api(
        &mut self,
        key: UserKey,
        mut claim: Claim<ApiStatus>,
        ttl_ms: Option<u64>,
        name: Option<DeviceId>,
        now: Now,
        config: &Config,
    ) -> Option<WallTime> {
        self.note_asserted(key, Source::Api, config);
        let user = self.users.get_mut(&key)?;
        let ttl = ttl_ms.map(std::time::Duration::from_millis);
        let lasts = ttl.unwrap_or(config.virtual_session_ttl);
        let named = name.is_some();
        let holder = Holder::Virtual(name);
        let renews = user.sessions.iter().any(|session| session.holder == holder);
        user.sessions.retain(|session| session.holder != holder);
        let status = claim.status;
        let alone = !user.sessions.iter().any(|s| s.counts(now.mono));
        let virtual_needed = status != ApiStatus::Offline && (named || alone);
        if virtual_needed {
            if user.sessions.len() >= config.max_sessions_per_user {
                user.drop_least();
            }
            user.sessions.push(virtual_session(holder, now, now.mono.after(lasts)));
            if !renews {
                user.opened.add(DeviceKind::Server);
            }
        }
        let active = user.sessions.iter().any(|s| s.counts(now.mono) && s.activity == Activity::Active);
        claim.until = ttl.map(|ttl| now.mono.after(ttl));
        claim.expires_at = ttl.map(|ttl| now.wall.after(ttl));
        if status == ApiStatus::Online && !virtual_needed && claim.until.is_none() {
            // Nobody is active, but the backend says somebody is there: as long as a virtual session would last.
            claim.until = Some(now.mono.after(lasts));
            claim.expires_at = Some(now.wall.after(lasts));
        }
        let expires_at = if virtual_needed { Some(now.wall.after(lasts)) } else { claim.expires_at };
        let clears = status == ApiStatus::Online && active && claim.text.is_none();
        user.claims.api = if clears { None } else { Some(claim) };
        self.evaluate(key, Cause::Api, now, config);
        expires_at.filter(|_| !clears || virtual_needed)
    }

    /// Forgets claims, virtual sessions and last seen; live sessions stay.
    fn erase(&mut self, key: UserKey, now: Now, config: &Config, out: &mut Vec<Output>) {
        let Some(user) = self.users.get_mut(&key) else { return };
        user.claims = crate::claims::Claims::default();
        user.opened = Opened::default();
        user.sessions.retain(Session::is_live);
        // What waits to be handed on would come behind the erasure.
        self.outbox.transitions.retain(|waiting| waiting.user != user.id);
        out.push(Output::Erased(user.id.clone()));
        self.evaluate(key, Cause::Erased, now, config);
        self.state_erased(key);
        self.forget(key);
        self.note_asserted(key, Source::Manual, config);
        self.note_asserted(key, Source::Api, config);
        self.keep_nothing(key, config, out);
    }

    /// Answers an operator.
    pub(crate) fn answer_explain(
        &self,
        me: &CoordinatorId,
        request: &ExplainRequest,
        now: MonoTime,
        config: &Config,
        out: &mut Vec<Output>,
    ) {
        let explanation = self.explain(me, request.key, now, config);
        let json = herenow_protocol::frame::encode(&explanation);
        let answer = ToGateway::Explained { request: request.request, json };
        out.push(Output::ToGateway(request.origin.gateway.clone(), answer));
    }

    fn explain(&self, me: &CoordinatorId, key: UserKey, now: MonoTime, config: &Config) -> Explanation {
        let (none, unclaimed) = (Vec::new(), crate::claims::Claims::default());
        let user = self.users.get(&key);
        let sessions = user.map_or(&none, |user| &user.sessions);
        let claims = user.map_or(&unclaimed, |user| &user.claims);
        let derived = derive(sessions, claims, config.publish_devices, now);
        let manual = claims.manual(now).map(|c| format!("manual: {:?}{}", c.status, ending(c.until, now)));
        let api = claims.api(now).map(|c| format!("api: {:?}{}", c.status, ending(c.until, now)));
        let timer = user.and_then(|user| user.timer);
        let timer = timer.map(|due| format!("next end in {} ms", due.since(now).as_millis()));
        Explanation {
            partition: self.partition,
            owner: me.to_string(),
            epoch: self.epoch.to_string(),
            settled: self.settled,
            rule: derived.rule.words().to_owned(),
            sessions: sessions.iter().map(|session| explain_session(session, now)).collect(),
            claims: manual.into_iter().chain(api).collect(),
            timers: timer.into_iter().collect(),
        }
    }

    /// Answers a backend with the next page of everybody known.
    pub(crate) fn answer_list(&self, request: ListRequest, out: &mut Vec<Output>) {
        let after = |key: &&UserKey| request.after.is_none_or(|after| **key > after);
        let mut keys: Vec<UserKey> = self.users.keys().filter(after).copied().collect();
        keys.sort_unstable();
        let more = keys.len() > limit::LIST_PAGE_USERS;
        keys.truncate(limit::LIST_PAGE_USERS);
        let next = keys.last().filter(|_| more).map(|key| key.to_string());
        let known = keys
            .iter()
            .filter_map(|key| self.users.get(key))
            .filter(|user| self.settled || user.public.n > 0);
        let users = known.map(|user| presence(user, self.epoch)).collect();
        let page = PartitionPage {
            partition: self.partition,
            epoch: self.epoch.to_string(),
            n: self.n,
            settled: self.settled,
            users,
            next,
        };
        out.push(Output::Listed { reply: request.reply, page: Ok(Box::new(page)) });
    }
}

/// Tells a gateway that its claim cannot be taken now.
pub(crate) fn refuse_claim(request: &ClaimRequest, code: ErrorCode) -> Output {
    let done =
        ClaimDone { request: request.request, epoch: herenow_protocol::Epoch::NONE, outcome: Err(code) };
    Output::ToGateway(request.origin.gateway.clone(), ToGateway::ClaimDone(Box::new(done)))
}

/// Tells a backend that its page cannot be had now.
pub(crate) fn refuse_list(request: ListRequest) -> Output {
    let problem = Problem::new(ErrorCode::Unavailable, "the partition changes its owner");
    Output::Listed { reply: request.reply, page: Err(Box::new(problem)) }
}

pub(crate) const fn virtual_session(holder: Holder, now: Now, until: MonoTime) -> Session {
    Session {
        holder,
        device: None,
        kind: DeviceKind::Server,
        activity: Activity::Active,
        since: now.wall,
        lease: Lease::Virtual(until),
        unconfirmed: None,
        followed: None,
    }
}

fn gone(key: UserKey, n: u64) -> Entry {
    let public = herenow_protocol::message::Shown { n, ..herenow_protocol::message::Shown::never_seen() };
    Entry { key, public, own: None }
}

fn ending(until: Option<MonoTime>, now: MonoTime) -> String {
    until.map(|end| format!(", ends in {} ms", end.since(now).as_millis())).unwrap_or_default()
}

fn explain_session(session: &Session, now: MonoTime) -> ExplainedSession {
    let name = match &session.holder {
        Holder::Gateway(origin, number) => format!("{}/{}", origin.gateway, number.0),
        Holder::Virtual(name) => format!("api/{}", name.as_ref().map_or("", |name| name.as_str())),
    };
    let state = match session.lease {
        Lease::Live => "live".to_owned(),
        Lease::Grace(until) => format!("lost, in grace{}", ending(Some(until), now)),
        Lease::Virtual(until) => format!("virtual{}", ending(Some(until), now)),
    };
    ExplainedSession { session: name, kind: session.kind, activity: session.activity, state }
}
