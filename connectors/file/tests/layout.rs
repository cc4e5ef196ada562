//! What is written, and whether its readers get it back.

use keyfall_sdk::ErrorKind;
use serde_json::{Value, json};

use super::{SECRET, Setup, names, raw, template};

const NASTY: &str = r#"p"a'ss$w`o:r@d/%2F\ #;é{{x}}"#;

#[tokio::test]
async fn every_layout_gives_the_secret_back_to_its_reader() {
    let setup = Setup::new();
    setup.deliver(raw("t"), NASTY).await.unwrap();
    assert_eq!(setup.text("t"), NASTY);

    let json = json!({ "root": "apps", "path": "t", "layout": "json", "keys": { "secret": "password" } });
    setup.deliver(json, NASTY).await.unwrap();
    let read: Value = serde_json::from_str(&setup.text("t")).unwrap();
    let expected = json!({ "username": "app", "host": "db.example.org", "port": "5432", "database": "bill",
                           "password": NASTY, "version": "v7" });
    assert_eq!(read, expected);

    let dotenv = json!({ "root": "apps", "path": "t", "layout": "dotenv", "keys": { "username": "DB_USER" } });
    for secret in [
        NASTY,
        "plain",
        "with space",
        "a$b`c",
        "it's",
        r"back\slash",
        "\"",
        "-",
        "#x",
        "a=b",
        "~",
    ] {
        setup.deliver(dotenv.clone(), secret).await.unwrap();
        assert!(
            setup
                .text("t")
                .contains("DB_USER=app\nHOST=db.example.org\nKEYFALL_VERSION=v7\n")
        );
        let script = format!(". {}; printf %s \"$PASSWORD\"", setup.root().join("t").display());
        assert_eq!(shell(&script), secret, "read by a shell");
    }
    setup.deliver(template("x={{ secret|shell }}\n"), NASTY).await.unwrap();
    let script = format!(". {}; printf %s \"$x\"", setup.root().join("t").display());
    assert_eq!(shell(&script), NASTY);
}

fn shell(script: &str) -> String {
    let output = std::process::Command::new("/bin/sh")
        .arg("-c")
        .arg(script)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn templates_escape_for_their_place() {
    let setup = Setup::new();
    let encoded = "p%22a%27ss%24w%60o%3Ar%40d%2F%252F%5C%20%23%3B%C3%A9%7B%7Bx%7D%7D";
    let expected = [
        (
            "dsn-postgres",
            format!("postgresql://app:{encoded}@db.example.org:5432/bill"),
        ),
        ("redis-url", format!("redis://app:{encoded}@db.example.org:5432")),
        ("rediss-url", format!("rediss://app:{encoded}@db.example.org:5432")),
        (
            "jdbc-postgres",
            format!("jdbc:postgresql://db.example.org:5432/bill?user=app&password={encoded}"),
        ),
        (
            "pgpass",
            "db.example.org:5432:bill:app:p\"a'ss$w`o\\:r@d/%2F\\\\ #;é{{x}}\n".to_owned(),
        ),
        ("{{ secret|ini }}", "\"p\\\"a'ss$w`o:r@d/%2F\\\\ #;é{{x}}\"".to_owned()),
        ("{{ secret|json }}", serde_json::to_string(NASTY).unwrap()),
        ("{{ secret }} {{ version }}\n", format!("{NASTY} v7\n")),
    ];
    for (text, rendered) in expected {
        setup.deliver(template(text), NASTY).await.unwrap();
        assert_eq!(setup.text("t"), rendered, "{text}");
    }
}

#[tokio::test]
async fn a_template_that_cannot_be_filled_is_an_error_that_shows_nothing() {
    let setup = Setup::new();
    for text in [
        "{{ secret }} {{ nickname }}",
        "{% if false %}{{ secret }}{% endif %}",
        "{{ secret|lower }}",
        "{{ secret + 1 }}",
        "{{ secret.x.y }}",
        "{% for a in secret %}{% for b in secret %}{% for c in secret %}{% for d in secret %}x{% endfor %}{% endfor %}\
         {% endfor %}{% endfor %}",
        "{% include secret %}",
    ] {
        let error = setup.deliver(template(text), SECRET).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{text}: {error}");
    }
    for secret in ["two\nlines", "nul\0", "return\r", "\u{1b}[2J"] {
        for target in [
            template("{{ secret }}"),
            json!({ "root": "apps", "path": "t", "layout": "dotenv" }),
        ] {
            let error = setup.deliver(target, secret).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{secret:?}");
        }
    }
    assert!(setup.deliver(raw("t"), "").await.is_err());
    assert!(names(&setup.root()).is_empty());
}
