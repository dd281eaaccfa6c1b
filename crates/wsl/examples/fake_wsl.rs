//! The fake `wsl.exe` of this crate's tests. It is an example because cargo builds those together with the tests, which it
//! does not do for another crate's programs.

fn main() -> std::io::Result<()> {
    berth_testkit::fake_wsl::run()
}
