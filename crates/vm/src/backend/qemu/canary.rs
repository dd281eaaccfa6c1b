//! The smallest guest that tells whether an accelerator runs guests: some hundred bytes of kernel.
//!
//! A hypervisor that opens, makes machines and then emulates each of their instructions, or hangs in them, is worse
//! than none. So this guest does what a kernel does first (page tables, long mode, an exception and its return), then
//! a hundred million instructions, says its word on the serial port and ends the machine with a code of its own. A
//! processor takes some tens of milliseconds for it.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::accelerator::Accelerator;
use super::command_line::common;
use super::error::QemuError;
use super::process::{Held, Process};
use super::program::Program;
use crate::backend::machine::SharedTail;

/// What the guest says.
const WORD: &str = "berth";
/// QEMU's debug port makes an exit code of what is written to it: twice the number, plus one.
const EXIT_CODE: i32 = 2 * 0x2a + 1;
const DEBUG_PORT: &str = "isa-debug-exit,iobase=0xf4,iosize=0x04";
const MEMORY: &str = "64M";
const LINES: usize = 8;
/// For a process that was killed to be gone.
const REAP_PATIENCE: Duration = Duration::from_secs(5);

/// Where the guest's code is loaded, and entered in 32-bit protected mode without paging.
const BASE: u32 = 0x10_0000;

/// The guest, as the assembler sees it; tables at 2 MiB, stack below 3 MiB.
#[rustfmt::skip]
const CODE: &[u8] = &[
    // Page tables: 12 KiB of zeros, then the first 4 MiB where they are, in two pages.
    0xbf, 0x00, 0x00, 0x20, 0x00,                               // 00 mov edi, 0x200000
    0x31, 0xc0,                                                 // 05 xor eax, eax
    0xb9, 0x00, 0x0c, 0x00, 0x00,                               // 07 mov ecx, 0xc00
    0xfc,                                                       // 0c cld
    0xf3, 0xab,                                                 // 0d rep stosd
    0xc7, 0x05, 0x00, 0x00, 0x20, 0x00, 0x03, 0x10, 0x20, 0x00, // 0f mov dword [0x200000], 0x201003
    0xc7, 0x05, 0x00, 0x10, 0x20, 0x00, 0x03, 0x20, 0x20, 0x00, // 19 mov dword [0x201000], 0x202003
    0xc7, 0x05, 0x00, 0x20, 0x20, 0x00, 0x83, 0x00, 0x00, 0x00, // 23 mov dword [0x202000], 0x000083
    0xc7, 0x05, 0x08, 0x20, 0x20, 0x00, 0x83, 0x00, 0x20, 0x00, // 2d mov dword [0x202008], 0x200083
    // Long mode: CR3, CR4.PAE, EFER.LME, CR0.PG.
    0xb8, 0x00, 0x00, 0x20, 0x00,                               // 37 mov eax, 0x200000
    0x0f, 0x22, 0xd8,                                           // 3c mov cr3, eax
    0x0f, 0x20, 0xe0,                                           // 3f mov eax, cr4
    0x83, 0xc8, 0x20,                                           // 42 or eax, 0x20
    0x0f, 0x22, 0xe0,                                           // 45 mov cr4, eax
    0xb9, 0x80, 0x00, 0x00, 0xc0,                               // 48 mov ecx, 0xc0000080
    0x0f, 0x32,                                                 // 4d rdmsr
    0x0d, 0x00, 0x01, 0x00, 0x00,                               // 4f or eax, 0x100
    0x0f, 0x30,                                                 // 54 wrmsr
    0x0f, 0x20, 0xc0,                                           // 56 mov eax, cr0
    0x0d, 0x01, 0x00, 0x00, 0x80,                               // 59 or eax, 0x80000001
    0x0f, 0x22, 0xc0,                                           // 5e mov cr0, eax
    0x0f, 0x01, 0x15, 0xf8, 0x00, 0x10, 0x00,                   // 61 lgdt [0x1000f8]
    0xea, 0x6f, 0x00, 0x10, 0x00, 0x08, 0x00,                   // 68 jmp 8:0x10006f
    // 64 bits from here on.
    0xb8, 0x10, 0x00, 0x00, 0x00,                               // 6f mov eax, 0x10
    0x8e, 0xd8,                                                 // 74 mov ds, eax
    0x8e, 0xc0,                                                 // 76 mov es, eax
    0x8e, 0xd0,                                                 // 78 mov ss, eax
    0xbc, 0x00, 0x00, 0x30, 0x00,                               // 7a mov esp, 0x300000
    // An exception, whose handler steps over what caused it.
    0xbf, 0x00, 0x00, 0x21, 0x00,                               // 7f mov edi, 0x210000
    0x48, 0x8d, 0x05, 0x49, 0x00, 0x00, 0x00,                   // 84 lea rax, [0x1000d4]
    0x66, 0x89, 0x47, 0x60,                                     // 8b mov [rdi+0x60], ax
    0x66, 0xc7, 0x47, 0x62, 0x08, 0x00,                         // 8f mov word [rdi+0x62], 8
    0x66, 0xc7, 0x47, 0x64, 0x00, 0x8e,                         // 95 mov word [rdi+0x64], 0x8e00
    0x48, 0xc1, 0xe8, 0x10,                                     // 9b shr rax, 16
    0x66, 0x89, 0x47, 0x66,                                     // 9f mov [rdi+0x66], ax
    0x0f, 0x01, 0x1c, 0x25, 0xfe, 0x00, 0x10, 0x00,             // a3 lidt [0x1000fe]
    0x0f, 0x0b,                                                 // ab ud2
    // A hundred million instructions.
    0xb9, 0x80, 0xf0, 0xfa, 0x02,                               // ad mov ecx, 50000000
    0xff, 0xc9,                                                 // b2 dec ecx
    0x75, 0xfc,                                                 // b4 jnz b2
    // The word, on the first serial port; then the code.
    0xbe, 0x08, 0x01, 0x10, 0x00,                               // b6 mov esi, 0x100108
    0xac,                                                       // bb lodsb
    0x84, 0xc0,                                                 // bc test al, al
    0x74, 0x08,                                                 // be jz c8
    0xba, 0xf8, 0x03, 0x00, 0x00,                               // c0 mov edx, 0x3f8
    0xee,                                                       // c5 out dx, al
    0xeb, 0xf3,                                                 // c6 jmp bb
    0xba, 0xf4, 0x00, 0x00, 0x00,                               // c8 mov edx, 0xf4
    0xb0, 0x2a,                                                 // cd mov al, 0x2a
    0xee,                                                       // cf out dx, al
    0xfa,                                                       // d0 cli
    0xf4,                                                       // d1 hlt
    0xeb, 0xfc,                                                 // d2 jmp d0
    0x48, 0x83, 0x04, 0x24, 0x02,                               // d4 add qword [rsp], 2
    0x48, 0xcf,                                                 // d9 iretq
    0x90, 0x90, 0x90, 0x90, 0x90,                               // db
    // GDT: none, 64-bit code, data. Its register, the IDT's register, the word.
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,             // e0
    0xff, 0xff, 0x00, 0x00, 0x00, 0x9a, 0xaf, 0x00,             // e8
    0xff, 0xff, 0x00, 0x00, 0x00, 0x92, 0xcf, 0x00,             // f0
    0x17, 0x00, 0xe0, 0x00, 0x10, 0x00,                         // f8
    0xff, 0x0f, 0x00, 0x00, 0x21, 0x00, 0x00, 0x00, 0x00, 0x00, // fe
    b'b', b'e', b'r', b't', b'h', b'\n', 0x00, 0x00,            // 108
];

