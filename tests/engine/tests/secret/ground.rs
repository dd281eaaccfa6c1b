//! The engine, the registries, the programs and what is done with them, in order.

use std::ffi::OsString;
use std::fs::{File, Permissions, create_dir_all, set_permissions, write};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use berth_testkit::raw::Raw;
use berth_testkit::real::{BundledEngine, program};
use berth_testkit::registry::Registry;
use berth_testkit::tls_engine::{Authority, TlsEngine};
use berth_testkit::{image, registry_container};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::client;
use crate::marker::{Marker, USER};
use crate::page::{Page, Serve};
use crate::places::{Kind, Places};
use crate::sampler::Sampler;

const CONTAINER: &str = "with-secret";
const INNER: &str = "127.0.0.1:5000";

/// What is planted in every kind of place, so that the search is seen to find it.
const CONTROL: &str = "control";
const PLANTED: &str = "planted";

const NAMES: [&str; 8] = [
    CONTROL,
    "registry password",
    "wrong password",
    "pasted password",
    "identity token",
    "environment",
    "environment of an exec",
    "build secret",
];

/// Folders of this test: those of Berth's user, and others that are none of Berth's business.
struct Folders {
    top: TempDir,
}

impl Folders {
    fn new() -> Self {
        let folders = Self { top: tempfile::Builder::new().prefix("berth-secret-").tempdir().unwrap() };
        for name in ["home/.docker", "home/.config", "home/.cache", "temporary", "log", "vault", "gate", "programs"] {
            create_dir_all(folders.at(name)).unwrap();
        }
        folders
    }

    fn at(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    /// Of every program of Berth's.
    fn environment(&self) -> Vec<(String, OsString)> {
        let mut path = OsString::from(self.at("programs"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        [
            ("HOME", self.at("home").into()),
            ("DOCKER_CONFIG", self.at("home/.docker").into()),
            ("XDG_CONFIG_HOME", self.at("home/.config").into()),
            ("XDG_CACHE_HOME", self.at("home/.cache").into()),
            ("TMPDIR", self.at("temporary").into()),
            ("PATH", path),
            ("BERTH_LOG", "trace".into()),
            ("NO_COLOR", "1".into()),
            // No keychain of whoever runs this.
            ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent".into()),
        ]
        .map(|(name, value): (&str, OsString)| (name.to_owned(), value))
        .into()
    }

    fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.at("programs").join(name);
        write(&path, script).unwrap();
        set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Credential helpers: one that keeps logins, and two that repeat the secret when they fail, as they were told it and
    /// without a word that shows what it is.
    fn helpers(&self) {
        let vault = self.at("vault").display().to_string();
        let begin = format!("#!/bin/sh\necho \"$0 $*\" >> {vault}/arguments\ninput=$(cat)\n");
        let keep = r#"
            named() { printf '%s' "$1" | tr -c 'a-zA-Z0-9' _; }
            case "$1" in
            store)
                server=$(printf '%s' "$input" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/')
                printf '%s' "$input" > VAULT/login-$(named "$server") ;;
            get)
                cat VAULT/login-$(named "$input") 2>/dev/null || { echo 'credentials not found in native keychain'; exit 1; } ;;
            erase) rm -f VAULT/login-$(named "$input") ;;
            list) echo '{}' ;;
            esac"#;
        self.program("docker-credential-vault", &format!("{begin}{}", keep.replace("VAULT", &vault)));
        let fail = |what: &str| format!("{begin}[ \"$1\" = store ] || exit 0\n{what}\nexit 1\n");
        self.program("docker-credential-repeats", &fail(r#"printf '%s' "$input""#));
        let value = r#"printf 'cannot keep %s' "$(printf '%s' "$input" | sed 's/.*"Secret":"\(.*\)"}$/\1/')""#;
        self.program("docker-credential-quotes", &fail(value));
        let helpers = json!({ "repeats.test": "repeats", "quotes.test": "quotes" });
        let config = json!({ "credsStore": "vault", "credHelpers": helpers }).to_string();
        write(self.at("home/.docker/config.json"), config).unwrap();
    }

    /// The appliance's buildx, which notes its arguments, and is seen before it works and before what it leaves is removed.
    fn buildx(&self) -> PathBuf {
        let real = program("appliance", "BERTH_APPLIANCE").join("root/usr/libexec/docker/cli-plugins/docker-buildx");
        assert!(real.exists(), "run the tests through `cargo xtask test engine`");
        let script = r#"#!/bin/sh
            echo "$0 $*" >> TOP/vault/arguments
            be_seen() { : > TOP/gate/$$; while [ -e TOP/gate/$$ ]; do sleep 0.02; done; }
            be_seen
            REAL "$@"
            code=$?
            be_seen
            exit $code"#;
        let top = self.top.path().display().to_string();
        self.program("buildx", &script.replace("TOP", &top).replace("REAL", &real.display().to_string()))
    }

    fn context(&self, name: &str, last: &str) -> PathBuf {
        let folder = self.at(name);
        create_dir_all(&folder).unwrap();
        let file = format!(
            "FROM {INNER}/private/busybox:1\n\
             RUN --mount=type=secret,id=token busybox sha256sum /run/secrets/token\n\
             RUN --mount=type=secret,id=token,env=TOKEN printf %s \"$TOKEN\" | busybox sha256sum\n{last}"
        );
        write(folder.join("Dockerfile"), file).unwrap();
        folder
    }
}

/// The client's process.
struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    words: String,
}

impl Client {
    fn start(folders: &Folders, orders: &Value) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(client::ROLE)
            .envs(folders.environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(folders.at("log/client.log")).unwrap())
            .spawn()
            .unwrap();
        let (mut input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        writeln!(input, "{orders}").unwrap();
        Self { child, input, output, words: String::new() }
    }

