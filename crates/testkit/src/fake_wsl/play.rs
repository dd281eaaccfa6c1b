//! The program.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::time::Duration;

use super::{Call, Exec, Script, beside, machine};

const DISK: &str = "ext4.vhdx";
/// What `wsl.exe` ends with when something is wrong, of which Linux keeps eight bits.
const WRONG: i32 = -1;

/// Runs the fake `wsl.exe` with this process's arguments.
///
/// # Errors
/// When its folder cannot be used.
pub fn run() -> io::Result<()> {
    let mut arguments = std::env::args_os();
    let program = PathBuf::from(arguments.next().unwrap_or_default());
    let arguments: Vec<String> = arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
    if let [first, state, name] = arguments.as_slice()
        && first == "--first-process"
    {
        return machine::first_process(state, name);
    }
    let script: Script = serde_json::from_slice(&fs::read(beside(&program, "json"))?)?;
    let utf8 = std::env::var_os("WSL_UTF8").is_some_and(|value| value == "1");
    let mut calls = OpenOptions::new().create(true).append(true).open(beside(&program, "calls"))?;
    let call = Call { arguments: arguments.clone(), utf8 };
    calls.write_all(format!("{}\n", serde_json::to_string(&call)?).as_bytes())?;
    drop(calls);
    let first = arguments.first().map(String::as_str).unwrap_or_default();
    if script.hangs.iter().any(|call| call == first) {
        std::thread::sleep(Duration::from_secs(3600));
    }
    let voice = Voice { utf16: script.utf16 || !utf8, german: script.german };
    if let Some(refusal) = script.refuses.iter().find(|refusal| refusal.call == first) {
        voice.say(&refusal.says)?;
        exit(refusal.code);
    }
    let mut state = State::of(&program)?;
    let code = state.act(&script, &voice, &arguments)?;
    exit(code)
}

struct Voice {
    utf16: bool,
    german: bool,
}

impl Voice {
    fn say(&self, text: &str) -> io::Result<()> {
        let text = text.replace('\n', "\r\n");
        let bytes =
            if self.utf16 { text.encode_utf16().flat_map(u16::to_le_bytes).collect() } else { text.into_bytes() };
        io::stdout().write_all(&bytes)?;
        io::stdout().flush()
    }

    /// One of the few sentences it has, in the user's language.
    fn tell(&self, english: &str, german: &str) -> io::Result<()> {
        self.say(if self.german { german } else { english })
    }

    fn no_such(&self) -> io::Result<i32> {
        self.tell(
            "There is no distribution with the supplied name.\nError code: Wsl/Service/WSL_E_DISTRO_NOT_FOUND\n",
            "Es ist keine Distribution mit dem angegebenen Namen vorhanden.\nFehlercode: Wsl/Service/WSL_E_DISTRO_NOT_FOUND\n",
        )?;
        Ok(WRONG)
    }
}

/// What is registered: each name with the folder of its disk.
pub(super) struct State {
    pub(super) folder: PathBuf,
    names: BTreeMap<String, PathBuf>,
}

