//! `berth serve` and a page of it: the session, calls, and polls over a WebSocket.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use berth_testkit::real::program;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::{Request, generate_key};

/// Only says when to give up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `berth serve`. It is killed when this is dropped.
pub(crate) struct Serve {
    child: Child,
    address: String,
    pub(crate) token: String,
}

/// What a call was answered with.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Value,
}

impl Serve {
    /// Starts it with a log file, and waits for the line that says where it is.
    pub(crate) fn start(data: &Path, log: &Path, environment: &[(String, OsString)]) -> Self {
        let mut child = Command::new(program("berth", "BERTH_BIN"))
            .args(["serve", "--json", "--data"])
            .arg(data)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| told[name].as_str().unwrap().to_owned();
        Self { child, address: text("url").replace("http://", ""), token: text("token") }
    }

    /// Posts a body as it is.
    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let (host, length) = (&self.address, body.len());
        let mut text = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n"
        );
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{text}\r\n{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: serde_json::from_str(body).unwrap_or_default() }
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(&mut self) {
        let ended = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(ended.success());
        self.child.wait().unwrap();
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A page with a session.
pub(crate) struct Page<'s> {
    serve: &'s Serve,
    pub(crate) cookie: String,
    pub(crate) secret: String,
    socket: WebSocketStream<TcpStream>,
    acks: BTreeMap<u64, u64>,
}

impl<'s> Page<'s> {
    /// Exchanges the token as a browser does, and opens the socket for polls.
    pub(crate) async fn open(serve: &'s Serve) -> Self {
        let begun = serve.post("/session", &[], &json!({ "token": serve.token }).to_string()).await;
        assert_eq!(begun.status, 200);
        let cookie = begun.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let secret = begun.body["page"].as_str().unwrap().to_owned();
        let request = Request::builder()
            .uri(format!("ws://{}/ws?client=page", serve.address))
            .header("Host", &serve.address)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", generate_key())
            .header("Sec-WebSocket-Protocol", format!("berth, page.{secret}"))
            .header("Cookie", &cookie)
            .body(())
            .unwrap();
        let stream = TcpStream::connect(&serve.address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        Self { serve, cookie, secret, socket, acks: BTreeMap::new() }
    }

    /// A call that must be answered well.
    pub(crate) async fn call(&self, command: &str, payload: Value) -> Value {
        let answer = self.try_call(command, payload).await;
        assert_eq!(answer.status, 200, "{command}: {}", answer.body);
        answer.body
    }

    pub(crate) async fn try_call(&self, command: &str, payload: Value) -> Answer {
        let request = format!("{command}-1");
        let call = json!({ "cmd": command, "payload": payload, "client": "page", "requestId": request });
        let headers = [("Cookie", self.cookie.as_str()), ("X-Berth-Page", self.secret.as_str())];
        self.serve.post("/rpc", &headers, &call.to_string()).await
    }

    /// Polls until a frame is what is wanted, and gives what was taken of it.
    pub(crate) async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Value) -> Option<T>) -> T {
        let polling = async {
            loop {
                let acks: Vec<Value> = self
                    .acks
                    .iter()
                    .map(|(stream, sequence)| json!({ "stream": stream, "sequence": sequence }))
                    .collect();
                let poll = json!({ "acks": acks, "maxBytes": 1_000_000, "waitMilliseconds": 1000 }).to_string();
                self.socket.send(Message::text(poll)).await.unwrap();
                let answer = self.socket.next().await.unwrap().unwrap().into_text().unwrap();
                let answer: Value = serde_json::from_str(&answer).unwrap();
                for frame in answer["ok"]["frames"].as_array().unwrap() {
                    self.acks.insert(frame["stream"].as_u64().unwrap(), frame["sequence"].as_u64().unwrap());
                    if let Some(found) = wanted(&frame["body"]) {
                        return found;
                    }
                }
            }
        };
        match tokio::time::timeout(PATIENCE, polling).await {
            Ok(found) => found,
            Err(_) => panic!("the page never saw {what}"),
        }
    }

    /// Polls until the container of this name is what is wanted, and gives its row.
    pub(crate) async fn container(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until(name, |body| {
            let rows = body["data"]["containers"].as_array()?;
            rows.iter().find(|row| row["name"] == name && wanted(row)).cloned()
        })
        .await
    }
}
