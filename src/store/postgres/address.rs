//! Where the database is and how it is spoken to. Knows the settings of a connection, and opens none.
//!
//! There is nothing between "encrypted as asked" and "refused": no mode falls back to a weaker one.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::{Result, StoreError};
use super::connection::CONNECT;
use super::tls::{self, Certificates, Trust};

pub(super) struct Address {
    pub(super) config: Config,
    pub(super) tls: Tls,
    /// The address for people, without a password.
    pub(super) shown: String,
    /// What no other process calls its sessions.
    pub(super) tag: String,
}

#[derive(Clone)]
pub(super) enum Tls {
    Off,
    On(MakeRustlsConnect),
}

/// What the address says of TLS.
#[derive(Default)]
struct Asked {
    mode: Option<String>,
    root: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

fn wrong(why: impl std::fmt::Display) -> StoreError {
    StoreError::Open {
        why: format!("its address is not usable: {why}"),
    }
}

impl Address {
    /// `postgres://USER[:PASSWORD]@HOST[:PORT][,HOST…]/DATABASE[?OPTION=VALUE&…]`, with the options of libpq that tokio-postgres knows, and
    /// `sslmode` (`disable`, `require`, `verify-ca`, `verify-full`), `sslrootcert`, `sslcert`, `sslkey`. `name` is what the sessions are called.
    /// `tag` is a word that nobody else has.
    pub(super) fn parse(url: &str, name: &str, tag: String) -> Result<Self> {
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(wrong("it must begin with postgres:// or postgresql://"));
        }
        let (base, options) = parts(url)?;
        let mut asked = Asked::default();
        let mut theirs = Vec::new();
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "sslmode" => asked.mode = Some(value.to_owned()),
                "sslrootcert" => asked.root = Some(decoded(value)?.into()),
                "sslcert" => asked.certificate = Some(decoded(value)?.into()),
                "sslkey" => asked.key = Some(decoded(value)?.into()),
                "application_name" | "target_session_attrs" => {
                    return Err(wrong(format!("`{name}` is Keyfall's own to set, leave it out")));
                }
                _ => theirs.push(option),
            }
        }
        let text = match theirs.is_empty() {
            true => base.to_owned(),
            false => format!("{base}?{}", theirs.join("&")),
        };
        let mut config: Config = text.parse().map_err(|error| unreadable(url, &error))?;
        let shown = shown(&config);
        let tls = set_up(&mut config, asked)?;
        complete(&mut config, name)?;
        Ok(Self {
            config,
            tls,
            shown,
            tag,
        })
    }
}

/// What stands before the options, and the options. A question mark in the password begins none.
fn parts(url: &str) -> Result<(&str, &str)> {
    let credentials = url.find('@').map_or(0, |at| at + 1);
    let (before, rest) = url.split_at(credentials);
    // The parser would take the rest of the password for the server's name, which is shown.
    if rest.contains('@') {
        return Err(wrong("an `@` in the password or in an option is written %40"));
    }
    let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
    let end = before.len() + place.len();
    Ok((url.get(..end).unwrap_or(url), options))
}

/// The parser names what it does not know. Without an `@` that may be a piece of the password.
fn unreadable(url: &str, error: &tokio_postgres::Error) -> StoreError {
    match url.contains('@') {
        true => wrong(super::fault::chain(error)),
        false => wrong("write postgres://USER:PASSWORD@HOST[:PORT]/DATABASE[?OPTION=VALUE&…]"),
    }
}

fn complete(config: &mut Config, name: &str) -> Result<()> {
    if config.get_hosts().is_empty() {
        return Err(wrong("name the server: postgres://USER@HOST/DATABASE"));
    }
    if config.get_dbname().is_none() || config.get_user().is_none() {
        return Err(wrong("name the user and the database: postgres://USER@HOST/DATABASE"));
    }
    config.application_name(name);
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT);
    }
    config.keepalives(true);
    config.keepalives_idle(Duration::from_secs(20));
    config.keepalives_interval(Duration::from_secs(5));
    config.keepalives_retries(3);
    config.tcp_user_timeout(Duration::from_secs(30));
    Ok(())
}

