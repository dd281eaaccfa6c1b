//! What runs the appliance. `native` is the first: the appliance's root in namespaces of this kernel.

pub(crate) mod native;
pub(crate) mod network;
#[expect(dead_code, unused_imports, reason = "the supervisor starts it in the next commit")]
pub(crate) mod qemu;
