-- The register, the runs, the log. Ids and enums are text, instants are microseconds since the Unix epoch (UTC), flags are 0 and 1, and
-- structured values are JSON text: the subset that SQLite and PostgreSQL share. What a column holds is said by the type that it comes from
-- (src/store/fact.rs); what is said here is why an index is there. Texts sort by their bytes, as they do in SQLite: pages go by that order.

create table settings (
    key   text collate "C" primary key not null,
    value text collate "C" not null
);

-- How many rows are in which state, kept by the writer, so that nobody ever counts a large table.
create table counters (
    subject text collate "C" not null,
    state   text collate "C" not null,
    amount  bigint not null,
    primary key (subject, state)
) with (fillfactor = 50);

create table resources (
    id       text collate "C" primary key not null,
    kind     text collate "C" not null,
    name     text collate "C" not null,
    version  bigint not null,
    labels   text collate "C" not null,
    spec     text collate "C" not null,
    approved text collate "C"
);
create unique index resources_name on resources (kind, name);

create table identities (
    id                 text collate "C" primary key not null,
    name               text collate "C" not null,
    version            bigint not null,
    labels             text collate "C" not null,
    spec               text collate "C" not null,
    state              text collate "C" not null,
    current_credential text collate "C",
    due_at             bigint,
    due_reason         text collate "C",
    is_control         bigint not null,
    approved           text collate "C",
    created_at         bigint not null,
    -- Out of the spec, for filters.
    kind               text collate "C" not null,
    system             text collate "C" not null,
    environment        text collate "C" not null,
    owner              text collate "C" not null,
    expires_at         bigint not null,
    -- 1 in the state that may be due: a condition of its own, so that the planner does not prefer the index over all states.
    is_active          bigint not null,
    -- The run that is open for it, so that the due scan needs no join.
    open_run           text collate "C"
);
create unique index identities_name on identities (name);
create index identities_due on identities (due_at, id) where is_active = 1 and open_run is null and due_at is not null;
create index identities_expiry on identities (expires_at, id) where state <> 'decommissioned';
create index identities_system on identities (system, name);
create index identities_environment on identities (environment, name);
create index identities_owner on identities (owner, name);
create index identities_kind on identities (kind, name);
create index identities_state on identities (state, name);
create index identities_control on identities (system, id) where is_control = 1;

create table credentials (
    id           text collate "C" primary key not null,
    identity     text collate "C" not null,
    principal    text collate "C" not null,
    principal_id text collate "C",
    key_id       text collate "C",
    secret       text collate "C",
    state        text collate "C" not null,
    -- The state with all that it carries.
    life         text collate "C" not null,
    created_at   bigint not null,
    proven_at    bigint,
    -- The end of its own validity downstream.
    expires_at   bigint
);
create index credentials_identity on credentials (identity, created_at, id);
-- One open intent per slot: a second mutation of an account never begins while the first one's outcome is unknown.
create unique index credentials_intended on credentials (identity, principal) where state = 'intended';
create index credentials_secret on credentials (secret) where secret is not null;

-- The only table with secret bytes in it, all of them sealed.
create table secrets (
    id              text collate "C" primary key not null,
    name            text collate "C",
    kind            text collate "C" not null,
    version         bigint not null,
    endpoint_digest text collate "C" not null,
    algorithm       text collate "C" not null,
    kek_id          text collate "C" not null,
    wrapped_key     bytea not null,
    wrap_nonce      bytea not null,
    nonce           bytea not null,
    ciphertext      bytea not null,
    created_at      bigint not null,
    destroy_at      bigint,
    destroyed_at    bigint
);
create unique index secrets_name on secrets (name, version) where name is not null;
create index secrets_destroy on secrets (destroy_at, id) where destroyed_at is null and destroy_at is not null;
create index secrets_kek on secrets (kek_id, id) where destroyed_at is null;

create table runs (
    id            text collate "C" primary key not null,
    kind          text collate "C" not null,
    identity      text collate "C" not null,
    identity_name text collate "C" not null,
    system_name   text collate "C" not null,
    status        text collate "C" not null,
    step          text collate "C",
    next_seq      bigint not null,
    epoch         bigint not null,
    node          text collate "C",
    lease_until   bigint,
    wake_at       bigint,
    opened_at     bigint not null,
    closed_at     bigint
) with (fillfactor = 70);
create unique index runs_open_identity on runs (identity) where closed_at is null;
create index runs_wake on runs (wake_at, id) where closed_at is null and wake_at is not null;
create index runs_lease on runs (lease_until, id) where closed_at is null and lease_until is not null;
create index runs_opened on runs (opened_at, id);
create index runs_open on runs (opened_at, id) where closed_at is null;
create index runs_identity on runs (identity, opened_at, id);
create index runs_kind on runs (kind, opened_at, id);
create index runs_status on runs (status, opened_at, id);

