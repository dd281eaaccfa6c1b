//! A real registry on a port of this computer, gone when dropped, and images small enough to push in no time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// Generous, for two cores that do other work: it only says when to give up.
const PATIENCE: Duration = Duration::from_secs(30);

const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// Why a throwaway registry did not come up or did not take an image.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("{program} could not be run: {source}. Run the tests through `cargo xtask test engine`")]
    Run { program: &'static str, source: std::io::Error },
    #[error("a file of the registry could not be written: {0}")]
    File(#[from] std::io::Error),
    #[error("the registry did not come up:\n{0}")]
    NotReady(String),
    #[error("{program} failed: {said}")]
    Failed { program: &'static str, said: String },
    #[error("no certificate could be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// A running `docker-registry`.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    folder: TempDir,
    port: u16,
    login: Option<(String, String)>,
    authority: Option<String>,
}

impl Registry {
    /// Starts one without encryption and without logins.
    ///
    /// # Errors
    /// When it is not installed or does not come up; the error holds its log.
    pub fn start_plain() -> Result<Self, Error> {
        Self::launch(new_folder()?, "", "", None, None)
    }

    /// Starts one that wants this name and password.
    ///
    /// # Errors
    /// When it or `htpasswd` is not installed or it does not come up; the error holds its log.
    pub fn start_htpasswd(user: &str, password: &str) -> Result<Self, Error> {
        let folder = new_folder()?;
        let mut command = Command::new("htpasswd");
        command.args(["-n", "-i", "-B", user]);
        let line = run("htpasswd", &mut command, password.as_bytes())?;
        let path = folder.path().join("htpasswd");
        std::fs::write(&path, line)?;
        let auth = format!("auth:\n  htpasswd:\n    realm: a test\n    path: {}\n", path.display());
        Self::launch(folder, &auth, "", Some((user.to_owned(), password.to_owned())), None)
    }

    /// Starts an encrypted one with a certificate from an authority of its own.
    ///
    /// # Errors
    /// When it is not installed or does not come up; the error holds its log.
    pub fn start_tls() -> Result<Self, Error> {
        let folder = new_folder()?;
        let authority_key = rcgen::KeyPair::generate()?;
        let mut authority = rcgen::CertificateParams::new(Vec::new())?;
        // Under the name of its certificate it would look like one that signed itself.
        authority.distinguished_name.push(rcgen::DnType::CommonName, "Berth test authority");
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let key = rcgen::KeyPair::generate()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let certificate = rcgen::CertificateParams::new(names)?.signed_by(&key, &issuer)?;
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("authority.pem"), &authority_pem)?;
        std::fs::write(at("certificate.pem"), certificate.pem())?;
        std::fs::write(at("key.pem"), key.serialize_pem())?;
        let tls = format!(
            "  tls:\n    certificate: {}\n    key: {}\n",
            at("certificate.pem").display(),
            at("key.pem").display()
        );
        Self::launch(folder, "", &tls, None, Some(authority_pem))
    }

    fn launch(
        folder: TempDir,
        auth: &str,
        tls: &str,
        login: Option<(String, String)>,
        authority: Option<String>,
    ) -> Result<Self, Error> {
        let config = format!(
            "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: true\nstorage:\n  delete:\n    enabled: true\n  \
             filesystem:\n    rootdirectory: {}\n{auth}http:\n  addr: 127.0.0.1:0\n{tls}",
            folder.path().join("data").display(),
        );
        let path = folder.path().join("config.yml");
        std::fs::write(&path, config)?;
        let mut child = Command::new(program())
            .arg("serve")
            .arg(&path)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Run { program: "docker-registry", source })?;
        let lines = follow(&mut child);
        match wait_for_port(&lines) {
            Ok(port) => {
                // It goes on writing, and would stop at a full pipe.
                std::thread::spawn(move || lines.into_iter().for_each(drop));
                Ok(Self { child, folder, port, login, authority })
            }
            Err(Silent(log)) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(Error::NotReady(log))
            }
        }
    }

    /// Host and port, as they stand in an image's name.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The certificate of its authority, in PEM form.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// Pushes an image with one layer of a few bytes and gives the digest of its manifest.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub fn push(&self, repository: &str, tag: &str, architecture: &str) -> Result<String, Error> {
        let layer = b"not a layer that anyone unpacks".as_slice();
        let config = serde_json::json!({
            "created": "2024-05-01T12:00:00Z", "os": "linux", "architecture": architecture,
            "config": {"Labels": {"org.opencontainers.image.title": repository}},
            "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]},
        })
        .to_string();
        self.push_blob(repository, layer)?;
        self.push_blob(repository, config.as_bytes())?;
        let describe = |media_type: &str, bytes: &[u8]| serde_json::json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()});
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
            "config": describe(CONFIG_TYPE, config.as_bytes()), "layers": [describe(LAYER_TYPE, layer)],
        })
        .to_string();
        self.push_manifest(repository, tag, MANIFEST_TYPE, &manifest)
    }

    /// Pushes an image for each of these architectures and an index of them, and gives the digest of the index.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub fn push_index(&self, repository: &str, tag: &str, architectures: &[&str]) -> Result<String, Error> {
        let mut manifests = Vec::new();
        for architecture in architectures {
            let digest = self.push(repository, &format!("{tag}-{architecture}"), architecture)?;
            let size = self
                .curl("GET", &self.url(&format!("/v2/{repository}/manifests/{digest}")), &[MANIFEST_TYPE], None)?
                .len();
            manifests.push(serde_json::json!({
                "mediaType": MANIFEST_TYPE, "digest": digest, "size": size,
                "platform": {"os": "linux", "architecture": architecture},
            }));
        }
        let index =
            serde_json::json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}).to_string();
        self.push_manifest(repository, tag, INDEX_TYPE, &index)
    }

    fn push_manifest(&self, repository: &str, tag: &str, media_type: &str, body: &str) -> Result<String, Error> {
        let url = self.url(&format!("/v2/{repository}/manifests/{tag}"));
        self.curl("PUT", &url, &[media_type], Some(body.as_bytes()))?;
        Ok(sha256(body.as_bytes()))
    }

    fn push_blob(&self, repository: &str, bytes: &[u8]) -> Result<(), Error> {
        let start = self.curl("POST", &self.url(&format!("/v2/{repository}/blobs/uploads/")), &[], Some(b""))?;
        let head = String::from_utf8_lossy(&start);
        let location = head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("location")));
        let location = location.map(|(_, value)| value.trim()).unwrap_or_default();
        let joint = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{joint}digest={}", sha256(bytes));
        self.curl("PUT", &url, &["application/octet-stream"], Some(bytes)).map(|_| ())
    }

    fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.authority.is_some() { "https" } else { "http" }, self.host())
    }

    /// One request; gives the body of a `GET`, else the headers of the answer.
    fn curl(&self, method: &str, url: &str, media_type: &[&str], body: Option<&[u8]>) -> Result<Vec<u8>, Error> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--config", "-"]);
        // The password goes through the pipe: every process can read the arguments of every other.
        let mut config = format!("url = \"{url}\"\nrequest = \"{method}\"\n");
        if let Some((user, password)) = &self.login {
            config += &format!("user = \"{user}:{password}\"\n");
        }
        if self.authority.is_some() {
            config += &format!("cacert = \"{}\"\n", self.folder.path().join("authority.pem").display());
        }
        let header = if method == "GET" { "Accept" } else { "Content-Type" };
        for media_type in media_type {
            config += &format!("header = \"{header}: {media_type}\"\n");
        }
        if let Some(body) = body {
            let mut file = tempfile::NamedTempFile::new()?;
            file.write_all(body)?;
            config += &format!("data-binary = \"@{}\"\ndump-header = \"-\"\n", file.path().display());
            return run("curl", &mut command, config.as_bytes());
        }
        run("curl", &mut command, config.as_bytes())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian's package lies unpacked among the tools of this workspace, or is installed.
