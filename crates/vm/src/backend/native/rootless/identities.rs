//! Whose ids the engine's users get: root's is the user's own, the others come from what /etc/subuid and /etc/subgid set
//! aside.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::missing::{Missing, network_kind};

/// What is read of either file at most, and of how many ranges.
const FILE_LIMIT: u64 = 1 << 20;
const RANGES: usize = 300;
/// Where a user's first ids begin as a rule.
const FIRST: u32 = 100_000;

/// Who is who in the user namespace, and the programs that may say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identities {
    uid: u32,
    gid: u32,
    uids: Vec<Range>,
    gids: Vec<Range>,
    newuidmap: PathBuf,
    newgidmap: PathBuf,
    /// Where the engine makes its cgroups, if it may.
    delegated: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    count: u32,
}

/// Where things are looked for.
#[derive(Debug)]
pub(super) struct System {
    /// In front of `/proc` and `/etc`.
    root: PathBuf,
    path: OsString,
    user: String,
    uid: u32,
    gid: u32,
}

impl System {
    pub(super) fn this() -> Self {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let user = nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self { root: PathBuf::from("/"), path, user, uid: uid.as_raw(), gid: gid.as_raw() }
    }

    fn setting(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join("proc/sys").join(name.replace('.', "/"))).ok()?;
        Some(text.trim().to_owned())
    }

    fn program(&self, name: &'static str) -> Result<PathBuf, Missing> {
        let found = std::env::split_paths(&self.path)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|path| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0))
            .ok_or(Missing::Program { name })?;
        let powerless = |why| Err(Missing::Powerless { path: found.clone(), why });
        let mode = found.metadata().map_or(0, |file| file.permissions().mode());
        let mut capabilities = [0; 64];
        if mode & 0o4000 == 0 && rustix::fs::getxattr(&found, "security.capability", &mut capabilities).is_err() {
            return powerless("it is neither setuid nor has it capabilities");
        }
        let nosuid = rustix::fs::StatVfsMountFlags::NOSUID;
        if rustix::fs::statvfs(&found).is_ok_and(|mount| mount.f_flag.contains(nosuid)) {
            return powerless("it is on a file system that is mounted with nosuid");
        }
        Ok(found)
    }

    fn ranges(&self, file: &'static str) -> Result<Vec<Range>, Missing> {
        use std::io::Read as _;
        let mut text = String::new();
        if let Ok(opened) = fs::File::open(self.root.join(file.trim_start_matches('/'))) {
            let _ = opened.take(FILE_LIMIT).read_to_string(&mut text);
        }
        let all: Vec<(&str, Range)> = text.lines().filter_map(entry).collect();
        let uid = self.uid.to_string();
        let own = all.iter().filter(|(name, _)| *name == self.user || *name == uid).map(|(_, range)| *range);
        let own: Vec<Range> = own.take(RANGES).collect();
        if own.is_empty() {
            let after = all.iter().map(|(_, range)| range.first.saturating_add(range.count)).max();
            return Err(Missing::Range { file, user: self.user.clone(), free: after.unwrap_or(FIRST).max(FIRST) });
        }
        Ok(own)
    }
}

/// `user:first:count`.
fn entry(line: &str) -> Option<(&str, Range)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let (first, count) = (fields.next()?.trim().parse().ok()?, fields.next()?.trim().parse().ok()?);
    (count > 0 && first > 0).then_some((name, Range { first, count }))
}

impl Identities {
    pub(super) fn find(system: &System, data: &Path) -> Result<Self, Missing> {
        if !system.root.join("proc/self/ns/user").exists() {
            return Err(Missing::UserNamespaces);
        }
        for (name, wanted) in [("kernel.unprivileged_userns_clone", "1"), ("user.max_user_namespaces", "15000")] {
            if let Some(value) = system.setting(name).filter(|value| value == "0") {
                return Err(Missing::Forbidden { name, value, wanted });
            }
        }
        let status = fs::read_to_string(system.root.join("proc/self/status")).unwrap_or_default();
        if status.lines().any(|line| line.strip_prefix("NoNewPrivs:").is_some_and(|value| value.trim() == "1")) {
            return Err(Missing::NoNewPrivileges);
        }
        let (newuidmap, newgidmap) = (system.program("newuidmap")?, system.program("newgidmap")?);
        let (uids, gids) = (system.ranges("/etc/subuid")?, system.ranges("/etc/subgid")?);
        if let Some(kind) = network_kind(data) {
            return Err(Missing::NetworkFolder { path: data.to_path_buf(), kind });
        }
        Ok(Self { uid: system.uid, gid: system.gid, uids, gids, newuidmap, newgidmap, delegated: None })
    }

    pub(crate) fn delegated(&self) -> Option<&Path> {
        self.delegated.as_deref()
    }

    pub(crate) fn with_cgroup(self, folder: &Path) -> Self {
        Self { delegated: Some(folder.to_path_buf()), ..self }
    }