fn set_up(config: &mut Config, asked: Asked) -> Result<Tls> {
    let is_near = config.get_hosts().iter().all(is_near);
    let default = if is_near { "disable" } else { "verify-full" };
    let trust = match asked.mode.as_deref().unwrap_or(default) {
        "disable" if is_near => {
            config.ssl_mode(SslMode::Disable);
            return Ok(Tls::Off);
        }
        "disable" => {
            return Err(wrong(
                "without TLS only a server on this machine is spoken to; use sslmode=verify-full",
            ));
        }
        // Whoever answers must know the password's verifier and bind the login to the certificate that was shown.
        "require" if asked.root.is_none() => Trust::WhoeverBindsTheLogin,
        "require" | "verify-ca" => Trust::Authority,
        "verify-full" => Trust::AuthorityAndName,
        mode @ ("allow" | "prefer") => {
            return Err(wrong(format!(
                "sslmode={mode} would speak without TLS when somebody in between wants it; use verify-full"
            )));
        }
        _ => return Err(wrong("sslmode is one of disable, require, verify-ca, verify-full")),
    };
    config.ssl_mode(SslMode::Require);
    let has_password = config.get_password().is_some();
    if trust == Trust::WhoeverBindsTheLogin && !has_password {
        return Err(wrong(
            "sslmode=require without a password and without sslrootcert proves nothing of the server; use verify-full",
        ));
    }
    // The password is shown to nobody but in a login that is bound to this very connection; without one there is nothing to show.
    if has_password {
        config.channel_binding(ChannelBinding::Require);
    }
    let certificates = Certificates {
        roots: asked.root.as_deref(),
        own: match (asked.certificate.as_deref(), asked.key.as_deref()) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(wrong("sslcert and sslkey belong together: give both, or neither")),
        },
    };
    Ok(Tls::On(MakeRustlsConnect::new(tls::config(trust, &certificates)?)))
}

/// Reached without a network.
fn is_near(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
    }
}

fn shown(config: &Config) -> String {
    let hosts: Vec<String> = (config.get_hosts().iter().enumerate())
        .map(|(place, host)| {
            let port = config
                .get_ports()
                .get(place)
                .or(config.get_ports().first())
                .unwrap_or(&5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        })
        .collect();
    let user = config.get_user().unwrap_or_default();
    format!(
        "postgres://{user}@{}/{}",
        hosts.join(","),
        config.get_dbname().unwrap_or_default()
    )
}

/// Percent signs of an address in a path.
fn decoded(value: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(wrong("a percent sign stands before two hexadecimal digits"));
        };
        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    String::from_utf8(bytes).map_err(|_| wrong("a path in it is no text"))
}

/// A file that the address names.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| wrong(format!("{}: {error}", path.display())))
}

pub(super) fn unusable(why: impl std::fmt::Display) -> StoreError {
    wrong(why)
}

#[cfg(test)]
mod tests {
    use super::super::super::Result;
    use super::{Address, Tls};

    fn parsed(url: &str) -> Result<Address> {
        Address::parse(url, "keyfall/main", "tag".to_owned())
    }

    fn refused(url: &str) -> String {
        match parsed(url) {
            Ok(_) => panic!("{url} was taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_would_be_weaker_than_asked_is_refused() {
        for (url, why) in [
            (
                "postgres://u:secret@db.example.com/d?sslmode=disable",
                "only a server on this machine",
            ),
            ("postgres://u:secret@db.example.com/d?sslmode=prefer", "without TLS"),
            ("postgres://u:secret@127.0.0.1/d?sslmode=allow", "without TLS"),
            ("postgres://u@db.example.com/d?sslmode=require", "proves nothing"),
            ("postgres://u:secret@db.example.com/d?sslmode=none", "one of"),
            ("postgres://u:secret@db.example.com/d?sslcert=/x", "belong together"),
            ("postgres://u:secret@db.example.com/d?sslrootcert=/nowhere", "/nowhere"),
            ("postgres://u:secret@db.example.com/d?colour=red", "colour"),
            (
                "postgres://u:secret@db.example.com/d?target_session_attrs=any",
                "Keyfall's own",
            ),
            ("postgres://u:secret@db.example.com", "the database"),
            ("postgres:///d?user=u", "name the server"),
            ("mysql://u:secret@db.example.com/d", "it must begin with postgres://"),
            ("postgres://u:sec@ret-secret@db.example.com/d", "%40"),
            ("postgres://u:sec?secret=x", "USER:PASSWORD@HOST"),
            ("postgres://u:se?cret-secret", "USER:PASSWORD@HOST"),
        ] {
            let text = refused(url);
            assert!(text.contains(why) && !text.contains("secret"), "{url}: {text}");
        }
    }

    #[test]
    fn only_this_machine_is_spoken_to_without_tls_and_no_address_shows_its_password() {
        for near in [
            "postgres://u:secret@127.0.0.1:5433/d",
            "postgresql://u:secret@localhost/d?connect_timeout=3",
            "postgres://u:a/b?c&&secret#d@localhost/d",
        ] {
            let address = parsed(near).unwrap();
            assert!(
                matches!(address.tls, Tls::Off) && !address.shown.contains("secret"),
                "{near}"
            );
        }
        let far = parsed("postgres://u:secret@a.example.com,b.example.com:5433/d").unwrap();
        assert!(matches!(far.tls, Tls::On(_)));
        assert_eq!(far.shown, "postgres://u@a.example.com:5432,b.example.com:5433/d");
    }
}
