use proptest::prelude::*;

use super::*;
use crate::build::BuildGraph;

/// Recorded from an engine 20.10: output of a step.
const OUTPUT: &str = "GmMKR3NoYTI1Njo1ZDJjYTBkMWQ4ZjFkZGU3MGExNGQ1OWUyNDkxNTcwNWVjODk5NWQ3Mzg5Y2I4YWFkOTA0NDNlMTYxZjNiNGM1EgsInYGT2AYQppyiZhgBIgloZWxsbyBtZQo=";
/// Recorded from an engine 20.10: a step that ended.
const STEP: &str = "CtMBCkdzaGEyNTY6NWQyY2EwZDFkOGYxZGRlNzBhMTRkNTllMjQ5MTU3MDVlYzg5OTVkNzM4OWNiOGFhZDkwNDQzZTE2MWYzYjRjNRJHc2hhMjU2OjNhYzYzMzEwMGMxZGZkODkxYjNiYTA4YzRjMjYyY2EyZmJmMGYzMjdkZmI0MTI4OTVkYjg5MmI3MGZlZjBlYjkaJFsyLzNdIFJVTiBlY2hvIGhlbGxvIG1lICYmIHNsZWVwIDAuMioLCJ2Bk9gGELeriQQyDAidgZPYBhDaqe7PAQ==";
/// Recorded from buildx 0.29.
const LINE: &str = r#"{"logs":[{"vertex":"sha256:2f","stream":2,"data":"b3V0Cg==","timestamp":"2026-11-23T22:48:52.15Z"}],"statuses":[{"id":"transferring dockerfile:","vertex":"sha256:2f","name":"transferring","current":29,"timestamp":"2026-11-23T22:48:51.9Z","started":"2026-11-23T22:48:51.9Z"}],"vertexes":[{"digest":"sha256:2f","inputs":["sha256:23"],"name":"[2/2] RUN","started":"2026-11-23T22:48:52Z","completed":"2026-11-23T22:48:53Z","error":"exit code: 3"}],"warnings":[{"vertex":"sha256:2f","level":1,"short":"dGVzdA==","detail":["b25l","dHdv"],"url":"https://x","sourceInfo":{"Filename":"D","filename":"Dockerfile"},"range":[{"start":{"line":2},"end":{"line":2}}]}]}"#;

#[test]
fn recorded_protobuf_becomes_a_graph() {
    let mut graph = BuildGraph::default();
    for aux in [STEP, OUTPUT] {
        graph.apply(&read_aux(aux).unwrap());
    }
    assert_eq!(graph.vertices().len(), 1);
    let vertex = graph.vertices().first().unwrap();
    assert_eq!(vertex.name, "[2/3] RUN echo hello me && sleep 0.2");
    assert_eq!((vertex.inputs.len(), vertex.output.front().unwrap().text.as_str()), (1, "hello me"));
    assert!(vertex.completed > vertex.started && vertex.started.is_some());
}

#[test]
fn recorded_lines_become_a_graph() {
    let mut graph = BuildGraph::default();
    graph.apply(&read_line(LINE.as_bytes()).unwrap());
    let vertex = graph.failed().unwrap();
    assert_eq!((vertex.error.as_str(), vertex.statuses.first().unwrap().current), ("exit code: 3", 29));
    let line = vertex.output.front().unwrap();
    assert_eq!((line.text.as_str(), line.stderr), ("out", true));
    let warning = graph.warnings().first().unwrap();
    assert_eq!((warning.short.as_str(), warning.detail.len(), warning.lines), ("test", 2, Some((2, 2))));
    assert_eq!(warning.file, "Dockerfile");
}

#[test]
fn what_is_no_report_is_none() {
    for line in ["ERROR: failed to build", "", "[]", "{\"vertexes\":3}", "{\"logs\":[{\"data\":{}}]}"] {
        assert!(read_line(line.as_bytes()).is_none() || line == "[]", "{line}");
    }
    assert!(read_aux("!").is_none());
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut graph = BuildGraph::default();
        if let Some(update) = read_protobuf(&bytes) {
            graph.apply(&update);
        }
        let _ = read_line(&bytes);
        let _ = read_aux(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn damaged_reports_never_panic(place in 0_usize..200, byte: u8, cut in 0_usize..300) {
        for recorded in [STEP, OUTPUT] {
            let mut bytes = STANDARD.decode(recorded).unwrap();
            if let Some(old) = bytes.get_mut(place) {
                *old = byte;
            }
            bytes.truncate(cut);
            if let Some(update) = read_protobuf(&bytes) {
                BuildGraph::default().apply(&update);
            }
        }
    }
}
