//! Rules of the cores and how to break them.

/// A rule, and what breaks it.
pub(crate) struct Rule {
    /// How it is broken.
    pub(crate) name: &'static str,
    pub(crate) edits: &'static [Edit],
}

/// A text that a file has once, and what to put in its place.
pub(crate) struct Edit {
    pub(crate) file: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
}

pub(crate) const fn edit(file: &'static str, from: &'static str, to: &'static str) -> Edit {
    Edit { file, from, to }
}

/// Every rule that the simulation must find broken.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "a new owner settles at once (R8)",
        edits: &[edit(
            "coordinator/core/src/coordinator.rs",
            "if complete && mourned && restored && knows_all && !state.settled {",
            "let _ = (complete, mourned, restored, knows_all); if !state.settled {",
        )],
    },
    Rule {
        name: "who was deaf thinks it has listened (R8)",
        edits: &[edit(
            "coordinator/core/src/listening.rs",
            "now.since(self.since) >= config.settle_after && now >= self.patient_until",
            "{ let _ = (now, config); true }",
        )],
    },
    Rule {
        name: "an owner in doubt is believed all the same (R8)",
        edits: &[
            edit(
                "gateway/core/src/view.rs",
                "if self.settled && beat.settled && !beat.doubts {",
                "if self.settled {",
            ),
            edit(
                "gateway/core/src/deliver.rs",
                "let stated = view.is_settled() || !known.is_negative();",
                "let stated = true;",
            ),
        ],
    },
    Rule {
        name: "what an owner says that doubts it itself is fresh (R7)",
        edits: &[edit("gateway/core/src/view.rs", "if caught_up && !beat.doubts {", "if caught_up {")],
    },
    Rule {
        name: "who is held back is told as certain (R8)",
        edits: &[edit(
            "gateway/core/src/deliver.rs",
            "let doubted = known.public.held.is_some() || known.doubted",
            "let doubted = known.doubted",
        )],
    },
    Rule {
        name: "whom a gateway has forgotten is given a grace (R3)",
        edits: &[edit(
            "coordinator/core/src/partition.rs",
            "let forgot_ms = whole.forgot_ms.unwrap_or_default();",
            "let forgot_ms = whole.forgot_ms.map_or(0, |_| 0);",
        )],
    },
    Rule {
        name: "grace is ignored",
        edits: &[edit(
            "coordinator/core/src/partition.rs",
            "session.lease = Lease::Grace(grace);",
            "let _ = grace; session.lease = Lease::Grace(MonoTime::from_millis(0));",
        )],
    },
    Rule {
        name: "syncs leave out ended sessions",
        edits: &[edit(
            "gateway/core/src/uplink.rs",
            "ended: rest_ended.by_ref().take(limit::SYNC_PAGE_SESSIONS).collect(),",
            "ended: rest_ended.by_ref().take(0).collect(),",
        )],
    },
    Rule {
        name: "no gap check downward (R9)",
        edits: &[edit("gateway/core/src/view.rs", "if !self.synced || prev > self.n {", "if !self.synced {")],
    },
    Rule {
        name: "no gap check upward (R3)",
        edits: &[edit(
            "coordinator/core/src/stream.rs",
            "&& self.synced && seq == self.last + 1 {",
            "&& self.synced && seq > self.last {",
        )],
    },
    Rule {
        name: "nobody finds himself isolated (R7)",
        edits: &[edit(
            "coordinator/core/src/peers.rs",
            "now.since(self.heard_self) > self.dead_after\n",
            "let _ = now; false\n",
        )],
    },
    Rule {
        name: "gateways never die (R6)",
        edits: &[edit(
            "coordinator/core/src/gateways.rs",
            "let dead = |heard: &Heard| now.since(heard.at) >= config.gateway_timeout;",
            "let dead = |heard: &Heard| { let _ = (heard.at, now, config); false };",
        )],
    },
    Rule {
        name: "a sync adds and takes nothing away (R3)",
        edits: &[
            edit(
                "coordinator/core/src/partition.rs",
                "known.sessions.into_iter().filter(|(number, _)| !accounted.contains(number)) {",
                "known.sessions.into_iter().filter(|(number, _)| false && !accounted.contains(number)) {",
            ),
            // Sessions that ended of late are named in a sync.
            edit(
                "coordinator/core/src/partition.rs",
                "if held && known.sessions.contains_key(&number) {",
                "if held && known.sessions.contains_key(&number) && false {",
            ),
            edit("coordinator/core/src/partition.rs", "self.end(origin, (number, key), ended.how);", ""),
        ],
    },
    Rule {
        name: "no fencing at receivers (R2)",
        edits: &[
            edit("gateway/core/src/owners.rs", "if epoch < seen {", "if false && epoch < seen {"),
            edit(
                "gateway/core/src/watch.rs",
                "if new.version() <= old.version() {",
                "if new.epoch == old.epoch && new.version() <= old.version() {",
            ),
        ],
    },
    Rule {
        name: "a lost last report is not missed (R4)",
        edits: &[
            edit(
                "coordinator/core/src/stream.rs",
                "        now.since(since) >= patience && !has_all",
                "        { let _ = (now.since(since), patience, has_all); false }",
            ),
            edit(
                "coordinator/core/src/stream.rs",
                "self.behind.is_some_and(|(seq, since)| seq > self.last && now.since(since) >= patience)",
                "{ let _ = (now, patience); false }",
            ),
        ],
    },
    Rule {
        name: "a lost last change is not missed (R4)",
        edits: &[edit(
            "gateway/core/src/view.rs",
            "now.mono.since(since) >= tail",
            "{ let _ = (since, tail); false }",
        )],
    },
    Rule {
        name: "a coordinator that stood still believes what piled up",
        edits: &[
            edit("coordinator/core/src/coordinator.rs", "self.peers.distrust(self.beat_number + 1);", ""),
            edit(
                "coordinator/core/src/coordinator.rs",
                "self.check_isolation(now);\n        }\n        self.now = now;",
                "}\n        self.now = now;",
            ),
        ],
    },
    Rule {
        name: "a gateway that stood still believes what piled up",
        edits: &[edit("gateway/core/src/gateway.rs", "if gap < self.config.stale_after {", "if true {")],
    },
    Rule {
        name: "any live session vouches for its user (R11)",
        edits: &[edit(
            "gateway/core/src/deliver.rs",
            "known.public.status == Status::Online && self.is_active_here(key)",
            "known.public.status != Status::Offline && self.by_user.contains_key(&key)",
        )],
    },
    Rule {
        name: "who vouched does not say when it no longer does (R11)",
        edits: &[edit(
            "gateway/core/src/live.rs",
            "self.watch.find(partition, key).filter(|_| !fresh) {",
            "self.watch.find(partition, key).filter(|_| !fresh && false) {",
        )],
    },
    Rule {
        name: "who is told to move is taken for gone (moving)",
        edits: &[edit(
            "gateway/core/src/drain.rs",
            "Ending::Lost if self.draining.is_some() => Ending::Moving,",
            "Ending::Lost if self.draining.is_some() => Ending::Bye,",
        )],
    },
    Rule {
        name: "lost words about watchers are not missed (R10)",
        edits: &[
            edit(
                "coordinator/core/src/interest.rs",
                "let missing = now.since(since) >= patience;",
                "let missing = { let _ = (since, patience); false };",
            ),
            edit("coordinator/core/src/interest.rs", "&& seq.is_none_or(|seq| seq <= told.seq);", ";"),
        ],
    },
    Rule {
        name: "an unsettled owner's list is taken for whole (R9)",
        edits: &[edit(
            "gateway/core/src/owners.rs",
            "if settled {\n            for key in unlisted {",
            "if settled || true {\n            for key in unlisted {",
        )],
    },
    Rule {
        name: "a later life of a gateway is taken for the same (R5)",
        edits: &[
            edit(
                "coordinator/core/src/gateways.rs",
                "if origin.incarnation > before { Hearing::Reborn(before) } else { Hearing::Same }",
                "Hearing::Same",
            ),
            edit(
                "coordinator/core/src/gateways.rs",
                "if origin.incarnation < before {",
                "if origin.incarnation < before && false {",
            ),
        ],
    },
    Rule {
        name: "any session of a device ends its grace",
        edits: &[edit(
            "coordinator/core/src/partition.rs",
            "    fn open(&mut self, origin: &Origin, record: SessionRecord, now: Now, config: &Config) {",
            "    fn open(&mut self, origin: &Origin, record: SessionRecord, now: Now, config: &Config) {\n        self.welcome_back(record.key, &record.device, now.mono);",
        )],
    },
    Rule {
        name: "a claim that has ended stays (claims)",
        edits: &[
            edit(
                "coordinator/core/src/claims.rs",
                "self.until.is_none_or(|until| now < until)",
                "{ let _ = now; true }",
            ),
            // Else a turn goes on for ever with what is due.
            edit(
                "coordinator/core/src/claims.rs",
                "manual.into_iter().chain(api).min()",
                "manual.into_iter().chain(api).min().filter(|_| false)",
            ),
        ],
    },
    Rule {
        name: "what backends claim stands above what users claim (claims)",
        edits: &[edit(
            "coordinator/core/src/derive.rs",
            "manual.map(|status| (status, Rule::Manual)).or_else(|| api().map(|status| (status, Rule::Api)))",
            "api().map(|status| (status, Rule::Api)).or_else(|| manual.map(|status| (status, Rule::Manual)))",
        )],
    },
    Rule {
        name: "who hides is seen (claims)",
        edits: &[edit(
            "coordinator/core/src/derive.rs",
            "claim.status == ManualStatus::Invisible) {",
            "claim.status == ManualStatus::Invisible && false) {",
        )],
    },
    Rule {
        name: "an owner's page says that it has settled (R13)",
        edits: &[edit(
            "coordinator/core/src/request.rs",
            "            n: self.n,\n            settled: self.settled,\n            users,",
            "            n: self.n,\n            settled: true,\n            users,",
        )],
    },
];
