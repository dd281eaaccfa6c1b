//! What the fuzz targets call: each decoder of outside bytes with the rule that it keeps, and nothing that has an effect.
//!
//! A function panics where its rule is broken. `fuzz/` gives them generated input, the tests below every kept input.

#![allow(clippy::panic, clippy::missing_panics_doc, reason = "a broken rule is to be found")]

use serde_json::Value;

use crate::{
    ContainerSummary, FrameDecoder, LogDecoder, StdStream,
    api::{
        build::{
            BuildGraph,
            trace::{read_aux, read_line},
        },
        progress::{Message, PullProgress},
    },
    archive,
    decode::json_stream::JsonStream,
    http::lenient,
    reference::{ImageReference, NetworkRef, PluginName, VolumeName},
    registry,
};

/// A target: its name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target there is.
pub const TARGETS: &[Target] = &[
    ("multiplex", multiplex),
    ("log_lines", log_lines),
    ("json_stream", json_stream),
    ("container_list", container_list),
    ("progress", progress),
    ("build_trace", build_trace),
    ("references", references),
    ("tar", tar),
    ("docker_ignore", docker_ignore),
    ("config_file", config_file),
    ("credential_helper", credential_helper),
    ("challenge", challenge),
];

/// The size of the pieces that the input comes in is its first byte.
fn pieces(input: &[u8]) -> (usize, &[u8]) {
    input.split_first().map_or((1, input), |(size, rest)| (usize::from(*size).max(1), rest))
}

/// Any chunking of a multiplexed stream gives the same bytes and the same end.
pub fn multiplex(input: &[u8]) {
    fn read(input: &[u8], size: usize) -> (Vec<u8>, Vec<u8>, Option<String>) {
        let (mut decoder, mut out, mut err) = (FrameDecoder::default(), Vec::new(), Vec::new());
        for mut chunk in input.chunks(size) {
            loop {
                match decoder.next(&mut chunk) {
                    Ok(Some(piece)) => match piece.stream {
                        StdStream::Out => out.extend_from_slice(piece.bytes),
                        StdStream::Err => err.extend_from_slice(piece.bytes),
                    },
                    Ok(None) => break,
                    Err(error) => return (out, err, Some(error.to_string())),
                }
            }
        }
        (out, err, decoder.finish().err().map(|error| error.to_string()))
    }
    let (size, rest) = pieces(input);
    assert_eq!(read(rest, size), read(rest, usize::MAX));
}

/// Any chunking of a log gives the same lines.
pub fn log_lines(input: &[u8]) {
    let Some((flags, rest)) = input.split_first() else { return };
    let (size, rest) = pieces(rest);
    let read = |size: usize| {
        let mut decoder = LogDecoder::new(flags & 1 == 1, flags & 2 == 2);
        let mut lines = Vec::new();
        for chunk in rest.chunks(size) {
            if let Err(error) = decoder.push(chunk, &mut lines) {
                return (lines, Some(error.to_string()));
            }
        }
        let end = decoder.finish(&mut lines).err().map(|error| error.to_string());
        (lines, end)
    };
    assert_eq!(read(size), read(usize::MAX));
}

/// Any chunking of JSON values gives the same values.
pub fn json_stream(input: &[u8]) {
    let (size, rest) = pieces(input);
    let read = |size: usize| {
        let (mut stream, mut values) = (JsonStream::default(), Vec::new());
        for chunk in rest.chunks(size) {
            stream.push(chunk);
            loop {
                match stream.next::<Value>("fuzz") {
                    Ok(Some(value)) => values.push(value),
                    Ok(None) => break,
                    Err(_) => return (values, false),
                }
            }
        }
        (values, stream.finish("fuzz").is_ok())
    };
    assert_eq!(read(size), read(usize::MAX));
}

/// What the fast reader of lists takes, the careful one takes, with the same outcome.
pub fn container_list(input: &[u8]) {
    let careful = lenient::read::<Vec<ContainerSummary>>(input, "fuzz");
    if let (Ok(fast), Ok(careful)) = (lenient::read_fast::<Vec<ContainerSummary>>(input, "fuzz"), careful) {
        assert_eq!(fast, careful);
    }
}

