//! Requests, their deadlines, and the pool of idle connections.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{
    Endpoint, Error, error,
    transport::{self, Sender, StreamBody},
    version::Negotiated,
};

/// Idle connections kept.
const IDLE: usize = 8;

/// Deadline of an ordinary call, in seconds.
pub(crate) const ORDINARY: Duration = Duration::from_secs(30);

/// Largest ordinary answer, in bytes.
pub(crate) const ANSWER_CAP: usize = 64 * 1024 * 1024;

/// Largest answer that reports an error, in bytes.
const ERROR_CAP: usize = 4 * 1024 * 1024;

/// Client of one engine. Cheap to clone; clones share their connections and the negotiated version of the API.
///
/// Ordinary calls have a deadline of 30 s, connecting has 5 s within it. Calls that return a stream have a deadline
/// until the engine's head of answer and none after it; dropping the stream closes its connection.
#[derive(Clone)]
pub struct Docker {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    host: String,
    idle: Mutex<Vec<Sender>>,
    negotiated: Mutex<Negotiated>,
}

impl fmt::Debug for Docker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Docker").field("endpoint", &self.inner.endpoint).finish_non_exhaustive()
    }
}

/// One call of the API.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path without the version.
    pub(crate) path: String,
    pub(crate) query: Vec<(&'static str, String)>,
    /// False only for what negotiation itself asks.
    pub(crate) versioned: bool,
    pub(crate) body: Bytes,
    pub(crate) content_type: Option<&'static str>,
    /// Of the whole call, or for a stream of the time until the head of the answer.
    pub(crate) deadline: Option<Duration>,
    pub(crate) limit: usize,
}

