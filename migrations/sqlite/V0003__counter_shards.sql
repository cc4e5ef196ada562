-- Several writers count the same state at once, each in a row of its own: none of them waits for another's commit. Where there is one writer
-- there is one shard, 0.

create table sharded_counters (
    subject text not null,
    state   text not null,
    shard   integer not null,
    amount  integer not null,
    primary key (subject, state, shard)
) strict, without rowid;
insert into sharded_counters (subject, state, shard, amount) select subject, state, 0, amount from counters;
drop table counters;
alter table sharded_counters rename to counters;
