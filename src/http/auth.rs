//! Who asks: the bearer token of every request under `/v1`. A token stands for a person and is never logged, echoed or stored here.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::problem::Problem;

/// Lets a request through when its token is somebody's, with the caller in its extensions.
pub(super) async fn require_caller(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let Some(token) = bearer(request.headers()) else {
        return refuse("no bearer token was given");
    };
    match api.app.caller(token).await {
        Ok(Some(caller)) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Ok(None) => refuse("the bearer token is unknown, revoked or expired"),
        Err(error) => Problem::from(error).into_response(),
    }
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim())
        .filter(|token| !token.is_empty())
}

fn refuse(why: &str) -> Response {
    let mut response = Problem::unauthorised(why).into_response();
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

#[cfg(test)]
mod tests {
    use super::bearer;
    use axum::http::{HeaderMap, header};

    #[test]
    fn a_token_is_read_from_one_place_only() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(read("Bearer kf_a").as_deref(), Some("kf_a"));
        assert_eq!(read("bearer kf_a").as_deref(), Some("kf_a"));
        for none in ["kf_a", "Basic kf_a", "Bearer ", "Bearer"] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
