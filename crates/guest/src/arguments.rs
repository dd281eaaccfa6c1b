use std::net::IpAddr;
use std::path::PathBuf;

use crate::config::{PROXY, Settings};
use crate::delegated;
use crate::error::Error;
use crate::identities::{Given, Identities};

/// Which side of the namespaces this process is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Native,
    Init,
}

/// Where everything is. Both sides are started with the same options.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// The appliance's root tree; read, never written.
    pub(crate) root: PathBuf,
    /// What survives: images, containers, volumes, logs.
    pub(crate) data: PathBuf,
    /// The folder the sockets are in.
    pub(crate) runtime: PathBuf,
    /// The cgroup below which every container lives; unique per data folder.
    pub(crate) cgroup: String,
    pub(crate) hostname: String,
    /// The resolver containers are given, when there is a way out.
    pub(crate) dns: Option<IpAddr>,
    /// Who is who in the user namespace, when it is not root who starts it.
    pub(crate) identities: Option<Identities>,
    /// A cgroup to make and to live in, where the system left one to that user.
    pub(crate) delegated: Option<PathBuf>,
}

impl Options {
    pub(crate) fn settings(&self) -> Settings {
        let cgroup = match (&self.identities, &self.delegated) {
            (None, _) => Some(self.cgroup.clone()),
            (Some(_), Some(_)) => Some(delegated::CONTAINERS.to_owned()),
            // Who is not root may not write the host's cgroups.
            (Some(_), None) => None,
        };
        Settings { cgroup, proxy: PROXY }
    }

    pub(crate) fn parse(arguments: &[String]) -> Result<(Mode, Self), Error> {
        let usage = |text: &str| Error::Usage(text.to_owned());
        let mut arguments = arguments.iter().map(String::as_str);
        let mode = match arguments.next() {
            Some("native") => Mode::Native,
            Some("init") => Mode::Init,
            Some(other) => return Err(Error::Usage(format!("unknown command {other:?}"))),
            None => return Err(usage("no command")),
        };
        let (mut root, mut data, mut runtime, mut cgroup) = (None, None, None, None);
        let (mut hostname, mut dns, mut delegated, mut given) = ("berth".to_owned(), None, None, Given::default());
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| Error::Usage(format!("{name} has no value")))?;
            match name {
                "--root" => root = Some(PathBuf::from(value)),
                "--data" => data = Some(PathBuf::from(value)),
                "--runtime" => runtime = Some(PathBuf::from(value)),
                "--cgroup" if is_plain_name(value) => cgroup = Some(value.to_owned()),
                "--hostname" if is_plain_name(value) => value.clone_into(&mut hostname),
                "--dns" => {
                    dns = Some(value.parse().map_err(|_| Error::Usage(format!("--dns {value:?} is no address")))?);
                }
                "--delegated" => delegated = Some(PathBuf::from(value)),
                _ if given.take(name, value)? => {}
                _ => return Err(Error::Usage(format!("{name} {value:?} is not understood"))),
            }
        }
        Ok((
            mode,
            Self {
                root: root.ok_or_else(|| usage("--root is missing"))?,
                data: data.ok_or_else(|| usage("--data is missing"))?,
                runtime: runtime.ok_or_else(|| usage("--runtime is missing"))?,
                cgroup: cgroup.ok_or_else(|| usage("--cgroup is missing"))?,
                hostname,
                dns,
                identities: given.identities()?,
                delegated,
            },
        ))
    }
}

fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::{Mode, Options};

    fn parse(text: &str) -> Result<(Mode, Options), crate::error::Error> {
        let arguments: Vec<String> = text.split(' ').map(str::to_owned).collect();
        Options::parse(&arguments)
    }

    #[test]
    fn both_sides_take_the_same_options() {
        let text = "--root /r --data /d --runtime /t --cgroup berth-1 --dns 10.0.0.3";
        let (mode, outer) = parse(&format!("native {text}")).unwrap();
        assert_eq!(mode, Mode::Native);
        assert_eq!(outer.hostname, "berth");
        assert_eq!(outer.dns, Some("10.0.0.3".parse().unwrap()));
        let (mode, inner) = parse(&format!("init {text}")).unwrap();
        assert_eq!(mode, Mode::Init);
        assert_eq!(outer, inner);
    }

    #[test]
    fn who_is_not_root_has_no_cgroups_to_write() {
        let text = "init --root /r --data /d --runtime /t --cgroup berth-1";
        let (_, options) = parse(text).unwrap();
        assert_eq!(options.settings().cgroup.as_deref(), Some("berth-1"));
        let ids = "--uids 0:1000:1 --gids 0:1000:1 --newuidmap /u --newgidmap /g";
        let (_, options) = parse(&format!("{text} {ids}")).unwrap();
        assert!(options.identities.is_some() && options.settings().cgroup.is_none());
        let (_, options) = parse(&format!("{text} {ids} --delegated /sys/fs/cgroup/mine/berth-1")).unwrap();
        assert_eq!(options.settings().cgroup.as_deref(), Some("containers"));
        assert!(parse(&format!("{text} --uids 0:1000:1")).is_err());
    }

    #[test]
    fn a_cgroup_cannot_leave_its_place() {
        for name in ["..", "a/b", ""] {
            assert!(parse(&format!("init --root /r --data /d --runtime /t --cgroup {name}")).is_err());
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let message = parse("init --root /r --data /d --cgroup x").unwrap_err().to_string();
        assert!(message.contains("--runtime is missing"), "{message}");
    }
}