/// Reads a list of containers as [`crate::Docker::list_containers`] does, for benchmarks.
///
/// # Errors
/// That of the reader, if `bytes` are no such list.
pub fn read_container_list(bytes: &[u8]) -> Result<Vec<ContainerSummary>, serde_json::Error> {
    lenient::read_fast(bytes, "a list")
}

/// The progress of a transfer never goes back.
pub fn progress(input: &[u8]) {
    let (mut stream, mut progress) = (JsonStream::default(), PullProgress::default());
    stream.push(input);
    let mut done = 0;
    while let Ok(Some(value)) = stream.next::<Value>("fuzz") {
        let Ok(message) = Message::read(value) else { continue };
        if let Some(event) = message.transfer() {
            progress.apply(&event);
            assert!(progress.done() >= done && progress.done() <= progress.total().max(progress.done()));
            done = progress.done();
        }
    }
}

/// Any trace of a build can be shown.
pub fn build_trace(input: &[u8]) {
    let mut graph = BuildGraph::default();
    for line in input.split(|byte| *byte == b'\n') {
        let of_api = std::str::from_utf8(line).ok().and_then(read_aux);
        for update in of_api.into_iter().chain(read_line(line)) {
            graph.apply(&update);
        }
    }
    let (done, all) = graph.counts();
    assert!(done <= all);
}

/// What a checked name admits can stand in a path, and its text is the same name again.
pub fn references(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(reference) = text.parse::<ImageReference>() {
        let again: ImageReference = reference.to_string().parse().unwrap_or_else(|_| panic!("{reference} is no more"));
        assert_eq!(again, reference);
        harmless(reference.as_str());
    }
    let names = [
        text.parse::<VolumeName>().ok().map(|name| name.as_str().to_owned()),
        text.parse::<PluginName>().ok().map(|name| name.as_str().to_owned()),
    ];
    names.into_iter().flatten().for_each(|name| harmless(&name));
    if let Ok(network) = text.parse::<NetworkRef>() {
        assert!(!matches!(network.as_str(), "" | "." | "..") && !network.as_str().contains('/'));
    }
}

fn harmless(name: &str) {
    assert!(!name.split('/').any(|part| matches!(part, "" | "." | "..")), "{name:?}");
    assert!(!name.contains(['?', '#', '%', '\\']) && !name.chars().any(char::is_control), "{name:?}");
}

/// Any archive can be listed or refused.
pub fn tar(input: &[u8]) {
    let _ = archive::fuzz_list(input);
}

/// The first line of the input is looked up in the rest of it: what is sent although its folder is not is never missed
/// by a walk.
pub fn docker_ignore(input: &[u8]) {
    let mut halves = input.splitn(2, |byte| *byte == b'\n');
    let path = halves.next().unwrap_or_default();
    let Ok(rules) = archive::ignore::DockerIgnore::parse(halves.next().unwrap_or_default()) else { return };
    let folder = path.iter().rposition(|byte| *byte == b'/').and_then(|end| path.get(..end));
    if let Some(folder) = folder.filter(|folder| !folder.is_empty())
        && rules.ignores(folder)
        && !rules.ignores(path)
    {
        assert!(rules.may_send_beneath(folder));
    }
}

/// Any file of logins can be read or refused.
pub fn config_file(input: &[u8]) {
    registry::fuzz_config_file(input);
}

/// Whatever a credential helper prints can be read or refused.
pub fn credential_helper(input: &[u8]) {
    registry::fuzz_helper(input);
}

/// Any challenge can be read; there are never more than the header has bytes.
pub fn challenge(input: &[u8]) {
    assert!(registry::challenge::parse(input).len() <= input.len());
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn every_kept_input_keeps_the_rules() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, target) in TARGETS {
            let inputs: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().flatten().collect();
            assert!(!inputs.is_empty(), "{name} has no input to begin with");
            for input in inputs {
                target(&fs::read(input.path()).unwrap());
            }
        }
    }
}
