-- The servers that share this store: who is alive, what each leans on, and which runs each of them knows how to end.

create table nodes (
    name        text primary key not null,
    -- Drawn at each start: two processes of one name are told apart by it.
    instance    text not null,
    version     text not null,
    -- The newest list of steps that it knows.
    workflow    integer not null,
    address     text not null,
    started_at  integer not null,
    seen_at     integer not null,
    -- By how many microseconds its clock is ahead of the store's.
    clock_ahead integer not null,
    draining    integer not null,
    gone_at     integer
) strict;

-- Up to when the calls of a system were given out, and until when it is left alone because it fails for everybody.
create table system_paces (
    system           text primary key not null,
    given_until      integer not null,
    left_alone_until integer
) strict;

-- How many steps at once a node may have under way on a system, until then.
create table system_slots (
    system text not null,
    node   text not null,
    slots  integer not null,
    until  integer not null,
    primary key (system, node)
) strict, without rowid;

alter table runs add column workflow integer not null default 1;
