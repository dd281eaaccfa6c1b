//! One call of the API, and what of it an older engine is spared.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;
use serde_json::Value;

use crate::{ApiVersion, Error, http::RequestBody, operation::Operation};

/// Deadline of a call that only asks for what the engine knows, in seconds.
pub(crate) const ORDINARY: Duration = Duration::from_secs(30);

/// Deadline of a call that makes the engine walk its disk or take things apart, in seconds.
pub(crate) const SLOW: Duration = Duration::from_secs(300);

/// Largest ordinary answer, in bytes.
pub(crate) const ANSWER_CAP: usize = 64 * 1024 * 1024;

/// What becomes of a parameter that the engine is too old for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Older {
    /// It goes unsaid: without it the engine does what was asked, only less finely.
    LeaveOut,
    /// The call is refused: without it the engine would do something else.
    Refuse,
}

/// A field of a body that not every engine knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    /// Names of the fields on the way, such as `["HostConfig", "Init"]`; `*` is every element of a list or map.
    pub(crate) path: &'static [&'static str],
    /// Minor version of the API that first had it.
    pub(crate) since: u32,
    pub(crate) older: Older,
}

#[derive(Debug)]
struct Parameter {
    name: &'static str,
    /// Bytes, because a path inside a container is not always text.
    value: Vec<u8>,
    since: Option<(u32, Older)>,
}

enum Body {
    Plain(RequestBody),
    Json(Value, &'static [Gate]),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Bodies hold environments, tokens and keys.
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Json(..) => "Json",
        })
    }
}

/// One call of the API.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) operation: Operation,
    /// Path without the version; `None` if a segment would have walked the API.
    path: Option<String>,
    parameters: Vec<Parameter>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    body: Body,
    /// False only for what negotiation itself asks.
    pub(crate) versioned: bool,
    /// Of the whole call, or for a stream of the time until the head of the answer.
    pub(crate) deadline: Option<Duration>,
    pub(crate) limit: usize,
}

