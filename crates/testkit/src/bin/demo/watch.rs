//! What PostgreSQL itself counts, past the pooler's own figures.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle, time::sleep};
use tokio_postgres::{Client, Error};

use crate::{
    failure::Failure,
    stage::{POOL_SIZE, RESERVE, Stage, USER},
};

/// A look at pg_stat_activity, again and again.
pub(crate) struct Watch {
    enough: Arc<watch::Sender<bool>>,
    looking: JoinHandle<Result<Peak, Error>>,
}

/// The most sessions ever seen, by database.
#[derive(Default)]
pub(crate) struct Peak(BTreeMap<String, i64>);

const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

impl Watch {
    pub(crate) async fn start(stage: &Stage) -> Result<Self, Failure> {
        let admin = stage
            .postgres
            .try_admin_client_in("postgres")
            .await
            .map_err(Failure::Look)?;
        let enough = Arc::new(watch::Sender::new(false));
        let looking = tokio::spawn(look(admin, enough.subscribe()));
        Ok(Self { enough, looking })
    }

    pub(crate) async fn stop(self) -> Result<Peak, Failure> {
        self.enough.send_replace(true);
        self.looking
            .await
            .expect("looking does not panic")
            .map_err(Failure::Look)
    }
}

async fn look(admin: Client, enough: watch::Receiver<bool>) -> Result<Peak, Error> {
    let sql = "SELECT datname::text, count(*) FROM pg_stat_activity WHERE usename = $1 GROUP BY 1";
    let sql = admin.prepare(sql).await?;
    let mut peak = Peak::default();
    while !*enough.borrow() {
        for row in admin.query(&sql, &[&USER]).await? {
            let highest = peak.0.entry(row.get(0)).or_default();
            *highest = (*highest).max(row.get(1));
        }
        sleep(BETWEEN_LOOKS).await;
    }
    Ok(peak)
}

impl Peak {
    pub(crate) fn highest(&self) -> i64 {
        self.0.values().copied().max().unwrap_or(0)
    }

    pub(crate) fn verify(&self) -> Result<(), Failure> {
        let limit = POOL_SIZE + RESERVE;
        match self.0.iter().find(|(_, seen)| **seen > limit) {
            Some((database, &seen)) => Err(Failure::LimitBroken {
                database: database.clone(),
                seen,
                limit,
            }),
            None => Ok(()),
        }
    }
}
