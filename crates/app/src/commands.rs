//! The bodies of all commands, one file per area.

mod about;
mod containers;
mod engines;
mod settings;
mod streams;

pub(crate) use about::about;
pub(crate) use containers::{
    container_inspect, container_kill, container_pause, container_remove, container_restart, container_start,
    container_stop, container_unpause,
};
pub(crate) use engines::{engine_give_back, engine_inspect, engine_start, engine_stop, operation_dismiss};
pub(crate) use settings::{settings_read, settings_write};
pub(crate) use streams::{logs_open, session_poll, stream_close, world_open};
