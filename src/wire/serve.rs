//! `keyfall serve`: from the settings to the last commit. What can be known to be wrong is known before anything is started; at the end
//! requests under way are answered, steps under way end, and the store is closed behind them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use keyfall::app::{App, AppParts, AppSettings};
use keyfall::cli::ServeArgs;
use keyfall::clock::Environment;
use keyfall::config::Config;
use keyfall::engine::breaker::BreakerSettings;
use keyfall::engine::controls::RegisteredControls;
use keyfall::engine::pace::CommonPaces;
use keyfall::engine::prepare::{KnownSignatures, Preparation};
use keyfall::engine::secrets::StoredSecrets;
use keyfall::engine::steps::{StepSettings, Steps, StoredRefusals};
use keyfall::engine::systems::{StoredCatalog, Systems};
use keyfall::engine::{Engine, EngineHandle, EngineSettings};
use keyfall::http::{Api, Listening, TlsFiles, router};
use keyfall::store::Store;
use keyfall::telemetry;
use keyfall_sdk::ConnectorKind;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::anchor::{Anchor, replace};
use super::elsewhere::Elsewhere;
use super::keys::{self, Keys};
use super::process::LocalProcesses;
use super::reread::reread;
use super::settings;
use super::vitals::{EngineBell, ServerVitals};

/// As long as the engine believes what it knows of policies.
const CATALOG_BELIEVED_FOR: Duration = Duration::from_secs(1);
/// How often a server says that it lives, to others that share its store.
const LONGEST_BEAT: Duration = Duration::from_secs(5);
/// The same where there are no others: only people read it, and each beat is a write.
const BEAT_ALONE: Duration = Duration::from_secs(60);

pub(crate) async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let (config, file) = settings(&args.config, &args.flags)?;
    telemetry::start_logs(&config.log)?;
    let metrics = telemetry::start_metrics()?;
    let env = Environment::of_this_machine();
    let keys = keys::load(&config)?;
    let anchor = Arc::new(Anchor::new(&config, Arc::clone(&keys.signing)));
    let elsewhere = Elsewhere::new(&config, &keys, &anchor, &env);
    let store = elsewhere.open().await?;
    keys::check(&keys.ring, &*store, &config).await?;
    let listening = listen(&config)?;
    anchor.check(&*store, &env).await?;
    reread(&store, &env).await?;

    let stopping = CancellationToken::new();
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let [terminate, interrupt] = signals;
    let stopped = wait_for_signals(terminate?, interrupt?, stopping.clone());
    let url = listening.url();
    let around = Around {
        config: &config,
        url: &url,
        env: &env,
        stopping: &stopping,
    };
    let (engine, api) = start(&around, &store, keys, Arc::clone(&anchor), metrics).await?;
    stop_without_a_name(engine.clone(), stopping.clone());
    let following = tokio::spawn(Arc::clone(&anchor).follow(Arc::clone(&store), env.clone(), stopping.clone()));
    if let Some(ready) = &args.ready_file {
        replace(ready, &format!("{url}\n"), 0o644).with_context(|| format!("{} cannot be written", ready.display()))?;
    }
    tracing::info!(url, config = %file.display(), node = config.node, "serving");

    let served = async {
        let serving = async {
            let served = keyfall::http::serve(listening, router(api), stopping.clone()).await;
            stopping.cancel();
            served
        };
        let (served, ()) = tokio::join!(serving, elsewhere.watch(&*store, &stopping));
        engine.shutdown().await;
        // It ends by the same token; a panic in it was logged where it happened.
        let _ = following.await;
        anchor.write(&*store).await?;
        store.close().await.context("the store could not be closed")?;
        Ok(served?)
    };
    let ended = tokio::select! {
        ended = served => ended,
        () = stopped => Err(anyhow::anyhow!("stopped at once; what was under way is taken up at the next start")),
    };
    if let Some(ready) = &args.ready_file {
        // It says that somebody answers; a file that is gone already says the same.
        let _ = std::fs::remove_file(ready);
    }
    tracing::info!("stopped");
    ended
}

fn listen(config: &Config) -> anyhow::Result<Listening> {
    let tls = config.tls().map(|(certificate, key)| TlsFiles {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
    });
    Ok(Listening::bind(config.listen, tls.as_ref())?)
}

/// The first signal asks for an orderly end; the future ends with the second one.
async fn wait_for_signals(mut terminate: Signal, mut interrupt: Signal, stopping: CancellationToken) {
    for ask in ["stopping; a second signal stops at once", "stopping at once"] {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("{ask}");
        stopping.cancel();
    }
}

