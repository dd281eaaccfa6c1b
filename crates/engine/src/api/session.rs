//! Sessions: connections over which the engine calls back, for files, secrets and logins of a build.

use http::{HeaderName, HeaderValue};

use crate::{
    Docker, Error,
    api::options::options,
    http::{Call, Hijacked},
    operation::Operation,
};

options! {
    /// Who offers what in a session.
    pub struct Session {
        /// Its id, by which a build names it; unguessable, since whoever knows it can use what the session offers.
        pub id: String,
        /// What it is called in the engine's log.
        pub name: String,
        /// What two sessions have in common whose files the engine may cache together; empty for nothing.
        pub shared_key: String,
        /// The methods that this side serves, such as `/moby.filesync.v1.FileSync/DiffCopy`.
        pub methods: Vec<String>,
    }
}

impl Docker {
    /// Opens a session and gives its connection as it is: on it the engine is the client of HTTP/2 and gRPC without TLS,
    /// and the holder serves the methods it offered. The session ends when the connection is dropped. API: `Session`,
    /// from 1.31 on.
    ///
    /// Nothing in this crate serves such methods; a build that needs them is [`crate::build::Buildx`]'s.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] if a text of `session` cannot stand in a header; [`Error::Unsupported`] before 1.31;
    /// whatever a call may fail with.
    pub async fn open_session(&self, session: &Session) -> Result<Hijacked, Error> {
        let mut call = Call::new(Operation::Session, [])
            .header(HeaderName::from_static("x-docker-expose-session-uuid"), value(&session.id)?)
            .header(HeaderName::from_static("x-docker-expose-session-name"), value(&session.name)?);
        if !session.shared_key.is_empty() {
            let key = value(&session.shared_key)?;
            call = call.header(HeaderName::from_static("x-docker-expose-session-sharedkey"), key);
        }
        for method in &session.methods {
            let method = value(method)?;
            call = call.header(HeaderName::from_static("x-docker-expose-session-grpc-method"), method);
        }
        self.hijack(call, "h2c").await
    }
}

fn value(text: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(text).map_err(|_| Error::invalid(text, "part of a session's header"))
}
