//! SetSessionOptions, GetSessionOptions and CloseSession: the current catalog and schema.

use std::collections::HashMap;

use merganser_proto::flight::{
    CloseSessionResult, GetSessionOptionsResult, SessionOptionValue, SetSessionOptionsRequest,
    SetSessionOptionsResult, close_session_result,
    session_option_value::OptionValue,
    set_session_options_result::{Error, ErrorValue},
};

use super::Flight;
use crate::{session::Session, sql::quote};

const CATALOG: &str = "catalog";
const SCHEMA: &str = "schema";

impl Flight {
    /// Sets the options that are known; tells of each other one what is wrong with it.
    pub(super) async fn set_session_options(
        &self,
        session: &Session,
        mut request: SetSessionOptionsRequest,
    ) -> SetSessionOptionsResult {
        let mut errors = HashMap::new();
        // A schema is looked for in the catalog that is set with it.
        for name in [CATALOG, SCHEMA] {
            if let Some(value) = request.session_options.remove(name)
                && let Err(error) = set(session, name, value).await
            {
                errors.insert(name.to_owned(), error);
            }
        }
        errors.extend(request.session_options.into_keys().map(|name| (name, ErrorValue::InvalidName)));
        let errors = errors.into_iter().map(|(name, value)| (name, Error { value: value.into() })).collect();
        SetSessionOptionsResult { errors }
    }

    /// All options with their values.
    pub(super) fn session_options(&self, session: &Session) -> GetSessionOptionsResult {
        let names = session.names();
        let text = |value| SessionOptionValue { option_value: Some(OptionValue::StringValue(value)) };
        let session_options =
            [(CATALOG.to_owned(), text(names.catalog)), (SCHEMA.to_owned(), text(names.schema))].into();
        GetSessionOptionsResult { session_options }
    }

    /// Ends the session and everything in it, its token included.
    pub(super) fn close_session(&self, session: &Session) -> CloseSessionResult {
        for token in self.sessions.close(session) {
            self.authenticator.revoke(token);
        }
        CloseSessionResult { status: close_session_result::Status::Closed.into() }
    }
}

async fn set(session: &Session, name: &str, value: SessionOptionValue) -> Result<(), ErrorValue> {
    let Some(OptionValue::StringValue(value)) = value.option_value else {
        return Err(ErrorValue::InvalidValue);
    };
    // Drivers set the two options in any order: the same catalog again leaves the schema as it is.
    if name == CATALOG && value == session.names().catalog {
        return Ok(());
    }
    let target = match name {
        CATALOG => format!("{}.main", quote(&value)),
        _ => format!("{}.{}", quote(&session.names().catalog), quote(&value)),
    };
    session.change_names(&format!("USE {target}")).await.map(|_| ()).map_err(|error| {
        tracing::debug!(%error, name, "a session option was refused");
        ErrorValue::InvalidValue
    })
}
