//! How many descriptors this process may have: two for each connection.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// The limit as it was, before it was raised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenFiles {
    before: Option<(rlim_t, rlim_t)>,
}

impl OpenFiles {
    /// Raises the soft limit to the hard one. Where the system does not allow it, it stays as it was.
    pub(crate) fn raise() -> Self {
        let before = getrlimit(Resource::RLIMIT_NOFILE).ok().filter(|(soft, hard)| soft < hard);
        if let Some((_, hard)) = before
            && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
        Self { before }
    }

    /// Starts a program under the limit as it was: containers inherit it, and some programs close every descriptor up
    /// to it. Meanwhile this process can open few; whoever needs one tries again.
    pub(crate) fn lowered<T>(self, start: impl FnOnce() -> T) -> T {
        let Some((soft, hard)) = self.before else { return start() };
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
        let started = start();
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        started
    }
}
