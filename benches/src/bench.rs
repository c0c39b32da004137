//! The order of the run: workloads, their rounds, and the subjects in each round.

use crate::{
    crowd::Load,
    door::Door,
    failure::Failure,
    measure::Measure,
    options::Options,
    outcome::{Outcome, Outcomes},
    probe::{
        Effort, Figure, beside, calls, databases, idle, instructions, load, overload, pgbench,
        pools, reach, rest, scrape, stalled, storm, waits,
    },
    stage::{Running, Stage},
    subject::{Program, Subject},
    work::Work,
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
    workload: Workload,
    stage: &'a Stage,
    effort: Effort,
    outcomes: Outcomes,
}

/// What came out of a run.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) outcomes: Vec<Outcome>,
    /// What could not be measured, and why.
    pub(crate) notes: Vec<String>,
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
    pub(crate) async fn run(&self, workloads: &[Workload]) -> Result<Results, Failure> {
        let mut results = Results::default();
        if workloads
            .iter()
            .any(|it| matches!(it.kind, Kind::Pgbench(_)))
        {
            self.stage.fill_pgbench_tables().await?;
        }
        for &workload in workloads {
            let mut scene = Scene {
                workload,
                stage: &self.stage,
                effort: self.effort,
                outcomes: Outcomes::new(workload),
            };
            match obstacle(workload.kind) {
                Some(why) => {
                    let note = format!("{}: not measured: {why}", workload.name);
                    results.notes.push(note);
                }
                None => scene.play().await?,
            }
            results.outcomes.extend(scene.outcomes.into_vec());
        }
        Ok(results)
    }
}

/// Why this can't be measured here, if so.
fn obstacle(kind: Kind) -> Option<String> {
    match kind {
        Kind::Calls(_) => calls::obstacle(),
        _ => None,
    }
}

