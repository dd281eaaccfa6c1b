//! What watches files in a container: prints what it hears of a folder and what is in it, a line each: letters for what
//! happened (`c` written, `w` closed after it, `e` its metadata, `m` and `y` renamed from and to, `n` new, `d` removed), the
//! folder, and the name in it, if any. Static, with the standard library alone, and therefore with calls of its own.

use std::ffi::{CString, c_char, c_int};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;

unsafe extern "C" {
    fn inotify_init1(flags: c_int) -> c_int;
    fn inotify_add_watch(fd: c_int, path: *const c_char, mask: u32) -> c_int;
}

const LETTERS: [(u32, char); 7] = [(0x2, 'c'), (0x8, 'w'), (0x4, 'e'), (0x40, 'm'), (0x80, 'y'), (0x100, 'n'), (0x200, 'd')];

fn main() {
    let folder = std::env::args().nth(1).expect("a folder");
    let path = CString::new(folder.clone()).unwrap();
    let mask = LETTERS.iter().fold(0, |mask, (bit, _)| mask | bit);
    let mut events = unsafe {
        let events = inotify_init1(0);
        assert!(events >= 0 && inotify_add_watch(events, path.as_ptr(), mask) >= 0, "{folder} cannot be watched");
        File::from_raw_fd(events)
    };
    let mut out = std::io::stdout();
    let mut buffer = [0; 64 << 10];
    loop {
        let length = events.read(&mut buffer).unwrap();
        let mut rest = &buffer[..length];
        while rest.len() >= 16 {
            let number = |at: usize| u32::from_ne_bytes(rest[at..at + 4].try_into().unwrap());
            let (mask, long) = (number(4), number(12) as usize);
            let name = String::from_utf8_lossy(&rest[16..16 + long]).trim_end_matches('\0').to_owned();
            let letters: String = LETTERS.iter().filter(|(bit, _)| mask & bit != 0).map(|(_, letter)| letter).collect();
            let end = if name.is_empty() { String::new() } else { format!("\t{name}") };
            writeln!(out, "{letters}\t{folder}{end}").unwrap();
            out.flush().unwrap();
            rest = &rest[16 + long..];
        }
    }
}
