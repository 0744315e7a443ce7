//! Errors in docker's form: a status code, and a message in JSON.

use hyper::StatusCode;
use mote_spec::foreign::shown;
use serde_json::json;

use super::answer::{self, Answer};
use crate::error::DaemonError;

/// The answer that an error is.
pub(crate) fn answer(error: &DaemonError) -> Answer {
    let status = status(error);
    match status {
        // Docker's clients read no body behind it.
        StatusCode::NOT_MODIFIED => answer::with(status, "", answer::done().into_body()),
        status => answer::json_with(status, &json!({ "message": shown(&error.to_string()) })),
    }
}

fn status(error: &DaemonError) -> StatusCode {
    match error {
        DaemonError::NoContainer(_) | DaemonError::NoImage(_) | DaemonError::Nothing { .. } => {
            StatusCode::NOT_FOUND
        }
        DaemonError::BadRequest(_) => StatusCode::BAD_REQUEST,
        DaemonError::Conflict(_) => StatusCode::CONFLICT,
        DaemonError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        DaemonError::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
        DaemonError::Forbidden(_) => StatusCode::FORBIDDEN,
        DaemonError::NotModified(_) => StatusCode::NOT_MODIFIED,
        DaemonError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
