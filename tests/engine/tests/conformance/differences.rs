//! What engines do otherwise, case by case. An entry here is a promise that the case fails, so that one that begins to
//! pass fails the run: the table stays true.

use berth_testkit::engines::EngineKind;

/// One case that one engine does not pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Difference {
    pub(crate) engine: EngineKind,
    /// `area::case`.
    pub(crate) case: &'static str,
    /// Part of the message with which the case fails; any other failure is one. Empty if the case itself returns
    /// `Outcome::Differs`.
    pub(crate) failure: &'static str,
    /// What the engine does, for people.
    pub(crate) reason: &'static str,
}

#[allow(unused, reason = "shorthands of the table")]
const fn old(case: &'static str, failure: &'static str, reason: &'static str) -> Difference {
    Difference { engine: EngineKind::Old, case, failure, reason }
}

const fn podman(case: &'static str, failure: &'static str, reason: &'static str) -> Difference {
    Difference { engine: EngineKind::Podman, case, failure, reason }
}

const fn bundled(case: &'static str, failure: &'static str, reason: &'static str) -> Difference {
    Difference { engine: EngineKind::Bundled, case, failure, reason }
}

/// The table, by area and then by case.
pub(crate) const DIFFERENCES: &[Difference] = &[
    old(
        "archive::names_that_are_no_text",
        "it is not in the archive",
        "a file whose name is no text is left out of archives",
    ),
    podman(
        "archive::owners_are_kept",
        "left == right",
        "`copyUIDGID` is not heeded: all belongs to the container's user",
    ),
    podman("archive::read_only_root", "on an `Ok` value", "what is read only can be written by an upload"),
    podman("archive::upload_into_nothing", "on an `Ok` value", "a folder that an upload names is made"),
    podman("attach::frozen", "state improper", "to attach to what is frozen is a 500, told in words alone"),
    podman("attach::only_standard_error", "left == right", "standard output comes whether it was asked for or not"),
    podman(
        "attach::what_came_before",
        "UnknownStream(10)",
        "frames of what came before are a byte longer than they say",
    ),
    podman("attach::websocket_input", "404", "there is no attaching over a WebSocket"),
    podman("attach::websocket_output", "404", "there is no attaching over a WebSocket"),
    podman("attach::websocket_terminal", "404", "there is no attaching over a WebSocket"),
    podman("build::buildkit", "no graph", "the wanted builder is not heeded: what builds is Buildah, which has no graph"),
    podman("build::buildkit_failure", "no graph", "the wanted builder is not heeded"),
    podman("build::buildkit_has_no_secrets", "no secret with id", "the wanted builder is not heeded"),
    podman("build::buildkit_options", "left == right", "the wanted builder is not heeded"),
    podman("build::buildx", "moby/buildkit", "it has no BuildKit, so that buildx wants to pull and run one"),
    podman("build::buildx_failure", "moby/buildkit", "it has no BuildKit, so that buildx wants to pull and run one"),
    podman("build::buildx_files", "moby/buildkit", "it has no BuildKit, so that buildx wants to pull and run one"),
    podman("build::buildx_is_cancelled", "moby/buildkit", "it has no BuildKit, so that buildx wants to pull and run one"),
    podman("build::buildx_secret", "moby/buildkit", "it has no BuildKit, so that buildx wants to pull and run one"),
    podman("build::classic_options", "status: 400", "extra hosts are wanted in a form of its own"),
    podman("build::prune", "404", "there is no cache of a builder"),
    bundled("containers::processes", "executable file not found", "the appliance has no `ps`"),
    bundled("containers::processes_of_arguments", "executable file not found", "the appliance has no `ps`"),
    podman("containers::health", "it never was healthy", "checks of health are run by systemd alone"),
    podman("containers::kill_refusals", "state improper", "to kill what does not run is a 500, told in words alone"),
    podman(
        "containers::platform_of_the_engine",
        "made without a warning",
        "a container of another platform is made without a word",
    ),
    podman(
        "containers::processes",
        "EOF",
        "the `ps` that is run is the container's, and it has none; the answer is empty",
    ),
    podman(
        "containers::processes_of_arguments",
        "EOF",
        "the `ps` that is run is the container's, and it has none; the answer is empty",
    ),
    podman("containers::removes_a_link", "link is not supported", "there are no links"),
    podman("containers::stats_pair", "no sample before", "one sample is taken where Docker takes two"),
    old("containers::stop_with_a_signal", "minor: 42", "a signal to stop with came with API 1.42"),
    podman("containers::stop_with_a_signal", "minor: 42", "a signal to stop with came with API 1.42"),
    podman("containers::stop_without_killing", "error converting value", "there is no stopping without end"),
    podman("containers::typed_body", "left == right", "ports that are exposed and not published are not told"),
    podman("containers::update", "404", "a container cannot be changed over Docker's API before Podman 4.5"),
    podman("containers::wait_for_the_removal", "left == right", "the exit code is 0 when a removal was waited for"),
    podman("distribution::inspect", "404", "a registry cannot be asked through it"),
    podman("distribution::inspect_missing", "Not Found", "a registry cannot be asked through it"),
    podman("distribution::inspect_wants_login", "404", "a registry cannot be asked through it"),
    podman("distribution::session", "404", "there are no sessions"),
    old("exec::detach_keys", "it goes on without us", "a process that is detached from by keys ends"),
    podman("exec::detached", "it never ended", "an exec that nobody is attached to counts as running for good"),
    old("exec::missing_program", "left: 126", "a program that is missing is a 126"),
    podman(
        "exec::of_a_stopped_container",
        "state improper",
        "an exec in what does not run is a 500, told in words alone",
    ),
    podman("containers::create_conflicts", "already in use", "a taken name is a 500, told in words alone"),
    podman("containers::remove_refuses_running", "without force", "to remove what runs is a 500, told in words alone"),
    podman("images::commit_with_configuration", "left == right", "the configuration in a commit's body is not heeded"),
    podman("images::import", "named as asked", "what is imported is tagged `latest`, whatever was asked for"),
    old("images::inspect_another_platform", "", "it cannot be asked for one platform of an image"),
    podman("images::inspect_another_platform", "", "it cannot be asked for one platform of an image"),
    old("images::list_counts_what_is_shared", "", "it does not count what images share"),
    podman("images::list_counts_what_is_shared", "", "it does not count what images share"),
    podman("images::pull_again", "left: None", "a pull does not tell how it ended"),
    podman("images::pull_all_tags", "latest", "all tags of a repository cannot be pulled; it takes `latest`"),
    podman("images::pull_missing", "told by its status", "what a registry lacks is told in the stream, after a 200"),
    podman("images::push_again", "The push refers", "a push does not tell of layers"),
    podman("images::push_and_pull", "(None, None)", "a pull tells neither its digest nor how it ended"),
    podman("images::search_without_network", "status: 404", "a search that fails is a 404"),
    podman(
        "logs::since_is_to_the_nanosecond",
        "left == right",
        "times of log lines are whole seconds, so that `since` brings lines again",
    ),
    podman("swarm::init_and_leave", "503", "Podman has no swarm"),
];
