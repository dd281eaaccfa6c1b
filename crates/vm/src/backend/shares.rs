//! Folders of this computer that a machine sees, under their own paths.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Each is a process of its own, and a device in the machine.
pub(crate) const MOST: usize = 8;
/// Of a path: all of them go through the kernel's command line, which ends at 2,048 bytes.
const LONGEST: usize = 512;
const LONGEST_WORDS: usize = 1500;
/// Folders the machine has of its own, with the system in them.
const OWN: [&str; 17] = [
    "berth",
    "bin",
    "boot",
    "dev",
    "etc",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "lost+found",
    "newroot",
    "proc",
    "run",
    "sbin",
    "sys",
    "usr",
    "var",
];

/// One shared folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Share {
    /// Where it is, here and in the machine.
    pub path: PathBuf,
    /// The machine may not write to it.
    #[serde(default)]
    pub read_only: bool,
}

/// Which folders are shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shares {
    /// The user's home.
    pub home: bool,
    /// The others.
    pub folders: Vec<Share>,
}

impl Default for Shares {
    fn default() -> Self {
        Self { home: true, folders: Vec::new() }
    }
}

impl Shares {
    /// What was asked for: folders, each with `:ro` behind it if it may only be read, and with them the user's home
    /// unless `none` is among them; `home` alone is the default.
    ///
    /// # Errors
    ///
    /// A path cannot be shared; the text says why.
    pub fn parse(words: &[String]) -> Result<Self, Error> {
        let mut shares = Self::default();
        for word in words {
            match word.as_str() {
                "none" => shares.home = false,
                "home" => {}
                word => {
                    let (path, read_only) = match word.strip_suffix(":ro") {
                        Some(path) => (path, true),
                        None => (word.strip_suffix(":rw").unwrap_or(word), false),
                    };
                    // Without what only lengthens it: `a/`, `a/./b`.
                    shares.folders.push(Share { path: Path::new(path).components().collect(), read_only });
                }
            }
        }
        shares.folders.sort();
        shares.check(home().as_deref())?;
        if let Some(missing) = shares.folders.iter().find(|share| !share.path.is_dir()) {
            return bad(&missing.path, "there is no such folder here");
        }
        Ok(shares)
    }

    /// All of them.
    pub(crate) fn list(&self) -> Vec<Share> {
        self.list_with(home())
    }

    fn list_with(&self, home: Option<PathBuf>) -> Vec<Share> {
        let home = home.filter(|home| self.home && refusal(home).is_none());
        home.map(|path| Share { path, read_only: false }).into_iter().chain(self.folders.iter().cloned()).collect()
    }

    /// Whether these can all be had.
    pub(crate) fn check(&self, home: Option<&Path>) -> Result<(), Error> {
        for share in &self.folders {
            if let Some(why) = refusal(&share.path) {
                return bad(&share.path, why);
            }
        }
        let all = self.list_with(home.map(Path::to_path_buf));
        for (index, share) in all.iter().enumerate() {
            let others = all.iter().enumerate().filter(|(other, _)| *other != index);
            if let Some((_, other)) = others.into_iter().find(|(_, other)| share.path.starts_with(&other.path)) {
                let other = other.path.display();
                let why = format!("it is shared with {other} already; name `none` as well to share no home");
                return bad(&share.path, &why);
            }
        }
        if all.len() > MOST {
            return Err(Error::BadSettings(format!(
                "{} folders are more than the {MOST} that can be shared; share one that holds several",
                all.len()
            )));
        }
        if words(&all).len() > LONGEST_WORDS {
            return Err(Error::BadSettings(
                "the shared folders' paths are too long together; share one that holds them".into(),
            ));
        }
        Ok(())
    }
}

fn bad<T>(path: &Path, why: &str) -> Result<T, Error> {
    Err(Error::BadSettings(format!("{} cannot be shared: {why}", path.display())))
}

