//! Questions of the deep check, whose answers are empty in a sound store. They read whole tables, and nothing else asks them.

use super::statements;

statements! {
    /// The secret of a take-over waits with its plan, and has a deadline until it is a credential's.
    SECRET_OF_NO_ONE = "select secrets.id from secrets where secrets.name is null and secrets.destroyed_at is null \
        and secrets.destroy_at is null \
        and not exists (select 1 from credentials where credentials.secret = secrets.id) limit 100";
    SECRET_MISSING = "select credentials.id from credentials where credentials.secret is not null \
        and not exists (select 1 from secrets where secrets.id = credentials.secret) limit 100";
    CREDENTIAL_OF_NO_ONE = "select credentials.id from credentials \
        where not exists (select 1 from identities where identities.id = credentials.identity) limit 100";
    RUN_NOT_MARKED = "select runs.id from runs join identities on identities.id = runs.identity \
        where runs.closed_at is null and (identities.open_run is null or identities.open_run <> runs.id) limit 100";
    MARKED_RUN_NOT_OPEN = "select identities.id from identities where open_run is not null \
        and not exists (select 1 from runs where runs.id = identities.open_run and runs.closed_at is null) limit 100";
    COUNTED_IDENTITIES = "select state, count(*) from identities group by state order by state";
    COUNTED_CREDENTIALS = "select state, count(*) from credentials group by state order by state";
}
