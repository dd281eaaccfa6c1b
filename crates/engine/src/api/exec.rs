//! Running further processes in containers.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    ApiVersion, ContainerId, ContainerRef, Docker, Environment, Error,
    api::{
        attach::Attached,
        containers::TerminalSize,
        model::{model, nullable},
        options::options,
    },
    http::{Call, Gate, Older},
    operation::Operation,
};

/// Id of an exec: 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct ExecId(ContainerId);

impl ExecId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for ExecId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse().map(Self).map_err(|_| Error::invalid(text, "exec id"))
    }
}

impl fmt::Display for ExecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ExecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExecId({self})")
    }
}

options! {
    /// What to run in a container, and how.
    pub struct ExecOptions {
        /// The program and its arguments.
        pub command: Vec<String>,
        /// More of its environment, as `NAME=value`. Since API 1.25.
        pub env: Environment,
        /// User, as `user`, `user:group` or by number; that of the container if empty.
        pub user: String,
        /// Working directory; that of the container if empty. Since API 1.35.
        pub working_dir: String,
        /// With every privilege of the engine's machine.
        pub privileged: bool,
        /// It has a terminal.
        pub tty: bool,
        /// Its standard input is attached.
        pub stdin: bool,
        /// Keys that detach, such as `ctrl-x,x`; those of the engine if empty, `ctrl-p,ctrl-q`. Docker ends the output
        /// with words about it then, and takes the process for ended with 126 although it goes on.
        pub detach_keys: String,
        /// Size of its terminal at the start.
        pub size: Option<TerminalSize>,
    }
}

impl ExecOptions {
    /// Runs `command`, and nothing else.
    #[must_use]
    pub fn run<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Self {
        Self { command: command.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'o> {
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    tty: bool,
    cmd: &'o [String],
    env: &'o [String],
    privileged: bool,
    user: &'o str,
    working_dir: &'o str,
    detach_keys: &'o str,
    #[serde(skip_serializing_if = "Option::is_none")]
    console_size: Option<[u16; 2]>,
}

const CREATE: &[Gate] = &[
    Gate { path: &["Env"], since: 25, older: Older::Refuse },
    Gate { path: &["WorkingDir"], since: 35, older: Older::Refuse },
    Gate { path: &["ConsoleSize"], since: TAKES_SIZE.minor, older: Older::LeaveOut },
];

/// From here on a terminal has its size from the start.
const TAKES_SIZE: ApiVersion = ApiVersion { major: 1, minor: 42 };

const START: &[Gate] = &[Gate { path: &["ConsoleSize"], since: TAKES_SIZE.minor, older: Older::LeaveOut }];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: ExecId,
}

model! {
    /// How an exec stands. API: `ExecInspect`.
    pub struct ExecState {
        /// Its process is alive.
        pub running: bool,
        /// How it ended: 126 if the program could not be run, 127 if there is none; `None` before that.
        pub exit_code: Option<i64>,
        /// Process id on the engine's machine, 0 before it runs.
        pub pid: u32,
        /// The container it runs in.
        #[serde(rename = "ContainerID")]
        pub container: String,
        /// What was asked for.
        #[serde(rename = "ProcessConfig")]
        pub process: ExecProcess,
    }

    /// What an exec was asked for.
    pub struct ExecProcess {
        /// It has a terminal.
        #[serde(rename = "tty")]
        pub tty: bool,
        /// With every privilege of the engine's machine.
        #[serde(rename = "privileged")]
        pub privileged: bool,
        /// User.
        #[serde(rename = "user")]
        pub user: String,
        /// The program.
        #[serde(rename = "entrypoint")]
        pub program: String,
        /// Its arguments.
        #[serde(rename = "arguments")]
        pub arguments: Vec<String>,
    }
}

/// An exec that was started, and its streams.
#[derive(Debug)]
pub struct ExecSession {
    /// Its id, to resize its terminal and to ask how it ended.
    pub id: ExecId,
    /// Its streams.
    pub streams: Attached,
}

impl Docker {
    /// Runs a process in a container, attached to it. How it ended, [`Docker::wait_exec`] tells after its output has.
    /// API: `ContainerExec`, `ExecStart`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doctest.rs"));
    /// # fn main() -> Ended { on_engine(example) }
    /// use futures_util::StreamExt as _;
    /// use tokio::io::AsyncWriteExt as _;
    ///
    /// # async fn example(docker: berth_engine::Docker) -> Ended {
    /// use berth_engine::ExecOptions;
    ///
    /// # let container = running(&docker, "doc-exec").await?;
    /// let options = ExecOptions::run(["cat"]).stdin(true);
    /// let mut process = docker.exec(&container, &options).await?;
    /// process.streams.input.write_all(b"what goes in").await?;
    /// // Ends its input alone: what it prints still comes.
    /// process.streams.input.shutdown().await?;
    /// let mut printed = Vec::new();
    /// while let Some(piece) = process.streams.output.next().await {
    ///     printed.extend_from_slice(&piece?.bytes);
    /// }
    /// assert_eq!(printed, b"what goes in");
    /// assert_eq!(docker.wait_exec(&process.id).await?, 0);
    /// # docker.kill_container(&container, None).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such container; [`Error::is_conflict`] if it does not run or is frozen;
    /// [`Error::Unsupported`] if the engine is too old for the options; an [`Error::Api`] of some engines if there is no
    /// such program, where others print that and end with 126 or 127; whatever a call may fail with.
    pub async fn exec(&self, container: &ContainerRef, options: &ExecOptions) -> Result<ExecSession, Error> {
        let id = self.create_exec(container, options).await?;
        let streams = self.start_exec(&id, options.tty, options.size).await?;
        Ok(ExecSession { id, streams })
    }

