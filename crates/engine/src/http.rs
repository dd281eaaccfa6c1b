//! Requests, their deadlines, and the pool of idle connections.

mod body;
mod call;
mod hijack;
pub(crate) mod lenient;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

pub(crate) use self::call::{Call, Gate, ORDINARY, Older, SLOW};
pub use self::{body::RequestBody, hijack::Hijacked};
use crate::{
    Endpoint, Error,
    decode::json_stream::JsonStream,
    error,
    transport::{self, ConnectOptions, Route, Sender, StreamBody},
    version::Negotiated,
};

/// Idle connections kept.
const IDLE: usize = 8;
/// And for how long. An engine that is not used may be put to sleep, and an open connection is use.
const IDLE_FOR: Duration = Duration::from_secs(20);

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
    options: ConnectOptions,
    endpoint: Endpoint,
    host: String,
    idle: Mutex<Idle>,
    negotiated: Mutex<Negotiated>,
}

/// Connections without a request on them.
#[derive(Default)]
struct Idle {
    kept: Vec<(Sender, Instant)>,
    /// Somebody closes those that are too old.
    swept: bool,
}

/// Closes connections that nobody used for long, until there is none. Does not keep the client itself.
async fn sweep(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(IDLE_FOR).await;
        let Some(inner) = inner.upgrade() else { return };
        let mut idle = inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.kept.retain(|(_, since)| since.elapsed() < IDLE_FOR);
        if idle.kept.is_empty() {
            idle.swept = false;
            return;
        }
    }
}

