//! Control messages as bytes.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::control::{ControlError, Event, Fault, FaultCode, MAX_CONTROL_MESSAGE, Reply, Request};

/// A message that is no JSON object of ours at all.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::control) struct Unreadable;

#[derive(Debug, PartialEq, Eq)]
pub(in crate::control) enum Decoded {
    Request {
        id: u64,
        /// A fault if the method or its parameters are not known.
        request: Result<Request, Fault>,
    },
    Answer {
        id: u64,
        answer: Result<Reply, Fault>,
    },
    Event(Event),
    /// Of a later version.
    Unknown,
}

#[derive(Serialize)]
struct Asked<'a> {
    id: u64,
    #[serde(flatten)]
    request: &'a Request,
}

#[derive(Serialize)]
struct Answered<'a> {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a Reply>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Fault>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    id: Option<u64>,
    method: Option<String>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<Fault>,
    event: Option<String>,
}

pub(in crate::control) fn request(id: u64, request: &Request) -> Result<Vec<u8>, ControlError> {
    encode(&Asked { id, request })
}

pub(in crate::control) fn answer(id: u64, answer: &Result<Reply, Fault>) -> Result<Vec<u8>, ControlError> {
    encode(&Answered { id, result: answer.as_ref().ok(), error: answer.as_ref().err() })
}

pub(in crate::control) fn event(event: &Event) -> Result<Vec<u8>, ControlError> {
    encode(event)
}

fn encode(message: &impl Serialize) -> Result<Vec<u8>, ControlError> {
    let text = serde_json::to_vec(message).unwrap_or_default();
    match u32::try_from(text.len()) {
        Ok(length) if text.len() <= MAX_CONTROL_MESSAGE => Ok([&length.to_be_bytes()[..], &text].concat()),
        _ => Err(ControlError::TooLong { length: text.len(), limit: MAX_CONTROL_MESSAGE }),
    }
}

pub(in crate::control) fn decode(message: &[u8]) -> Result<Decoded, Unreadable> {
    let envelope: Envelope<'_> = serde_json::from_slice(message).map_err(|_| Unreadable)?;
    Ok(match envelope {
        Envelope { id: Some(id), method: Some(method), .. } => {
            Decoded::Request { id, request: read_request(message, &method) }
        }
        Envelope { id: Some(id), error: Some(fault), .. } => Decoded::Answer { id, answer: Err(fault) },
        Envelope { id: Some(id), result: Some(result), .. } => {
            let answer = read::<Reply>(result.get().as_bytes(), "kind").ok_or_else(|| Fault {
                code: FaultCode::Unknown,
                message: "the peer answered with something that this version does not know".to_owned(),
            });
            Decoded::Answer { id, answer }
        }
        Envelope { event: Some(_), .. } => read(message, "event").map_or(Decoded::Unknown, Decoded::Event),
        _ => Decoded::Unknown,
    })
}

fn read_request(message: &[u8], method: &str) -> Result<Request, Fault> {
    read(message, "method").ok_or_else(|| {
        if Request::METHODS.contains(&method) {
            let message = format!("the parameters of `{method}` cannot be read");
            Fault { code: FaultCode::BadParameters, message }
        } else {
            let method: String = method.chars().take(64).collect();
            Fault { code: FaultCode::UnknownMethod, message: format!("there is no method `{method}`") }
        }
    })
}

/// Reads a variant. One without parameters is read although a later version gave it some.
fn read<T: DeserializeOwned>(message: &[u8], tag: &str) -> Option<T> {
    serde_json::from_slice(message).ok().or_else(|| {
        let value: serde_json::Value = serde_json::from_slice(message).ok()?;
        let name = value.get(tag)?.clone();
        serde_json::from_value(serde_json::Value::Object([(tag.to_owned(), name)].into_iter().collect())).ok()
    })
}

