//! Against a fake `wsl.exe`: nothing here was ever run on Windows.
#![cfg(unix)]
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_testkit::fake_wsl::{self, Exec, Refusal, Script};
use berth_wsl::{Distributions, Error, Heard, Made, Place, Program, Session};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Only a bound against hanging.
const LONG: Duration = Duration::from_secs(60);

struct Ground {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Ground {
    fn new(script: &Script) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = fake_wsl::place(folder.path(), script).unwrap();
        let ground = Self { folder, program };
        ground.archive("one");
        ground
    }

    /// A system image.
    fn archive(&self, content: &str) {
        let root = self.folder.path().join("image");
        fs::create_dir_all(root.join("usr/sbin")).unwrap();
        fs::write(root.join("usr/sbin/berth-guest"), content).unwrap();
        let tar = std::process::Command::new("tar").arg("-cf").arg(self.image()).arg("-C").arg(&root).arg(".").status();
        assert!(tar.unwrap().success());
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("os.tar")
    }

    fn place(&self) -> Place {
        Place { folder: self.folder.path().join("wsl"), system: "berth".to_owned(), data: "berth-data".to_owned() }
    }

    fn script(&self, script: &Script) {
        fake_wsl::place(self.folder.path(), script).unwrap();
    }

    fn distributions(&self) -> Distributions {
        Distributions::new(Program::find(Some(&self.program)).unwrap(), self.place())
    }

    async fn ensure(&self, image: &str) -> Result<Made, Error> {
        self.distributions().ensure(image, &self.image()).await
    }

    fn root(&self, name: &str) -> PathBuf {
        self.folder.path().join("wsl.exe.state/roots").join(name)
    }

    /// What `wsl.exe` was told to change.
    fn changes(&self) -> Vec<String> {
        let calls = fake_wsl::calls(&self.program).unwrap();
        assert!(calls.iter().all(|call| call.utf8), "it was not asked for UTF-8");
        let asks = ["--list", "--version", "--status"];
        let told = calls.iter().filter(|call| !asks.contains(&call.arguments[0].as_str()));
        told.map(|call| format!("{} {}", call.arguments[0], call.arguments[1])).collect()
    }

    /// Somebody else's call.
    fn by_hand(&self, arguments: &[&str]) {
        assert!(
            std::process::Command::new(&self.program)
                .args(arguments)
                .env("WSL_UTF8", "1")
                .output()
                .unwrap()
                .status
                .success()
        );
    }
}

#[tokio::test]
async fn both_are_made_once_and_the_system_again_for_another_image() {
    let ground = Ground::new(&Script::default());
    assert_eq!(ground.ensure("1").await.unwrap(), Made { system: true, data: true, ..Made::default() });
    assert_eq!(ground.ensure("1").await.unwrap(), Made::default());
    fs::write(ground.root("berth-data").join("data/mine"), "mine").unwrap();
    assert!(ground.root("berth-data").join("bin/sh").symlink_metadata().is_ok());
    ground.archive("two");
    assert_eq!(ground.ensure("2").await.unwrap(), Made { system: true, ..Made::default() });
    assert_eq!(fs::read_to_string(ground.root("berth").join("usr/sbin/berth-guest")).unwrap(), "two");
    assert_eq!(fs::read_to_string(ground.root("berth-data").join("data/mine")).unwrap(), "mine");
    let expected =
        ["--import berth-data", "--import berth", "--terminate berth", "--unregister berth", "--import berth"];
    assert_eq!(ground.changes(), expected);
}

#[tokio::test]
async fn its_language_and_its_letters_do_not_matter() {
    for (german, utf16) in [(true, false), (false, true), (true, true)] {
        let ground = Ground::new(&Script { german, utf16, ..Script::default() });
        fake_wsl::register(&ground.program, "Ubuntu").unwrap();
        assert!(ground.ensure("1").await.unwrap().data);
        assert_eq!(ground.ensure("1").await.unwrap(), Made::default());
        let names = Program::find(Some(&ground.program)).unwrap().names().await.unwrap();
        assert_eq!(names, ["Ubuntu", "berth", "berth-data"]);
    }
}