impl State {
    pub(super) fn of(program: &Path) -> io::Result<Self> {
        let folder = beside(program, "state");
        fs::create_dir_all(&folder)?;
        let names = match fs::read(folder.join("names.json")) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { folder, names })
    }

    fn save(&self) -> io::Result<()> {
        fs::write(self.folder.join("names.json"), serde_json::to_vec(&self.names)?)
    }

    pub(super) fn register(&mut self, name: &str, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join(DISK), name)?;
        self.names.insert(name.to_owned(), folder.to_path_buf());
        self.save()
    }

    /// The distribution's files.
    pub(super) fn root(&self, name: &str) -> PathBuf {
        self.folder.join("roots").join(name)
    }

    fn act(&mut self, script: &Script, voice: &Voice, arguments: &[String]) -> io::Result<i32> {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["--version"] => voice.tell("WSL version: 2.9.3.0\n", "WSL-Version: 2.9.3.0\n").map(|()| 0),
            ["--status"] => voice.tell("Default Version: 2\n", "Standardversion: 2\n").map(|()| 0),
            ["--list", "--quiet"] => self.list(voice, |_| true),
            ["--list", "--quiet", "--running"] => {
                let folder = self.folder.clone();
                self.list(voice, |name| machine::runs(&folder, name))
            }
            ["--import", name, folder, archive, "--version", "2"] => self.import(script, voice, name, folder, archive),
            ["--terminate", name] => {
                if !self.names.contains_key(*name) {
                    return voice.no_such();
                }
                machine::terminate(&self.folder, name)?;
                voice.tell("The operation completed successfully.\n", "Der Vorgang wurde erfolgreich beendet.\n")?;
                Ok(0)
            }
            ["--unregister", name] => self.unregister(voice, name),
            ["--shutdown"] => machine::shutdown(&self.folder).map(|()| 0),
            ["--distribution", name, "--user", "root", "--cd", "/", "--exec", program @ ..] => {
                if !self.names.contains_key(*name) {
                    return voice.no_such();
                }
                self.exec(script, name, program)
            }
            _ => {
                voice.tell("Invalid command line option\n", "Ungültige Befehlszeilenoption\n")?;
                Ok(WRONG)
            }
        }
    }

    fn list(&self, voice: &Voice, which: impl Fn(&str) -> bool) -> io::Result<i32> {
        let names: Vec<&String> = self.names.keys().filter(|name| which(name)).collect();
        if names.is_empty() {
            voice.tell(
                "Windows Subsystem for Linux has no installed distributions.\n",
                "Windows-Subsystem für Linux hat keine installierten Distributionen.\n",
            )?;
            return Ok(WRONG);
        }
        let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
        voice.say(&lines).map(|()| 0)
    }

    fn import(&mut self, script: &Script, voice: &Voice, name: &str, folder: &str, archive: &str) -> io::Result<i32> {
        if self.names.contains_key(name) || Path::new(folder).join(DISK).exists() {
            voice.tell(
                "A distribution with the supplied name already exists.\nError code: Wsl/Service/RegisterDistro/ERROR_ALREADY_EXISTS\n",
                "Es ist bereits eine Distribution vorhanden.\nFehlercode: Wsl/Service/RegisterDistro/ERROR_ALREADY_EXISTS\n",
            )?;
            return Ok(WRONG);
        }
        self.register(name, Path::new(folder))?;
        if script.dies_importing.as_deref() == Some(name) {
            return Ok(137);
        }
        let root = self.root(name);
        fs::create_dir_all(&root)?;
        let unpacked = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&root).status()?;
        if !unpacked.success() {
            self.unregister(voice, name)?;
            return Ok(WRONG);
        }
        voice.tell("The operation completed successfully.\n", "Der Vorgang wurde erfolgreich beendet.\n")?;
        Ok(0)
    }

    fn unregister(&mut self, voice: &Voice, name: &str) -> io::Result<i32> {
        let Some(folder) = self.names.remove(name) else { return voice.no_such() };
        // Whoever hears that it ended finds nothing of it.
        self.save()?;
        let _ = fs::remove_file(folder.join(DISK));
        let root = self.root(name);
        let aside = root.with_extension(format!("removed-{}", std::process::id()));
        let had_files = fs::rename(&root, &aside).is_ok();
        machine::terminate(&self.folder, name)?;
        if had_files {
            let _ = fs::remove_dir_all(&aside);
        }
        Ok(0)
    }

    fn exec(&self, script: &Script, name: &str, program: &[&str]) -> io::Result<i32> {
        let command = match &script.exec {
            Exec::Echo => {
                eprintln!("began");
                let (mut input, mut output) = (io::stdin(), io::stdout());
                let mut buffer = [0; 4096];
                loop {
                    let read = input.read(&mut buffer)?;
                    if read == 0 {
                        return Ok(0);
                    }
                    output.write_all(buffer.get(..read).unwrap_or_default())?;
                    output.flush()?;
                }
            }
            Exec::Ends(code, says) => {
                eprint!("{says}");
                return Ok(*code);
            }
            Exec::Program(words) => {
                let mut command = Command::new(words.first().map_or_else(|| "true".into(), Clone::clone));
                command.args(words.get(1..).unwrap_or_default()).args(program);
                command
            }
            Exec::Machine => machine::command(&self.folder, name, &self.root(name), program)?,
        };
        let mut command = command;
        Ok(command.status()?.code().unwrap_or(137))
    }
}