impl Call {
    /// A call of `operation`, whose path is filled in with `segments`. They are percent-encoded but for `/`, which
    /// names of images hold; their types have checked them already.
    pub(crate) fn new<'s>(operation: Operation, segments: impl IntoIterator<Item = &'s str>) -> Self {
        Self {
            operation,
            path: fill(operation.path(), segments),
            parameters: Vec::new(),
            headers: Vec::new(),
            body: Body::Plain(RequestBody::empty()),
            versioned: true,
            deadline: Some(ORDINARY),
            limit: ANSWER_CAP,
        }
    }

    pub(crate) fn query(self, name: &'static str, value: impl Into<String>) -> Self {
        self.query_bytes(name, value.into())
    }

    /// A parameter that need not be text.
    pub(crate) fn query_bytes(mut self, name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        self.parameters.push(Parameter { name, value: value.into(), since: None });
        self
    }

    /// A parameter that API `1.since` was the first to have.
    pub(crate) fn query_since(
        mut self,
        since: u32,
        older: Older,
        name: &'static str,
        value: impl Into<String>,
    ) -> Self {
        self.parameters.push(Parameter { name, value: value.into().into_bytes(), since: Some((since, older)) });
        self
    }

    pub(crate) fn flag(self, name: &'static str, value: bool) -> Self {
        if value { self.query(name, "1") } else { self }
    }

    /// [`Self::query`] unless `value` is empty.
    pub(crate) fn text(self, name: &'static str, value: &str) -> Self {
        if value.is_empty() { self } else { self.query(name, value) }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// A body of `content_type`.
    pub(crate) fn body(mut self, content_type: &'static str, body: impl Into<RequestBody>) -> Self {
        self.body = Body::Plain(body.into());
        self.header(header::CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    /// A JSON body, less the fields of `gates` that the engine is too old for.
    ///
    /// # Errors
    /// [`Error::Encode`] if `body` has no form in JSON, such as a map whose keys are no text.
    pub(crate) fn json(mut self, body: &impl Serialize, gates: &'static [Gate]) -> Result<Self, Error> {
        let value = serde_json::to_value(body).map_err(|source| Error::Encode { what: self.what(), source })?;
        self.body = Body::Json(value, gates);
        Ok(self.header(header::CONTENT_TYPE, HeaderValue::from_static("application/json")))
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
    pub(crate) fn what(&self) -> String {
        format!("{} {}", self.operation.method(), self.shown_path())
    }

    pub(crate) fn shown_path(&self) -> &str {
        self.path.as_deref().unwrap_or(self.operation.path())
    }

    /// The request's target for an engine with which `version` was agreed on, `None` before that.
    pub(crate) fn target(&self, version: Option<ApiVersion>) -> Result<String, Error> {
        let Some(path) = &self.path else {
            return Err(Error::invalid(
                self.operation.path(),
                "path of a call: a name in it is empty or a dot segment",
            ));
        };
        let mut target = String::with_capacity(path.len() + 16);
        if let Some(version) = version {
            if version < self.operation.since() {
                return Err(unsupported(self.what(), self.operation.since(), version));
            }
            target.push_str(&format!("/v{version}"));
        }
        target.push_str(path);
        let mut separator = '?';
        for parameter in &self.parameters {
            if let (Some((since, older)), Some(version)) = (parameter.since, version)
                && version < minor(since)
            {
                match older {
                    Older::LeaveOut => continue,
                    Older::Refuse => {
                        let what = format!("`{}` of {}", parameter.name, self.what());
                        return Err(unsupported(what, minor(since), version));
                    }
                }
            }
            target.push(separator);
            separator = '&';
            target.push_str(parameter.name);
            target.push('=');
            target.extend(percent_encoding::percent_encode(&parameter.value, QUERY));
        }
        Ok(target)
    }

    /// Takes the body as an engine of `version` should see it. A streamed body can be taken once.
    pub(crate) fn take_body(&mut self, version: Option<ApiVersion>) -> Result<RequestBody, Error> {
        let what = self.what();
        match &mut self.body {
            Body::Plain(body) => body.take().ok_or(Error::Closed { what }),
            Body::Json(value, gates) => {
                if let Some(version) = version {
                    for gate in gates.iter().filter(|gate| version < minor(gate.since)) {
                        if remove(value, gate.path) && gate.older == Older::Refuse {
                            let what = format!("`{}` of {what}", gate.path.join("."));
                            return Err(unsupported(what, minor(gate.since), version));
                        }
                    }
                }
                Ok(RequestBody::from(Bytes::from(value.to_string())))
            }
        }
    }
}

fn minor(minor: u32) -> ApiVersion {
    ApiVersion { major: 1, minor }
}

fn unsupported(what: String, needs: ApiVersion, engine: ApiVersion) -> Error {
    Error::Unsupported { what, needs, engine }
}

/// Removes what is at `path`. Whether something was there that says anything.
fn remove(value: &mut Value, path: &[&str]) -> bool {
    let Some((name, rest)) = path.split_first() else {
        return false;
    };
    match value {
        Value::Array(elements) if *name == "*" => {
            // Of every one of them, and not only up to the first that has it.
            elements.iter_mut().map(|element| remove(element, rest)).filter(|found| *found).count() > 0
        }
        Value::Object(fields) if *name == "*" => {
            fields.values_mut().map(|field| remove(field, rest)).filter(|found| *found).count() > 0
        }
        Value::Object(fields) if rest.is_empty() => fields.remove(*name).is_some_and(|value| says_something(&value)),
        Value::Object(fields) => fields.get_mut(*name).is_some_and(|field| remove(field, rest)),
        _ => false,
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(elements) => !elements.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

fn fill<'s>(template: &str, segments: impl IntoIterator<Item = &'s str>) -> Option<String> {
    let mut segments = segments.into_iter();
    let mut path = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let segment = segments.next()?;
        if segment.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return None;
        }
        path.push_str(before);
        path.extend(percent_encoding::utf8_percent_encode(segment, SEGMENT));
        rest = after.split_once('}')?.1;
    }
    path.push_str(rest);
    segments.next().is_none().then_some(path)
}

const QUERY: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

const SEGMENT: &percent_encoding::AsciiSet = &QUERY.remove(b'/').remove(b':').remove(b'@');

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn v(minor: u32) -> Option<ApiVersion> {
        Some(super::minor(minor))
    }

    #[test]
    fn segments_cannot_walk_the_api() {
        let target = |name| Call::new(Operation::NetworkInspect, [name]).target(v(51));
        assert_eq!(target("web").unwrap(), "/v1.51/networks/web");
        assert_eq!(target("<img src=x?y#z>").unwrap(), "/v1.51/networks/%3Cimg%20src%3Dx%3Fy%23z%3E");
        assert_eq!(target("a%2e\r\n").unwrap(), "/v1.51/networks/a%252e%0D%0A");
        for name in ["", ".", "..", "../version", "a/../b", "a//b", "/a", "a/"] {
            assert!(target(name).is_err(), "{name:?}");
        }
        let image = Call::new(Operation::ImageInspect, ["localhost:5000/a/b:c@sha256:0"]);
        assert_eq!(image.target(v(51)).unwrap(), "/v1.51/images/localhost:5000/a/b:c@sha256:0/json");
        assert!(Call::new(Operation::ImageInspect, []).target(v(51)).is_err());
        assert!(Call::new(Operation::SystemInfo, ["x"]).target(v(51)).is_err());
    }

    #[test]
    fn parameters_are_left_out_or_refused_before_their_time() {
        let call = || Call::new(Operation::ImageCreate, []).query("fromImage", "a&b=c");
        let left_out = call().query_since(32, Older::LeaveOut, "platform", "linux/arm64");
        assert_eq!(left_out.target(v(31)).unwrap(), "/v1.31/images/create?fromImage=a%26b%3Dc");
        let refused = call().query_since(32, Older::Refuse, "platform", "linux/arm64");
        assert!(matches!(refused.target(v(31)), Err(Error::Unsupported { .. })));
        assert!(refused.target(v(32)).unwrap().ends_with("&platform=linux%2Farm64"));
    }

    #[test]
    fn operations_are_refused_before_their_time() {
        let error = Call::new(Operation::ConfigList, []).target(v(29)).unwrap_err();
        let text = "GET /configs needs API version 1.30, the engine speaks 1.29";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn fields_are_left_out_or_refused_before_their_time() {
        const GATES: &[Gate] = &[
            Gate { path: &["HostConfig", "Mounts", "*", "VolumeOptions", "Subpath"], since: 45, older: Older::Refuse },
            Gate { path: &["HostConfig", "Annotations"], since: 43, older: Older::LeaveOut },
        ];
        let body = |subpath: &str| json!({"HostConfig": {"Annotations": {"a": "b"}, "Mounts": [{"VolumeOptions": {"Subpath": subpath}}]}});
        let take = |subpath, minor| {
            let call = Call::new(Operation::ContainerCreate, []).json(&body(subpath), GATES);
            call.unwrap().take_body(v(minor)).map(|body| body.bytes().unwrap())
        };
        assert_eq!(take("x", 51).unwrap(), body("x").to_string());
        assert!(matches!(take("x", 44), Err(Error::Unsupported { .. })));
        let bare = json!({"HostConfig": {"Mounts": [{"VolumeOptions": {}}]}});
        assert_eq!(take("", 40).unwrap(), bare.to_string());
    }
}