impl fmt::Debug for Docker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Docker").field("endpoint", &self.inner.endpoint).finish_non_exhaustive()
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
        Self::with_options(endpoint, ConnectOptions::default())
    }

    /// [`Self::new`] with other ways to connect than the usual ones.
    #[must_use]
    pub fn with_options(endpoint: Endpoint, options: ConnectOptions) -> Self {
        let host = endpoint.authority();
        let inner = Inner { options, endpoint, host, idle: Mutex::default(), negotiated: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// A client of the engine at `endpoint`, that has found out which version of the API both speak.
    ///
    /// ```no_run
    /// use berth_engine::{Docker, Endpoint};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let endpoint: Endpoint = "unix:///var/run/docker.sock".parse()?;
    /// let docker = Docker::connect(endpoint).await?;
    /// println!("{}", docker.version().await?.version);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::UnsupportedApi`] if there is none; whatever a call may fail with.
    pub async fn connect(endpoint: Endpoint) -> Result<Self, Error> {
        let docker = Self::new(endpoint);
        docker.negotiate().await?;
        Ok(docker)
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
        lenient::read(&answer.body, &what).map_err(|source| Error::Decode { what, source })
    }

    /// [`Self::json`] for the lists that are long and often read.
    pub(crate) async fn list<T: DeserializeOwned>(&self, call: Call) -> Result<Vec<T>, Error> {
        let what = call.what();
        let answer = self.call(call).await?;
        lenient::read_fast(&answer.body, &what).map_err(|source| Error::Decode { what, source })
    }

    /// Makes an ordinary call whose answer says nothing.
    pub(crate) async fn done(&self, call: Call) -> Result<(), Error> {
        self.call(call).await.map(drop)
    }

    /// Makes an ordinary call. Statuses from 400 on are errors.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, Error> {
        let (what, deadline) = (call.what(), call.deadline);
        within(deadline, what, self.exchange(call)).await
    }

    async fn exchange(&self, mut call: Call) -> Result<Answer, Error> {
        let request = self.prepare(&mut call).await?;
        // Only what may be repeated goes out on a connection that the engine may just be closing: whether a lost
        // `POST` had an effect, nobody can tell.
        if matches!(call.operation.method(), Method::GET | Method::HEAD)
            && let Some(mut sender) = self.idle_connection().await
        {
            match sender.send_request(request).await {
                Ok(response) => return self.read(&call, response, sender).await,
                Err(error) if error::broke_off(&error) => {}
                Err(source) => return Err(self.broken(&call, source)),
            }
            let request = self.prepare(&mut call).await?;
            return self.fresh(&call, request).await;
        }
        self.fresh(&call, request).await
    }

    async fn fresh(&self, call: &Call, request: Request<RequestBody>) -> Result<Answer, Error> {
        let (mut sender, ended) = transport::connect(self.route()).await?;
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(source) => return Err(self.broken(call, transport::cause(source, ended).await)),
        };
        self.read(call, response, sender).await
    }

    async fn read(&self, call: &Call, response: http::Response<Incoming>, sender: Sender) -> Result<Answer, Error> {
        let (parts, mut body) = response.into_parts();
        let limit = if is_failure(parts.status) { ERROR_CAP } else { call.limit };
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|source| self.broken(call, source))?;
            if let Ok(data) = frame.into_data() {
                append(&mut bytes, &data, limit, || call.what())?;
            }
        }
        // Only here has the whole answer been read, so that the connection can carry another one.
        self.keep(sender);
        if is_failure(parts.status) {
            return Err(failure(parts.status, &bytes, call));
        }
        Ok(Answer { status: parts.status, headers: parts.headers, body: bytes })
    }

    /// Makes a call whose answer is a stream, on a connection of its own.
    pub(crate) async fn open(&self, call: Call) -> Result<(HeaderMap, StreamBody), Error> {
        let (what, deadline) = (call.what(), call.deadline);
        within(deadline, what, self.open_stream(call)).await
    }

    async fn open_stream(&self, mut call: Call) -> Result<(HeaderMap, StreamBody), Error> {
        let request = self.prepare(&mut call).await?;
        let (response, mut body) = StreamBody::open(self.route(), request, call.what()).await?;
        let status = response.status();
        if !is_failure(status) {
            return Ok((response.into_parts().0.headers, body));
        }
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await {
            append(&mut bytes, &data?, ERROR_CAP, || call.what())?;
        }
        Err(failure(status, &bytes, &call))
    }

    /// The bytes of a streamed answer as they come. The call is made with the first poll; a connection that breaks
    /// off is an error and never an end.
    pub(crate) fn bytes(&self, call: Call) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
        let docker = self.clone();
        stream::once(async move { docker.open(call).await })
            .map_ok(|(_, body)| {
                stream::try_unfold(body, |mut body| async move {
                    Ok(body.data().await.transpose()?.map(|data| (data, body)))
                })
            })
            .try_flatten()
    }

    /// The JSON values of a streamed answer as they come. The call is made with the first poll.
    pub(crate) fn values<T: DeserializeOwned + Send>(
        &self,
        call: Call,
    ) -> impl Stream<Item = Result<T, Error>> + Send + use<T> {
        let docker = self.clone();
        stream::once(async move { docker.open(call).await })
            .map_ok(|(_, body)| stream::try_unfold((body, JsonStream::default()), next_value))
            .try_flatten()
    }

    /// The request of `call` for this engine, whose version is asked for first if it must be.
    async fn prepare(&self, call: &mut Call) -> Result<Request<RequestBody>, Error> {
        // Boxed because negotiation calls back into here.
        let version = if call.versioned { Some(Box::pin(self.negotiate()).await?) } else { None };
        tracing::trace!(target: "berth_engine::operation", id = call.operation.id());
        let mut request = Request::builder()
            .method(call.operation.method())
            .uri(call.target(version)?)
            .header(header::HOST, &self.inner.host)
            .header(header::USER_AGENT, concat!("Berth/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        request.body(call.take_body(version)?).map_err(|source| Error::Request { what: call.what(), source })
    }

    fn route(&self) -> Route<'_> {
        Route { endpoint: &self.inner.endpoint, options: &self.inner.options }
    }

    /// The error of an exchange that broke. Some ways to connect tell only here that nobody was let in.
    fn broken(&self, call: &Call, source: hyper::Error) -> Error {
        transport::broken(&self.inner.endpoint, call.what(), source)
    }

    async fn idle_connection(&self) -> Option<Sender> {
        loop {
            let (mut sender, _) = self.idle().kept.pop()?;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    fn keep(&self, sender: Sender) {
        let mut idle = self.idle();
        idle.kept.retain(|(kept, _)| !kept.is_closed());
        if idle.kept.len() < IDLE && !sender.is_closed() {
            idle.kept.push((sender, Instant::now()));
            if !std::mem::replace(&mut idle.swept, true) {
                tokio::spawn(sweep(Arc::downgrade(&self.inner)));
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn negotiated(&self) -> MutexGuard<'_, Negotiated> {
        self.inner.negotiated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_failure(status: StatusCode) -> bool {
    // 304 is the engine's "it already is"; other redirects mean that something else answers there.
    !status.is_success() && status != StatusCode::NOT_MODIFIED
}

fn failure(status: StatusCode, body: &[u8], call: &Call) -> Error {
    error::from_answer(status.as_u16(), body, call.operation.method().as_str(), call.shown_path())
}

async fn next_value<T: DeserializeOwned>(
    (mut body, mut values): (StreamBody, JsonStream),
) -> Result<Option<(T, (StreamBody, JsonStream))>, Error> {
    loop {
        if let Some(value) = values.next(body.what())? {
            return Ok(Some((value, (body, values))));
        }
        match body.data().await {
            Some(data) => values.push(&data?),
            None => return values.finish(body.what()).map(|()| None),
        }
    }
}

async fn within<T>(
    deadline: Option<Duration>,
    what: String,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match deadline {
        None => work.await,
        Some(deadline) => match timeout(deadline, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { what, seconds: deadline.as_secs() }),
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
