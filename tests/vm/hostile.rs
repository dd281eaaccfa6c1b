//! A guest that means harm: takes the agent's port from it and says what no agent says. For containers with every right and
//! the machine's processes; `hostile kill NAME` only kills a program.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

const AGENT: &str = "/run/berth/berth-guest\0agent\0";

fn main() {
    let words: Vec<String> = std::env::args().collect();
    match words.get(1).map(String::as_str) {
        Some("kill") if words[2] == "agent" => println!("killed {}", kill(AGENT)),
        Some("kill") => println!("killed {}", kill(&words[2])),
        _ => takes_the_port(),
    }
}

/// Kills whoever was started like that, and says how many they were.
fn kill(beginning: &str) -> usize {
    let mut count = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line.starts_with(beginning.as_bytes()) {
            let pid = entry.file_name().into_string().unwrap();
            count += usize::from(Command::new("/bin/kill").args(["-9", &pid]).status().unwrap().success());
        }
    }
    count
}

fn device() -> PathBuf {
    for entry in fs::read_dir("/sys/class/virtio-ports").unwrap().flatten() {
        if fs::read_to_string(entry.path().join("name")).unwrap_or_default().trim() == "berth.agent.0" {
            return Path::new("/dev").join(entry.file_name());
        }
    }
    panic!("there is no port");
}

/// Only one may have it open: the agent dies until it is not the first.
fn take(device: &Path) -> File {
    loop {
        kill(AGENT);
        for _ in 0..200 {
            if let Ok(port) = OpenOptions::new().read(true).write(true).open(device) {
                return port;
            }
        }
    }
}

fn takes_the_port() {
    let device = device();
    let mut port = take(&device);
    println!("silence");
    sleep(Duration::from_secs(2));
    println!("garbage, {} bytes", garbage(&mut port, Duration::from_secs(2)));
    let hello = greet(&mut port);
    port.write_all(&hello).unwrap();
    port.write_all(&hello).unwrap();
    println!("a greeting twice more in a session");
    greet(&mut port);
    port.write_all(&[4, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).unwrap();
    println!("a frame of 4 GiB, {} bytes of it", garbage(&mut port, Duration::from_secs(1)));
    greet(&mut port);
    port.write_all(&[4, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]).unwrap();
    println!("a frame without its seal, and {} bytes", garbage(&mut port, Duration::from_secs(1)));
    let hello = greet(&mut port);
    println!("{} streams to ports, and nobody hears the answers", opens(&mut port, &hello, Duration::from_secs(2)));
    let greetings = flood(&mut port, &hello, Duration::from_secs(1));
    println!("{greetings} greetings in a row");
    println!("done");
}

/// Random bytes for a while.
fn garbage(port: &mut File, time: Duration) -> u64 {
    let (end, mut state, mut count) = (Instant::now() + time, 0x9e37_79b9_7f4a_7c15_u64, 0);
    while Instant::now() < end {
        let bytes: Vec<u8> = (0..32768)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            })
            .collect();
        match port.write(&bytes) {
            Ok(written) => count += written as u64,
            // The host has just gone.
            Err(_) => sleep(Duration::from_millis(10)),
        }
    }
    count
}

/// Opens streams as the protocol has it, as many as it may and more, and reads nothing.
fn opens(port: &mut File, hello: &[u8], time: Duration) -> u64 {
    let (end, target, mut count) = (Instant::now() + time, b"{\"k\":\"ports\"}", 0);
    let seal: Vec<u8> = hello[16..20].iter().zip(&hello[28..32]).map(|(one, other)| one ^ other).collect();
    while Instant::now() < end {
        let mut frames = Vec::new();
        for number in count..count + 100 {
            frames.extend([1, 0, 0, 0]);
            frames.extend((2 * (number as u32 + 1)).to_be_bytes());
            frames.extend((4 + target.len() as u32).to_be_bytes());
            frames.extend(65536_u32.to_be_bytes());
            frames.extend(target);
            frames.extend(&seal);
        }
        match port.write_all(&frames) {
            Ok(()) => count += 100,
            // The session is over.
            Err(_) => return count,
        }
    }
    count
}

fn flood(port: &mut File, hello: &[u8], time: Duration) -> u64 {
    let (end, many, mut count) = (Instant::now() + time, hello.repeat(1000), 0);
    while Instant::now() < end {
        match port.write(&many) {
            Ok(written) => count += written as u64 / 32,
            Err(_) => sleep(Duration::from_millis(10)),
        }
    }
    count
}

/// Shakes hands as an agent does, until the host has confirmed; returns what it said for that.
fn greet(port: &mut File) -> Vec<u8> {
    let mut heard = Vec::new();
    let mut said = None;
    let mut buffer = [0; 4096];
    loop {
        match port.read(&mut buffer) {
            // The host is away.
            Ok(0) | Err(_) => sleep(Duration::from_millis(10)),
            Ok(read) => heard.extend_from_slice(&buffer[..read]),
        }
        while let Some(at) = heard.windows(8).position(|bytes| bytes == b"\xB3BerthMh") {
            let Some(hello) = heard.get(at..at + 32).map(<[u8]>::to_vec) else { break };
            heard.drain(..at + 32);
            if hello[28..] == [1, 2, 3, 4] && said.is_some() {
                return said.unwrap();
            }
            let mut answer = hello;
            answer[7] = b'g';
            answer[10..12].fill(0);
            answer[28..].copy_from_slice(&[1, 2, 3, 4]);
            if port.write_all(&answer).is_ok() {
                said = Some(answer);
            }
        }
    }
}
