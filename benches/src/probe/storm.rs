//! How those who are inside fare while many others log in.

use std::{
    io,
    net::SocketAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::unistd::gettid;
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{interval, sleep},
    try_join,
};

use super::{Figure, watched_over};
use crate::{
    client::{Client, Order},
    crowd::{Crowd, Load},
    door::Way,
    failure::Failure,
    measure::Measure,
    stage::Running,
    statistics::percentile,
};

/// Clients at work, and others who come.
#[derive(Clone, Copy)]
pub(crate) struct Storm {
    /// Those who are inside, and whose waits are measured.
    pub(crate) inside: Load,
    /// How many log in meanwhile, for a transaction each.
    pub(crate) logins: u64,
    /// How they come.
    pub(crate) onrush: Onrush,
    /// Whether they come to another pooler: what becomes worse then is the machine's doing.
    pub(crate) elsewhere: bool,
}

/// How clients come who log in.
#[derive(Clone, Copy)]
pub(crate) enum Onrush {
    /// A few at a time, as fast as they are let in.
    Flood,
    /// So many a second, whatever becomes of those before.
    Paced(u32),
}

/// How long those inside are watched before the storm.
const CALM: Duration = Duration::from_secs(2);

/// One round: some are at work in `running`, and others come to `door`.
pub(crate) async fn round(
    running: &Running,
    door: &Running,
    storm: Storm,
) -> Result<Vec<Figure>, Failure> {
    const LIMIT: Duration = Duration::from_secs(60);
    watched_over(running, LIMIT, measure(running, door, storm)).await
}

async fn measure(running: &Running, door: &Running, storm: Storm) -> Result<Vec<Figure>, Failure> {
    let crowd = Crowd::gather(storm.inside, running.address()).await?;
    let (crowd, _) = crowd
        .work(Order::Times(storm.inside.work.warm_up()))
        .await?;

    let calm = async {
        sleep(CALM).await;
        Ok(())
    };
    let (crowd, mut before, ()) = watched_until(crowd, calm).await?;
    let started = Instant::now();
    let (crowd, mut during, logins) = watched_until(crowd, arrive(door, storm)).await?;
    let took = started.elapsed();
    crowd.leave().await?;

    let (before, during) = (slowest_percent(&mut before), slowest_percent(&mut during));
    let per_second = logins as f64 / took.as_secs_f64();
    Ok(vec![
        (Measure::SlowestPercent, during.as_secs_f64() * 1e6),
        (Measure::Growth, during.as_secs_f64() / before.as_secs_f64()),
        (Measure::LoginsPerSecond, per_second),
    ])
}

/// Has the crowd work until something has happened; and how long each transaction took.
pub(super) async fn watched_until<T>(
    crowd: Crowd,
    event: impl Future<Output = Result<T, Failure>>,
) -> Result<(Crowd, Vec<Duration>, T), Failure> {
    let (crowd, times, happened) = watched_each_until(crowd, event).await?;
    Ok((crowd, times.concat(), happened))
}

/// The same, client by client.
pub(super) async fn watched_each_until<T>(
    crowd: Crowd,
    event: impl Future<Output = Result<T, Failure>>,
) -> Result<(Crowd, Vec<Vec<Duration>>, T), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let working = crowd.timed_work_of_each(Order::Until(stop.clone()));
    let waiting = async {
        let happened = event.await;
        stop.store(true, Ordering::Relaxed);
        happened
    };
    let ((crowd, times), happened) = try_join!(working, waiting)?;
    Ok((crowd, times, happened))
}

/// Has the others come, from a thread of their own; and how many did. The thread takes what others
/// leave of this machine's processors: in life, those who come bring their own.
async fn arrive(door: &Running, storm: Storm) -> Result<u64, Failure> {
    let address = door.address();
    let (tell, told) = oneshot::channel();
    thread::spawn(move || {
        let come = async {
            match storm.onrush {
                Onrush::Flood => flood(storm, address).await,
                Onrush::Paced(rate) => pace(storm, rate, address).await,
            }
        };
        let gave_way = give_way();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let came = match gave_way.and(runtime) {
            Ok(runtime) => runtime.block_on(come),
            Err(error) => Err(Failure::io("starting a thread")(error)),
        };
        let _ = tell.send(came);
    });
    told.await
        .unwrap_or_else(|_| Err(Failure::Unreadable("the storm's thread died".to_owned())))
}

/// From now on all other threads go before this one.
fn give_way() -> io::Result<()> {
    const LAST: &str = "19";
    let thread = gettid().to_string();
    let renice = ["-n", LAST, "-p", &thread];
    let output = Command::new("renice").args(renice).output()?;
    if output.status.success() {
        Ok(())
    } else {
        let words = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(words.trim().to_owned()))
    }
}

async fn flood(storm: Storm, address: SocketAddr) -> Result<u64, Failure> {
    const AT_ONCE: usize = 16;
    let others = Load::visiting(storm.inside.door, AT_ONCE);
    let each = storm.logins / AT_ONCE as u64;
    let crowd = Crowd::gather(others, address).await?;
    let (crowd, logins) = crowd.work(Order::Times(each)).await?;
    crowd.leave().await?;
    Ok(logins)
}

async fn pace(storm: Storm, rate: u32, address: SocketAddr) -> Result<u64, Failure> {
    let way = Way::through(storm.inside.door);
    let mut beat = interval(Duration::from_secs(1) / rate);
    let mut coming = JoinSet::new();
    for number in 0..storm.logins {
        beat.tick().await;
        let work = storm.inside.work;
        let mut client = Client::outside(number as usize, work, address, way.clone());
        coming.spawn(async move { client.work(&Order::Times(1)).await });
    }
    let mut logins = 0;
    while let Some(came) = coming.join_next().await {
        match came {
            Ok(came) => logins += came?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    Ok(logins)
}

/// The 99th percentile.
pub(super) fn slowest_percent(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    percentile(times, 0.99)
}
