//! The client in a process of its own, with every secret there is, and its log at the finest level. It takes orders on
//! standard input, where no other process can read them, and answers with all that its calls gave, as it prints.

use std::fmt::Debug;
use std::io::BufRead as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use berth_engine::build::{BuildGraph, BuildSecret, Buildx, BuildxBuild};
use berth_engine::context::{Contexts, DockerConfigFolder, DockerEnvironment};
use berth_engine::images::{PullImage, PushImage, RemoveImage};
use berth_engine::reference::{ImageReference, PluginName};
use berth_engine::registry::{Client, CredentialStore, Destination, Place, RegistryAuth, RegistryHost, Secret};
use berth_engine::{ContainerRef, Docker, Endpoint, ExecOptions, ListContainers, Pem, TlsMaterial};
use futures_util::{Stream, StreamExt as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::marker::USER;

/// The argument that makes this program the client.
pub(crate) const ROLE: &str = "client";

/// What is written to the log to see that it is there.
pub(crate) const LOGGED: &str = "the client's log is on";

/// Everything it is told, and everything it says.
struct Session {
    orders: Value,
    said: String,
}

pub(crate) fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut lines = std::io::stdin().lock().lines();
    let orders: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    tracing::trace!(control = orders["control"].as_str().unwrap(), "{LOGGED}");
    let mut session = Session { said: orders["planted"].as_str().unwrap().to_owned(), orders };
    for step in lines {
        runtime.block_on(session.take(&step.unwrap()));
        let answer = Value::from(std::mem::take(&mut session.said));
        println!("{answer}");
    }
    ExitCode::SUCCESS
}

impl Session {
    async fn take(&mut self, step: &str) {
        match step {
            "credentials" => self.credentials().await,
            "registry" => self.registry().await,
            "transfers" => self.transfers().await,
            "names" => self.names(),
            "container" => self.container().await,
            "exec" => self.exec().await,
            "build" => self.build().await,
            "keys" => self.keys().await,
            other => panic!("no such step: {other}"),
        }
    }

    fn order(&self, name: &str) -> String {
        self.orders[name].as_str().unwrap_or_else(|| panic!("no order {name}")).to_owned()
    }

    fn secret(&self, name: &str) -> Secret {
        Secret::new(self.order(name))
    }

    fn say(&mut self, value: &impl Debug) {
        self.said.push_str(&format!("{value:?}\n{value:#?}\n"));
    }