impl Call {
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            versioned: true,
            body: Bytes::new(),
            content_type: None,
            deadline: Some(ORDINARY),
            limit: ANSWER_CAP,
        }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    pub(crate) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(crate) fn flag(self, name: &'static str, value: bool) -> Self {
        if value { self.query(name, "1") } else { self }
    }

    pub(crate) fn body(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.content_type = Some(content_type);
        self.body = body.into();
        self
    }

    pub(crate) fn deadline(mut self, deadline: Option<Duration>) -> Self {
        self.deadline = deadline;
        self
    }

    pub(crate) fn unversioned(mut self) -> Self {
        self.versioned = false;
        self
    }

    /// What the call is, for messages: no query, for filters may hold what people would not want in a log.
    fn what(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// An ordinary answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Docker {
    /// A client of the engine at `endpoint`. Nothing is connected before the first call.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        let host = match &endpoint {
            Endpoint::Unix(_) => "localhost".to_owned(),
            Endpoint::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Endpoint::Tcp { host, port } => format!("{host}:{port}"),
        };
        let inner = Inner { endpoint, host, idle: Mutex::default(), negotiated: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Where the engine listens.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// Makes an ordinary call and reads its JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        let what = call.what();
        let answer = self.call(call).await?;
        serde_json::from_slice(&answer.body).map_err(|source| Error::Decode { what, source })
    }

    /// Makes an ordinary call. Statuses from 400 on are errors.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, Error> {
        within(&call, self.exchange(&call)).await
    }

    async fn exchange(&self, call: &Call) -> Result<Answer, Error> {
        let target = self.target(call).await?;
        // Only what may be repeated goes out on a connection that the engine may just be closing: whether a lost
        // `POST` had an effect, nobody can tell.
        if matches!(call.method, Method::GET | Method::HEAD)
            && let Some(mut sender) = self.idle_connection().await
        {
            match sender.send_request(self.request(call, &target)?).await {
                Ok(response) => return self.read(call, response, sender).await,
                Err(error) if error::broke_off(&error) => {}
                Err(source) => return Err(Error::Http { what: call.what(), source }),
            }
        }
        let mut sender = transport::connect(&self.inner.endpoint).await?;
        let response = sender
            .send_request(self.request(call, &target)?)
            .await
            .map_err(|source| Error::Http { what: call.what(), source })?;
        self.read(call, response, sender).await
    }

    async fn read(&self, call: &Call, response: http::Response<Incoming>, sender: Sender) -> Result<Answer, Error> {
        let (parts, mut body) = response.into_parts();
        let limit = if is_failure(parts.status) { ERROR_CAP } else { call.limit };
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|source| Error::Http { what: call.what(), source })?;
            if let Ok(data) = frame.into_data() {
                append(&mut bytes, &data, limit, || call.what())?;
            }
        }
        // Only here has the whole answer been read, so that the connection can carry another one.
        self.keep(sender);
        if is_failure(parts.status) {
            return Err(error::from_answer(parts.status.as_u16(), &bytes, call.method.as_str(), &call.path));
        }
        Ok(Answer { status: parts.status, headers: parts.headers, body: bytes })
    }

    /// Makes a call whose answer is a stream, on a connection of its own.
    pub(crate) async fn open(&self, call: Call) -> Result<(HeaderMap, StreamBody), Error> {
        within(&call, self.open_stream(&call)).await
    }

    async fn open_stream(&self, call: &Call) -> Result<(HeaderMap, StreamBody), Error> {
        let target = self.target(call).await?;
        let request = self.request(call, &target)?;
        let (response, mut body) = StreamBody::open(&self.inner.endpoint, request, call.what()).await?;
        let status = response.status();
        if !is_failure(status) {
            return Ok((response.into_parts().0.headers, body));
        }
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await {
            append(&mut bytes, &data?, ERROR_CAP, || call.what())?;
        }
        Err(error::from_answer(status.as_u16(), &bytes, call.method.as_str(), &call.path))
    }

    async fn target(&self, call: &Call) -> Result<String, Error> {
        let mut target = if call.versioned {
            // Boxed because negotiation calls back into here.
            let version = Box::pin(self.negotiate()).await?;
            format!("/v{version}{}", call.path)
        } else {
            call.path.clone()
        };
        for (index, (name, value)) in call.query.iter().enumerate() {
            target.push(if index == 0 { '?' } else { '&' });
            target.push_str(name);
            target.push('=');
            target.extend(percent_encoding::utf8_percent_encode(value, QUERY));
        }
        Ok(target)
    }

    fn request(&self, call: &Call, target: &str) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(target)
            .header(header::HOST, &self.inner.host)
            .header(header::USER_AGENT, concat!("Berth/", env!("CARGO_PKG_VERSION")));
        if let Some(content_type) = call.content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        request.body(Full::new(call.body.clone())).map_err(|source| Error::Request { what: call.what(), source })
    }

    async fn idle_connection(&self) -> Option<Sender> {
        loop {
            let mut sender = self.idle().pop()?;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    fn keep(&self, sender: Sender) {
        let mut idle = self.idle();
        idle.retain(|kept| !kept.is_closed());
        if idle.len() < IDLE && !sender.is_closed() {
            idle.push(sender);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Sender>> {
        self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn negotiated(&self) -> MutexGuard<'_, Negotiated> {
        self.inner.negotiated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const QUERY: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn is_failure(status: StatusCode) -> bool {
    // 304 is the engine's "it already is"; other redirects mean that something else answers there.
    !status.is_success() && status != StatusCode::NOT_MODIFIED
}

async fn within<T>(call: &Call, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match call.deadline {
        None => work.await,
        Some(deadline) => match timeout(deadline, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { what: call.what(), seconds: deadline.as_secs() }),
        },
    }
}

fn append(bytes: &mut Vec<u8>, data: &[u8], limit: usize, what: impl Fn() -> String) -> Result<(), Error> {
    if bytes.len() + data.len() > limit {
        return Err(Error::TooLarge { what: what(), limit });
    }
    bytes.extend_from_slice(data);
    Ok(())
}
