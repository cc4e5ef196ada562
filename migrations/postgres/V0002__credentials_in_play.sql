-- What a rotation reads of an identity's credentials, however many it had: those that may be alive, and the last of each account.

create index credentials_living on credentials (identity, created_at, id) where state <> 'dead' and state <> 'never_issued';
create index credentials_account on credentials (identity, principal, created_at, id) where principal_id is not null;