create table plans (
    id               text collate "C" primary key not null,
    status           text collate "C" not null,
    digest           text collate "C" not null,
    requester        text collate "C" not null,
    approvals_needed bigint not null,
    content          bytea not null,
    created_at       bigint not null,
    expires_at       bigint not null,
    decided_at       bigint
);
create index plans_created on plans (created_at, id);
create index plans_status on plans (status, created_at, id);

create table approvals (
    id         text collate "C" primary key not null,
    plan       text collate "C" not null references plans (id),
    person     text collate "C" not null,
    approve    bigint not null,
    reason     text collate "C" not null,
    expires_at bigint not null,
    signature  bytea not null,
    at         bigint not null
);
create index approvals_plan on approvals (plan, at, id);

create table findings (
    id          text collate "C" primary key not null,
    kind        text collate "C" not null,
    subject     text collate "C" not null,
    severity    text collate "C" not null,
    text        text collate "C" not null,
    owner       text collate "C" not null,
    raised_at   bigint not null,
    resolved_at bigint,
    -- 1 while it is not resolved: lists begin with the open ones.
    is_open     bigint not null
);
create unique index findings_once on findings (kind, subject) where is_open = 1;
create index findings_raised on findings (is_open, raised_at, id);
create index findings_kind on findings (kind, is_open, raised_at, id);
create index findings_subject on findings (subject, is_open, raised_at, id);

create table receipts (
    id          text collate "C" primary key not null,
    run         text collate "C" not null,
    identity    text collate "C" not null,
    body        bytea not null,
    body_digest text collate "C" not null,
    closing_seq bigint not null,
    at          bigint not null
);
create index receipts_at on receipts (at, id);
create index receipts_identity on receipts (identity, at, id);
create index receipts_run on receipts (run, at, id);

create table people (
    id                  text collate "C" primary key not null,
    name                text collate "C" not null,
    roles               text collate "C" not null,
    public_key          text collate "C",
    enrolled_by         text collate "C",
    enrolment           text collate "C",
    enrolled_at         bigint not null,
    retired_at          bigint
);
create unique index people_name on people (name) where retired_at is null;

create table tokens (
    id         text collate "C" primary key not null,
    person     text collate "C" not null references people (id),
    hash       bytea not null,
    label      text collate "C" not null,
    created_at bigint not null,
    expires_at bigint not null,
    revoked_at bigint
);
create unique index tokens_hash on tokens (hash);
create index tokens_person on tokens (person, created_at, id);

create table spends (
    id         bigint generated always as identity primary key,
    scope      text collate "C" not null,
    at         bigint not null,
    amount     bigint not null
);
create index spends_scope on spends (scope, at, amount);

create table settling (
    id      bigint generated always as identity primary key,
    system  text collate "C" not null,
    vantage text collate "C" not null,
    micros  bigint not null,
    at      bigint not null
);
create index settling_system on settling (system, at);

-- The audit log, which is the event log of the runs. An entry is stored with the commit that it belongs to, and gets its position from the
-- sequencer, in the order of arrival. Append-only: the triggers below let a position be given once, and refuse everything else.
create table log (
    position bigint,
    arrival  bigint generated always as identity primary key,
    run      text collate "C",
    seq      bigint,
    at       bigint not null,
    bytes    bytea not null,
    -- The first eight bytes of the leaf's hash: they prove nothing, and name the first record that was changed.
    mark     bytea not null
);
create unique index log_position on log (position);
create index log_waiting on log (arrival) where position is null;
create unique index log_run on log (run, seq) where run is not null;

create function keyfall_log_is_append_only() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        if old.position is null and new.position is not null and new.arrival = old.arrival and new.run is not distinct from old.run
            and new.seq is not distinct from old.seq and new.at = old.at and new.bytes = old.bytes and new.mark = old.mark then
            return new;
        end if;
    end if;
    raise exception 'the log is append-only' using errcode = 'restrict_violation';
end
$$;
create trigger log_is_not_changed before update on log
    for each row execute function keyfall_log_is_append_only();
create trigger log_is_not_shortened before delete on log
    for each row execute function keyfall_log_is_append_only();
create trigger log_is_not_emptied before truncate on log
    for each statement execute function keyfall_log_is_append_only();

-- Complete subtrees of the Merkle tree over the log, from level 8 (256 entries) on; those below are computed from the entries themselves.
create table log_nodes (
    level bigint not null,
    place bigint not null,
    hash  bytea not null,
    primary key (level, place)
);

-- The tree by its peaks, 32 bytes each, the largest subtree first.
create table log_frontier (
    one   bigint primary key not null check (one = 1),
    size  bigint not null,
    peaks bytea not null
);
insert into log_frontier (one, size, peaks) values (1, 0, '');
