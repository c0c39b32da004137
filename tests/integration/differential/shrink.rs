//! From a failure to the shortest conversations that show it.

use std::time::{Duration, Instant};

use super::lane::Failure;
use super::script::{Script, Step, leans_on_the_session};
use super::stage::Stage;

/// Scripts in the order in which they are played, one after the other.
pub(super) type Case = Vec<Script>;

/// No try begins later: the tests have a deadline of their own.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Looks for the shortest case that still fails, on fresh poolers; `None` if this one does not.
pub(super) async fn shrink(stage: &Stage, case: Case) -> Option<(Case, Box<Failure>)> {
    let mut search = Search {
        stage,
        deadline: Instant::now() + TIME_MAX,
        best: case,
        failure: None,
    };
    let whole = search.best.clone();
    if !search.still_fails(whole).await {
        return None;
    }
    search.drop_scripts().await;
    for script in 0..search.best.len() {
        search.drop_steps(script).await;
        search.simplify_pace(script).await;
    }
    Some((search.best, search.failure?))
}

struct Search<'a> {
    stage: &'a Stage,
    deadline: Instant,
    best: Case,
    failure: Option<Box<Failure>>,
}

impl Search<'_> {
    /// Tries a shorter case, and keeps it if it fails too.
    async fn still_fails(&mut self, case: Case) -> bool {
        let unfair = case
            .iter()
            .any(|script| leans_on_the_session(&script.steps));
        if unfair || Instant::now() > self.deadline {
            return false;
        }
        let Err(failure) = self.stage.replay(&case).await else {
            return false;
        };
        self.best = case;
        self.failure = Some(failure);
        true
    }

    async fn drop_scripts(&mut self) {
        let mut len = self.best.len() / 2;
        while len > 0 {
            let mut start = 0;
            while start < self.best.len() {
                let mut case = self.best.clone();
                case.drain(start..(start + len).min(case.len()));
                if !self.still_fails(case).await {
                    start += len;
                }
            }
            len /= 2;
        }
    }

    async fn drop_steps(&mut self, script: usize) {
        let mut len = self.best[script].steps.len().div_ceil(2);
        while len > 0 {
            let mut start = 0;
            while start < self.best[script].steps.len() {
                let mut case = self.best.clone();
                let steps = &mut case[script].steps;
                steps.drain(start..(start + len).min(steps.len()));
                if !self.still_fails(case).await {
                    start += len;
                }
            }
            len /= 2;
        }
    }

    /// In one piece, and without pauses.
    async fn simplify_pace(&mut self, script: usize) {
        let mut whole = self.best.clone();
        whole[script].cuts = None;
        self.still_fails(whole).await;
        let mut hasty = self.best.clone();
        let rush = |step: &mut Step| step.pause = false;
        hasty[script].steps.iter_mut().for_each(rush);
        self.still_fails(hasty).await;
    }
}
