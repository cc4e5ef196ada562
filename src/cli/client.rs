//! The one HTTP client of the command line: rustls, no proxy from the environment, no redirect, time limits, and a token that only ever
//! travels over TLS or loopback.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LINK};
use reqwest::{Certificate, Method, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use super::context::Context;
use super::error::{CliError, Problem};
use crate::owner_only::{self, OpenError};

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(120);
/// Longer than the pause between two heartbeats of an event stream.
const SILENCE: Duration = Duration::from_secs(45);
const LONGEST_TOKEN: u64 = 4096;

/// A query's parameters; those without a value are left out.
pub(super) type Query<'a> = &'a [(&'a str, Option<String>)];

pub(super) struct Client {
    http: reqwest::Client,
    server: Url,
    token: Option<HeaderValue>,
}

impl Client {
    /// # Errors
    /// The URL is none or would carry the token in clear, or a file cannot be read.
    pub(super) fn new(context: &Context) -> Result<Self, CliError> {
        let server = server_url(context.server())?;
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .user_agent(concat!("keyfall/", env!("CARGO_PKG_VERSION")));
        if server.scheme() == "http" {
            // Without TLS no certificate is looked at, and a machine without a store of them can still be worked on.
            builder = builder.tls_certs_only([]);
        } else if let Some(file) = &context.ca_file {
            builder = builder.tls_certs_only(authorities(file)?);
        }
        let http = builder
            .build()
            .map_err(|error| CliError::Failed(format!("no HTTP client can be built: {error}; try --ca-file FILE")))?;
        let token = context.token_file.as_deref().map(read_token).transpose()?;
        Ok(Self { http, server, token })
    }

    /// # Errors
    /// As [`Client::send`], or the answer is not what was expected.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str], query: Query<'_>) -> Result<T, CliError> {
        let response = self
            .send(self.request(Method::GET, path, query)?.timeout(ANSWER))
            .await?;
        self.json(response).await
    }

    /// The exact bytes of the answer.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(super) async fn get_bytes(&self, path: &[&str], query: Query<'_>) -> Result<Vec<u8>, CliError> {
        let response = self
            .send(self.request(Method::GET, path, query)?.timeout(ANSWER))
            .await?;
        let bytes = response.bytes().await.map_err(|source| self.interrupted(source))?;
        Ok(bytes.to_vec())
    }

    /// All rows of a list, page by page, no more than `limit`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(super) async fn list(&self, path: &[&str], query: Query<'_>, limit: usize) -> Result<Vec<Value>, CliError> {
        let mut rows = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let wanted = limit.saturating_sub(rows.len()).min(500);
            let page = [("after", after.clone()), ("limit", Some(wanted.to_string()))];
            let query = [query, &page].concat();
            let response = self
                .send(self.request(Method::GET, path, &query)?.timeout(ANSWER))
                .await?;
            let next = response.headers().get(LINK).and_then(|link| self.next_page(link));
            let page: Vec<Value> = self.json(response).await?;
            let is_empty = page.is_empty();
            rows.extend(page);
            match next {
                Some(next) if rows.len() < limit && !is_empty => after = Some(next),
                _ => break,
            }
        }
        rows.truncate(limit);
        Ok(rows)
    }

    /// # Errors
    /// As [`Client::get`].
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &Value) -> Result<T, CliError> {
        let request = self.request(Method::POST, path, &[])?.timeout(ANSWER).json(body);
        let response = self.send(request).await?;
        self.json(response).await
    }

    /// # Errors
    /// As [`Client::get`].
    pub(super) async fn put_bytes<T: DeserializeOwned>(&self, path: &[&str], body: Vec<u8>) -> Result<T, CliError> {
        let request = self
            .request(Method::PUT, path, &[])?
            .timeout(ANSWER)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(body);
        let response = self.send(request).await?;
        self.json(response).await
    }

    /// An event stream from behind the event `last`.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(super) async fn events(&self, path: &[&str], last: Option<u32>) -> Result<Response, CliError> {
        let mut request = self
            .request(Method::GET, path, &[])?
            .header(ACCEPT, "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last.to_string());
        }
        self.send(request).await
    }

    /// The stream ended before its end.
    #[must_use]
    pub(super) fn interrupted(&self, source: reqwest::Error) -> CliError {
        CliError::Interrupted {
            server: self.server.to_string(),
            source: source.without_url(),
        }
    }

    fn request(&self, method: Method, path: &[&str], query: Query<'_>) -> Result<RequestBuilder, CliError> {
        let mut url = self.server.clone();
        url.path_segments_mut()
            .map_err(|()| CliError::Usage(format!("{} is not the URL of a server", self.server)))?
            .pop_if_empty()
            .push("v1")
            .extend(path);
        let given: Vec<_> = query
            .iter()
            .filter_map(|(name, value)| Some((*name, value.as_deref()?)))
            .collect();
        let mut request = self.http.request(method, url).query(&given);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        Ok(request)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|source| CliError::Unreachable {
            server: self.server.to_string(),
            source: source.without_url(),
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        let problem = serde_json::from_slice(&body).unwrap_or_else(|_| Problem {
            status: status.as_u16(),
            title: format!("the server answered {status}, and not as Keyfall does: is something else at this address?"),
            ..Problem::default()
        });
        Err(CliError::Refused(problem))
    }

    async fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T, CliError> {
        let bytes = response.bytes().await.map_err(|source| self.interrupted(source))?;
        serde_json::from_slice(&bytes).map_err(|error| CliError::Answer {
            what: error.to_string(),
        })
    }

    /// `after` of `<…?after=…>; rel="next"`.
    fn next_page(&self, link: &HeaderValue) -> Option<String> {
        let link = link.to_str().ok()?;
        let target = link.strip_suffix(">; rel=\"next\"")?.strip_prefix('<')?;
        let url = self.server.join(target).ok()?;
        let after = url.query_pairs().find(|(name, _)| name == "after")?;
        Some(after.1.into_owned())
    }
}