/// A server whose name another one has taken is not who it says, and ends as if it were told to.
fn stop_without_a_name(engine: EngineHandle, stopping: CancellationToken) {
    tokio::spawn(async move {
        tokio::select! {
            () = engine.name_lost() => stopping.cancel(),
            () = stopping.cancelled() => {}
        }
    });
}

/// What the parts are put into.
struct Around<'a> {
    config: &'a Config,
    url: &'a str,
    env: &'a Environment,
    stopping: &'a CancellationToken,
}

/// The connected systems; where other nodes call them too, what each allows is shared.
fn connected(
    config: &Config,
    store: &Arc<dyn Store>,
    kinds: &[Arc<dyn ConnectorKind>],
    secrets: Arc<StoredSecrets>,
) -> Arc<Systems> {
    let catalog = Arc::new(StoredCatalog(Arc::clone(store)));
    let systems = Systems::new(kinds.to_vec(), config.grants(), catalog, secrets);
    let systems = systems.believing_the_catalog_for(CATALOG_BELIEVED_FOR);
    Arc::new(match is_alone(config) {
        true => systems,
        false => systems.sharing_paces(CommonPaces {
            store: Arc::clone(store),
            node: config.node.clone(),
        }),
    })
}

async fn start(
    around: &Around<'_>,
    store: &Arc<dyn Store>,
    keys: Keys,
    anchor: Arc<Anchor>,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
) -> anyhow::Result<(EngineHandle, Api)> {
    let Around { config, env, .. } = *around;
    let kinds: Vec<Arc<dyn ConnectorKind>> = keyfall_connectors::registry();
    let secrets = Arc::new(StoredSecrets::new(Arc::clone(store), Arc::clone(&keys.ring)));
    let systems = connected(config, store, &kinds, secrets.clone());
    let prepare = Arc::new(Preparation {
        store: Arc::clone(store),
        systems: Arc::clone(&systems),
        keys: Arc::clone(&keys.ring),
        env: env.clone(),
        signatures: KnownSignatures::default(),
    });
    let controls = Arc::new(RegisteredControls(Arc::clone(store)));
    let steps = Steps::new(
        Arc::clone(&systems),
        secrets,
        controls,
        Arc::new(StoredRefusals(Arc::clone(store))),
        env.clone(),
        StepSettings::of_calls(config.engine.call_time).beside_others(!is_alone(config)),
    );
    let engine = Engine {
        store: Arc::clone(store),
        steps: Arc::new(steps),
        prepare: prepare.clone(),
        env: env.clone(),
        settings: engine_settings(config, around.url),
    };
    let engine = engine.start().await.context("the engine could not be started")?;
    let bell = Arc::new(EngineBell(engine.clone()));
    let app = App::new(AppParts {
        store: Arc::clone(store),
        env: env.clone(),
        bell: bell.clone(),
        keys: Arc::clone(&keys.ring),
        signing: keys.signing,
        kinds,
        systems,
        prepare,
        settings: app_settings(config),
    });
    let vitals = ServerVitals {
        store: Arc::clone(store),
        ring: keys.ring,
        bell,
        anchor,
        env: env.clone(),
    };
    let api = Api::new(app, Arc::new(vitals), metrics, around.stopping.clone());
    Ok((engine, api))
}

fn app_settings(config: &Config) -> AppSettings {
    AppSettings {
        node: config.node.clone(),
        origin: config.origin.clone(),
        backup_directory: config.backup_directory.clone(),
        grants: config.grants(),
        clock_tolerance: config.engine.clock_tolerance,
        believed_for: engine_settings(config, "").believed_for(),
    }
}

/// Nobody else can have this store open.
fn is_alone(config: &Config) -> bool {
    config.store.file().is_some()
}

fn engine_settings(config: &Config, url: &str) -> EngineSettings {
    let engine = &config.engine;
    EngineSettings {
        max_runs: usize::try_from(engine.max_runs).unwrap_or(usize::MAX),
        lease: engine.lease,
        clock_tolerance: engine.clock_tolerance,
        // Only the lock on a file proves that nobody else holds leases under this name.
        take_over_at_start: is_alone(config),
        heartbeat: match is_alone(config) {
            true => BEAT_ALONE,
            false => LONGEST_BEAT.min(Duration::try_from(engine.lease / 12).unwrap_or(LONGEST_BEAT)),
        },
        address: url.to_owned(),
        processes: match is_alone(config) {
            true => None,
            false => Some(Arc::new(LocalProcesses::new())),
        },
        breaker: BreakerSettings {
            at_least: engine.breaker_at_least,
            percent: engine.breaker_percent,
            failed: engine.breaker_failed,
            failed_percent: engine.breaker_failed_percent,
        },
        ..EngineSettings::new(config.node.clone())
    }
}
