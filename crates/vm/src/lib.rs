//! The engine Berth brings: the appliance it runs from, the backend that runs it, the supervisor that keeps it
//! healthy, and what everyone else needs to start, stop and watch it.
//!
//! One supervisor process per data folder owns everything (`berth engine run`). [`launch::start`],
//! [`launch::stop`] and [`launch::status`] find it, or start it, through its control socket; [`ControlClient`]
//! watches it.

mod appliance;
mod backend;
mod clock;
mod control;
mod error;
mod launch;
mod life;
mod lines;
mod lock;
mod paths;
mod ping;
mod ports;
mod program;
mod room;
mod slots;
mod socket;
mod status;
mod supervisor;

pub use appliance::{Appliance, FileRecord, ImageFile, ImageProblem, Manifest, VmImage};
pub use backend::{Backend, EngineSettings, Features, Missing, SettingsChange, Share, Shares};
pub use control::ControlClient;
pub use error::Error;
pub use launch::{start, status, stop};
pub use life::{
    BackupReport, Cancel, LifeError, ResetReport, ResetScope, RestoreReport, backup, reset, restore, retry_image,
};
pub use paths::EnginePaths;
pub use status::{
    AcceleratorStatus, Failure, FileEventsStatus, ImageStatus, Metrics, RefusedImage, StageTime, State, Status,
    Versions,
};
pub use supervisor::{RunOptions, run};
