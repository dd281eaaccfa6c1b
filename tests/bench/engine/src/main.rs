//! One client doing one piece of work some times over: `engine-bench CLIENT WORK SOCKET ROUNDS [ARGUMENT]`.
//!
//! It prints one JSON object: wall-clock and processor time of every round in milliseconds, and how many things the work
//! came to, by which the caller sees that the clients did the same.

mod berth;
mod peer;
mod raw;

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// List every container.
    List,
    /// Read a list that is in memory already.
    Decode,
    /// Ping 10,000 times.
    Pings,
    /// Read the log of one container to its end.
    Logs,
    /// Download a path of one container as an archive.
    Archive,
    /// One sample of the statistics of each running container, all at once.
    Stats,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [client, work, socket, rounds, rest @ ..] = arguments.as_slice() else {
        return Err("usage: engine-bench berth|bollard|raw WORK SOCKET ROUNDS [ARGUMENT]".into());
    };
    let work = match work.as_str() {
        "list" => Work::List,
        "decode" => Work::Decode,
        "pings" => Work::Pings,
        "logs" => Work::Logs,
        "archive" => Work::Archive,
        "stats" => Work::Stats,
        other => return Err(format!("there is no work `{other}`").into()),
    };
    let rounds: usize = rounds.parse()?;
    let argument = rest.first().map_or("", String::as_str);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut wall, mut processor, mut count) = (Vec::new(), Vec::new(), 0);
    let body = if work == Work::Decode { raw::body(socket, "/containers/json?all=1")? } else { Vec::new() };
    runtime.block_on(async {
        let berth = berth::Client::connect(socket).await?;
        let peer = peer::Client::connect(socket)?;
        for _ in 0..rounds {
            let (began, used) = (Instant::now(), processor_time()?);
            count = match client.as_str() {
                "berth" => berth.work(work, argument, &body).await?,
                "bollard" => peer.work(work, argument, &body).await?,
                "raw" => raw::work(work, socket, argument).await?,
                other => return Err(format!("there is no client `{other}`").into()),
            };
            wall.push(began.elapsed().as_secs_f64() * 1e3);
            processor.push((processor_time()? - used).as_secs_f64() * 1e3);
        }
        Outcome::Ok(())
    })?;
    println!("{}", json!({ "wall": wall, "processor": processor, "count": count }));
    Ok(())
}

fn processor_time() -> Outcome<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let microseconds = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    Ok(Duration::from_micros(u64::try_from(microseconds(usage.user_time()) + microseconds(usage.system_time()))?))
}