#[tokio::test]
async fn a_distribution_of_another_tool_is_left_alone() {
    for name in ["berth", "berth-data", "Berth"] {
        let ground = Ground::new(&Script::default());
        fake_wsl::register(&ground.program, name).unwrap();
        let error = ground.ensure("1").await.unwrap_err();
        assert!(matches!(&error, Error::NameTaken { name: taken } if taken.eq_ignore_ascii_case(name)), "{error}");
        ground.distributions().remove().await.unwrap();
        ground.distributions().terminate().await.unwrap();
        assert_eq!(ground.changes(), [""; 0], "it was touched");
    }
}

#[tokio::test]
async fn one_that_took_the_place_of_ours_is_left_alone_as_well() {
    let ground = Ground::new(&Script::default());
    ground.ensure("1").await.unwrap();
    ground.by_hand(&["--unregister", "berth"]);
    fake_wsl::register(&ground.program, "berth").unwrap();
    let before = ground.changes().len();
    assert!(matches!(ground.ensure("2").await.unwrap_err(), Error::NameTaken { .. }));
    ground.distributions().terminate().await.unwrap();
    assert!(ground.distributions().remove().await.is_err());
    assert_eq!(ground.changes().len(), before);
}

#[tokio::test]
async fn a_system_that_was_unregistered_is_made_again_and_data_is_not() {
    let ground = Ground::new(&Script::default());
    ground.ensure("1").await.unwrap();
    ground.by_hand(&["--unregister", "berth"]);
    let made = ground.ensure("1").await.unwrap();
    assert_eq!(made, Made { system: true, system_was_gone: true, data: false });
    ground.by_hand(&["--unregister", "berth-data"]);
    let before = ground.changes().len();
    for _ in 0..2 {
        let error = ground.ensure("1").await.unwrap_err();
        assert!(matches!(error, Error::DataGone { .. }), "{error}");
        assert!(error.to_string().ends_with(error.fix()) && error.fix().contains("reset --all"), "{error}");
    }
    // As after a reinstallation of Windows: the disk is there, and nobody knows it.
    fs::write(ground.place().folder.join("data/ext4.vhdx"), "").unwrap();
    assert!(matches!(ground.ensure("1").await.unwrap_err(), Error::Unregistered { .. }));
    assert_eq!(ground.changes().len(), before, "nothing was made in their place");
}

#[tokio::test]
async fn an_import_that_was_cut_off_is_made_again() {
    for name in ["berth", "berth-data"] {
        let ground = Ground::new(&Script { dies_importing: Some(name.to_owned()), ..Script::default() });
        assert!(matches!(ground.ensure("1").await.unwrap_err(), Error::Refused { code: 137, .. }));
        ground.script(&Script::default());
        ground.ensure("1").await.unwrap();
        assert!(ground.root(name).join("usr/sbin/berth-guest").exists(), "{name}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_wsl_is_told_apart() {
    let refusing = |calls: &[(&str, i32, &str)]| Script {
        german: true,
        refuses: calls
            .iter()
            .map(|(call, code, says)| Refusal { call: (*call).to_owned(), code: *code, says: (*says).to_owned() })
            .collect(),
        ..Script::default()
    };
    let ground = Ground::new(&refusing(&[("--version", 1, "Verwendung"), ("--status", 50, "nicht installiert")]));
    assert!(matches!(ground.ensure("1").await.unwrap_err(), Error::NotInstalled { code: 50 }));
    ground.script(&refusing(&[("--version", 1, "Verwendung")]));
    assert!(matches!(ground.ensure("1").await.unwrap_err(), Error::Old));
    ground.script(&refusing(&[(
        "--import",
        255,
        "Fehlercode: Wsl/Service/RegisterDistro/CreateVm/HCS/HCS_E_HYPERV_NOT_INSTALLED\n",
    )]));
    let error = ground.ensure("1").await.unwrap_err();
    assert!(matches!(error, Error::VirtualizationOff { .. }) && error.to_string().contains("BIOS"), "{error}");
    ground.script(&refusing(&[("--import", 255, "Zugriff verweigert\n")]));
    let error = ground.ensure("1").await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: 255, .. }) && error.to_string().contains("Zugriff"), "{error}");
    ground.script(&Script::default());
    ground.ensure("1").await.unwrap();
    let missing = Program::find(Some(Path::new("/nowhere/wsl.exe"))).unwrap_err();
    assert!(missing.to_string().contains("wsl --install"), "{missing}");
}

