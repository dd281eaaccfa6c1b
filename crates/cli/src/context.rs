//! `berth context`: the context of the `docker` command that leads to the engine Berth brings.

use std::error::Error;
use std::process::ExitCode;

use berth_app::{ContextNotes, EngineContext};
use clap::Subcommand;

use crate::engine::{Which, print};

/// The context of the `docker` command that leads to the engine Berth brings.
#[derive(Subcommand, Debug)]
pub(crate) enum Context {
    /// Make the context, or bring it up to date. Which context `docker` uses stays as it is.
    Create(Which),
    /// Have `docker` use it, until the engine is stopped or `restore` says so.
    Use(Which),
    /// Have `docker` use what it used before, if it still uses this one.
    Restore(Which),
    /// Remove it, and have `docker` use what it used before: for who removes Berth.
    Remove(Which),
    /// Show whether it is there, and what `docker` uses.
    Show {
        #[command(flatten)]
        which: Which,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Does what was asked.
pub(crate) fn run(command: Context) -> ExitCode {
    act(command).map_or_else(|error| crate::fail(error.as_ref()), |()| ExitCode::SUCCESS)
}

fn act(command: Context) -> Result<(), Box<dyn Error>> {
    let of = |which: Which| -> Result<EngineContext, Box<dyn Error>> { Ok(EngineContext::of(&which.paths()?)?) };
    let (notes, nothing) = match command {
        Context::Create(which) => (of(which)?.create()?, "it is there, and as it should be"),
        Context::Use(which) => (of(which)?.make_current()?, ""),
        Context::Restore(which) => {
            (of(which)?.restore()?, "nothing to restore: `docker` does not use it, or not because Berth said so")
        }
        Context::Remove(which) => (of(which)?.remove()?, "there is none"),
        Context::Show { which, json } => {
            print(&shown(&of(which)?, json)?);
            return Ok(());
        }
    };
    let text = told(&notes);
    print(&if text.is_empty() { format!("context   {nothing}\n") } else { text });
    Ok(())
}

/// What was done, and what is to be known, one thing a line.
pub(crate) fn told(notes: &ContextNotes) -> String {
    let done = notes.done.iter().map(|text| format!("context   {text}\n"));
    done.chain(notes.warnings.iter().map(|text| format!("note      {text}\n"))).collect()
}

fn shown(context: &EngineContext, json: bool) -> Result<String, Box<dyn Error>> {
    let state = context.state()?;
    let over = context.overridden();
    let endpoint = context.endpoint().to_string();
    if json {
        let text = serde_json::to_string_pretty(&serde_json::json!({
            "name": context.name(),
            "made": state.is_made,
            "current": state.is_current,
            "previous": state.previous,
            "overridden": over,
            "endpoint": endpoint,
            "file": context.file(),
            "config": context.config_file(),
        }))?;
        return Ok(format!("{text}\n"));
    }
    let is = match (state.is_made, state.is_current) {
        (true, true) => "is there, and is the current one",
        (true, false) => "is there",
        (false, _) => "is not there; `berth context create` makes it",
    };
    let mut lines = vec![
        format!("context   {} {is}", context.name()),
        format!("engine    {endpoint}"),
        format!("file      {}", context.file().display()),
        format!("config    {}", context.config_file().display()),
    ];
    lines.extend(state.previous.map(|previous| format!("before    {previous}")));
    lines.extend(over.map(|over| format!("note      {over}")));
    Ok(lines.join("\n") + "\n")
}