/// What can be read can be written and read again, with the same meaning.
pub(in crate::control) fn fuzz(input: &[u8]) {
    let again = match decode(input) {
        Ok(Decoded::Request { id, request: Ok(ref one) }) => request(id, one),
        Ok(Decoded::Answer { id, answer: ref one }) => answer(id, one),
        Ok(Decoded::Event(ref one)) => event(one),
        _ => return,
    };
    if let Ok(again) = again {
        assert_eq!(decode(again.get(4..).unwrap_or_default()), decode(input));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{HelloReply, ServiceState};

    fn text(message: &[u8]) -> String {
        let (length, text) = message.split_first_chunk().unwrap();
        assert_eq!(usize::try_from(u32::from_be_bytes(*length)).unwrap(), text.len());
        String::from_utf8(text.to_vec()).unwrap()
    }

    fn all_requests() -> [Request; 10] {
        [
            Request::Hello { protocol: 1, host_version: "0.1.0".to_owned() },
            Request::Status,
            Request::TimeSet { seconds: 1_700_000_000, nanoseconds: 5 },
            Request::Shutdown { grace_seconds: 10 },
            Request::Sync,
            Request::Trim,
            Request::Reclaim,
            Request::Grow,
            Request::Metrics,
            Request::FilesChanged { paths: vec!["/home/me/a \"ü\"".to_owned()] },
        ]
    }

    #[test]
    fn the_text_on_the_wire_stays_what_it_is() {
        let [hello, status, time, ..] = all_requests();
        assert_eq!(
            text(&request(1, &hello).unwrap()),
            r#"{"id":1,"method":"hello","params":{"protocol":1,"host_version":"0.1.0"}}"#
        );
        assert_eq!(text(&request(2, &status).unwrap()), r#"{"id":2,"method":"status"}"#);
        assert_eq!(
            text(&request(3, &time).unwrap()),
            r#"{"id":3,"method":"time.set","params":{"seconds":1700000000,"nanoseconds":5}}"#
        );
        assert_eq!(text(&answer(1, &Ok(Reply::Done)).unwrap()), r#"{"id":1,"result":{"kind":"done"}}"#);
        let fault = Fault { code: FaultCode::UnknownMethod, message: "no".to_owned() };
        assert_eq!(
            text(&answer(1, &Err(fault)).unwrap()),
            r#"{"id":1,"error":{"code":"unknown_method","message":"no"}}"#
        );
        let ready =
            Event::Service { service: "dockerd".to_owned(), state: ServiceState::Ready, pid: None, detail: None };
        assert_eq!(
            text(&event(&ready).unwrap()),
            r#"{"event":"service","params":{"service":"dockerd","state":"ready","pid":null,"detail":null}}"#
        );
        assert_eq!(text(&event(&Event::Stopped).unwrap()), r#"{"event":"stopped"}"#);
    }

    #[test]
    fn every_method_is_listed_and_comes_back() {
        for (one, method) in all_requests().into_iter().zip(Request::METHODS) {
            assert_eq!(one.method(), method);
            let message = text(&request(7, &one).unwrap());
            assert!(message.contains(&format!(r#""method":"{method}""#)), "{message}");
            assert_eq!(decode(message.as_bytes()), Ok(Decoded::Request { id: 7, request: Ok(one) }));
        }
    }

    #[test]
    fn answers_and_events_come_back() {
        for one in [
            Ok(Reply::Done),
            Ok(Reply::Trimmed { freed_bytes: 5 }),
            Ok(Reply::Hello(HelloReply { protocol: 1, ..HelloReply::default() })),
            Err(Fault { code: FaultCode::Failed, message: "no".to_owned() }),
        ] {
            let message = text(&answer(7, &one).unwrap());
            assert_eq!(decode(message.as_bytes()), Ok(Decoded::Answer { id: 7, answer: one }));
        }
        for one in [Event::Stopped, Event::Stage { name: "mounts".to_owned() }] {
            assert_eq!(decode(text(&event(&one).unwrap()).as_bytes()), Ok(Decoded::Event(one)));
        }
    }

    #[test]
    fn a_later_version_is_understood_as_far_as_can_be() {
        let decoded = |text: &str| decode(text.as_bytes()).unwrap();
        assert_eq!(
            decoded(r#"{"id":1,"method":"trim","params":{"deep":true},"trace":"x"}"#),
            Decoded::Request { id: 1, request: Ok(Request::Trim) }
        );
        assert_eq!(
            decoded(r#"{"id":1,"method":"shutdown","params":{"grace_seconds":3,"force":true}}"#),
            Decoded::Request { id: 1, request: Ok(Request::Shutdown { grace_seconds: 3 }) }
        );
        assert_eq!(
            decoded(r#"{"id":1,"result":{"kind":"hello","value":{"protocol":2,"moon":"full"}}}"#),
            Decoded::Answer { id: 1, answer: Ok(Reply::Hello(HelloReply { protocol: 2, ..HelloReply::default() })) }
        );
        assert_eq!(decoded(r#"{"event":"stopped","params":{"at":1}}"#), Decoded::Event(Event::Stopped));
        assert_eq!(decoded(r#"{"event":"eclipse","params":{}}"#), Decoded::Unknown);
        assert_eq!(decoded("{}"), Decoded::Unknown);
        let code = |text: &str| match decoded(text) {
            Decoded::Request { request: Err(fault), .. } | Decoded::Answer { answer: Err(fault), .. } => fault.code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(r#"{"id":1,"method":"fly"}"#), FaultCode::UnknownMethod);
        assert_eq!(code(r#"{"id":1,"method":"shutdown","params":{"grace_seconds":"long"}}"#), FaultCode::BadParameters);
        assert_eq!(code(r#"{"id":1,"error":{"code":"tired","message":""}}"#), FaultCode::Unknown);
        assert_eq!(code(r#"{"id":1,"result":{"kind":"poem"}}"#), FaultCode::Unknown);
    }

    #[test]
    fn what_is_no_message_is_said_to_be_none() {
        let deep = "[".repeat(100_000);
        for text in ["", "1", "[]", "{", "\u{0}", r#"{"id":-1}"#, deep.as_str()] {
            assert_eq!(decode(text.as_bytes()), Err(Unreadable), "{}", &text[..text.len().min(10)]);
        }
    }
}
