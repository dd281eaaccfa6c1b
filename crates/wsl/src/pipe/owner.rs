//! Who may open the pipe: the user of this process, and the system. What Windows offers for it has no safe form.
#![allow(unsafe_code, reason = "descriptors of security can be made in no other way")]

use std::ffi::c_void;
use std::io;
use std::ptr::null_mut;

use tokio::net::windows::named_pipe::{NamedPipeServer, ServerOptions};
use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1,
};
use windows_sys::Win32::Security::{
    GetTokenInformation, PSECURITY_DESCRIPTOR, SECURITY_ATTRIBUTES, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

/// The longest there is takes 184 characters.
const SID_LIMIT: usize = 256;

/// A descriptor that lets one user in.
#[derive(Debug)]
pub(super) struct OwnerOnly {
    /// Of the system's own memory, freed once.
    descriptor: PSECURITY_DESCRIPTOR,
}

// SAFETY: the descriptor is never changed after it was made, and belongs to this value alone.
unsafe impl Send for OwnerOnly {}
// SAFETY: as above.
unsafe impl Sync for OwnerOnly {}

impl OwnerOnly {
    pub(super) fn new() -> io::Result<Self> {
        // Protected, so that nothing is inherited; all rights for the user and for the system.
        let text = format!("D:P(A;;GA;;;{})(A;;GA;;;SY)", user()?);
        let text: Vec<u16> = text.encode_utf16().chain([0]).collect();
        let mut descriptor: PSECURITY_DESCRIPTOR = null_mut();
        // SAFETY: the text ends with a zero, and the result is written to a place that lives as long as the call.
        let made = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                null_mut(),
            )
        };
        if made == 0 { Err(io::Error::last_os_error()) } else { Ok(Self { descriptor }) }
    }

    pub(super) fn create(&self, options: &ServerOptions, path: &str) -> io::Result<NamedPipeServer> {
        let mut attributes = SECURITY_ATTRIBUTES {
            nLength: u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).unwrap_or_default(),
            lpSecurityDescriptor: self.descriptor,
            bInheritHandle: 0,
        };
        // SAFETY: the attributes are whole and live as long as the call, as does the descriptor.
        unsafe { options.create_with_security_attributes_raw(path, (&raw mut attributes).cast::<c_void>()) }
    }
}

impl Drop for OwnerOnly {
    fn drop(&mut self) {
        // SAFETY: it was made by a function that says to free it so, and is not used after this.
        unsafe { LocalFree(self.descriptor) };
    }
}

struct Token(HANDLE);

impl Drop for Token {
    fn drop(&mut self) {
        // SAFETY: it was opened by this process, and is closed once.
        unsafe { CloseHandle(self.0) };
    }
}

/// The user of this process, as `S-1-5-…`. The owner of what an administrator makes is a group.
fn user() -> io::Result<String> {
    let mut handle: HANDLE = null_mut();
    // SAFETY: the handle of the process needs no closing, and the result is written to a place of this function.
    if unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut handle) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let token = Token(handle);
    // Of words, so that it is aligned for what is written into it.
    let mut buffer = [0_u64; 32];
    let (room, mut length) = (u32::try_from(size_of_val(&buffer)).unwrap_or_default(), 0);
    let start = buffer.as_mut_ptr();
    // SAFETY: the buffer is as long as is said, and aligned as the structure in it.
    if unsafe { GetTokenInformation(token.0, TokenUser, start.cast::<c_void>(), room, &raw mut length) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let mut text: *mut u16 = null_mut();
    // SAFETY: the call above has written the structure, whose SID lies in the buffer as well.
    if unsafe { ConvertSidToStringSidW((*start.cast::<TOKEN_USER>()).User.Sid, &raw mut text) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let mut units = Vec::new();
    for at in 0..SID_LIMIT {
        // SAFETY: the text ends with a zero, after which nothing is read.
        let unit = unsafe { text.add(at).read() };
        if unit == 0 {
            break;
        }
        units.push(unit);
    }
    // SAFETY: the text was made by a function that says to free it so, and is not used after this.
    unsafe { LocalFree(text.cast::<c_void>()) };
    String::from_utf16(&units).map_err(io::Error::other)
}
