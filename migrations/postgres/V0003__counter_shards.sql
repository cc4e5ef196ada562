-- Several writers count the same state at once, each in a row of its own: none of them waits for another's commit.

alter table counters add column shard bigint not null default 0;
alter table counters alter column shard drop default;
alter table counters drop constraint counters_pkey;
alter table counters add primary key (subject, state, shard);
