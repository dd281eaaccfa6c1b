//! Virtualization.framework, as it is asked. Type-checked, and never run on a real one.
//!
//! Each machine has a serial dispatch queue, on which it is made, used and let go of; what is asked for goes there as a
//! closure, and what came of it comes back over a channel.
#![allow(unsafe_code, reason = "every call of the framework is unsafe: it is told nothing of Rust's rules")]

use std::cell::Cell;
use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, IntoRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use block2::RcBlock;
use dispatch2::{DispatchQueue, DispatchQueueAttr, DispatchRetained};
use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2::{AnyThread, DefinedClass, Message, available, define_class, msg_send};
use objc2_foundation::{
    NSArray, NSData, NSError, NSFileHandle, NSObject, NSObjectProtocol, NSPOSIXErrorDomain, NSProcessInfo, NSString,
    NSURL,
};
use objc2_virtualization::{
    VZDirectorySharingDeviceConfiguration, VZDiskImageCachingMode, VZDiskImageStorageDeviceAttachment,
    VZDiskImageSynchronizationMode, VZEntropyDeviceConfiguration, VZFileHandleSerialPortAttachment,
    VZGenericMachineIdentifier, VZGenericPlatformConfiguration, VZLinuxBootLoader, VZMACAddress,
    VZMemoryBalloonDeviceConfiguration, VZNATNetworkDeviceAttachment, VZNetworkDevice, VZNetworkDeviceConfiguration,
    VZSerialPortConfiguration, VZSharedDirectory, VZSingleDirectoryShare, VZSocketDeviceConfiguration,
    VZStorageDeviceConfiguration, VZVirtioBlockDeviceConfiguration, VZVirtioConsoleDeviceSerialPortConfiguration,
    VZVirtioEntropyDeviceConfiguration, VZVirtioFileSystemDeviceConfiguration, VZVirtioNetworkDeviceConfiguration,
    VZVirtioSocketConnection, VZVirtioSocketDevice, VZVirtioSocketDeviceConfiguration,
    VZVirtioTraditionalMemoryBalloonDeviceConfiguration, VZVirtualMachine, VZVirtualMachineConfiguration,
    VZVirtualMachineDelegate,
};
use tokio::sync::{oneshot, watch};

use super::api::{Asked, Configuration, Disk, Ended, Folder, MachineState, Started, VzApi, VzMachine};
use super::error::VzError;
use crate::error::Error;

const START: &str = "start the machine";
const STOP: &str = "press the machine's power button";
const KILL: &str = "end the machine";
const CONNECT: &str = "connect to the guest";

/// What the framework says with when a program lacks its entitlement.
const ENTITLEMENT: &str = "com.apple.security.virtualization";

pub(super) fn of_this_system() -> Result<Arc<dyn VzApi>, Error> {
    Ok(Arc::new(Framework))
}

/// How much memory this computer has.
pub(crate) fn memory_bytes() -> Option<u64> {
    Some(NSProcessInfo::processInfo().physicalMemory())
}

#[derive(Debug)]
struct Framework;

impl VzApi for Framework {
    fn identifier(&self, kept: Option<&[u8]>) -> Result<Vec<u8>, VzError> {
        check_system()?;
        // SAFETY: an identifier is a value; both initializers are given what they are declared with.
        let identifier = unsafe {
            let kept = kept.and_then(|kept| {
                let data = NSData::with_bytes(kept);
                VZGenericMachineIdentifier::initWithDataRepresentation(VZGenericMachineIdentifier::alloc(), &data)
            });
            kept.unwrap_or_else(|| VZGenericMachineIdentifier::new()).dataRepresentation()
        };
        Ok(identifier.to_vec())
    }