/// What became of a canary.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It said its word and ended as it should.
    Sings { milliseconds: u64 },
    /// QEMU ended otherwise, saying this.
    Ended(String),
    /// It was killed when its time was over.
    Silent { seconds: u64 },
}

/// Boots the guest in the same machine that the engine's would be.
///
/// # Errors
///
/// It could not even be tried.
pub(super) async fn run(
    program: &Program,
    accelerator: Accelerator,
    scratch: &Path,
    patience: Duration,
) -> Result<Verdict, QemuError> {
    run_kernel(program, accelerator, scratch, patience, &elf(CODE)).await
}

pub(super) async fn run_kernel(
    program: &Program,
    accelerator: Accelerator,
    scratch: &Path,
    patience: Duration,
    kernel: &[u8],
) -> Result<Verdict, QemuError> {
    let file = KernelFile::write(scratch, kernel)?;
    let pair = UnixStream::pair().map_err(QemuError::file("make a socket for", &program.path));
    let (ours, theirs) = pair?;
    let mut command = Command::new(&program.path);
    command
        .args(common(accelerator, program.sandbox))
        .args(["-m", MEMORY, "-device", DEBUG_PORT].map(OsString::from))
        .arg("-kernel")
        .arg(&file.0)
        .stdin(Stdio::null())
        .stdout(OwnedFd::from(theirs))
        .stderr(Stdio::piped());
    let began = Instant::now();
    let spawned = Process::spawn(command, Held::default()).await;
    let (process, stderr) = spawned.map_err(|source| QemuError::Spawn { path: program.path.clone(), source })?;
    let stream = ours.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(ours));
    let stream = stream.map_err(QemuError::file("hear", &program.path))?;
    let said = SharedTail::new(LINES);
    let mut ended = process.ended();
    let over = async {
        said.follow(stream, None, |_| {}).await;
        ended.wait_for(Option::is_some).await.ok().and_then(|ended| *ended)
    };
    let Ok(ended_in_time) = timeout(patience, over).await else {
        process.kill();
        if timeout(REAP_PATIENCE, ended.wait_for(Option::is_some)).await.is_err() {
            return Err(QemuError::NotReaped { pid: process.pid() });
        }
        return Ok(Verdict::Silent { seconds: patience.as_secs() });
    };
    let status = ended_in_time.and_then(|ended| ended.0);
    if status.and_then(|status| status.code()) == Some(EXIT_CODE) && said.lines().iter().any(|line| line == WORD) {
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        return Ok(Verdict::Sings { milliseconds });
    }
    // The process is gone, so that what is in the pipe is all there is.
    let mut errors = Vec::new();
    if let Some(stderr) = stderr {
        let _ = stderr.take(16 << 10).read_to_end(&mut errors);
    }
    let errors = String::from_utf8_lossy(&errors);
    let last = errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("without a word");
    let how = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
    Ok(Verdict::Ended(format!("{how}: {}", last.chars().take(300).collect::<String>())))
}

