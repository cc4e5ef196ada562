//! Lists by pages: `?after=&limit=`, and a `Link` to the next page behind a full one.

use axum::Json;
use axum::extract::{FromRequestParts, OriginalUri, Query};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::app::PageQuery;

const DEFAULT: u32 = 100;
const MOST: u32 = 1000;

#[derive(Debug, Default, Deserialize)]
struct Asked {
    after: Option<String>,
    limit: Option<u32>,
}

/// Which page was asked for, and where the next one would be.
pub(super) struct Paging {
    after: Option<String>,
    limit: u32,
    uri: axum::http::Uri,
}

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(asked) = Query::<Asked>::from_request_parts(parts, state).await?;
        let OriginalUri(uri) = OriginalUri::from_request_parts(parts, state)
            .await
            .unwrap_or_else(|never| match never {});
        Ok(Self {
            after: asked.after,
            limit: asked.limit.unwrap_or(DEFAULT).clamp(1, MOST),
            uri,
        })
    }
}

impl Paging {
    pub(super) fn query(&self) -> PageQuery {
        PageQuery {
            after: self.after.clone(),
            limit: Some(self.limit),
        }
    }

    /// `cursor` names a row as the store's order does.
    pub(super) fn answer<T: Serialize>(&self, rows: &[T], cursor: impl Fn(&T) -> String) -> Response {
        let mut response = Json(rows).into_response();
        let is_full = rows.len() >= usize::try_from(self.limit).unwrap_or(usize::MAX);
        if let Some(last) = rows.last().filter(|_| is_full)
            && let Ok(link) = HeaderValue::from_str(&self.next(&cursor(last)))
        {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }

    fn next(&self, after: &str) -> String {
        let others = others(self.uri.query().unwrap_or_default());
        let after: String = after.bytes().map(escaped).collect();
        let mut query: Vec<String> = others.map(str::to_owned).collect();
        query.push(format!("limit={}", self.limit));
        query.push(format!("after={after}"));
        format!("<{}?{}>; rel=\"next\"", self.uri.path(), query.join("&"))
    }
}

/// The pairs of a query that do not say which page.
pub(super) fn others(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !name.is_empty() && name != "after" && name != "limit"
    })
}

/// Percent-encodes what is not unreserved (RFC 3986, 2.3).
fn escaped(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

#[cfg(test)]
mod tests {
    use super::Paging;
    use axum::http::header;

    #[test]
    fn a_full_page_links_to_the_next_and_keeps_the_filter() {
        let paging = Paging {
            after: None,
            limit: 2,
            uri: "/v1/identities?owner=a%20b&after=x&limit=2".parse().unwrap(),
        };
        let full = paging.answer(&["a", "é b"], |row| (*row).to_owned());
        let link = full.headers()[header::LINK].to_str().unwrap();
        assert_eq!(
            link,
            "</v1/identities?owner=a%20b&limit=2&after=%C3%A9%20b>; rel=\"next\""
        );
        let short = paging.answer(&["a"], |row| (*row).to_owned());
        assert!(!short.headers().contains_key(header::LINK));
    }
}