fn refusal(path: &Path) -> Option<&'static str> {
    let Some(text) = path.to_str() else { return Some("its name is no Unicode text") };
    let mut parts = path.components();
    if parts.next() != Some(Component::RootDir) {
        return Some("its path does not begin at the root");
    }
    let Some(Component::Normal(first)) = parts.next() else { return Some("it is the whole system; share parts of it") };
    if OWN.iter().any(|own| first == *own) {
        return Some("the machine has a folder of that name, with its own system in it");
    }
    if parts.any(|part| !matches!(part, Component::Normal(_))) {
        return Some("its path goes back with `..`");
    }
    if first == "tmp" && path.components().count() == 2 {
        return Some("the machine has its own; share a folder in it");
    }
    (text.len() > LONGEST).then_some("its path is too long")
}

fn home() -> Option<PathBuf> {
    let of_system = || nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.dir);
    std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute()).or_else(of_system)
}

/// What the machine is told of its shares, on its kernel's command line; the tag of each is its number.
pub(crate) fn words(shares: &[Share]) -> String {
    let mut words = String::new();
    for (number, Share { path, read_only }) in shares.iter().enumerate() {
        let mode = if *read_only { "ro" } else { "rw" };
        words.push_str(&format!(" berth.share={number}:{mode}:"));
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => words.push(char::from(*byte)),
                byte => words.push_str(&format!("%{byte:02x}")),
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Share, Shares, words};

    fn of(paths: &[&str]) -> Shares {
        let share = |path: &&str| Share { path: PathBuf::from(path), read_only: false };
        Shares { home: true, folders: paths.iter().map(share).collect() }
    }

    #[test]
    fn what_is_asked_for_is_understood_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("a:b"), folder.path().join("ü x"));
        for folder in [&one, &two] {
            std::fs::create_dir(folder).unwrap();
        }
        let asked = [format!("{}/:ro", two.display()), one.display().to_string(), "none".to_owned()];
        let shares = Shares::parse(&asked).unwrap();
        assert!(!shares.home);
        let expected = [Share { path: one, read_only: false }, Share { path: two, read_only: true }];
        assert_eq!(shares.folders, expected);
        let text = serde_json::to_string(&shares).unwrap();
        assert_eq!(serde_json::from_str::<Shares>(&text).unwrap(), shares);
        assert_eq!(serde_json::from_str::<Shares>("{}").unwrap(), Shares::parse(&["home".to_owned()]).unwrap());
        let missing = folder.path().join("none").display().to_string();
        assert!(Shares::parse(&["none".to_owned(), missing.clone()]).unwrap_err().to_string().contains(&missing));
    }

    #[test]
    fn what_cannot_be_shared_is_refused_by_name() {
        let home = Some(Path::new("/home/me"));
        for path in
            ["/", "relative", "/usr/share", "/etc", "/tmp", "/srv/../etc", "/home/me/inside", "/home", "/home/me"]
        {
            let error = of(&[path]).check(home).unwrap_err().to_string();
            assert!(error.contains("cannot be shared") || path == "/home", "{path}: {error}");
        }
        of(&["/srv", "/tmp/x", "/home/mexico"]).check(home).unwrap();
        assert!(of(&["/srv", "/srv/x"]).check(None).is_err());
        let many: Vec<String> = (0..8).map(|number| format!("/srv/{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(of(&many).check(home).is_err());
        of(&many).check(None).unwrap();
        // A home that cannot be shared is left out, as that of a service's user.
        assert!(of(&[]).list_with(Some(PathBuf::from("/var/lib/x"))).is_empty());
    }

    #[test]
    fn the_kernel_takes_every_path_as_one_word() {
        let share = |path: &str, read_only| Share { path: PathBuf::from(path), read_only };
        let text = words(&[share("/srv/a b\"=%", true), share("/ü", false)]);
        assert_eq!(text, " berth.share=0:ro:/srv/a%20b%22%3d%25 berth.share=1:rw:/%c3%bc");
    }
}
