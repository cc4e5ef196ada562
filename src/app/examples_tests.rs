//! The manifests of `deploy/examples` pass every check that a plan makes, so that the first thing a newcomer applies is never wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::ServerGrants;

use super::manifest::{ManifestFile, read};
use super::planning::{Draft, Means, Present, draft};
use super::positions;
use crate::clock::Environment;

/// A certificate whose key was never kept.
const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----
MIIBojCCAUegAwIBAgIUdLqibabsOoeg7vtz5aB6eEHEJAIwCgYIKoZIzj0EAwIw
JTEjMCEGA1UEAwwaYW4gYXV0aG9yaXR5IG9mIGFuIGV4YW1wbGUwIBcNMjYxMTIx
MDUwMjI2WhgPMjEyNjEwMjgwNTAyMjZaMCUxIzAhBgNVBAMMGmFuIGF1dGhvcml0
eSBvZiBhbiBleGFtcGxlMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAESk1/p+YS
yhK1Qcf3vxM4wuAkVcUIKm8SaSp4R8zPCtKkCGq90io75SKkbW5gwv7fUUiCfclL
imKYbtxg2npM7KNTMFEwHQYDVR0OBBYEFMdcq+lJ4w3PrRP6JT30dzDq12qQMB8G
A1UdIwQYMBaAFMdcq+lJ4w3PrRP6JT30dzDq12qQMA8GA1UdEwEB/wQFMAMBAf8w
CgYIKoZIzj0EAwIDSQAwRgIhAOo5487WLr6688L8MxP46VV1hyAMXFUinFwtHOki
xazZAiEAquYn2T/ckD/ZKq9c8HfRVCDtaNvZfHQby37/BR00PoY=
-----END CERTIFICATE-----
";

/// Every variable that `deploy/examples/README.md` names.
fn values() -> Vec<(&'static str, String)> {
    let expires = Timestamp::from_second(1_800_000_000).unwrap();
    vec![
        ("KEYFALL_PG_HOST", "127.0.0.1".to_owned()),
        ("KEYFALL_PG_PRIMARY_PORT", "5432".to_owned()),
        ("KEYFALL_PG_REPLICA_PORT", "5433".to_owned()),
        ("KEYFALL_PG_ADMIN_USER", "keyfall_admin".to_owned()),
        ("KEYFALL_PG_CA", AUTHORITY.replace('\n', "\\n")),
        ("KEYFALL_PG_CA_FILE", "/etc/keyfall/ca.crt".to_owned()),
        ("KEYFALL_REDIS_HOST", "127.0.0.1".to_owned()),
        ("KEYFALL_REDIS_PORT", "6379".to_owned()),
        ("KEYFALL_REDIS2_PORT", "6380".to_owned()),
        ("KEYFALL_REDIS_ADMIN_USER", "keyfall-admin".to_owned()),
        ("KEYFALL_EXAMPLE_EXPIRES", expires.to_string()),
    ]
}

fn examples() -> Vec<ManifestFile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    paths.sort();
    let render = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let text = values()
            .iter()
            .fold(text, |text, (name, value)| text.replace(&format!("${{{name}}}"), value));
        assert!(!text.contains("${"), "{} uses an undocumented variable", path.display());
        ManifestFile {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            text,
        }
    };
    paths.into_iter().map(render).collect()
}

fn planned(files: &[ManifestFile]) -> Result<Draft, Vec<String>> {
    let grants = ServerGrants {
        file_roots: BTreeMap::from([("apps".to_owned(), PathBuf::from("/srv/apps"))]),
        ..ServerGrants::default()
    };
    let env = Environment::of_this_machine();
    let means = Means {
        kinds: &keyfall_connectors::registry(),
        grants: &grants,
        env: &env,
        now: Timestamp::from_second(1_800_000_000).unwrap() - SignedDuration::from_hours(24),
    };
    draft(read(files)?, &Present::default(), &means).map_err(|problems| positions::told(files, &problems))
}

#[test]
fn deploy_examples_are_valid_manifests() {
    let draft = planned(&examples()).unwrap_or_else(|problems| panic!("{}", problems.join("\n")));
    // Two control identities beside the four that are written.
    assert_eq!(draft.actions.len(), 6, "{:?}", draft.consequences);
    assert!(draft.warnings.iter().any(|one| one.contains("orders-db-admin")));
}

#[test]
fn an_example_that_names_an_unknown_root_or_owner_is_found() {
    for (written, wrong, found) in [
        (
            "root: apps",
            "root: app",
            "`app`, which is none of this server's file roots",
        ),
        ("owner: orders\n", "owner: nobody\n", "owner `nobody` is not registered"),
        (
            "system: orders-db\n",
            "system: orders\n",
            "system `orders` is not registered",
        ),
        ("rules: [\"~session:*\"", "rules: [\">session\"", "access.rules"),
        ("    owner: orders_app", "    owners: orders_app", "access"),
    ] {
        let mut files = examples();
        files
            .iter_mut()
            .for_each(|file| file.text = file.text.replace(written, wrong));
        let problems = planned(&files).unwrap_err();
        assert!(problems.iter().any(|one| one.contains(found)), "{found}: {problems:?}");
    }
}

#[test]
fn the_plan_names_the_accounts_that_the_connector_will_make() {
    let mut files = examples();
    files
        .iter_mut()
        .for_each(|file| file.text = file.text.replace("  strategy: dual_slot\n", ""));
    let draft = planned(&files).unwrap();
    let told = |start: &str| {
        let found = draft.consequences.iter().find(|one| one.contains(start));
        found.unwrap_or_else(|| panic!("{:?}", draft.consequences)).clone()
    };
    let worker = told("for cache-worker is created");
    assert!(
        worker.contains("(cache-worker)") && !worker.contains("adds"),
        "{worker}"
    );
    let orders = told("for orders-api is created");
    assert!(
        orders.contains("(orders_api_a)") && orders.contains("adds orders_api_b"),
        "{orders}"
    );
}