    /// As it is shown to people, with its causes, and as it prints.
    fn say_error(&mut self, error: &(impl std::error::Error + 'static)) {
        self.said.push_str(&berth_app::full_text(error));
        self.say(error);
    }

    fn docker(&self) -> Docker {
        Docker::new(Endpoint::Unix(PathBuf::from(self.order("socket"))))
    }

    fn login(&self, host: &str, password: &str) -> RegistryAuth {
        RegistryAuth::password(host.parse().unwrap(), USER, self.secret(password)).unwrap()
    }

    /// Kept by a helper that is on `PATH`, refused by one that repeats what it is told, and never in a file.
    async fn credentials(&mut self) {
        let store = CredentialStore::from_env().unwrap();
        let login = self.login(&self.order("registry"), "registry password");
        let place = store.store(&login, Destination::Safe).await.unwrap();
        assert!(matches!(&place, Place::Helper(name) if name.as_str() == "vault"), "{place:?}");
        let found = store.lookup(login.host()).await.unwrap().unwrap();
        assert!(found == login, "the helper gives back what it was given");
        let token = RegistryAuth::identity_token("token.test".parse().unwrap(), self.secret("identity token"));
        store.store(&token, Destination::Safe).await.unwrap();
        assert!(store.lookup(token.host()).await.unwrap().unwrap() == token);
        let listed = store.list().await.unwrap();
        self.say(&(&store, place, &login, found, token, listed, login.header()));
        for host in ["repeats.test", "quotes.test"] {
            let login = self.login(host, "registry password");
            let error = store.store(&login, Destination::Safe).await.unwrap_err();
            self.say_error(&error);
        }
        let nowhere = PathBuf::from(self.order("nowhere"));
        let error = CredentialStore::at(&nowhere).store(&login, Destination::Safe).await.unwrap_err();
        self.say_error(&error);
        assert!(!nowhere.exists(), "no file is a safe place");
    }

    /// The registry's own API, with the right login and with wrong ones.
    async fn registry(&mut self) {
        let name = self.order("registry");
        let host: RegistryHost = name.parse().unwrap();
        let image: ImageReference = format!("{name}/none:1").parse().unwrap();
        let client = |login: RegistryAuth| {
            let builder = Client::builder(host.clone()).login(login);
            (format!("{builder:?}"), builder.build().unwrap())
        };
        let (printed, right) = client(self.login(&name, "registry password"));
        right.check_login().await.unwrap();
        right.catalog(10).await.unwrap();
        let missing = right.tags(&image, 10).await.unwrap_err();
        self.say_error(&missing);
        self.say(&(printed, right));
        let wrong = [
            self.login(&name, "wrong password"),
            RegistryAuth::identity_token(host.clone(), self.secret("identity token")),
            RegistryAuth::registry_token(host.clone(), self.secret("identity token")),
        ];
        for login in wrong {
            let (printed, client) = client(login);
            for error in [client.check_login().await.unwrap_err(), client.manifest(&image).await.unwrap_err()] {
                self.say_error(&error);
            }
            self.say(&(printed, client));
        }
    }

    /// Pulls, pushes and logins by the engine.
    async fn transfers(&mut self) {
        let docker = self.docker();
        let host = self.order("inner registry");
        let (right, wrong) = (self.login(&host, "registry password"), self.login(&host, "wrong password"));
        let accepted = docker.try_login(&right).await.unwrap();
        self.say(&accepted);
        self.say_error(&docker.try_login(&wrong).await.unwrap_err());
        let far: ImageReference = format!("{host}/private/busybox:1").parse().unwrap();
        docker.tag_image(&"busybox:test".parse().unwrap(), &far).await.unwrap();
        for login in [Some(wrong), None] {
            let (push, pull) = (PushImage::default().login(login.clone()), PullImage::default().login(login.clone()));
            assert!(self.transfer(docker.push_image(&far, &push).unwrap()).await > 0);
            assert!(self.transfer(docker.pull_image(&far, &pull).unwrap()).await > 0);
            self.say_error(&docker.inspect_distribution(&far, login.as_ref()).await.unwrap_err());
            self.say(&(push, pull));
        }
        let push = PushImage::default().login(right.clone());
        assert_eq!(self.transfer(docker.push_image(&far, &push).unwrap()).await, 0);
        docker.remove_image(&far, &RemoveImage::default()).await.unwrap();
        let pull = PullImage::default().login(right.clone());
        assert_eq!(self.transfer(docker.pull_image(&far, &pull).unwrap()).await, 0);
        let found = docker.inspect_distribution(&far, Some(&right)).await.unwrap();
        self.say(&(push, pull, found));
        // So that the build has to fetch it anew.
        docker.remove_image(&far, &RemoveImage::default()).await.unwrap();
    }

    /// Says every event, and gives how many of them were errors.
    async fn transfer<T: Debug>(&mut self, events: impl Stream<Item = Result<T, berth_engine::Error>>) -> usize {
        let mut errors = 0;
        let mut events = Box::pin(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.say(&event),
                Err(error) => {
                    errors += 1;
                    self.say_error(&error);
                }
            }
        }
        errors
    }

    /// A password in front of a host, as people paste it, is refused and not repeated.
    fn names(&mut self) {
        let user = format!("{USER}:{}@registry.test", self.order("pasted password"));
        for text in [format!("{user}/app:1"), format!("https://{user}/v2/"), user.clone(), format!("{user}:5000/a@b")] {
            self.say_error(&text.parse::<ImageReference>().unwrap_err());
            self.say_error(&text.parse::<RegistryHost>().unwrap_err());
            self.say_error(&text.parse::<PluginName>().unwrap_err());
            self.say_error(&text.parse::<ContainerRef>().unwrap_err());
        }
        let engine = format!("{USER}:{}@engine.test:2375", self.order("pasted password"));
        for scheme in ["tcp", "http", "https", "ssh", "ftp", "npipe", "unix"] {
            let text = format!("{scheme}://{engine}");
            self.say_error(&text.parse::<Endpoint>().unwrap_err());
            let environment =
                DockerEnvironment::from_variables(|name| (name == "DOCKER_HOST").then(|| text.clone().into()));
            let contexts = Contexts::load(&DockerConfigFolder::at(self.order("nowhere")), &environment);
            self.say(&(environment, contexts));
        }
    }

