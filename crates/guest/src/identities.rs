//! Root without being root: a user namespace in which the user who started the engine is root, and the further ids the
//! system gave him are everyone else.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use nix::sched::{CloneFlags, unshare};

use crate::error::Error;

/// What the kernel takes of a map.
const RANGES: usize = 340;

/// Who is who in the namespace, and the programs that may say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identities {
    uids: Vec<Range>,
    gids: Vec<Range>,
    newuidmap: PathBuf,
    newgidmap: PathBuf,
}

/// `inside:outside:count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

/// The options that make up [`Identities`]: all of them, or none.
#[derive(Debug, Default)]
pub(crate) struct Given {
    uids: Option<Vec<Range>>,
    gids: Option<Vec<Range>>,
    newuidmap: Option<PathBuf>,
    newgidmap: Option<PathBuf>,
}

impl Given {
    /// Takes an option if it is one of these.
    pub(crate) fn take(&mut self, name: &str, value: &str) -> Result<bool, Error> {
        match name {
            "--uids" => self.uids = Some(ranges(value)?),
            "--gids" => self.gids = Some(ranges(value)?),
            "--newuidmap" => self.newuidmap = Some(PathBuf::from(value)),
            "--newgidmap" => self.newgidmap = Some(PathBuf::from(value)),
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(crate) fn identities(self) -> Result<Option<Identities>, Error> {
        match self {
            Self { uids: None, gids: None, newuidmap: None, newgidmap: None } => Ok(None),
            Self { uids: Some(uids), gids: Some(gids), newuidmap: Some(newuidmap), newgidmap: Some(newgidmap) } => {
                Ok(Some(Identities { uids, gids, newuidmap, newgidmap }))
            }
            _ => Err(Error::Usage("of --uids, --gids, --newuidmap and --newgidmap some are missing".to_owned())),
        }
    }
}

impl Identities {
    /// The identities alone, and what else is said.
    pub(crate) fn parse(arguments: &[String]) -> Result<(Self, Vec<String>), Error> {
        let (mut given, mut rest) = (Given::default(), Vec::new());
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            if !argument.starts_with("--") {
                rest.push(argument.clone());
                continue;
            }
            let value = arguments.next().ok_or_else(|| Error::Usage(format!("{argument} has no value")))?;
            if !given.take(argument, value)? {
                return Err(Error::Usage(format!("{argument} {value:?} is not understood")));
            }
        }
        let identities = given.identities()?.ok_or_else(|| Error::Usage("--uids is missing".to_owned()))?;
        Ok((identities, rest))
    }

    /// Makes the namespace and goes there as its root. This process must have one thread.
    ///
    /// Only a process outside may write the maps, and it has to exist before.
    pub(crate) fn enter(&self) -> Result<(), Error> {
        let text = |ranges: &[Range]| {
            let ranges: Vec<_> =
                ranges.iter().map(|Range { inside, outside, count }| format!("{inside}:{outside}:{count}")).collect();
            ranges.join(",")
        };
        let mut mapper = Command::new("/proc/self/exe")
            .args(["map", "--uids", &text(&self.uids), "--gids", &text(&self.gids), "--newuidmap"])
            .arg(&self.newuidmap)
            .arg("--newgidmap")
            .arg(&self.newgidmap)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::io("starting what maps the ids"))?;
        let made = unshare(CloneFlags::CLONE_NEWUSER);
        if let (Ok(()), Some(stdin)) = (made, &mut mapper.stdin) {
            stdin.write_all(b"\n").map_err(Error::io("asking for the ids to be mapped"))?;
        }
        let mapped = mapper.wait_with_output().map_err(Error::io("waiting for the ids to be mapped"))?;
        made.map_err(Error::system("a user namespace cannot be made"))?;
        if !mapped.status.success() {
            let said = String::from_utf8_lossy(&mapped.stderr).trim().to_owned();
            return Err(Error::Identities(said));
        }
        // Groups of the host that have no name here could still open files.
        nix::unistd::setgroups(&[]).map_err(Error::system("leaving the groups of the host"))
    }

    /// What the mapper does, once its parent has made the namespace.
    pub(crate) fn map_parent(&self) -> Result<ExitCode, Error> {
        let mut go = [0; 1];
        if std::io::stdin().read(&mut go).map_err(Error::io("waiting for the namespace"))? == 0 {
            return Ok(ExitCode::FAILURE);
        }
        let parent = std::os::unix::process::parent_id().to_string();
        for (program, ranges) in [(&self.newuidmap, &self.uids), (&self.newgidmap, &self.gids)] {
            let numbers = ranges.iter().flat_map(|range| [range.inside, range.outside, range.count]);
            let status = Command::new(program)
                .arg(&parent)
                .args(numbers.map(|number| number.to_string()))
                .status()
                .map_err(Error::file("cannot start", program))?;
            if !status.success() {
                return Err(Error::Identities(format!("{} ended ({status})", program.display())));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn ranges(text: &str) -> Result<Vec<Range>, Error> {
    let bad = || Error::Usage(format!("{text:?} is no list of ids"));
    let ranges: Vec<Range> = text
        .split(',')
        .map(|range| {
            let mut numbers = range.splitn(3, ':').map(str::parse::<u32>);
            let mut next = || numbers.next().and_then(Result::ok).ok_or_else(bad);
            Ok(Range { inside: next()?, outside: next()?, count: next()? })
        })
        .collect::<Result<_, Error>>()?;
    if ranges.len() > RANGES { Err(bad()) } else { Ok(ranges) }
}

#[cfg(test)]
mod tests {
    use super::{Identities, Range, ranges};

    #[test]
    fn ids_are_numbers_and_nothing_else() {
        let two = [Range { inside: 0, outside: 1000, count: 1 }, Range { inside: 1, outside: 100_000, count: 65_536 }];
        assert_eq!(ranges("0:1000:1,1:100000:65536").unwrap(), two);
        for nonsense in ["", "0:1", "0:1:x", "-1:0:1", "0:1:1,", "0:4294967296:1", "0:1:1:1"] {
            assert!(ranges(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn some_of_the_options_are_no_identities() {
        let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        let (_, rest) =
            Identities::parse(&words("--uids 0:1:1 /a --gids 0:1:1 --newuidmap /u --newgidmap /g /b")).unwrap();
        assert_eq!(rest, ["/a", "/b"]);
        assert!(Identities::parse(&words("--uids 0:1:1 --gids 0:1:1 --newuidmap /u")).is_err());
        assert!(Identities::parse(&words("/a")).is_err());
    }
}
