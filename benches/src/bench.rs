//! The order of the run: workloads, their rounds, and the subjects in each round.

use crate::{
    crowd::Load,
    door::Door,
    failure::Failure,
    options::Options,
    outcome::{Outcome, Outcomes},
    probe::{
        Effort, Figure, idle, instructions, load, scrape,
        storm::{self, Storm},
    },
    stage::{Running, Stage},
    subject::{Program, Subject},
    workload::{Kind, Workload},
};

/// A benchmark that is ready to run.
pub(crate) struct Bench {
    /// How much is measured.
    pub(crate) effort: Effort,
    /// What all programs call themselves.
    pub(crate) versions: Vec<String>,
    stage: Stage,
}

/// One workload's place in the run.
struct Scene<'a> {
    workload: &'static str,
    stage: &'a Stage,
    effort: Effort,
    outcomes: Outcomes,
}

impl Bench {
    /// Starts what all workloads need.
    pub(crate) async fn start(options: &Options) -> Result<Self, Failure> {
        let stage = Stage::open(&options.pgusher).await?;
        Ok(Self {
            effort: options.effort(),
            versions: stage.versions().await,
            stage,
        })
    }

    /// Runs the workloads, one after the other.
    pub(crate) async fn run(&self, workloads: &[Workload]) -> Result<Vec<Outcome>, Failure> {
        let mut all = Vec::new();
        for workload in workloads {
            let mut scene = Scene {
                workload: workload.name,
                stage: &self.stage,
                effort: self.effort,
                outcomes: Outcomes::new(workload.name),
            };
            match workload.kind {
                Kind::Load(load) => scene.load(load).await?,
                Kind::Instructions(load) => scene.instructions(load).await?,
                Kind::Idle(load) => scene.idle(load).await?,
                Kind::Storm(storm) => scene.storm(storm).await?,
                Kind::Scrape(load) => scene.scrape(load).await?,
            }
            all.extend(scene.outcomes.into_vec());
        }
        Ok(all)
    }
}

impl Scene<'_> {
    /// All subjects run from the first round to the last; only one of them has clients.
    async fn load(&mut self, load: Load) -> Result<(), Failure> {
        let subjects = self.start_all(load.door).await?;
        for round in 1..=self.effort.rounds {
            for (subject, running) in &subjects {
                let figures = load::round(self.stage, running, load, self.effort).await;
                self.note(round, *subject, figures)?;
            }
        }
        Ok(())
    }

    /// PgBouncer has no metrics of its own.
    async fn scrape(&mut self, load: Load) -> Result<(), Failure> {
        for round in 1..=self.effort.rounds {
            for workers in [1, 2] {
                let program = Program::Pgusher { workers };
                let figures = scrape::round(self.stage, program, load).await;
                self.note(round, Subject::Pooler(program), figures)?;
            }
        }
        Ok(())
    }

    async fn storm(&mut self, storm: Storm) -> Result<(), Failure> {
        let subjects = self.start_all(storm.inside.door).await?;
        for round in 1..=self.effort.rounds {
            for (subject, running) in &subjects {
                let figures = storm::round(running, storm).await;
                self.note(round, *subject, figures)?;
            }
        }
        Ok(())
    }

    /// Starts all that clients can come to in this way; PostgreSQL itself trusts them.
    async fn start_all(&self, door: Door) -> Result<Vec<(Subject, Running)>, Failure> {
        let mut subjects = Vec::new();
        for subject in Subject::all() {
            if subject == Subject::Direct && door != Door::Trust {
                continue;
            }
            let started = self.stage.start(subject, door).await;
            let running = started.map_err(|failure| failure.at(subject.to_string()))?;
            subjects.push((subject, running));
        }
        Ok(subjects)
    }

    async fn instructions(&mut self, load: Load) -> Result<(), Failure> {
        for round in 1..=self.effort.rounds {
            for program in Program::ALL {
                let figures = instructions::round(self.stage, program, load, self.effort).await;
                self.note(round, Subject::Pooler(program), figures)?;
            }
        }
        Ok(())
    }

    async fn idle(&mut self, load: Load) -> Result<(), Failure> {
        for round in 1..=self.effort.rounds {
            for program in Program::ALL {
                let figures = idle::round(self.stage, program, load).await;
                self.note(round, Subject::Pooler(program), figures)?;
            }
        }
        Ok(())
    }

    fn note(
        &mut self,
        round: u32,
        subject: Subject,
        figures: Result<Vec<Figure>, Failure>,
    ) -> Result<(), Failure> {
        let place = format!("{} round {round}: {subject}", self.workload);
        let figures = figures.map_err(|failure| failure.at(place.clone()))?;
        say_progress(&place, &figures);
        for (measure, value) in figures {
            self.outcomes.note(subject, measure, value);
        }
        Ok(())
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a run takes half an hour, and is watched"
)]
fn say_progress(place: &str, figures: &[Figure]) {
    let texts = (figures.iter()).map(|(measure, value)| format!("{value:.2} {}", measure.unit()));
    eprintln!("{place}: {}", texts.collect::<Vec<_>>().join(", "));
}
