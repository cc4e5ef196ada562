//! Errors as `application/problem+json` (RFC 9457), with a stable `code`. What went wrong inside is logged and not told.

use std::any::Any;

use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::app::AppError;

#[derive(Debug, Serialize)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    code: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            code,
            problems: Vec::new(),
        }
    }

    pub(super) fn unauthorised(why: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorised", why)
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
    }

    pub(super) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the server failed; its log says why, under this answer's x-request-id",
        )
    }

    pub(super) fn busy(why: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", why)
    }

    pub(super) fn unready(detail: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unready", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        response
    }
}

impl From<AppError> for Problem {
    fn from(error: AppError) -> Self {
        let status = match &error {
            AppError::NotAllowed(_) => StatusCode::FORBIDDEN,
            AppError::NotFound { .. } => StatusCode::NOT_FOUND,
            AppError::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            AppError::Conflict { .. } | AppError::Frozen { .. } => StatusCode::CONFLICT,
            AppError::Downstream { .. } => StatusCode::BAD_GATEWAY,
            AppError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            AppError::Internal { .. } => {
                tracing::error!(error = &error as &dyn std::error::Error, "a use case failed");
                return Self::internal();
            }
        };
        let mut problem = Self::new(status, error.code(), error.to_string());
        match error {
            AppError::Invalid { problems } => problem.problems = problems,
            AppError::Store(source) => {
                // Its text says what to do (no room, damaged, closed) and holds no secret.
                problem.detail = format!("the store did not do it: {source}");
                tracing::error!(error = &source as &dyn std::error::Error, "the store did not do it");
            }
            _ => {}
        }
        problem
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::too_large();
        }
        Self::invalid(rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

impl From<BytesRejection> for Problem {
    fn from(_: BytesRejection) -> Self {
        Self::too_large()
    }
}

impl Problem {
    pub(super) fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            "the body is too large, or was not sent to its end; split the manifests",
        )
    }
}

pub(super) async fn no_such_route() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no_such_route",
        "there is nothing at this path; the API is below /v1",
    )
}

pub(super) async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong_method",
        "this path is not asked with this method",
    )
}

/// The panic's own words may hold what nobody should read.
pub(super) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a request handler panicked");
    Problem::internal().into_response()
}

#[cfg(test)]
mod tests {
    use super::Problem;
    use crate::app::AppError;
    use axum::http::header;
    use axum::response::IntoResponse;

    #[test]
    fn a_failure_inside_is_not_told() {
        let inside = AppError::Internal {
            what: "row 7 of /var/lib".to_owned(),
        };
        let problem = Problem::from(inside);
        assert_eq!((problem.status, problem.code), (500, "internal"));
        assert!(!problem.detail.contains("row 7"));
        let response = problem.into_response();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn every_problem_of_the_manifests_is_told() {
        let problems = vec!["a.yaml:1: x".to_owned(), "a.yaml:2: y".to_owned()];
        let problem = Problem::from(AppError::Invalid {
            problems: problems.clone(),
        });
        assert_eq!((problem.status, problem.problems), (422, problems));
    }
}
