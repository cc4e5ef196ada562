-- The servers that share this store: who is alive, what each leans on, and which runs each of them knows how to end.

create table nodes (
    name        text collate "C" primary key not null,
    -- Drawn at each start: two processes of one name are told apart by it.
    instance    text collate "C" not null,
    version     text collate "C" not null,
    -- The newest list of steps that it knows.
    workflow    bigint not null,
    address     text collate "C" not null,
    started_at  bigint not null,
    seen_at     bigint not null,
    -- By how many microseconds its clock is ahead of the store's.
    clock_ahead bigint not null,
    draining    bigint not null,
    gone_at     bigint
);

-- Up to when the calls of a system were given out, and until when it is left alone because it fails for everybody.
create table system_paces (
    system           text collate "C" primary key not null,
    given_until      bigint not null,
    left_alone_until bigint
);

-- How many steps at once a node may have under way on a system, until then.
create table system_slots (
    system text collate "C" not null,
    node   text collate "C" not null,
    slots  bigint not null,
    until  bigint not null,
    primary key (system, node)
);

alter table runs add column workflow bigint not null default 1;
