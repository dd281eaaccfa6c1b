//! Uncompressed tar archives: list, extract, pack, and the context of a build.
//!
//! Pure streams, no HTTP. What an engine sends is outside data: a header never sizes an allocation, a path never
//! reaches the file system unchecked, and an entry cannot leave the folder it is extracted into. What Berth sends is
//! never compressed, because an engine before 29.5.1 unpacks a compressed upload with a program of the *container*
//! (CVE-2026-41567).

mod context;
mod decode;
mod encode;
mod entry;
mod error;
mod extract;
mod header;
pub mod ignore;
mod list;
mod names;
mod pack;
mod pax;
mod report;
mod sniff;
mod sparse;
mod walk;
mod writer;

#[cfg(unix)]
mod root;
#[cfg(not(unix))]
#[path = "archive/root_portable.rs"]
mod root;
#[cfg(all(unix, test))]
#[expect(dead_code, reason = "compiled so that it is checked where there is no other system; tested by its own tests")]
mod root_portable;

pub use context::{BuildContext, ContextOptions, build_context};
pub use entry::{Entry, EntryKind, Modified};
pub use error::{ArchiveError, ExtractError, Quota};
pub use extract::{Existing, ExtractLimits, ExtractOptions, Symlinks, extract};
pub use list::{ListLimits, Listing, entries, list};
pub use names::NameRules;
pub use pack::{Estimate, Owner, Pack, PackOptions, PackOutcome, PackStream, Source, pack};
pub use report::{ExtractReport, PackReport, Progress, SkipReason, Skipped, Skips};
pub use sniff::{Compression, refuse_compressed};

/// Reads any bytes as an archive, for fuzzing: it must neither panic nor hold more than a bounded amount.
#[doc(hidden)]
#[must_use]
pub fn fuzz_list(bytes: &[u8]) -> usize {
    let mut decoder = decode::Decoder::new(64 * 1024);
    let mut input = bytes::Bytes::copy_from_slice(bytes);
    let mut events = 0;
    while let Ok(Some(_)) = decoder.next(&mut input) {
        events += 1;
    }
    events
}