impl Scene<'_> {
    async fn play(&mut self) -> Result<(), Failure> {
        let (stage, effort) = (self.stage, self.effort);
        match self.workload.kind {
            Kind::Load(load) => {
                let round = async |it: &Running| load::round(stage, it, load, effort).await;
                self.side_by_side(load, round).await?;
            }
            Kind::Pgbench(load) => {
                let round = async |it: &Running| pgbench::round(it, load, effort).await;
                self.side_by_side(load, round).await?;
                self.compare_workers();
            }
            Kind::Calls(load) => {
                let round = async |it: &Running| calls::round(it, load, effort).await;
                self.side_by_side(load, round).await?;
            }
            Kind::Waits(load) => {
                let round = async |it: &Running| waits::round(it, load, effort).await;
                self.side_by_side(load, round).await?;
                if load.clients == 1 {
                    self.tell_what_poolers_add();
                }
            }
            Kind::Overload(load) => {
                let round = async |it: &Running| overload::round(it, load, effort).await;
                self.side_by_side(load, round).await?;
            }
            Kind::Storm(storm) => {
                let other = match storm.elsewhere {
                    true => {
                        let load = storm.inside;
                        let other = stage.start(Subject::ONE_WORKER, load.door, load.lines);
                        Some(other.await?)
                    }
                    false => None,
                };
                let door = other.as_ref();
                let round = async |it: &Running| storm::round(it, door.unwrap_or(it), storm).await;
                self.side_by_side(storm.inside, round).await?;
            }
            _ => self.play_afresh().await?,
        }
        Ok(())
    }

    /// Workloads for which each round has poolers of its own.
    async fn play_afresh(&mut self) -> Result<(), Failure> {
        let (stage, effort) = (self.stage, self.effort);
        let (all, few) = (effort.rounds, effort.rounds_few);
        match self.workload.kind {
            Kind::Instructions(load) => {
                self.afresh(all, async |it| {
                    instructions::round(stage, it, load, effort).await
                })
                .await
            }
            Kind::Idle(load) => {
                self.afresh(all, async |it| idle::round(stage, it, load).await)
                    .await
            }
            Kind::Beside(load) => {
                self.afresh(all, async |it| beside::round(stage, it, load, effort).await)
                    .await
            }
            Kind::Rest(load) => {
                self.afresh(few, async |it| rest::round(stage, it, load, effort).await)
                    .await
            }
            Kind::Pools(pools) => {
                self.afresh(all, async |it| pools::round(stage, it, pools, effort).await)
                    .await
            }
            Kind::Stalled(stalled) => {
                self.afresh(few, async |it| {
                    stalled::round(stage, it, stalled, effort).await
                })
                .await
            }
            Kind::Reach(load) => {
                self.afresh(few, async |it| reach::round(stage, it, load).await)
                    .await
            }
            Kind::Databases(count) => {
                self.afresh(all, async |it| {
                    databases::round(stage, it, count, effort).await
                })
                .await
            }
            Kind::Scrape(load) => {
                self.afresh(all, async |it| scrape::round(stage, it, load).await)
                    .await
            }
            // Played with poolers that stay.
            Kind::Load(_)
            | Kind::Pgbench(_)
            | Kind::Calls(_)
            | Kind::Waits(_)
            | Kind::Overload(_)
            | Kind::Storm(_) => Ok(()),
        }
    }

    /// All subjects run from the first round to the last; only one of them has clients.
    async fn side_by_side(
        &mut self,
        load: Load,
        round_of: impl AsyncFn(&Running) -> Result<Vec<Figure>, Failure>,
    ) -> Result<(), Failure> {
        let subjects = self.start_all(load).await?;
        for round in 1..=self.effort.rounds {
            for (subject, running) in &subjects {
                let figures = round_of(running).await;
                self.note(round, *subject, figures)?;
            }
        }
        Ok(())
    }

    /// Each round of each pooler has a process of its own.
    async fn afresh(
        &mut self,
        rounds: u32,
        round_of: impl AsyncFn(Program) -> Result<Vec<Figure>, Failure>,
    ) -> Result<(), Failure> {
        for round in 1..=rounds {
            for program in Program::ALL {
                let figures = round_of(program).await;
                self.note(round, Subject::Pooler(program), figures)?;
            }
        }
        Ok(())
    }

    /// Starts all that these clients can come to.
    async fn start_all(&self, load: Load) -> Result<Vec<(Subject, Running)>, Failure> {
        let mut subjects = Vec::new();
        for subject in Subject::all().filter(|&subject| can_serve(subject, load)) {
            let started = self.stage.start(subject, load.door, load.lines).await;
            let running = started.map_err(|failure| failure.at(subject.to_string()))?;
            subjects.push((subject, running));
        }
        Ok(subjects)
    }

    /// What a transaction costs with two workers, to what it costs with one.
    fn compare_workers(&mut self) {
        let subjects = (Subject::TWO_WORKERS, Subject::ONE_WORKER);
        let measures = (Measure::CpuPerTransaction, Measure::CpuToOneWorker);
        (self.outcomes).compare(subjects, measures, |two, one| two / one);
    }

    fn tell_what_poolers_add(&mut self) {
        let measures = [
            (Measure::Median, Measure::MedianAdded),
            (Measure::Percent, Measure::PercentAdded),
        ];
        for measures in measures {
            for pooler in Program::ALL.map(Subject::Pooler) {
                let subjects = (pooler, Subject::Direct);
                (self.outcomes).compare(subjects, measures, |through, direct| through - direct);
            }
        }
    }

    fn note(
        &mut self,
        round: u32,
        subject: Subject,
        figures: Result<Vec<Figure>, Failure>,
    ) -> Result<(), Failure> {
        let place = format!("{} round {round}: {subject}", self.workload.name);
        let figures = figures.map_err(|failure| failure.at(place.clone()))?;
        if !figures.is_empty() {
            say_progress(&place, &figures);
        }
        for (measure, value) in figures {
            self.outcomes.note(subject, measure, value);
        }
        Ok(())
    }
}

/// PostgreSQL itself trusts its clients and has no seats to share out; PgBouncer before 1.21 knows
/// nothing of prepared statements in transaction mode.
fn can_serve(subject: Subject, load: Load) -> bool {
    match subject {
        Subject::Direct => load.door == Door::Trust && load.clients <= Stage::SESSIONS,
        Subject::Pooler(Program::PgBouncer) => load.work != Work::Prepared,
        Subject::Pooler(Program::Pgusher { .. }) => true,
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a run takes more than an hour, and is watched"
)]
fn say_progress(place: &str, figures: &[Figure]) {
    let texts = (figures.iter()).map(|(measure, value)| format!("{value:.2} {}", measure.unit()));
    eprintln!("{place}: {}", texts.collect::<Vec<_>>().join(", "));
}