/// Removed when it is no longer needed, whatever happens.
struct KernelFile(std::path::PathBuf);

impl KernelFile {
    fn write(folder: &Path, kernel: &[u8]) -> Result<Self, QemuError> {
        let file = Self(folder.join(format!("canary.{}.elf", std::process::id())));
        std::fs::write(&file.0, kernel).map_err(QemuError::file("write", &file.0))?;
        Ok(file)
    }
}

impl Drop for KernelFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A kernel of this code: an ELF file with the note that names its PVH entry, which is its first byte.
pub(super) fn elf(code: &[u8]) -> Vec<u8> {
    const HEADER: u16 = 52;
    const PROGRAM_HEADER: u16 = 32;
    const NOTE: [u32; 3] = [4, 4, 18];
    const PT_LOAD: u32 = 1;
    const PT_NOTE: u32 = 4;
    const READ_WRITE_RUN: u32 = 7;
    let begin = u32::from(HEADER) + 2 * u32::from(PROGRAM_HEADER);
    let length = u32::try_from(code.len()).unwrap_or(u32::MAX).next_multiple_of(4);
    let note_at = begin + length;
    let note_length = 20;

    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |file: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    let word = |file: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    // An executable for i386, version 1; entry, program headers, no sections, no flags.
    half(&mut file, &[2, 3]);
    word(&mut file, &[1, BASE, u32::from(HEADER), 0, 0]);
    half(&mut file, &[HEADER, PROGRAM_HEADER, 2, 0, 0, 0]);
    word(&mut file, &[PT_LOAD, begin, BASE, BASE, length, length, READ_WRITE_RUN, 4]);
    word(&mut file, &[PT_NOTE, note_at, BASE + length, BASE + length, note_length, note_length, 4, 4]);
    file.extend(code);
    file.resize(usize::try_from(note_at).unwrap_or_default(), 0x90);
    word(&mut file, &NOTE);
    file.extend(b"Xen\0");
    word(&mut file, &[BASE]);
    file
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Verdict, run, run_kernel};
    use crate::backend::qemu::tests::{IDLE, RESET, assert_no_process_of, kernel};
    use crate::backend::qemu::{Accelerator, QemuError, find_program};

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn it_sings_in_an_emulated_machine() {
        let folder = tempfile::tempdir().unwrap();
        let program = find_program(None).await.unwrap();
        let verdict = run(&program, Accelerator::Tcg, folder.path(), LONG).await.unwrap();
        assert!(matches!(verdict, Verdict::Sings { .. }), "{verdict:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn other_endings_and_an_accelerator_that_is_not_there_are_no_song() {
        let folder = tempfile::tempdir().unwrap();
        let program = find_program(None).await.unwrap();
        let verdict = run_kernel(&program, Accelerator::Tcg, folder.path(), LONG, &kernel(RESET)).await.unwrap();
        assert_eq!(verdict, Verdict::Ended("exit status: 0: without a word".to_owned()));
        let verdict = run(&program, Accelerator::Whpx, folder.path(), LONG).await.unwrap();
        assert!(matches!(&verdict, Verdict::Ended(why) if why.contains("whpx")), "{verdict:?}");
        let error = run(&program, Accelerator::Tcg, &folder.path().join("gone"), LONG).await.unwrap_err();
        assert!(matches!(error, QemuError::File { what: "write", .. }), "{error}");
    }

    /// One that hangs is killed when its time is over, and is reaped before its verdict is given.
    #[tokio::test]
    async fn one_that_hangs_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let program = find_program(None).await.unwrap();
        let patience = Duration::from_secs(1);
        let verdict = run_kernel(&program, Accelerator::Tcg, folder.path(), patience, &kernel(IDLE)).await.unwrap();
        assert_eq!(verdict, Verdict::Silent { seconds: 1 });
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_no_process_of(folder.path());
    }
}