fn server_url(text: &str) -> Result<Url, CliError> {
    let bad = |why: &str| CliError::Usage(format!("--server {text}: {why}; write https://HOST[:PORT]"));
    let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    let is_loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => return Err(bad("it names no host")),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback => Ok(url),
        "http" => Err(bad(
            "your token would travel in clear, which is done to loopback addresses only",
        )),
        _ => Err(bad("it is neither http nor https")),
    }
}

fn authorities(file: &Path) -> Result<Vec<Certificate>, CliError> {
    let pem = std::fs::read(file).map_err(|source| CliError::File {
        doing: "read the authority's certificate",
        path: file.to_owned(),
        source,
    })?;
    Certificate::from_pem_bundle(&pem)
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| CliError::Usage(format!("--ca-file {}: it holds no certificate in PEM", file.display())))
}

fn read_token(file: &Path) -> Result<HeaderValue, CliError> {
    let failed = |source| CliError::File {
        doing: "read the token file",
        path: file.to_owned(),
        source,
    };
    let opened = owner_only::open(file).map_err(|error| match error {
        OpenError::Read(source) => failed(source),
        OpenError::Exposed { mode } => {
            let name = file.display();
            CliError::Failed(format!(
                "the token file {name} can be read by others (mode {mode:04o}): run `chmod 600 {name}`, and ask for another token if others use this machine"
            ))
        }
    })?;
    let mut text = Zeroizing::new(String::with_capacity(LONGEST_TOKEN as usize));
    opened.take(LONGEST_TOKEN).read_to_string(&mut text).map_err(failed)?;
    let header = Zeroizing::new(format!("Bearer {}", text.trim()));
    let mut value = HeaderValue::from_str(&header)
        .map_err(|_| CliError::Failed(format!("the token file {} does not hold a token", file.display())))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::server_url;

    #[test]
    fn a_token_travels_in_clear_to_loopback_only() {
        for good in [
            "http://127.0.0.1:7411",
            "http://localhost",
            "http://[::1]:1",
            "https://kf.example.com",
        ] {
            assert!(server_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://kf.example.com",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
            "kf",
            "http://127.0.0.1.example.com",
        ] {
            assert!(server_url(bad).is_err(), "{bad}");
        }
    }
}
