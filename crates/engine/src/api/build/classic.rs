//! What the engine answers to a build.

use serde_json::Value;

use super::{graph::BuildUpdate, trace};

use crate::api::progress::{Message, TransferEvent};

/// Longest line, in bytes; a longer one comes in parts.
const LINE: usize = 64 * 1024;

/// One thing the engine said while it built.
///
/// The output of a step is text of whoever wrote the Dockerfile, and nothing but convention tells it from the builder's own
/// lines: a step can print what looks like another step. Only [`BuildEvent::Image`] and [`BuildEvent::Trace`] cannot be
/// imitated.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum BuildEvent {
    /// A step begins.
    Step {
        /// Its number, from 1.
        number: u32,
        /// How many there are.
        of: u32,
        /// The instruction.
        instruction: String,
    },
    /// A line of output, without its end.
    Output(String),
    /// The builder warns.
    Warning(String),
    /// Id of the image, once it is there.
    Image(String),
    /// The image has this name.
    Tagged(String),
    /// An image to build on is being pulled.
    Transfer(TransferEvent),
    /// A report of BuildKit; a [`super::BuildGraph`] puts them together.
    Trace(BuildUpdate),
}

/// Makes events of messages.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The beginning of a line.
    line: String,
}

impl Decoder {
    pub(super) fn take(&mut self, message: Message) -> Vec<BuildEvent> {
        if message.id == "moby.buildkit.trace" {
            let update = message.aux.as_ref().and_then(Value::as_str).and_then(trace::read_aux);
            if update.is_none() {
                tracing::debug!("left out a report of a build that could not be read");
            }
            return update.map(BuildEvent::Trace).into_iter().collect();
        }
        if let Some(id) = message.aux.as_ref().and_then(|aux| aux.get("ID")?.as_str()) {
            let mut events = self.finish();
            events.push(BuildEvent::Image(id.to_owned()));
            return events;
        }
        if !message.stream.is_empty() {
            return self.text(&message.stream);
        }
        let mut events = self.finish();
        events.extend(message.transfer().map(BuildEvent::Transfer));
        events
    }

    /// The line that has no end yet.
    pub(super) fn finish(&mut self) -> Vec<BuildEvent> {
        if self.line.is_empty() { Vec::new() } else { vec![self.end_line()] }
    }

    fn text(&mut self, text: &str) -> Vec<BuildEvent> {
        let mut events = Vec::new();
        for piece in text.split_inclusive('\n') {
            self.line.push_str(piece.strip_suffix('\n').unwrap_or(piece));
            if self.line.len() > LINE || piece.ends_with('\n') && !self.line.is_empty() {
                events.push(self.end_line());
            }
        }
        events
    }

    fn end_line(&mut self) -> BuildEvent {
        let line = std::mem::take(&mut self.line);
        event(line.strip_suffix('\r').unwrap_or(&line))
    }
}

fn event(line: &str) -> BuildEvent {
    if let Some(step) = step(line) {
        return step;
    }
    if let Some(name) = line.strip_prefix("Successfully tagged ") {
        return BuildEvent::Tagged(name.to_owned());
    }
    match line.strip_prefix("[Warning] ") {
        Some(warning) => BuildEvent::Warning(warning.to_owned()),
        None => BuildEvent::Output(line.to_owned()),
    }
}

/// `Step 1/6 : FROM x`, or in Podman's words `STEP 1/6: FROM x`.
fn step(line: &str) -> Option<BuildEvent> {
    let rest = line.strip_prefix("Step ").or_else(|| line.strip_prefix("STEP "))?;
    let (numbers, instruction) = rest.split_once(':')?;
    let (number, of) = numbers.trim_end().split_once('/')?;
    let instruction = instruction.trim().to_owned();
    Some(BuildEvent::Step { number: number.parse().ok()?, of: of.parse().ok()?, instruction })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn events(messages: &[Value]) -> Vec<BuildEvent> {
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        for message in messages {
            events.extend(decoder.take(Message::read(message.clone()).unwrap()));
        }
        events.extend(decoder.finish());
        events
    }

    #[test]
    fn recorded_builds_are_read() {
        let docker = events(&[
            json!({"stream": "Step 1/6 : FROM busybox:test"}),
            json!({"stream": "\n"}),
            json!({"stream": " ---> b585ca9e0129\n"}),
            json!({"stream": "he"}),
            json!({"stream": "llo\r\nrest"}),
            json!({"stream": "\n[Warning] x\n"}),
            json!({"aux": {"ID": "sha256:f8"}}),
            json!({"stream": "Successfully tagged exp:1\n"}),
        ]);
        let output = |text: &str| BuildEvent::Output(text.to_owned());
        let expected = [
            BuildEvent::Step { number: 1, of: 6, instruction: "FROM busybox:test".into() },
            output(" ---> b585ca9e0129"),
            output("hello"),
            output("rest"),
            BuildEvent::Warning("x".into()),
            BuildEvent::Image("sha256:f8".into()),
            BuildEvent::Tagged("exp:1".into()),
        ];
        assert_eq!(docker, expected);
        let podman = events(&[json!({"stream": "STEP 2/6: LABEL x=y\n"})]);
        assert_eq!(podman, [BuildEvent::Step { number: 2, of: 6, instruction: "LABEL x=y".into() }]);
    }

    #[test]
    fn what_is_odd_is_output() {
        for text in ["Step", "Step 1/x : y", "Step 1 : y", "Step 99999999999/1 : y", "STEP 1/2"] {
            assert_eq!(events(&[json!({"stream": text})]), [BuildEvent::Output(text.into())]);
        }
        assert!(events(&[json!({"id": "moby.buildkit.trace", "aux": {"x": 1}})]).is_empty());
        assert!(events(&[json!({"id": "moby.buildkit.trace", "aux": "////"})]).is_empty());
    }

    #[test]
    fn an_endless_line_comes_in_parts() {
        let message = json!({"stream": "x".repeat(10_000)});
        let messages = vec![message; 20];
        assert!(events(&messages).len() > 2);
    }
}