    fn step(&mut self, step: &str, folders: &Folders) {
        writeln!(self.input, "{step}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let Ok(Value::String(said)) = serde_json::from_str(&line) else {
            let log = std::fs::read_to_string(folders.at("log/client.log")).unwrap();
            let end: Vec<&str> = log.lines().rev().take(20).collect();
            panic!("the client ended at `{step}`:\n{}", end.into_iter().rev().collect::<Vec<_>>().join("\n"));
        };
        assert!(!said.is_empty(), "`{step}` gave nothing");
        self.words.push_str(&said);
    }

    fn end(self) -> String {
        let Self { mut child, input, words, .. } = self;
        drop(input);
        assert!(child.wait().unwrap().success());
        words
    }
}

pub(crate) async fn scenario() {
    let markers = Arc::new(NAMES.map(Marker::random).into_iter().collect::<Vec<_>>());
    let marker = |name: &str| markers.iter().find(|marker| marker.name == name).unwrap();
    let folders = Folders::new();
    folders.helpers();
    let sampler = Sampler::start(folders.at("temporary"), folders.at("gate"), markers.clone());

    let engine = BundledEngine::start_with(folders.environment()).unwrap();
    let raw = Raw::new(engine.socket());
    raw.import_image("busybox", "test", image::busybox().unwrap()).await.unwrap();
    let password = &marker("registry password").text;
    let outer = Registry::start_htpasswd(USER, password).unwrap();
    inner_registry(&raw, engine.socket(), password).await;
    let authority = Authority::new("Berth test authority").unwrap();
    let tls = TlsEngine::start(&authority).unwrap();
    let identity = authority.client().unwrap();

    let mut orders: Map<String, Value> =
        markers.iter().map(|marker| (marker.name.to_owned(), Value::from(marker.text.as_str()))).collect();
    let path = |path: PathBuf| path.display().to_string();
    for (name, value) in [
        ("planted", planted(marker(CONTROL))),
        ("socket", path(engine.socket().to_owned())),
        ("registry", outer.host()),
        ("inner registry", INNER.to_owned()),
        ("nowhere", path(folders.at("nowhere"))),
        ("container", CONTAINER.to_owned()),
        ("buildx", path(folders.buildx())),
        ("context", path(folders.context("context", ""))),
        ("failing context", path(folders.context("failing", "RUN exit 3\n"))),
        ("tls port", tls.port().to_string()),
        ("authority", authority.certificate().to_owned()),
        ("certificate", identity.certificate.clone()),
        ("key", identity.key.clone()),
    ] {
        orders.insert(name.to_owned(), value.into());
    }
    let mut client = Client::start(&folders, &Value::from(orders));
    for step in ["credentials", "registry", "transfers", "names", "keys"] {
        client.step(step, &folders);
    }

    let mut serve = Serve::start(engine.data(), &folders.at("log/serve.log"), &folders.environment());
    let (cookie, secret) = {
        let mut page = Page::open(&serve).await;
        page.call("world_open", json!({})).await;
        // The page is there first: it learns of the container by its events.
        page.until("the engine", |body| Some(()).filter(|()| body["data"]["engines"][0]["state"] == "ready")).await;
        client.step("container", &folders);
        use_page(&mut page, marker("environment"), marker(CONTROL)).await;
        client.step("exec", &folders);
        act_on(&mut page).await;
        guess(&serve, &page).await;
        (page.cookie.clone(), page.secret.clone())
    };

    client.step("build", &folders);
    assert!(sampler.met("--secret=id=token,env=BERTH_BUILD_SECRET_0"), "the build's program was seen");
    let words = client.end();

    let others = [
        Marker::of("serve's token", &serve.token),
        Marker::of("serve's cookie", cookie.split_once('=').unwrap().1),
        Marker::of("serve's page", &secret),
        Marker::of_key("key", &identity.key),
    ];
    let runtime = engine.socket().parent().unwrap().to_owned();
    let (config, cache) = (folders.at("home/.config"), folders.at("home/.cache"));
    let planted = plant(marker(CONTROL), &folders, &[engine.data(), &runtime, &config, &cache], &sampler);
    let mut places = Places::default();
    places.add(Kind::Words, "the client's answers", words);
    let except = ["docker", "containerd"].map(|name| engine.data().join(name));
    let kept = |places: &mut Places| {
        for folder in [engine.data(), &runtime, &folders.at("home"), &folders.at("temporary"), &folders.at("log")] {
            places.folder(folder, &except);
        }
    };
    // While SQLite's log is there, and when all is closed.
    kept(&mut places);
    std::fs::remove_file(runtime.join(PLANTED)).unwrap();
    assert!(places.names(Kind::Database).iter().any(|name| name.ends_with("-wal")), "SQLite writes ahead");
    serve.stop();
    engine.engine("stop").unwrap();
    kept(&mut places);
    sampler.report(&mut places);
    let own = places.names(Kind::Temporary).iter().any(|name| name.contains("/berth-build-"));
    assert!(own, "a build's own folder was seen");
    places.add(Kind::Arguments, "programs that note theirs", std::fs::read(folders.at("vault/arguments")).unwrap());

    for (path, words) in [
        (folders.at("log/client.log"), client::LOGGED),
        (folders.at("log/serve.log"), "ContainerInspect"),
        (engine.data().join("log/supervisor.log"), "guest event"),
    ] {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("TRACE") && text.contains(words), "{} is not at the finest level", path.display());
    }
    control_is_found(&places, marker(CONTROL), &planted);
    let secrets: Vec<&Marker> = markers.iter().chain(&others).filter(|marker| marker.name != CONTROL).collect();
    let leaks = places.search(&secrets);
    println!("{:?}\n{}", places.amount(), sampler.summary());
    assert!(leaks.is_empty(), "secrets in {} places: {leaks:#?}", leaks.len());
}

