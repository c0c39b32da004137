//! Hundreds of clients over a few seats, for everybody to watch.
#![expect(clippy::print_stdout, reason = "the terminal is what a demo is for")]

mod failure;
mod load;
mod screen;
mod stage;
mod watch;

use std::{env, io, path::PathBuf, process::ExitCode, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};

use failure::Failure;
use load::Load;
use screen::Screen;
use stage::Stage;
use watch::Watch;

/// What the command line says.
struct Options {
    /// Another pooler than the pgusher built with this program.
    pooler: Option<PathBuf>,
    /// How long the clients work.
    work: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("\nThe demo failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let options = options()?;
    let stage = tokio::select! {
        stage = Stage::set(options.pooler.as_deref()) => stage?,
        _ = tokio::signal::ctrl_c() => return Ok(()),
    };
    stage.introduce();
    let watch = Watch::start(&stage).await?;
    let mut load = tokio::select! {
        load = Load::start(&stage) => load?,
        _ = tokio::signal::ctrl_c() => return Ok(()),
    };
    let worked = tokio::select! {
        worked = show(&stage, options.work) => worked?,
        _ = tokio::signal::ctrl_c() => return Ok(()),
    };
    load.stop().await;
    let peak = watch.stop().await?;
    stage.report(&load.done(), &peak, worked).await?;
    load.verify(&stage).await?;
    peak.verify()?;
    if io::IsTerminal::is_terminal(&io::stdout()) {
        println!("\nStill up. ^C ends it and removes everything.");
        tokio::signal::ctrl_c().await.map_err(Failure::Signal)?;
        println!();
    }
    Ok(())
}

/// Draws the pools once a second; returns how long that took.
async fn show(stage: &Stage, work: Duration) -> Result<Duration, Failure> {
    let started = Instant::now();
    let console = stage.pooler.console().await;
    let mut screen = Screen::new();
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    second.tick().await;
    while started.elapsed() < work {
        second.tick().await;
        let pools = console.try_show("POOLS").await.map_err(Failure::Console)?;
        let totals = console
            .try_show("STATS_TOTALS")
            .await
            .map_err(Failure::Console)?;
        screen.draw(started.elapsed(), &pools, &totals);
    }
    Ok(started.elapsed())
}

fn options() -> Result<Options, Failure> {
    const USAGE: &str = "usage: demo [--seconds N] [--pooler PROGRAM]";
    let usage = || Failure::Usage(USAGE);
    let mut options = Options {
        pooler: None,
        work: Duration::from_secs(12),
    };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(usage)?;
        match word.as_str() {
            "--seconds" => {
                options.work = Duration::from_secs(value.parse().map_err(|_| usage())?);
            }
            "--pooler" => options.pooler = Some(value.into()),
            _ => return Err(usage()),
        }
    }
    Ok(options)
}