    fn start(&self, configuration: Configuration) -> Asked<'_, Started> {
        Box::pin(async move {
            check_system()?;
            let queue = DispatchQueue::new("berth.machine", DispatchQueueAttr::SERIAL);
            let (tell, told) = oneshot::channel();
            let (change, state) = watch::channel(MachineState::default());
            let of_machine = queue.clone();
            queue.exec_async(move || begin(&of_machine, configuration, change, tell));
            let held = told.await.map_err(|_| VzError::Gone)??;
            Ok(Started { machine: Arc::new(Machine { queue, held: Some(held) }), state })
        })
    }
}

fn check_system() -> Result<(), VzError> {
    if !available!(macos = 13.0) {
        return Err(VzError::TooOld);
    }
    // SAFETY: a class method without arguments that only looks at the system.
    if unsafe { VZVirtualMachine::isSupported() } { Ok(()) } else { Err(VzError::Unsupported) }
}

/// A machine and what hears of it.
struct Held {
    machine: Retained<VZVirtualMachine>,
    /// The machine itself keeps only a weak reference.
    delegate: Retained<Delegate>,
}

/// What is only touched on its machine's queue.
struct OnQueue<T>(T);

// SAFETY: what is inside is made, used and dropped in closures that its machine's serial queue runs, one after the other;
// elsewhere only the reference count around it is touched.
unsafe impl<T> Send for OnQueue<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for OnQueue<T> {}

struct Machine {
    queue: DispatchRetained<DispatchQueue>,
    /// Some until it is dropped.
    held: Option<Arc<OnQueue<Held>>>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Machine").finish_non_exhaustive()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        self.queue.exec_async(move || {
            kill(&held, Box::new(|_| {}));
            drop(held);
        });
    }
}

/// Gets what came of it.
type Answer<T> = oneshot::Sender<Result<T, VzError>>;

impl Machine {
    /// Has it done on the queue, and waits for the answer.
    fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Arc<OnQueue<Held>>, Answer<T>) + Send + 'static,
    ) -> Asked<'_, T> {
        let (tell, told) = oneshot::channel();
        if let Some(held) = self.held.clone() {
            self.queue.exec_async(move || what(&held, tell));
        }
        Box::pin(async move { told.await.unwrap_or(Err(VzError::Gone)) })
    }
}

impl VzMachine for Machine {
    fn request_stop(&self) -> Asked<'_, ()> {
        self.ask(|held, tell: Answer<()>| {
            // SAFETY: on the machine's queue.
            let asked = unsafe { held.0.machine.requestStopWithError() };
            let _ = tell.send(asked.map_err(|error| failed(STOP, &error)));
        })
    }

    fn kill(&self) -> Asked<'_, ()> {
        self.ask(|held, tell: Answer<()>| kill(held, Box::new(|done| drop(tell.send(done)))))
    }

    fn connect(&self, port: u32) -> Asked<'_, OwnedFd> {
        self.ask(move |held, tell| connect(held, port, tell))
    }
}

/// Makes the machine and starts it; to be called on its queue.
fn begin(
    queue: &DispatchQueue,
    configuration: Configuration,
    change: watch::Sender<MachineState>,
    tell: Answer<Arc<OnQueue<Held>>>,
) {
    let configuration = match configure(configuration) {
        Ok(configuration) => configuration,
        Err(error) => {
            let _ = tell.send(Err(error));
            return;
        }
    };
    let delegate = Delegate::new(change);
    // SAFETY: the configuration was validated; this is the queue, on which alone the machine is used.
    let machine = unsafe {
        let machine = VZVirtualMachine::initWithConfiguration_queue(VZVirtualMachine::alloc(), &configuration, queue);
        machine.setDelegate(Some(ProtocolObject::from_ref(&*delegate)));
        machine
    };
    let held = Arc::new(OnQueue(Held { machine, delegate }));
    let once = Cell::new(Some((tell, Arc::clone(&held))));
    let done = RcBlock::new(move |error: *mut NSError| {
        let Some((tell, held)) = once.take() else { return };
        // SAFETY: the framework gives an error that lives for the call, or null.
        let answer = match unsafe { error.as_ref() } {
            Some(error) => Err(refused(error)),
            None => Ok(Arc::clone(&held)),
        };
        // Whoever asked has left: nobody else will end it.
        if tell.send(answer).is_err() {
            kill(&held, Box::new(|_| {}));
        }
    });
    // SAFETY: on the machine's queue; the framework copies the block.
    unsafe { held.0.machine.startWithCompletionHandler(&done) };
}