fn program() -> PathBuf {
    std::env::var_os("BERTH_REGISTRY").map_or_else(|| "docker-registry".into(), PathBuf::from)
}

/// Where that program is.
///
/// # Errors
/// It is not installed, and nobody has unpacked it.
pub fn found() -> std::io::Result<PathBuf> {
    let program = program();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(&program));
    places.find(|path| path.is_file()).ok_or_else(|| std::io::Error::other("docker-registry is not installed"))
}

fn new_folder() -> Result<TempDir, Error> {
    Ok(tempfile::Builder::new().prefix("berth-registry-").tempdir()?)
}

fn follow(child: &mut Child) -> Receiver<String> {
    let (sender, lines) = sync_channel(64);
    if let Some(stderr) = child.stderr.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    lines
}

/// What a registry said that does not listen.
struct Silent(String);

/// The port from the log's line `listening on 127.0.0.1:41234`.
fn wait_for_port(lines: &Receiver<String>) -> Result<u16, Silent> {
    let start = Instant::now();
    let mut log = String::new();
    while let Some(left) = PATIENCE.checked_sub(start.elapsed()) {
        match lines.recv_timeout(left) {
            Ok(line) => {
                let port = line.split_once("listening on 127.0.0.1:").map(|(_, rest)| rest);
                let digits = port.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
                if let Some(port) = digits.and_then(|digits| digits.parse().ok()) {
                    return Ok(port);
                }
                log += &line;
                log.push('\n');
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    Err(Silent(log))
}

fn run(program: &'static str, command: &mut Command, input: &[u8]) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Run { program, source };
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::Failed { program, said: String::from_utf8_lossy(&output.stderr).into_owned() })
}

fn sha256(bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}
