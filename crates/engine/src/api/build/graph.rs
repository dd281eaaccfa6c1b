//! A build as a graph of steps, kept up to date by what the builder reports.

use std::collections::{HashMap, VecDeque};

/// Steps kept apart; the largest real builds have some hundred.
const VERTICES: usize = 4096;
/// Inputs kept of one step.
const INPUTS: usize = 256;
/// Parts of one step whose progress is kept apart.
const STATUSES: usize = 512;
/// Warnings kept.
const WARNINGS: usize = 256;
/// Longest line of output, in bytes; the rest of a longer one is cut.
const LINE: usize = 16 * 1024;
/// Output kept of one step, in bytes.
const STEP_OUTPUT: usize = 512 * 1024;
/// Output kept of the whole build, in bytes.
const OUTPUT: usize = 8 * 1024 * 1024;

/// What became of one step. Times are milliseconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VertexUpdate {
    /// Digest of the step, its identity.
    pub digest: String,
    /// Digests of the steps it needs.
    pub inputs: Vec<String>,
    /// What it is called, such as `[2/3] RUN make`.
    pub name: String,
    /// Its result was there already.
    pub cached: bool,
    /// When it began.
    pub started: Option<f64>,
    /// When it ended.
    pub completed: Option<f64>,
    /// Why it failed; empty if it did not.
    pub error: String,
}

/// What became of a part of a step, such as a layer it fetches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatusUpdate {
    /// What the part is.
    pub id: String,
    /// Digest of the step.
    pub vertex: String,
    /// What is being done, such as `transferring`.
    pub name: String,
    /// How much of it is done, mostly in bytes.
    pub current: u64,
    /// How much there is to do, 0 if unknown.
    pub total: u64,
    /// When it began.
    pub started: Option<f64>,
    /// When it ended.
    pub completed: Option<f64>,
}

/// Output of a step, as it came: neither whole lines nor necessarily text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputUpdate {
    /// Digest of the step.
    pub vertex: String,
    /// It came on standard error.
    pub stderr: bool,
    /// When.
    pub at: Option<f64>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What the builder warns of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildWarning {
    /// Digest of the step.
    pub vertex: String,
    /// In a few words.
    pub short: String,
    /// In more words.
    pub detail: Vec<String>,
    /// Where to read about it; text from outside, to be checked before it is opened.
    pub url: String,
    /// The file it is about, such as `Dockerfile`.
    pub file: String,
    /// First and last line there, counted from 1.
    pub lines: Option<(u32, u32)>,
}

/// One report of the builder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BuildUpdate {
    /// Steps.
    pub vertices: Vec<VertexUpdate>,
    /// Parts of steps.
    pub statuses: Vec<StatusUpdate>,
    /// Output.
    pub output: Vec<OutputUpdate>,
    /// Warnings.
    pub warnings: Vec<BuildWarning>,
}

/// A line of output.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputLine {
    /// It came on standard error.
    pub stderr: bool,
    /// When it came to its end, in milliseconds since the epoch.
    pub at: Option<f64>,
    /// The text without the line end, cut to 16 KiB. Escape sequences stand in it as they came.
    pub text: String,
}

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// Waits for its inputs.
    Waiting,
    /// Runs.
    Running,
    /// Ended well.
    Done,
    /// Was there already.
    Cached,
    /// Failed.
    Failed,
}

/// One step. Times are milliseconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vertex {
    /// Digest of the step, its identity.
    pub digest: String,
    /// Digests of the steps it needs.
    pub inputs: Vec<String>,
    /// What it is called, such as `[2/3] RUN make`.
    pub name: String,
    /// Its result was there already.
    pub cached: bool,
    /// When it first began.
    pub started: Option<f64>,
    /// When it last ended; `None` while it runs.
    pub completed: Option<f64>,
    /// Why it failed; empty if it did not.
    pub error: String,
    /// Its parts, in the order in which they were first heard of.
    pub statuses: Vec<StatusUpdate>,
    /// The latest of its output.
    pub output: VecDeque<OutputLine>,
    /// Lines of output that are no longer kept.
    pub dropped_lines: u64,
    kept_bytes: usize,
    /// Beginnings of lines of standard output and standard error.
    partial: [Vec<u8>; 2],
}

impl Vertex {
    /// How it stands.
    #[must_use]
    pub fn state(&self) -> StepState {
        match (&self.error, self.started, self.completed) {
            (error, ..) if !error.is_empty() => StepState::Failed,
            _ if self.cached => StepState::Cached,
            (_, _, Some(_)) => StepState::Done,
            (_, Some(_), None) => StepState::Running,
            (_, None, None) => StepState::Waiting,
        }
    }