    /// A container with a secret in its environment, which it also prints.
    async fn container(&mut self) {
        let docker = self.docker();
        let name = self.order("container");
        let secret = format!("SECRET={}", self.order("environment"));
        let body = json!({
            "Image": "busybox:test", "Cmd": ["sh", "-c", "env; exec sleep 600"], "Env": [secret], "StopTimeout": 1,
            "HostConfig": { "NetworkMode": "none" }, "Healthcheck": { "Test": ["CMD", "true"], "Interval": 1_000_000_000 },
        });
        docker.create_container(&name, &body).await.unwrap();
        let container: ContainerRef = name.parse().unwrap();
        docker.start_container(&container).await.unwrap();
        let all = ListContainers { all: true, ..ListContainers::default() };
        let (list, inspected) =
            (docker.list_containers(&all).await.unwrap(), docker.inspect_container(&container).await.unwrap());
        assert!(inspected.config.env.contains(&secret));
        self.say(&(list, inspected));
        self.say_error(&docker.create_container(&name, &body).await.unwrap_err());
        let missing = json!({ "Image": "no/such:image", "Env": [secret] });
        self.say_error(&docker.create_container("other", &missing).await.unwrap_err());
    }

    /// A process of that container with one of its own.
    async fn exec(&mut self) {
        let docker = self.docker();
        let container: ContainerRef = self.order("container").parse().unwrap();
        let secret = format!("OWN={}", self.order("environment of an exec"));
        let options = ExecOptions::run(["sh", "-c", "test -n \"$OWN\""]).env(vec![secret]);
        let session = docker.exec(&container, &options).await.unwrap();
        self.say(&(&options, &session));
        assert_eq!(docker.wait_exec(&session.id).await.unwrap(), 0);
        let state = docker.inspect_exec(&session.id).await.unwrap();
        self.say(&state);
        let nobody: ContainerRef = "nobody".parse().unwrap();
        self.say_error(&docker.exec(&nobody, &options).await.unwrap_err());
    }

    /// A build with a secret as a file and in a step's environment, on an image that only a login gives; then one that
    /// fails.
    async fn build(&mut self) {
        let secret = self.secret("build secret");
        let buildx = Buildx {
            program: PathBuf::from(self.order("buildx")),
            endpoint: Endpoint::Unix(PathBuf::from(self.order("socket"))),
        };
        let login = self.login(&self.order("inner registry"), "registry password");
        for (context, good) in [("context", true), ("failing context", false)] {
            let options = BuildxBuild::default()
                .context(self.order(context))
                .no_cache(true)
                .tags(vec!["built:1".parse().unwrap()])
                .secrets(vec![BuildSecret { id: "token".to_owned(), value: secret.clone() }])
                .logins(vec![login.clone()]);
            let mut run = buildx.start(&options).unwrap();
            self.say(&(&options, &run));
            let mut graph = BuildGraph::default();
            let ended = loop {
                match run.next().await {
                    Ok(Some(update)) => {
                        self.say(&update);
                        graph.apply(&update);
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            let said: Vec<String> = run.said().map(str::to_owned).collect();
            self.say(&(&graph, said));
            assert_eq!(ended.is_none(), good, "{ended:?}");
            if let Some(error) = ended {
                self.say_error(&error);
            }
            let digest = Sha256::digest(secret.expose()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let steps = graph.vertices().iter();
            let counted = steps.flat_map(|step| &step.output).filter(|line| line.text.contains(&digest)).count();
            assert_eq!(counted, 2, "each of two steps had it: {graph:?}");
        }
        let broken = BuildSecret { id: "token".to_owned(), value: Secret::new(format!("{}\0", secret.expose())) };
        let options = BuildxBuild::default().context(self.order("context")).secrets(vec![broken]);
        self.say_error(&buildx.start(&options).unwrap_err());
    }

    /// A client's key: used, broken, and shown to nobody who does not ask for it.
    async fn keys(&mut self) {
        let port: u16 = self.order("tls port").parse().unwrap();
        let (authority, certificate, key) = (self.order("authority"), self.order("certificate"), self.order("key"));
        let endpoint = |port: u16, key: String| {
            let mut material = TlsMaterial::default();
            material.authorities = Some(Pem::bytes(&authority));
            material.certificate = Some(Pem::bytes(&certificate));
            material.key = Some(Pem::bytes(key));
            Endpoint::Tls { host: "127.0.0.1".to_owned(), port, tls: Arc::new(material) }
        };
        let good = Docker::new(endpoint(port, key.clone()));
        good.ping().await.unwrap();
        self.say(&good);
        let swapped = key.replace("PRIVATE KEY", "CERTIFICATE");
        for (port, key) in [(port, key.replace("M", "N")), (port, swapped), (port, key.replace('\n', " ")), (1, key)] {
            let endpoint = endpoint(port, key);
            self.say(&endpoint);
            let docker = Docker::new(endpoint);
            let ended = tokio::time::timeout(Duration::from_secs(30), docker.ping()).await.unwrap();
            self.say_error(&ended.unwrap_err());
        }
    }
}
