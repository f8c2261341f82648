//! Answers that are none.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::coordinator::JobEnded;
use crate::model::shown;

/// The header of an answer that says that what is committed cannot be read.
pub(crate) const UNREADABLE: header::HeaderName =
    header::HeaderName::from_static("wasm-host-unreadable");

/// An answer that is not one: a status code, and a sentence with everything that the error has to say.
pub(super) enum Refused {
    Because(StatusCode, String),
    /// What is committed cannot be read: the host's failure, of a kind of its own for the command line.
    Unreadable(String),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let said = |text: String| Json(BTreeMap::from([("error", text)]));
        match self {
            Refused::Because(status, text) => (status, said(text)).into_response(),
            Refused::Unreadable(text) => {
                let headers = [(UNREADABLE, "true")];
                (StatusCode::INTERNAL_SERVER_ERROR, headers, said(text)).into_response()
            }
        }
    }
}

impl Refused {
    pub(super) fn of(status: StatusCode, error: &dyn std::error::Error) -> Refused {
        Refused::Because(status, shown::chain(error))
    }
}

impl From<JobEnded> for Refused {
    fn from(error: JobEnded) -> Refused {
        Refused::of(StatusCode::SERVICE_UNAVAILABLE, &error)
    }
}

impl From<crate::state::StateError> for Refused {
    fn from(error: crate::state::StateError) -> Refused {
        Refused::Unreadable(shown::chain(&error))
    }
}
