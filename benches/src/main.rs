//! pgusher beside PgBouncer, in one run.

mod bench;
mod callgrind;
mod client;
mod crowd;
mod door;
mod expected;
mod failure;
mod machine;
mod measure;
mod options;
mod outcome;
mod pieces;
mod probe;
mod process;
mod programs;
mod report;
mod session;
mod stage;
mod statistics;
mod subject;
mod table;
mod work;
mod workload;

use std::{path::Path, process::ExitCode};

use bench::Bench;
use clap::Parser;
use failure::Failure;
use options::Options;
use report::Report;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say_failure(&failure);
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Failure> {
    let workloads = options.workloads()?;
    machine::raise_open_files()?;
    let bench = Bench::start(&options).await?;
    let results = bench.run(&workloads).await?;
    let report = Report::new(&bench, results);
    show(&report);
    if let Some(path) = options.json_path(&report) {
        report.write(&path)?;
        show_path(&path);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the tables are what we were run for")]
fn show(report: &Report) {
    println!("{report}");
}

#[expect(clippy::print_stderr, reason = "beside the tables, not in them")]
fn show_path(path: &Path) {
    eprintln!("all figures of all rounds: {}", path.display());
}

#[expect(clippy::print_stderr, reason = "the last word of a failed run")]
fn say_failure(failure: &Failure) {
    eprintln!("pgusher-bench: {failure}");
}
