//! All that is asked of Virtualization.framework.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use super::VzError;

/// What was asked, and is answered when the framework has done it.
pub(crate) type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, VzError>> + Send + 'a>>;

/// Makes machines.
pub(crate) trait VzApi: fmt::Debug + Send + Sync {
    /// The identifier of a machine: the one that was kept, if the framework takes it, or else a new one.
    ///
    /// # Errors
    ///
    /// This system has no machines.
    fn identifier(&self, kept: Option<&[u8]>) -> Result<Vec<u8>, VzError>;

    /// Makes a machine and starts it.
    ///
    /// # Errors
    ///
    /// This system has no machines, this program may not make any, or the framework does not take the configuration.
    fn start(&self, configuration: Configuration) -> Asked<'_, Started>;
}

/// A machine that was started. Dropped, it ends as by [`VzMachine::kill`].
pub(crate) trait VzMachine: fmt::Debug + Send + Sync {
    /// Presses the power button. A guest may not heed it.
    fn request_stop(&self) -> Asked<'_, ()>;

    /// Ends it as a power cut would. One that has ended is no error.
    fn kill(&self) -> Asked<'_, ()>;

    /// A connection to a vsock port of the guest's.
    ///
    /// # Errors
    ///
    /// [`VzError::Refused`] while nobody listens there.
    fn connect(&self, port: u32) -> Asked<'_, OwnedFd>;
}

/// A new machine, and what becomes of it.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) machine: Arc<dyn VzMachine>,
    pub(crate) state: watch::Receiver<MachineState>,
}

/// What is known of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MachineState {
    /// How it ended, once it has.
    pub(crate) ended: Option<Ended>,
    /// Why its network card is off, if it is.
    pub(crate) network_lost: Option<String>,
}

/// How a machine ended.
#[cfg_attr(not(target_os = "macos"), allow(dead_code, reason = "only macOS ends one so"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The guest turned itself off, or it was killed.
    Stopped,
    /// The framework gave up, in its words.
    Failed(String),
}

/// What a machine is made of. All paths are absolute.
#[cfg_attr(not(target_os = "macos"), allow(dead_code, reason = "only macOS reads all of it"))]
#[derive(Debug)]
pub(crate) struct Configuration {
    /// On arm64 an uncompressed `Image`.
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    /// The kernel's.
    pub(crate) command_line: String,
    pub(crate) cpus: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) disks: Vec<Disk>,
    pub(crate) folders: Vec<Folder>,
    /// Where the console is written to. Closed when the machine has ended.
    pub(crate) console: OwnedFd,
    /// The machine's own, of [`VzApi::identifier`]: the same at each start.
    pub(crate) identifier: Vec<u8>,
    /// Of its network card: the same at each start, so that it gets the same address.
    pub(crate) hardware_address: [u8; 6],
}

/// A raw disk image.
#[cfg_attr(not(target_os = "macos"), allow(dead_code, reason = "only macOS reads all of it"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    pub(crate) read_only: bool,
    /// Its serial number in the guest: at most 20 characters.
    pub(crate) identifier: &'static str,
}

/// A folder of this computer that the guest may mount.
#[cfg_attr(not(target_os = "macos"), allow(dead_code, reason = "only macOS reads all of it"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) tag: String,
    pub(crate) path: PathBuf,
    pub(crate) read_only: bool,
}
