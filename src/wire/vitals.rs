//! Whether this server can work, and its gauges: for `/readyz` and `/metrics`, which are asked without a token.

use std::sync::Arc;

use jiff::SignedDuration;
use keyfall::app::Bell;
use keyfall::clock::Environment;
use keyfall::engine::EngineHandle;
use keyfall::engine::freeze::FREEZE;
use keyfall::http::Vitals;
use keyfall::sealing::Keyring;
use keyfall::store::Store;
use keyfall_sdk::BoxFuture;

use super::anchor::Anchor;
use super::keys::KEK_CHECK;

/// A pass is made every few seconds; without one for this long the engine is stuck.
const LONGEST_SILENCE: SignedDuration = SignedDuration::from_secs(120);

pub(super) struct ServerVitals {
    pub(super) store: Arc<dyn Store>,
    pub(super) ring: Arc<Keyring>,
    pub(super) bell: Arc<EngineBell>,
    pub(super) anchor: Arc<Anchor>,
    pub(super) env: Environment,
}

impl ServerVitals {
    async fn key_fits(&self) -> Result<(), String> {
        let stored = self
            .store
            .setting(KEK_CHECK)
            .await
            .map_err(|_| "it cannot be compared".to_owned())?;
        let value = stored.and_then(|text| text.parse::<keyfall::domain::digest::Digest>().ok());
        let value = value.ok_or("the store holds no check value of it")?;
        self.ring
            .verify_check_value(&value.0)
            .map_err(|error| error.to_string())
    }

    fn engine_is_alive(&self) -> Result<(), String> {
        let last = self.bell.last_pass_at().ok_or("no pass was made yet")?;
        if self.env.now().duration_since(last) > LONGEST_SILENCE {
            return Err("no pass was made for minutes".to_owned());
        }
        Ok(())
    }
}

impl Vitals for ServerVitals {
    fn readiness(&self) -> BoxFuture<'_, Vec<(&'static str, Result<(), String>)>> {
        Box::pin(async move {
            let store = self
                .store
                .log_state()
                .await
                .map(drop)
                .map_err(|error| error.to_string());
            vec![
                ("store", store),
                ("key", self.key_fits().await),
                ("engine", self.engine_is_alive()),
                ("anchor", self.anchor.follows()),
            ]
        })
    }

    fn refresh_gauges(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let up = self.gauges().await.is_ok();
            metrics::gauge!("keyfall_store_up").set(f64::from(u8::from(up)));
        })
    }
}

impl ServerVitals {
    async fn gauges(&self) -> keyfall::store::Result<()> {
        let overview = self.store.overview(self.env.now()).await?;
        let counted = [
            ("keyfall_identities", "state", &overview.identities),
            ("keyfall_credentials", "state", &overview.credentials),
            ("keyfall_open_runs", "status", &overview.open_runs),
            ("keyfall_open_findings", "kind", &overview.open_findings),
        ];
        for (name, label, counts) in counted {
            for (value, count) in counts {
                metrics::gauge!(name, label => value.clone()).set(as_gauge(*count));
            }
        }
        metrics::gauge!("keyfall_identities_due").set(as_gauge(overview.overdue));
        metrics::gauge!("keyfall_identities_expiring_in_30_days").set(as_gauge(overview.expiring_in_30_days));
        metrics::gauge!("keyfall_anchor_follows").set(f64::from(u8::from(self.anchor.follows().is_ok())));
        metrics::gauge!("keyfall_log_size").set(as_gauge(self.store.log_state().await?.size));
        let frozen = self.store.setting(FREEZE).await?.is_some();
        metrics::gauge!("keyfall_frozen").set(f64::from(u8::from(frozen)));
        if let Some(last) = self.bell.last_pass_at() {
            metrics::gauge!("keyfall_last_pass_timestamp_seconds").set(last.as_duration().as_secs_f64());
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float; counts stay far below 2^53"
)]
fn as_gauge(count: u64) -> f64 {
    count as f64
}

/// What use cases ask of the running engine.
pub(super) struct EngineBell(pub(super) EngineHandle);

impl Bell for EngineBell {
    fn ring(&self) {
        self.0.ring();
    }

    fn last_pass_at(&self) -> Option<jiff::Timestamp> {
        let at = self.0.status().last_pass.at;
        (at > jiff::Timestamp::UNIX_EPOCH).then_some(at)
    }
}