/// Ends it; to be called on its queue.
fn kill(held: &Arc<OnQueue<Held>>, tell: Box<dyn FnOnce(Result<(), VzError>)>) {
    let change = held.0.delegate.ivars();
    if change.borrow().ended.is_some() {
        return tell(Ok(()));
    }
    let once = Cell::new(Some((tell, Arc::clone(held))));
    let done = RcBlock::new(move |error: *mut NSError| {
        let Some((tell, held)) = once.take() else { return };
        // SAFETY: the framework gives an error that lives for the call, or null.
        match unsafe { error.as_ref() } {
            Some(error) => tell(Err(failed(KILL, error))),
            None => {
                held.0.delegate.ended(Ended::Stopped);
                tell(Ok(()));
            }
        }
    });
    // SAFETY: on the machine's queue; the framework copies the block.
    unsafe { held.0.machine.stopWithCompletionHandler(&done) };
}

/// Connects; to be called on the machine's queue.
fn connect(held: &Arc<OnQueue<Held>>, port: u32, tell: Answer<OwnedFd>) {
    // SAFETY: on the machine's queue.
    let devices = unsafe { held.0.machine.socketDevices() };
    let device = devices.firstObject().and_then(|device| device.downcast::<VZVirtioSocketDevice>().ok());
    let Some(device) = device else {
        let _ = tell.send(Err(VzError::Gone));
        return;
    };
    let once = Cell::new(Some(tell));
    let done = RcBlock::new(move |connection: *mut VZVirtioSocketConnection, error: *mut NSError| {
        let Some(tell) = once.take() else { return };
        // SAFETY: the framework gives one of the two, which lives for the call; the other is null.
        let answer = match unsafe { (connection.as_ref(), error.as_ref()) } {
            (Some(connection), _) => own(connection),
            (None, Some(error)) if is_refusal(error) => Err(VzError::Refused),
            (None, Some(error)) => Err(failed(CONNECT, error)),
            (None, None) => Err(VzError::Gone),
        };
        let _ = tell.send(answer);
    });
    // SAFETY: on the machine's queue; the framework copies the block.
    unsafe { device.connectToPort_completionHandler(port, &done) };
}

/// A descriptor of our own: the framework closes its one together with the connection.
fn own(connection: &VZVirtioSocketConnection) -> Result<OwnedFd, VzError> {
    // SAFETY: a connection that was just made has an open descriptor until it is closed, which is here.
    unsafe {
        let descriptor = connection.fileDescriptor();
        if descriptor < 0 {
            return Err(VzError::Refused);
        }
        let own = BorrowedFd::borrow_raw(descriptor).try_clone_to_owned().map_err(VzError::Connection);
        connection.close();
        own
    }
}

fn is_refusal(error: &NSError) -> bool {
    // SAFETY: a constant of Foundation's.
    let of_system = unsafe { NSPOSIXErrorDomain };
    let is = |errno: nix::errno::Errno| error.code() == errno as isize;
    *error.domain() == *of_system && (is(nix::errno::Errno::ECONNRESET) || is(nix::errno::Errno::ECONNREFUSED))
}

fn text(error: &NSError) -> String {
    let description = error.localizedDescription().to_string();
    match error.localizedFailureReason() {
        Some(reason) => format!("{description} {reason}"),
        None => description,
    }
}

fn failed(what: &'static str, error: &NSError) -> VzError {
    VzError::Failed { what, why: text(error) }
}

/// Why a machine is not started.
fn refused(error: &NSError) -> VzError {
    let text = text(error);
    if text.contains(ENTITLEMENT) { VzError::NotEntitled } else { VzError::Failed { what: START, why: text } }
}

