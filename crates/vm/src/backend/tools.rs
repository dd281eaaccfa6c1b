use super::{qemu, vz};

/// What machines are made with; tests bring their own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tools {
    pub(crate) qemu: qemu::Tools,
    pub(crate) vz: vz::Tools,
}