    /// Prepares a process in a container, without starting it. API: `ContainerExec`.
    ///
    /// # Errors
    /// As [`Docker::exec`].
    pub async fn create_exec(&self, container: &ContainerRef, options: &ExecOptions) -> Result<ExecId, Error> {
        let body = Body {
            attach_stdin: options.stdin,
            attach_stdout: true,
            attach_stderr: true,
            tty: options.tty,
            cmd: &options.command,
            env: &options.env,
            privileged: options.privileged,
            user: &options.user,
            working_dir: &options.working_dir,
            detach_keys: &options.detach_keys,
            console_size: options.size.filter(|_| options.tty).map(|size| [size.rows, size.columns]),
        };
        let call = Call::new(Operation::ContainerExec, [container.as_str()]).json(&body, CREATE)?;
        Ok(self.json::<Created>(call).await?.id)
    }

    /// Starts an exec and attaches to it. `tty` is what it was created with: engines take it again, and from the bytes
    /// it cannot be told. Has a deadline until the engine agrees and none after it. API: `ExecStart`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such exec; [`Error::is_conflict`] if its container does not run; whatever a
    /// call may fail with. That it was started before Docker only says in its output, and Podman in an [`Error::Api`].
    pub async fn start_exec(&self, id: &ExecId, tty: bool, size: Option<TerminalSize>) -> Result<Attached, Error> {
        let size = size.filter(|_| tty);
        let mut body = json!({ "Detach": false, "Tty": tty });
        if let (Some(size), Some(fields)) = (size, body.as_object_mut()) {
            fields.insert("ConsoleSize".to_owned(), json!([size.rows, size.columns]));
        }
        let call = Call::new(Operation::ExecStart, [id.as_str()]).json(&body, START)?;
        let what = call.what();
        let hijacked = self.hijack(call, "tcp").await?;
        if let Some(size) = size
            && self.negotiate().await? < TAKES_SIZE
        {
            // The process may have ended already, or not have its terminal yet: it runs either way.
            if let Err(error) = self.resize_exec(id, size).await {
                tracing::debug!(%error, "an exec began with a terminal of another size");
            }
        }
        Ok(Attached::new(hijacked, tty, what))
    }

    /// Starts an exec and leaves it to itself. API: `ExecStart`.
    ///
    /// # Errors
    /// As [`Docker::start_exec`].
    pub async fn start_exec_detached(&self, id: &ExecId, tty: bool) -> Result<(), Error> {
        let body = json!({ "Detach": true, "Tty": tty });
        self.done(Call::new(Operation::ExecStart, [id.as_str()]).json(&body, START)?).await
    }

    /// Sets the size of an exec's terminal. API: `ExecResize`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such exec; an [`Error::Api`] if it does not run; whatever a call may fail
    /// with.
    pub async fn resize_exec(&self, id: &ExecId, size: TerminalSize) -> Result<(), Error> {
        self.done(size.apply(Call::new(Operation::ExecResize, [id.as_str()]))).await
    }

    /// How an exec stands. API: `ExecInspect`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such exec, or its container was removed; whatever a call may fail with.
    pub async fn inspect_exec(&self, id: &ExecId) -> Result<ExecState, Error> {
        self.json(Call::new(Operation::ExecInspect, [id.as_str()])).await
    }

    /// Waits until an exec that was started has ended, and gives its exit code. To be asked once its output has ended:
    /// the API has nothing to wait on, so that the engine is asked again and again, ever more rarely, at most once a
    /// second. Has no deadline: drop it to give up. API: `ExecInspect`.
    ///
    /// # Errors
    /// As [`Docker::inspect_exec`]; among them that the container is gone.
    pub async fn wait_exec(&self, id: &ExecId) -> Result<i64, Error> {
        // The output ends a moment before the engine learns of the exit.
        let mut pause = Duration::from_millis(2);
        loop {
            let state = self.inspect_exec(id).await?;
            if let (false, Some(code)) = (state.running, state.exit_code) {
                return Ok(code);
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked() {
        let id = "0a".repeat(32);
        assert_eq!(id.parse::<ExecId>().unwrap().as_str(), id);
        for bad in ["", "abc", "../../version", &id.to_uppercase()] {
            let error = bad.parse::<ExecId>().unwrap_err().to_string();
            assert!(error.ends_with("is not a valid exec id"), "{error}");
        }
        assert!(serde_json::from_value::<Created>(json!({"Id": "../x"})).is_err());
    }

    #[test]
    fn odd_states_are_read() {
        let state = |value| serde_json::from_value::<ExecState>(value).unwrap();
        assert_eq!(state(json!({"ProcessConfig": null, "ExitCode": null, "Running": null})), ExecState::default());
        let text = json!({
            "Running": false, "ExitCode": 137, "Pid": 5, "ContainerID": "x",
            "ProcessConfig": {"tty": true, "entrypoint": "sh", "arguments": ["-c", "x"], "privileged": false},
        });
        let state = state(text);
        assert!(state.process.tty && state.exit_code == Some(137) && state.process.arguments.len() == 2);
    }
}