fn url(path: &Path) -> Retained<NSURL> {
    NSURL::fileURLWithPath(&string(path.as_os_str()))
}

/// Paths come from settings that are text, or were found below folders that are.
fn string(text: &OsStr) -> Retained<NSString> {
    NSString::from_str(&text.to_string_lossy())
}

fn one<T: Message>(item: &T) -> Retained<NSArray<T>> {
    NSArray::from_slice(&[item])
}

fn configure(made: Configuration) -> Result<Retained<VZVirtualMachineConfiguration>, VzError> {
    let Configuration {
        kernel, initramfs, command_line, cpus, memory_bytes, disks, folders, console, identifier, ..
    } = made;
    let disks = disks.iter().map(disk).collect::<Result<Vec<_>, _>>()?;
    let disks: Vec<&VZStorageDeviceConfiguration> = disks.iter().map(|disk| &***disk).collect();
    let folders: Vec<_> = folders.iter().map(folder).collect();
    let folders: Vec<&VZDirectorySharingDeviceConfiguration> = folders.iter().map(|folder| &***folder).collect();
    let address = made.hardware_address.map(|byte| format!("{byte:02x}")).join(":");
    let invalid = |what: &str| VzError::Invalid(format!("{what} is not taken"));
    // SAFETY: the objects are new and nobody else's; each setter is given what it is declared with, and the descriptor is
    // open and given away.
    unsafe {
        let boot = VZLinuxBootLoader::initWithKernelURL(VZLinuxBootLoader::alloc(), &url(&kernel));
        boot.setInitialRamdiskURL(Some(&url(&initramfs)));
        boot.setCommandLine(&NSString::from_str(&command_line));

        let data = NSData::with_bytes(&identifier);
        let identifier =
            VZGenericMachineIdentifier::initWithDataRepresentation(VZGenericMachineIdentifier::alloc(), &data);
        let platform = VZGenericPlatformConfiguration::new();
        platform.setMachineIdentifier(&*identifier.ok_or_else(|| invalid("the machine's identifier"))?);

        let network = VZVirtioNetworkDeviceConfiguration::new();
        let address = VZMACAddress::initWithString(VZMACAddress::alloc(), &NSString::from_str(&address));
        network.setMACAddress(&*address.ok_or_else(|| invalid("the network card's address"))?);
        network.setAttachment(Some(&*VZNATNetworkDeviceAttachment::new()));

        let output =
            NSFileHandle::initWithFileDescriptor_closeOnDealloc(NSFileHandle::alloc(), console.into_raw_fd(), true);
        let serial = VZVirtioConsoleDeviceSerialPortConfiguration::new();
        let attachment = VZFileHandleSerialPortAttachment::initWithFileHandleForReading_fileHandleForWriting(
            VZFileHandleSerialPortAttachment::alloc(),
            None,
            Some(&output),
        );
        serial.setAttachment(Some(&attachment));

        let configuration = VZVirtualMachineConfiguration::new();
        configuration.setBootLoader(Some(&boot));
        configuration.setPlatform(&platform);
        configuration.setCPUCount(usize::try_from(cpus).unwrap_or(1));
        configuration.setMemorySize(memory_bytes);
        configuration.setStorageDevices(&NSArray::from_slice(&disks));
        configuration.setDirectorySharingDevices(&NSArray::from_slice(&folders));
        configuration.setNetworkDevices(&one::<VZNetworkDeviceConfiguration>(&network));
        configuration.setSerialPorts(&one::<VZSerialPortConfiguration>(&serial));
        let socket = VZVirtioSocketDeviceConfiguration::new();
        configuration.setSocketDevices(&one::<VZSocketDeviceConfiguration>(&socket));
        let entropy = VZVirtioEntropyDeviceConfiguration::new();
        configuration.setEntropyDevices(&one::<VZEntropyDeviceConfiguration>(&entropy));
        let balloon = VZVirtioTraditionalMemoryBalloonDeviceConfiguration::new();
        configuration.setMemoryBalloonDevices(&one::<VZMemoryBalloonDeviceConfiguration>(&balloon));
        configuration.validateWithError().map_err(|error| match refused(&error) {
            VzError::Failed { why, .. } => VzError::Invalid(why),
            other => other,
        })?;
        Ok(configuration)
    }
}

