//! A PostgreSQL that has no room for another login answers 53300 to the right password: with no live control beside it, a refusal of the old
//! one proves nothing.

use serde_json::json;
use tokio_postgres::NoTls;

use super::scene::Scene;
use crate::harness::{Servers, Service, login, sql};

const PRIMARY: &str = "KEYFALL_PG_PRIMARY_PORT";

/// Takes every login that is not kept back for superusers, and gives them back when it is dropped.
struct Crowd {
    _clients: Vec<tokio_postgres::Client>,
    _runtime: tokio::runtime::Runtime,
}

impl Crowd {
    fn gather(scene: &Scene, user: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut config = tokio_postgres::Config::new();
        config
            .host(scene.servers.text("KEYFALL_PG_HOST"))
            .port(scene.servers.text(PRIMARY).parse().unwrap())
            .dbname("postgres")
            .user(user)
            .password("crowd");
        let mut clients = Vec::new();
        loop {
            match runtime.block_on(config.connect(NoTls)) {
                Ok((client, connection)) => {
                    runtime.spawn(connection);
                    clients.push(client);
                }
                Err(full) => {
                    assert_eq!(full.code().map(|code| code.code()), Some("53300"), "{full}");
                    return Self {
                        _clients: clients,
                        _runtime: runtime,
                    };
                }
            }
        }
    }
}

#[test]
fn a_server_without_room_for_a_login_kills_nobody() {
    let scene = Scene::start_on(Servers::own(&["postgres", "replica"]));
    let user = scene.account("crowd");
    sql(
        scene.servers,
        PRIMARY,
        &format!("create role {user} login password 'crowd'"),
    );
    let proof = json!({
        "refusals": 2, "interval": "200ms", "giveUpAfter": "1m", "keepDeadSecret": "10m", "settling": "2s",
    });
    let old = scene.in_use(Service::Postgres, json!({ "proof": proof }), json!({}));
    let run = scene.rotate("orders");
    scene.until_step(&run, "await_uptake");
    let crowd = Crowd::gather(&scene, &user);
    let new = scene.takes_up("orders", Some(&old));
    let full = login(scene.servers, Service::Postgres, PRIMARY, &new.user, &new.secret);
    assert_eq!(full, Err("53300".to_owned()));
    scene.until_step(&run, "prove_dead");
    scene.kf.wait("the full server was asked", || {
        let seen = scene.seen(&run);
        let full = seen.iter().filter(|line| line.contains("(server_fault)")).count();
        (full >= 3).then_some(())
    });
    assert_eq!(scene.credentials("orders"), ["active", "revoked"]);
    drop(crowd);
    scene.kf.follow(&run, 0);
    assert_eq!(scene.credentials("orders"), ["active", "dead"]);
    scene.receipt(&run, 0);
}
