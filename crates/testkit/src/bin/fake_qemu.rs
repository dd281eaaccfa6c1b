//! The fake QEMU as a program; see `berth_testkit::fake_qemu`.

fn main() -> std::io::Result<()> {
    berth_testkit::fake_qemu::run()
}