/// Without this, finding nothing would prove nothing.
fn control_is_found(places: &Places, control: &Marker, planted: &[PathBuf]) {
    let found = places.search(&[control]);
    for (form, bytes) in control.forms() {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.takes(bytes)) {
            let seen = found.iter().any(|one| one.kind == kind && one.form == form);
            assert!(seen, "the search does not see {kind:?}: {form}");
        }
        for path in planted {
            let seen = found.iter().any(|one| Path::new(&one.place) == path && one.form == form);
            assert!(seen, "the search does not see {}: {form}", path.display());
        }
    }
}

/// A registry that dockerd reaches, with this password.
async fn inner_registry(raw: &Raw, socket: &Path, password: &str) {
    registry_container::import(socket).await.unwrap();
    // What the images are made with waits for others beside the socket.
    let _ = std::fs::remove_file(socket.with_extension("importing"));
    let mut hash = Command::new("htpasswd")
        .args(["-n", "-i", "-B", USER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    hash.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    let line = hash.wait_with_output().unwrap().stdout;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("htpasswd"), line).unwrap();
    let archive = Command::new("tar").arg("-c").arg("-C").arg(folder.path()).arg("htpasswd").output().unwrap().stdout;
    let created = raw.post("/containers/create", &registry_container::body(INNER, true)).await.unwrap();
    let id = created["Id"].as_str().unwrap();
    let path = format!("/containers/{id}/archive?path=/");
    let put = raw.send("PUT".parse().unwrap(), &path, "application/x-tar", archive).await.unwrap();
    assert_eq!(put.status, 200);
    raw.post(&format!("/containers/{id}/start"), &Value::Null).await.unwrap();
    registry_container::listening(raw, id).await.unwrap();
}

/// Looks at the container as a person would: its row, its details, its log. What is secret does reach the page.
async fn use_page(page: &mut Page<'_>, environment: &Marker, control: &Marker) {
    let row = page.container(CONTAINER, |row| row["state"] == "running").await;
    let key = json!({ "engine": row["engine"], "id": row["id"] });
    let detail = page.call("container_inspect", json!({ "container": key })).await;
    let variables = detail["environment"].as_array().unwrap();
    assert!(variables.iter().any(|variable| variable["value"] == environment.text.as_str()), "{variables:?}");
    let pieces = detail["runCommand"].as_array().unwrap();
    let holders: Vec<&Value> =
        pieces.iter().filter(|piece| !environment.forms_in(piece.to_string().as_bytes()).is_empty()).collect();
    assert!(matches!(holders[..], [piece] if piece["secret"] == true), "the equivalent command masks it: {pieces:?}");
    page.call("logs_open", json!({ "container": key, "tail": 100, "follow": true })).await;
    page.until("the container's log", |body| {
        let lines = body["data"]["lines"].as_array()?;
        lines.iter().any(|line| line[2] == format!("SECRET={}", environment.text)).then_some(())
    })
    .await;
    let mut settings = page.call("settings_read", json!({})).await;
    settings["layout"] = planted(control).into();
    page.call("settings_write", json!({ "settings": settings })).await;
}

/// Stops the container, and removes one that was never there.
async fn act_on(page: &mut Page<'_>) {
    let known = page.call("world_open", json!({})).await;
    assert!(known.is_u64());
    let row = page.container(CONTAINER, |row| row["state"] == "running").await;
    let key = json!({ "engine": row["engine"], "id": row["id"] });
    page.call("container_stop", json!({ "container": key })).await;
    page.container(CONTAINER, |row| row["state"] == "exited").await;
    let nobody = json!({ "engine": row["engine"], "id": "0".repeat(64) });
    page.call("container_remove", json!({ "container": nobody })).await;
    page.until("a failure", |body| {
        let operations = body["data"]["operations"].as_array()?;
        operations.iter().any(|operation| operation["phase"] == "failed").then_some(())
    })
    .await;
}

/// Shows the session's secrets where they do not belong: each is refused.
async fn guess(serve: &Serve, page: &Page<'_>) {
    let token = serve.token.as_str();
    let extra = json!({ "token": token, "more": 1 });
    for body in [json!(token), json!({ "token": [token] }), extra, json!({ token: 1 })] {
        assert!(serve.post("/session", &[], &body.to_string()).await.status >= 400);
    }
    let bearer = format!("Bearer {token}x");
    assert_eq!(serve.post("/rpc", &[("Authorization", &bearer)], "{}").await.status, 401);
    let secret = page.secret.as_str();
    for payload in [json!(secret), json!({ secret: 1 }), json!({ "container": secret })] {
        assert!(page.try_call("container_inspect", payload).await.status >= 400);
    }
    assert!(page.try_call(secret, json!({})).await.status >= 400);
}

/// Every form of the control, a line each.
fn planted(control: &Marker) -> String {
    control.forms().map(|(_, bytes)| String::from_utf8(bytes.to_vec()).unwrap() + "\n").collect()
}

/// Puts the control into every kind of place but the client's words and the database, which have it already. Gives the
/// files.
fn plant(control: &Marker, folders: &Folders, of_berth: &[&Path], sampler: &Sampler) -> Vec<PathBuf> {
    let text = planted(control);
    let passing = folders.at("temporary").join(PLANTED);
    let mut paths: Vec<PathBuf> = of_berth.iter().map(|folder| folder.join(PLANTED)).collect();
    paths.extend([passing.clone(), folders.at("log/client.log"), folders.at("log/serve.log")]);
    for path in &paths {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
    let arguments = control.forms().filter(|(_, bytes)| Kind::Arguments.takes(bytes));
    let mut process = Command::new("sh")
        .args(["-c", "read -r _", PLANTED])
        .args(arguments.map(|(_, bytes)| String::from_utf8(bytes.to_vec()).unwrap()))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    sampler.catch_up();
    std::fs::remove_file(passing).unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    paths
}