    /// Lines that have not come to their end yet, standard output's and standard error's.
    #[must_use]
    pub fn unfinished(&self) -> [String; 2] {
        [0, 1].map(|stream| String::from_utf8_lossy(self.partial.get(stream).map_or(&[], Vec::as_slice)).into_owned())
    }

    fn take(&mut self, update: &VertexUpdate) {
        self.name.clone_from(&update.name);
        if !update.inputs.is_empty() {
            self.inputs = update.inputs.iter().take(INPUTS).cloned().collect();
        }
        self.cached |= update.cached;
        self.started = match (self.started, update.started) {
            (Some(before), Some(now)) => Some(before.min(now)),
            (before, now) => before.or(now),
        };
        // A step may run in several goes; between them it is not done.
        if update.started.is_some() || update.completed.is_some() {
            self.completed = update.completed;
        }
        if !update.error.is_empty() {
            self.error.clone_from(&update.error);
        }
    }

    fn status(&mut self, update: &StatusUpdate) {
        if let Some(status) = self.statuses.iter_mut().find(|status| status.id == update.id) {
            status.clone_from(update);
        } else if self.statuses.len() < STATUSES {
            self.statuses.push(update.clone());
        }
    }

    fn append(&mut self, update: &OutputUpdate) {
        for piece in update.bytes.split_inclusive(|byte| *byte == b'\n') {
            let ended = piece.last() == Some(&b'\n');
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let Some(partial) = self.partial.get_mut(usize::from(update.stderr)) else { continue };
            let room = LINE.saturating_sub(partial.len()).min(text.len());
            partial.extend_from_slice(text.get(..room).unwrap_or_default());
            if ended {
                let bytes = std::mem::take(partial);
                let bytes = bytes.strip_suffix(b"\r").unwrap_or(&bytes);
                let text = String::from_utf8_lossy(bytes).into_owned();
                self.kept_bytes += cost(&text);
                self.output.push_back(OutputLine { stderr: update.stderr, at: update.at, text });
            }
        }
        while self.kept_bytes > STEP_OUTPUT && self.drop_line() > 0 {}
    }

    fn drop_line(&mut self) -> usize {
        let freed = self.output.pop_front().map_or(0, |line| cost(&line.text));
        self.kept_bytes = self.kept_bytes.saturating_sub(freed);
        self.dropped_lines += u64::from(freed > 0);
        freed
    }
}

/// What a line occupies, so that empty ones are not free.
fn cost(text: &str) -> usize {
    text.len() + size_of::<OutputLine>()
}

/// Everything a build has reported, within bounds: what is too much of it is dropped and counted, oldest output first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BuildGraph {
    vertices: Vec<Vertex>,
    places: HashMap<String, usize>,
    warnings: Vec<BuildWarning>,
    /// Reports on steps beyond the 4096 that are kept.
    pub dropped_vertices: u64,
}

impl BuildGraph {
    /// Takes in one report.
    pub fn apply(&mut self, update: &BuildUpdate) {
        for vertex in &update.vertices {
            if let Some(known) = self.at(&vertex.digest) {
                known.take(vertex);
            }
        }
        for status in &update.statuses {
            if let Some(vertex) = self.at(&status.vertex) {
                vertex.status(status);
            }
        }
        for output in &update.output {
            if let Some(vertex) = self.at(&output.vertex) {
                vertex.append(output);
            }
        }
        self.shrink();
        let room = WARNINGS.saturating_sub(self.warnings.len());
        let fresh = update.warnings.iter().filter(|warning| !self.warnings.contains(warning)).take(room);
        let fresh: Vec<_> = fresh.cloned().collect();
        self.warnings.extend(fresh);
    }

    /// The steps in the order in which they were first heard of.
    #[must_use]
    pub fn vertices(&self) -> &[Vertex] {
        &self.vertices
    }

    /// The step of this digest.
    #[must_use]
    pub fn vertex(&self, digest: &str) -> Option<&Vertex> {
        self.vertices.get(*self.places.get(digest)?)
    }

    /// The warnings, at most 256.
    #[must_use]
    pub fn warnings(&self) -> &[BuildWarning] {
        &self.warnings
    }

    /// The first step that failed.
    #[must_use]
    pub fn failed(&self) -> Option<&Vertex> {
        self.vertices.iter().find(|vertex| vertex.state() == StepState::Failed)
    }

