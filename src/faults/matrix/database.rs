//! The databases that cells are played on.

use std::path::Path;
use std::sync::Arc;

use crate::clock::Environment;
use crate::evidence::audit::decode_event;
use crate::store::tests::database::Database as OnServer;
use crate::store::{PostgresOptions, Store, StoreOptions, open_postgres, open_sqlite};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

/// A store, and what goes with it when it is done with.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    _on_server: Option<OnServer>,
}

impl Database {
    pub(crate) const ALL: [Self; 2] = [Self::Sqlite, Self::Postgres];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// A process that starts on it knows that the one before it is dead.
    pub(crate) fn is_of_one_process(self) -> bool {
        self == Self::Sqlite
    }

    /// Leases and wake times go by the clock that the cells move.
    pub(crate) async fn open(self, folder: &Path, env: &Environment) -> Opened {
        match self {
            Self::Sqlite => {
                let options = StoreOptions::new(decode_event);
                let store = open_sqlite(&folder.join("keyfall.db"), options, env.clone()).await;
                Opened {
                    store: store.unwrap(),
                    _on_server: None,
                }
            }
            Self::Postgres => {
                let database = OnServer::create().await;
                let mut options = PostgresOptions::for_test(&database.url(), env, decode_event);
                options.connections = 3;
                let store = open_postgres(options, env.clone()).await;
                Opened {
                    store: store.unwrap(),
                    _on_server: Some(database),
                }
            }
        }
    }
}