#[tokio::test]
async fn one_that_hangs_is_ended() {
    let ground = Ground::new(&Script { hangs: vec!["--version".to_owned()], ..Script::default() });
    let program = Program::find(Some(&ground.program)).unwrap();
    let asked = program.run(["--version"], Duration::from_millis(200)).await;
    assert!(matches!(asked.unwrap_err(), Error::TimedOut { .. }));
}

#[tokio::test]
async fn removing_takes_both_and_only_them() {
    let ground = Ground::new(&Script::default());
    fake_wsl::register(&ground.program, "Ubuntu").unwrap();
    ground.ensure("1").await.unwrap();
    assert!(ground.distributions().exist());
    ground.distributions().remove().await.unwrap();
    assert!(!ground.distributions().exist());
    let program = Program::find(Some(&ground.program)).unwrap();
    assert_eq!(program.names().await.unwrap(), ["Ubuntu"]);
    assert!(ground.ensure("1").await.unwrap().data, "it begins anew");
}

#[tokio::test]
async fn a_session_is_a_pipe_for_one_after_another() {
    let ground = Ground::new(&Script::default());
    ground.ensure("1").await.unwrap();
    let program = Program::find(Some(&ground.program)).unwrap();
    let (session, mut heard) = Session::start(&program, "berth", &["/bin/true"]).unwrap();
    let test = async {
        assert_eq!(heard.recv().await, Some(Heard::Line("began".to_owned())));
        for _ in 0..3 {
            let mut channel = session.channel().await;
            channel.write_all(b"hello").await.unwrap();
            let mut back = [0; 5];
            channel.read_exact(&mut back).await.unwrap();
            assert_eq!(&back, b"hello");
            channel.shutdown().await.unwrap();
        }
        let mut held = session.channel().await;
        session.close();
        assert!(held.write_all(b"more").await.is_err());
        assert_eq!(held.read(&mut [0; 5]).await.unwrap(), 0);
        session.ended().await;
        let Some(Heard::Gone(gone)) = heard.recv().await else { panic!("it is not gone") };
        assert_eq!((gone.code, gone.tail), (Some(0), vec!["began".to_owned()]));
        assert_eq!(heard.recv().await, None);
    };
    tokio::time::timeout(LONG, test).await.expect("it takes for ever");
}

#[tokio::test]
async fn a_session_that_cannot_be_tells_why() {
    let says = format!("{}first\nlast\n", "x".repeat(200_000));
    let ground = Ground::new(&Script { exec: Exec::Ends(3, says), ..Script::default() });
    ground.ensure("1").await.unwrap();
    let program = Program::find(Some(&ground.program)).unwrap();
    let gone = |name: &'static str| {
        let program = program.clone();
        async move {
            let (_session, mut heard) = Session::start(&program, name, &["/bin/true"]).unwrap();
            loop {
                match tokio::time::timeout(LONG, heard.recv()).await.expect("it takes for ever") {
                    Some(Heard::Gone(gone)) => return gone,
                    Some(Heard::Line(line)) => assert!(line.len() <= 64 << 10),
                    None => panic!("it ended without a word"),
                }
            }
        }
    };
    let ended = gone("berth").await;
    assert_eq!((ended.code, ended.tail.last().map(String::as_str)), (Some(3), Some("last")));
    assert_eq!(gone("nobody").await.code, Some(255));
}
