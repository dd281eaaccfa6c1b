//! A secret stays where it belongs. Each of these is used for real, by the client in a process of its own and by
//! `berth serve` with a page, all of them with their logs at the finest level: a registry's password, right and wrong,
//! one pasted in front of a host, an identity token, the environment of a container and of an exec, a build's secret, a
//! client's TLS key, and the token and session of `berth serve`. None of them may be found in what Berth writes: logs, what calls
//! give as it prints, arguments of any process, the database, any other file that is left or was there for a while.
//!
//! What is not searched is the data of dockerd and containerd: an engine has to remember the environment of its
//! containers, or it could not start them again, and keeps what they print.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the client answers there, and the test says how much it searched")]

mod client;
mod ground;
mod marker;
mod page;
mod places;
mod sampler;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(client::ROLE) {
        return client::main();
    }
    let trial = Trial::test("a_secret_stays_where_it_belongs", || {
        tokio::runtime::Runtime::new()?.block_on(ground::scenario());
        Ok(())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}
