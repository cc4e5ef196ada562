-- The register, the runs, the log. Ids and enums are text, instants are microseconds since the Unix epoch (UTC), flags are 0 and 1, and
-- structured values are JSON text: the subset that SQLite and PostgreSQL share. What a column holds is said by the type that it comes from
-- (src/store/fact.rs); what is said here is why an index is there.

create table settings (
    key   text primary key not null,
    value text not null
) strict, without rowid;

-- How many rows are in which state, kept by the writer, so that nobody ever counts a large table.
create table counters (
    subject text not null,
    state   text not null,
    amount  integer not null,
    primary key (subject, state)
) strict, without rowid;

create table resources (
    id       text primary key not null,
    kind     text not null,
    name     text not null,
    version  integer not null,
    labels   text not null,
    spec     text not null,
    approved text
) strict;
create unique index resources_name on resources (kind, name);

create table identities (
    id                 text primary key not null,
    name               text not null,
    version            integer not null,
    labels             text not null,
    spec               text not null,
    state              text not null,
    current_credential text,
    due_at             integer,
    due_reason         text,
    is_control         integer not null,
    approved           text,
    created_at         integer not null,
    -- Out of the spec, for filters.
    kind               text not null,
    system             text not null,
    environment        text not null,
    owner              text not null,
    expires_at         integer not null,
    -- 1 in the state that may be due: a condition of its own, so that the planner does not prefer the index over all states.
    is_active          integer not null,
    -- The run that is open for it, so that the due scan needs no join.
    open_run           text
) strict;
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
    id           text primary key not null,
    identity     text not null,
    principal    text not null,
    principal_id text,
    key_id       text,
    secret       text,
    state        text not null,
    -- The state with all that it carries.
    life         text not null,
    created_at   integer not null,
    proven_at    integer,
    -- The end of its own validity downstream.
    expires_at   integer
) strict;
create index credentials_identity on credentials (identity, created_at, id);
-- One open intent per slot: a second mutation of an account never begins while the first one's outcome is unknown.
create unique index credentials_intended on credentials (identity, principal) where state = 'intended';
create index credentials_secret on credentials (secret) where secret is not null;

-- The only table with secret bytes in it, all of them sealed.
create table secrets (
    id              text primary key not null,
    name            text,
    kind            text not null,
    version         integer not null,
    endpoint_digest text not null,
    algorithm       text not null,
    kek_id          text not null,
    wrapped_key     blob not null,
    wrap_nonce      blob not null,
    nonce           blob not null,
    ciphertext      blob not null,
    created_at      integer not null,
    destroy_at      integer,
    destroyed_at    integer
) strict;
create unique index secrets_name on secrets (name, version) where name is not null;
create index secrets_destroy on secrets (destroy_at, id) where destroyed_at is null and destroy_at is not null;
create index secrets_kek on secrets (kek_id, id) where destroyed_at is null;

create table runs (
    id            text primary key not null,
    kind          text not null,
    identity      text not null,
    identity_name text not null,
    system_name   text not null,
    status        text not null,
    step          text,
    next_seq      integer not null,
    epoch         integer not null,
    node          text,
    lease_until   integer,
    wake_at       integer,
    opened_at     integer not null,
    closed_at     integer
) strict;
create unique index runs_open_identity on runs (identity) where closed_at is null;
create index runs_wake on runs (wake_at, id) where closed_at is null and wake_at is not null;
create index runs_lease on runs (lease_until, id) where closed_at is null and lease_until is not null;
create index runs_opened on runs (opened_at, id);
create index runs_open on runs (opened_at, id) where closed_at is null;
create index runs_identity on runs (identity, opened_at, id);
create index runs_kind on runs (kind, opened_at, id);
create index runs_status on runs (status, opened_at, id);

create table plans (
    id               text primary key not null,
    status           text not null,
    digest           text not null,
    requester        text not null,
    approvals_needed integer not null,
    content          blob not null,
    created_at       integer not null,
    expires_at       integer not null,
    decided_at       integer
) strict;
create index plans_created on plans (created_at, id);
create index plans_status on plans (status, created_at, id);

create table approvals (
    id         text primary key not null,
    plan       text not null references plans (id),
    person     text not null,
    approve    integer not null,
    reason     text not null,
    expires_at integer not null,
    signature  blob not null,
    at         integer not null
) strict;
create index approvals_plan on approvals (plan, at, id);

create table findings (
    id          text primary key not null,
    kind        text not null,
    subject     text not null,
    severity    text not null,
    text        text not null,
    owner       text not null,
    raised_at   integer not null,
    resolved_at integer,
    -- 1 while it is not resolved: lists begin with the open ones.
    is_open     integer not null
) strict;
create unique index findings_once on findings (kind, subject) where is_open = 1;
create index findings_raised on findings (is_open, raised_at, id);
create index findings_kind on findings (kind, is_open, raised_at, id);
create index findings_subject on findings (subject, is_open, raised_at, id);

create table receipts (
    id          text primary key not null,
    run         text not null,
    identity    text not null,
    body        blob not null,
    body_digest text not null,
    closing_seq integer not null,
    at          integer not null
) strict;
create index receipts_at on receipts (at, id);
create index receipts_identity on receipts (identity, at, id);
create index receipts_run on receipts (run, at, id);

create table people (
    id                  text primary key not null,
    name                text not null,
    roles               text not null,
    public_key          text,
    enrolled_by         text,
    enrolment           text,
    enrolled_at         integer not null,
    retired_at          integer
) strict;
create unique index people_name on people (name) where retired_at is null;

create table tokens (
    id         text primary key not null,
    person     text not null references people (id),
    hash       blob not null,
    label      text not null,
    created_at integer not null,
    expires_at integer not null,
    revoked_at integer
) strict;
create unique index tokens_hash on tokens (hash);
create index tokens_person on tokens (person, created_at, id);

create table spends (
    id         integer primary key not null,
    scope      text not null,
    at         integer not null,
    amount     integer not null
) strict;
create index spends_scope on spends (scope, at, amount);

create table settling (
    id      integer primary key not null,
    system  text not null,
    vantage text not null,
    micros  integer not null,
    at      integer not null
) strict;
create index settling_system on settling (system, at);

-- The audit log, which is the event log of the runs. Append-only: the triggers below refuse everything else.
create table log (
    position integer primary key not null,
    run      text,
    seq      integer,
    at       integer not null,
    bytes    blob not null,
    -- The first eight bytes of the leaf's hash: they prove nothing, and name the first record that was changed.
    mark     blob not null
) strict;
create unique index log_run on log (run, seq) where run is not null;
create trigger log_is_not_changed before update on log begin
    select raise(abort, 'the log is append-only');
end;
create trigger log_is_not_shortened before delete on log begin
    select raise(abort, 'the log is append-only');
end;

-- Complete subtrees of the Merkle tree over the log, from level 8 (256 entries) on; those below are computed from the entries themselves.
create table log_nodes (
    level integer not null,
    place integer not null,
    hash  blob not null,
    primary key (level, place)
) strict, without rowid;

-- The tree by its peaks, 32 bytes each, the largest subtree first.
create table log_frontier (
    one   integer primary key not null check (one = 1),
    size  integer not null,
    peaks blob not null
) strict;
insert into log_frontier (one, size, peaks) values (1, 0, x'');