    /// How many ids there are besides root's.
    pub(super) fn spare(&self) -> u64 {
        let sum = |ranges: &[Range]| ranges.iter().map(|range| u64::from(range.count)).sum::<u64>();
        sum(&self.uids).min(sum(&self.gids))
    }

    /// As `berth-guest` takes them.
    pub(crate) fn arguments(&self) -> [OsString; 8] {
        [
            "--uids".into(),
            map(self.uid, &self.uids).into(),
            "--gids".into(),
            map(self.gid, &self.gids).into(),
            "--newuidmap".into(),
            self.newuidmap.clone().into(),
            "--newgidmap".into(),
            self.newgidmap.clone().into(),
        ]
    }
}

/// Root inside is this id outside, and the ranges follow one after the other.
fn map(own: u32, ranges: &[Range]) -> String {
    let mut text = format!("0:{own}:1");
    let mut inside = 1_u32;
    for Range { first, count } in ranges {
        // An id inside is 32 bits as well, and the last of them is none.
        let count = (*count).min(u32::MAX - inside);
        if count == 0 {
            break;
        }
        text.push_str(&format!(",{inside}:{first}:{count}"));
        inside += count;
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::{Identities, Missing, Range, System, map};

    /// A system that has everything.
    fn system(folder: &Path) -> System {
        for (file, text) in [
            ("proc/sys/kernel/unprivileged_userns_clone", "1\n"),
            ("proc/sys/user/max_user_namespaces", "96365\n"),
            ("proc/self/ns/user", ""),
            ("proc/self/status", "Name:\tberth\nNoNewPrivs:\t0\n"),
            ("etc/subuid", "# ids\nroot:100000:65536\nme:165536:65536\n1000:400000:10\n"),
            ("etc/subgid", "me:165536:65536\n"),
            ("bin/newuidmap", ""),
            ("bin/newgidmap", ""),
        ] {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            if file.starts_with("bin") {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
            }
        }
        let path = folder.join("bin").into_os_string();
        System { root: folder.to_path_buf(), path, user: "me".to_owned(), uid: 1000, gid: 100 }
    }

    fn missing(change: impl FnOnce(&Path)) -> Missing {
        let folder = tempfile::tempdir().unwrap();
        let system = system(folder.path());
        change(folder.path());
        Identities::find(&system, folder.path()).unwrap_err()
    }

    #[test]
    fn root_inside_is_the_user_and_everybody_else_comes_from_what_was_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let found = Identities::find(&system(folder.path()), folder.path()).unwrap();
        let line: Vec<_> = found.arguments().into_iter().map(|word| word.into_string().unwrap()).collect();
        assert_eq!(line[1], "0:1000:1,1:165536:65536,65537:400000:10");
        assert_eq!(line[3], "0:100:1,1:165536:65536");
        assert!(line[5].ends_with("bin/newuidmap") && line[7].ends_with("bin/newgidmap"));
        assert_eq!(found.spare(), 65_536);
        let huge = [Range { first: 1, count: u32::MAX }, Range { first: 1, count: 5 }];
        assert_eq!(map(7, &huge), format!("0:7:1,1:1:{}", u32::MAX - 1), "no id is above the last one");
    }

    #[test]
    fn what_is_missing_is_named_with_the_way_to_get_it() {
        let text = missing(|root| fs::remove_file(root.join("bin/newgidmap")).unwrap()).to_string();
        assert!(text.contains("`newgidmap` is missing") && text.contains("`uidmap`"), "{text}");

        let nobody = missing(|root| fs::write(root.join("etc/subgid"), "you:300000:65536\n").unwrap());
        let text = nobody.to_string();
        assert!(text.contains("/etc/subgid"), "{text}");
        assert!(text.contains("usermod --add-subuids 365536-431071 --add-subgids 365536-431071 me`"), "{text}");
        let text = missing(|root| fs::remove_file(root.join("etc/subuid")).unwrap()).to_string();
        assert!(text.contains("100000-165535 me`"), "{text}");

        for (file, name) in [
            ("proc/sys/kernel/unprivileged_userns_clone", "sysctl -w kernel.unprivileged_userns_clone=1"),
            ("proc/sys/user/max_user_namespaces", "sysctl -w user.max_user_namespaces=15000"),
        ] {
            let text = missing(|root| fs::write(root.join(file), "0\n").unwrap()).to_string();
            assert!(text.contains(name), "{text}");
        }

        let text = missing(|root| fs::remove_file(root.join("proc/self/ns/user")).unwrap()).to_string();
        assert!(text.contains("CONFIG_USER_NS"), "{text}");
        let text = missing(|root| fs::write(root.join("proc/self/status"), "NoNewPrivs:\t1\n").unwrap()).to_string();
        assert!(text.contains("no_new_privs"), "{text}");
        let plain = |root: &Path| {
            fs::set_permissions(root.join("bin/newuidmap"), fs::Permissions::from_mode(0o755)).unwrap();
        };
        let text = missing(plain).to_string();
        assert!(text.contains("bin/newuidmap cannot map ids") && text.contains("chmod u+s"), "{text}");
    }
}
