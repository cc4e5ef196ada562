//! Settings, counters, budgets and measured settling times: texts, and rows to types and back.

use jiff::Timestamp;

use super::super::Result;
use super::super::row::{BudgetSpend, SettlingSample};
use super::{Bound, Op, Row, Value, statements};

statements! {
    SETTING = "select value from settings where key = $key";
    SET = "insert into settings (key, value) values ($key, $value) on conflict (key) do update set value = excluded.value";
    SET_IF = "update settings set value = $value where key = $key and value = $was";
    UNSET_IF = "delete from settings where key = $key and value = $value";
    UNSET = "delete from settings where key = $key";
    /// One shard alone may be below zero: what was counted up in one may be counted down in another.
    COUNTED = "select state, cast(sum(amount) as bigint) from counters where subject = $subject group by state \
        having sum(amount) > 0 order by state";
    COUNT = "insert into counters (subject, state, shard, amount) values ($subject, $state, $shard, $by) \
        on conflict (subject, state, shard) do update set amount = counters.amount + excluded.amount";
    SPENT = "select cast(coalesce(sum(amount), 0) as bigint) from spends where scope = $scope and at >= $since";
    /// Joins what was spent a moment ago, at the later of both instants: so nothing leaves a window too early.
    SPEND_MORE = "update spends set amount = amount + $amount, at = case when at < $at then $at else at end \
        where id = (select id from spends where scope = $scope and at >= $moment order by at limit 1)";
    SPEND = "insert into spends (scope, at, amount) values ($scope, $at, $amount)";
    FORGET_SPENDS = "delete from spends where scope = $scope and at < $before";
    SETTLING = "select system, vantage, micros, at from settling where system = $system order by at desc, id desc limit $limit";
    SETTLED = "insert into settling (system, vantage, micros, at) values ($system, $vantage, $micros, $at)";
}

pub(crate) fn set(key: &str, value: Option<&str>) -> Result<Op> {
    let bound = match value {
        Some(value) => SET.with([("key", key.into()), ("value", value.into())])?,
        None => UNSET.with([("key", key.into())])?,
    };
    Ok(Op::Do(bound))
}

pub(crate) fn setting(key: &str) -> Result<Bound> {
    SETTING.with([("key", key.into())])
}

pub(crate) fn spent(scope: &str, since: Timestamp) -> Result<Bound> {
    SPENT.with([("scope", scope.into()), ("since", since.into())])
}

/// Spendings of one moment are one row, and a window has this many moments: what a window holds is summed up in each commit that spends, and
/// must not cost more the more there was.
const MOMENTS: i64 = 512;

fn moment_of(spend: &BudgetSpend) -> Timestamp {
    let length = i64::try_from(spend.keep.as_micros()).unwrap_or(i64::MAX) / MOMENTS;
    let at = spend.at.as_microsecond();
    Timestamp::from_microsecond(at - at.rem_euclid(length.max(1))).unwrap_or(spend.at)
}

pub(crate) fn spend(spend: &BudgetSpend) -> Result<[Op; 2]> {
    // For two windows: whoever spends next may have read its clock before, and its window began earlier.
    let before = spend
        .at
        .saturating_sub(spend.keep.saturating_mul(2))
        .unwrap_or(Timestamp::MIN);
    Ok([
        Op::Merge {
            update: SPEND_MORE.with([
                ("scope", spend.scope.as_str().into()),
                ("at", spend.at.into()),
                ("amount", spend.amount.into()),
                ("moment", moment_of(spend).into()),
            ])?,
            insert: SPEND.with([
                ("scope", spend.scope.as_str().into()),
                ("at", spend.at.into()),
                ("amount", spend.amount.into()),
            ])?,
        },
        Op::Do(FORGET_SPENDS.with([("scope", spend.scope.as_str().into()), ("before", before.into())])?),
    ])
}

pub(crate) fn settled(sample: &SettlingSample) -> Result<Op> {
    Ok(Op::Do(SETTLED.with([
        ("system", sample.system.as_str().into()),
        ("vantage", sample.vantage.as_str().into()),
        ("micros", sample.micros.into()),
        ("at", sample.at.into()),
    ])?))
}

pub(crate) fn count(subject: &'static str, state: &'static str, shard: u32, by: i64) -> Result<Bound> {
    COUNT.with([
        ("shard", shard.into()),
        ("subject", Value::Name(subject)),
        ("state", Value::Name(state)),
        ("by", by.into()),
    ])
}

pub(crate) fn counted(subject: &'static str) -> Result<Bound> {
    COUNTED.with([("subject", Value::Name(subject))])
}

pub(crate) fn read_sample(row: Row) -> Result<SettlingSample> {
    let mut columns = row.read("settling time");
    Ok(SettlingSample {
        system: columns.text()?,
        vantage: columns.text()?,
        micros: columns.number()?,
        at: columns.time()?,
    })
}

/// A name and how many.
pub(crate) fn read_count(row: Row) -> Result<(String, u64)> {
    let mut columns = row.read("count");
    Ok((columns.text()?, columns.number()?))
}