    /// Steps that ended, and steps.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.vertices.iter().filter(|vertex| vertex.completed.is_some()).count(), self.vertices.len())
    }

    fn at(&mut self, digest: &str) -> Option<&mut Vertex> {
        let place = match self.places.get(digest) {
            Some(place) => *place,
            None if digest.is_empty() => return None,
            None if self.vertices.len() < VERTICES => {
                self.places.insert(digest.to_owned(), self.vertices.len());
                self.vertices.push(Vertex { digest: digest.to_owned(), ..Vertex::default() });
                self.vertices.len() - 1
            }
            None => {
                self.dropped_vertices += 1;
                return None;
            }
        };
        self.vertices.get_mut(place)
    }

    fn shrink(&mut self) {
        let mut kept: usize = self.vertices.iter().map(|vertex| vertex.kept_bytes).sum();
        while kept > OUTPUT {
            let Some(largest) = self.vertices.iter_mut().max_by_key(|vertex| vertex.kept_bytes) else { return };
            let freed = largest.drop_line();
            if freed == 0 {
                return;
            }
            kept = kept.saturating_sub(freed);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn output(vertex: &str, bytes: &[u8]) -> BuildUpdate {
        let output = OutputUpdate { vertex: vertex.into(), bytes: bytes.to_vec(), ..OutputUpdate::default() };
        BuildUpdate { output: vec![output], ..BuildUpdate::default() }
    }

    fn step(update: VertexUpdate) -> BuildUpdate {
        BuildUpdate { vertices: vec![update], ..BuildUpdate::default() }
    }

    #[test]
    fn lines_are_made_of_pieces() {
        let mut graph = BuildGraph::default();
        for piece in ["he", "llo\r\n\nwor", "ld"] {
            graph.apply(&output("a", piece.as_bytes()));
        }
        let vertex = graph.vertex("a").unwrap();
        assert_eq!(vertex.output.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["hello", ""]);
        assert_eq!(vertex.unfinished(), ["world", ""]);
    }

    #[test]
    fn a_step_goes_through_its_states() {
        let mut graph = BuildGraph::default();
        let named = |started, completed, error: &str| {
            step(VertexUpdate {
                digest: "a".into(),
                name: "n".into(),
                started,
                completed,
                error: error.into(),
                ..VertexUpdate::default()
            })
        };
        let mut state = |update: &BuildUpdate| {
            graph.apply(update);
            graph.vertex("a").unwrap().state()
        };
        assert_eq!(state(&named(None, None, "")), StepState::Waiting);
        assert_eq!(state(&named(Some(2.0), None, "")), StepState::Running);
        assert_eq!(state(&named(Some(2.0), Some(3.0), "")), StepState::Done);
        assert_eq!(state(&named(Some(4.0), None, "")), StepState::Running);
        assert_eq!(state(&named(Some(4.0), Some(5.0), "no")), StepState::Failed);
        assert_eq!((graph.vertex("a").unwrap().started, graph.counts()), (Some(2.0), (1, 1)));
        assert_eq!(graph.failed().unwrap().error, "no");
    }

    #[test]
    fn everything_is_bounded() {
        let mut graph = BuildGraph::default();
        let line = [b"x".repeat(LINE * 2), b"\n".to_vec()].concat();
        for index in 0..1200 {
            graph.apply(&output(&(index % 40).to_string(), &line));
        }
        let kept: usize = graph.vertices().iter().flat_map(|v| &v.output).map(|line| line.text.len()).sum();
        assert!(kept <= OUTPUT && graph.vertices().iter().all(|vertex| vertex.kept_bytes <= STEP_OUTPUT));
        assert!(graph.vertices().iter().any(|vertex| vertex.dropped_lines > 0));
        for index in 0..2 * VERTICES {
            graph.apply(&step(VertexUpdate { digest: format!("v{index}"), ..VertexUpdate::default() }));
        }
        assert_eq!(graph.vertices().len(), VERTICES);
        assert!(graph.dropped_vertices > 0);
        graph.apply(&output("0", b"x".repeat(LINE * 100).as_slice()));
        assert!(graph.vertex("0").unwrap().partial.iter().all(|partial| partial.len() <= LINE));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[a-c\n\r]{0,80}", sizes in prop::collection::vec(1_usize..9, 1..60)) {
            let mut whole = BuildGraph::default();
            whole.apply(&output("a", text.as_bytes()));
            let mut pieces = BuildGraph::default();
            let mut rest = text.as_bytes();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, more) = rest.split_at((*size).min(rest.len()));
                pieces.apply(&output("a", piece));
                rest = more;
            }
            let lines = |graph: &BuildGraph| graph.vertex("a").map(|v| v.output.clone()).unwrap_or_default();
            prop_assert_eq!(lines(&whole), lines(&pieces));
        }
    }
}
