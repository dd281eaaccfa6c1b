//! The record of operations itself: without it, a count of what was called would prove nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[test]
fn each_operation_is_noted_once_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("operations");
    berth_engine_tests::record_operations_in(path.clone());
    let call = |id: &str| tracing::trace!(target: "berth_engine::operation", id);
    call("ContainerList");
    call("SystemPing");
    call("ContainerList");
    tracing::error!(id = "NoOperation", "of another target");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "ContainerList\nSystemPing\n");
}