/// Cached, and written out when the guest says so: other modes were seen to damage guests' file systems, and to flush the
/// drive each time takes six times as long.
fn disk(disk: &Disk) -> Result<Retained<VZVirtioBlockDeviceConfiguration>, VzError> {
    // SAFETY: the objects are new and nobody else's; each call is given what it is declared with.
    unsafe {
        let attachment = VZDiskImageStorageDeviceAttachment::initWithURL_readOnly_cachingMode_synchronizationMode_error(
            VZDiskImageStorageDeviceAttachment::alloc(),
            &url(&disk.path),
            disk.read_only,
            VZDiskImageCachingMode::Cached,
            VZDiskImageSynchronizationMode::Fsync,
        );
        let attachment =
            attachment.map_err(|error| VzError::Invalid(format!("{}: {}", disk.path.display(), text(&error))))?;
        let device = VZVirtioBlockDeviceConfiguration::initWithAttachment(
            VZVirtioBlockDeviceConfiguration::alloc(),
            &attachment,
        );
        device.setBlockDeviceIdentifier(&NSString::from_str(disk.identifier));
        Ok(device)
    }
}

fn folder(folder: &Folder) -> Retained<VZVirtioFileSystemDeviceConfiguration> {
    // SAFETY: the objects are new and nobody else's; each call is given what it is declared with.
    unsafe {
        let directory =
            VZSharedDirectory::initWithURL_readOnly(VZSharedDirectory::alloc(), &url(&folder.path), folder.read_only);
        let share = VZSingleDirectoryShare::initWithDirectory(VZSingleDirectoryShare::alloc(), &directory);
        let device = VZVirtioFileSystemDeviceConfiguration::initWithTag(
            VZVirtioFileSystemDeviceConfiguration::alloc(),
            &NSString::from_str(&folder.tag),
        );
        device.setShare(Some(&share));
        device
    }
}

define_class!(
    // SAFETY: NSObject asks nothing of its subclasses, and this one has no Drop.
    #[unsafe(super(NSObject))]
    #[name = "BerthMachineDelegate"]
    #[ivars = watch::Sender<MachineState>]
    struct Delegate;

    // SAFETY: it asks nothing.
    unsafe impl NSObjectProtocol for Delegate {}

    // SAFETY: the methods are declared as the protocol has them.
    unsafe impl VZVirtualMachineDelegate for Delegate {
        #[unsafe(method(guestDidStopVirtualMachine:))]
        fn guest_did_stop(&self, _machine: &VZVirtualMachine) {
            self.ended(Ended::Stopped);
        }

        #[unsafe(method(virtualMachine:didStopWithError:))]
        fn did_stop_with_error(&self, _machine: &VZVirtualMachine, error: &NSError) {
            self.ended(Ended::Failed(text(error)));
        }

        #[unsafe(method(virtualMachine:networkDevice:attachmentWasDisconnectedWithError:))]
        fn network_was_disconnected(&self, _machine: &VZVirtualMachine, _device: &VZNetworkDevice, error: &NSError) {
            let why = text(error);
            self.ivars().send_modify(|state| state.network_lost = Some(why));
        }
    }
);

impl Delegate {
    fn new(change: watch::Sender<MachineState>) -> Retained<Self> {
        let this = Self::alloc().set_ivars(change);
        // SAFETY: NSObject's initializer, which takes nothing.
        unsafe { msg_send![super(this), init] }
    }

    /// The first end is how it ended.
    fn ended(&self, how: Ended) {
        self.ivars().send_modify(|state| {
            state.ended.get_or_insert(how);
        });
    }
}
