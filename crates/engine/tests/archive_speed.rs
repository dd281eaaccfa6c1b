//! Measures extraction and packing beside the system's `tar`. Not a test of anything.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "helpers of tests are tests"
)]

mod archive_support;

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use berth_engine::{Error, archive::*};
use bytes::Bytes;
use futures_util::StreamExt;

fn system(arguments: &[&str], file: Option<&Path>, into: Option<&Path>) -> Duration {
    let mut command = Command::new("tar");
    command.args(arguments);
    if let Some(file) = file {
        command.stdin(fs::File::open(file).unwrap());
    }
    // A pipe, because `tar` does not read files whose archive goes nowhere.
    let begin = Instant::now();
    if let Some(into) = into {
        command.stdout(fs::File::create(into).unwrap());
    }
    assert!(command.status().unwrap().success());
    begin.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn archive_speed() {
    let root = tempfile::tempdir().unwrap();
    for (label, files, size) in [("10,000 files of 4 KiB", 10_000, 4096), ("1 file of 1 GiB", 1, 1 << 30)] {
        let source = root.path().join(format!("source{files}"));
        for index in 0..files {
            let folder = source.join(format!("d{}", index % 100));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(format!("f{index}")), vec![index as u8; size]).unwrap();
        }
        let bytes = (files * size) as f64 / 1e6;
        let tar = root.path().join("a.tar");
        let show = |what: &str, spent: Duration| {
            println!("{label}: {what}: {:.0} ms, {:.0} MB/s", spent.as_secs_f64() * 1e3, bytes / spent.as_secs_f64());
        };
        for round in 0..3 {
            let from = source.to_str().unwrap();
            show("tar packs", system(&["-c", "-C", from, "."], None, Some(&tar)));
            let options = PackOptions { estimate: false, ..PackOptions::default() };
            let begin = Instant::now();
            let file = fs::File::create(root.path().join("b.tar")).unwrap();
            let mut stream =
                pack(vec![Source { path: source.clone(), name: "".into() }], options, None).await.unwrap().stream;
            while let Some(piece) = stream.next().await {
                std::io::Write::write_all(&mut &file, &piece.unwrap()).unwrap();
            }
            show("Berth packs", begin.elapsed());
            let into = root.path().join(format!("tar{files}-{round}"));
            fs::create_dir(&into).unwrap();
            show("tar extracts", system(&["-x", "-C", into.to_str().unwrap()], Some(&tar), None));
            fs::remove_dir_all(&into).unwrap();
            let into = root.path().join(format!("berth{files}-{round}"));
            fs::create_dir(&into).unwrap();
            let begin = Instant::now();
            let file = std::sync::Arc::new(fs::File::open(&tar).unwrap());
            let stream = futures_util::stream::unfold(file, |file| async move {
                // Pieces as large as those of the engine's connection.
                let mut piece = vec![0; 64 * 1024];
                let read = std::io::Read::read(&mut &*file, &mut piece).unwrap();
                piece.truncate(read);
                (read > 0).then(|| (Ok::<_, Error>(Bytes::from(piece)), file))
            });
            let report = extract(stream, &into, &ExtractOptions::default(), None).await.unwrap();
            show("Berth extracts", begin.elapsed());
            assert_eq!(report.files, files as u64);
            fs::remove_dir_all(&into).unwrap();
        }
    }
}
