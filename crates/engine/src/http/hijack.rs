//! Connections that stop being HTTP: exec, attach, sessions.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    Docker, Error, error,
    http::{Call, ERROR_CAP, append, within},
    transport,
};

/// A connection to the engine that carries plain bytes both ways.
///
/// Shutting down its writing half tells the other side that no more input comes, and its output is still read to the end.
/// Dropping it closes the connection.
pub struct Hijacked {
    io: TokioIo<Upgraded>,
    headers: HeaderMap,
}

impl Hijacked {
    /// What the engine said about the bytes to come.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

impl fmt::Debug for Hijacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hijacked").finish_non_exhaustive()
    }
}

impl AsyncRead for Hijacked {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Hijacked {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl Docker {
    /// Makes a call that turns its connection into a stream of `protocol`, such as `tcp`. `call`'s deadline is that
    /// until the engine agrees.
    pub(crate) async fn hijack(&self, call: Call, protocol: &'static str) -> Result<Hijacked, Error> {
        let (what, deadline) = (call.what(), call.deadline);
        within(deadline, what, self.hijack_now(call, protocol)).await
    }

    async fn hijack_now(&self, mut call: Call, protocol: &'static str) -> Result<Hijacked, Error> {
        call.headers.push((header::CONNECTION, HeaderValue::from_static("Upgrade")));
        call.headers.push((header::UPGRADE, HeaderValue::from_static(protocol)));
        let what = call.what();
        let request = self.prepare(&mut call).await?;
        let (mut sender, ended) = transport::connect_for_upgrade(self.route()).await?;
        let broke = |source| transport::broken(self.endpoint(), what.clone(), source);
        let mut response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(source) => return Err(broke(transport::cause(source, ended).await)),
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgraded = hyper::upgrade::on(&mut response).await.map_err(broke)?;
            return Ok(Hijacked { io: TokioIo::new(upgraded), headers: response.headers().clone() });
        }
        let status = response.status();
        let mut bytes = Vec::new();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(broke)?.into_data() {
                append(&mut bytes, &data, ERROR_CAP, || what.clone())?;
            }
            if status.is_success() {
                break;
            }
        }
        if status.is_success() {
            return Err(Error::Stream(format!("The engine did not switch to a stream: {what}")));
        }
        Err(error::from_answer(status.as_u16(), &bytes, call.operation.method().as_str(), call.shown_path()))
    }
}
