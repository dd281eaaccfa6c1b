//! A real engine behind TLS on a port of this computer, and the certificates of everyone who talks to it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

use crate::real::{self, program, remove_groups};
use crate::ssh::{finished, free_port, run};

/// Generous, for two cores that do other work: it only says when to give up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Another program may take the port between its choice and its use.
const TRIES: usize = 5;

/// Why there is no engine behind TLS.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(transparent)]
    Engine(#[from] real::Error),
    #[error("no certificate could be made: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("a file for the engine could not be written: {0}")]
    File(#[from] std::io::Error),
}

/// An authority of the tests alone.
#[derive(Debug)]
pub struct Authority {
    certificate: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// How a key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// RSA in PKCS #1, as `BEGIN RSA PRIVATE KEY`: what Docker's manual makes with older programs.
    RsaPkcs1,
    /// An elliptic curve in SEC 1, as `BEGIN EC PRIVATE KEY` behind its parameters.
    EcSec1,
    /// RSA in PKCS #8, as `BEGIN PRIVATE KEY`.
    RsaPkcs8,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn new(name: &str) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, key: key.serialize_pem(), issuer: Issuer::new(params, key) })
    }

    /// Its own certificate, in PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// For an engine of these names and addresses.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn engine(&self, names: &[&str]) -> Result<Identity, Error> {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        self.issue("engine", names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For somebody who talks to engines.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn client(&self) -> Result<Identity, Error> {
        self.issue("client", Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// For somebody who talks to engines with a key that `openssl` made.
    ///
    /// # Errors
    /// When `openssl` is not installed or fails.
    pub fn client_by_openssl(&self, form: KeyForm) -> Result<Identity, Error> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("ca.pem"), &self.certificate)?;
        std::fs::write(at("ca-key.pem"), &self.key)?;
        std::fs::write(at("extensions"), "extendedKeyUsage = clientAuth\n")?;
        let make: &[&str] = match form {
            KeyForm::RsaPkcs1 => &["genrsa", "-traditional", "-out", "key.pem", "2048"],
            KeyForm::RsaPkcs8 => &["genpkey", "-algorithm", "RSA", "-out", "key.pem"],
            KeyForm::EcSec1 => &["ecparam", "-name", "prime256v1", "-genkey", "-out", "key.pem"],
        };
        let sign = [
            "x509",
            "-req",
            "-in",
            "request.pem",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca-key.pem",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "extensions",
            "-out",
            "cert.pem",
        ];
        let request = ["req", "-new", "-key", "key.pem", "-subj", "/CN=client", "-out", "request.pem"];
        for arguments in [make, &request, &sign] {
            finished("openssl", Command::new("openssl").args(arguments).current_dir(folder.path()))?;
        }
        Ok(Identity {
            certificate: std::fs::read_to_string(at("cert.pem"))?,
            key: std::fs::read_to_string(at("key.pem"))?,
        })
    }

    fn issue(&self, name: &str, names: Vec<String>, purpose: ExtendedKeyUsagePurpose) -> Result<Identity, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![purpose];
        Ok(Identity { certificate: params.signed_by(&key, &self.issuer)?.pem(), key: key.serialize_pem() })
    }
}

impl Identity {
    /// Writes them into a folder as `docker` wants them there: `ca.pem`, `cert.pem` and `key.pem`.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write(&self, folder: &Path, authority: &Authority) -> std::io::Result<()> {
        std::fs::write(folder.join("ca.pem"), authority.certificate())?;
        std::fs::write(folder.join("cert.pem"), &self.certificate)?;
        std::fs::write(folder.join("key.pem"), &self.key)
    }
}

/// Debian's dockerd 20.10 with `--tlsverify`. It listens on a unix socket as well, to be prepared through.
#[derive(Debug)]
pub struct TlsEngine {
    child: Child,
    folder: TempDir,
    port: u16,
}

/// Names and addresses in the engine's certificate. `localhost`, which leads there too, is none of them.
pub const NAMES: [&str; 2] = ["127.0.0.1", "engine.invalid"];

impl TlsEngine {
    /// Starts one that lets in whom `authority` knows, with a certificate of it for [`NAMES`]. Waits until it answers.
    ///
    /// # Errors
    /// When it is not installed or does not come up; the error holds its log.
    pub fn start(authority: &Authority) -> Result<Self, Error> {
        let dockerd = dockerd()?;
        let folder = tempfile::Builder::new().prefix("berth-tls-").tempdir()?;
        authority.engine(&NAMES)?.write(folder.path(), authority)?;
        let mut tries = 1;
        loop {
            let port = free_port()?;
            match listening(&dockerd, folder.path(), port) {
                Ok(child) => return Ok(Self { child, folder, port }),
                Err(real::Error::NotReady { log }) if log.contains("address already in use") && tries < TRIES => {
                    tries += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The port it listens on, at 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }
}

impl Drop for TlsEngine {
    fn drop(&mut self) {
        // With PID 1 of its namespaces go its containers, its containerd and its mounts.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let name = self.folder.path().file_name().unwrap_or_default().to_owned();
        remove_groups(Path::new("/sys/fs/cgroup"), Path::new(&name));
    }
}

/// As for [`real::OldEngine`].
fn dockerd() -> Result<PathBuf, real::Error> {
    let unpacked = program("old-engine", "BERTH_OLD_ENGINE").join("root/usr/sbin/dockerd");
    let found = || if unpacked.exists() { unpacked } else { "/usr/sbin/dockerd".into() };
    let dockerd = std::env::var_os("BERTH_OLD_DOCKERD").map_or_else(found, PathBuf::from);
    if dockerd.exists() {
        return Ok(dockerd);
    }
    let program = dockerd.display().to_string();
    Err(real::Error::Missing { program, fix: "run the tests through `cargo xtask test engine`" })
}

fn listening(dockerd: &Path, folder: &Path, port: u16) -> Result<Child, real::Error> {
    let at = |name: &str| folder.join(name);
    let log = || std::fs::read_to_string(at("log")).unwrap_or_default();
    let output = std::fs::File::create(at("log")).map_err(run("dockerd"))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let beside = dockerd.parent().unwrap_or(Path::new("/"));
    let programs = beside.with_file_name("bin");
    let group = folder.file_name().unwrap_or_default().to_string_lossy();
    let mut child = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(dockerd)
        .env("PATH", format!("{}:{}:{path}", programs.display(), beside.display()))
        .arg(format!("--host=unix://{}", at("docker.sock").display()))
        .arg(format!("--host=tcp://127.0.0.1:{port}"))
        .arg("--tlsverify")
        .arg("--tlscacert")
        .arg(at("ca.pem"))
        .arg("--tlscert")
        .arg(at("cert.pem"))
        .arg("--tlskey")
        .arg(at("key.pem"))
        .arg("--data-root")
        .arg(at("data"))
        .arg("--exec-root")
        .arg(at("exec"))
        .arg("--pidfile")
        .arg(at("pid"))
        .args(["--storage-driver", "overlay2", "--bridge", "none", "--iptables=false", "--ip6tables=false"])
        .arg(format!("--cgroup-parent=/{group}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output)
        .spawn()
        .map_err(run("unshare"))?;
    let deadline = Instant::now() + PATIENCE;
    // It takes connections long before it answers, and whoever comes by TLS has no patience.
    while !log().contains(&format!("API listen on 127.0.0.1:{port}")) {
        if child.try_wait().map_err(run("dockerd"))?.is_some() || Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Err(real::Error::NotReady { log: log() });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(child)
}
