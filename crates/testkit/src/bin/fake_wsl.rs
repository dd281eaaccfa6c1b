//! The fake `wsl.exe` as a program; see `berth_testkit::fake_wsl`.

fn main() -> std::io::Result<()> {
    berth_testkit::fake_wsl::run()
}
