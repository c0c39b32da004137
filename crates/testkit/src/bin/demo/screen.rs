//! Pools as people watch them: redrawn in place on a terminal, line after line elsewhere.

use std::{
    collections::HashMap,
    io::{IsTerminal, stdout},
    time::Duration,
};

use testkit::Row;

/// The live table of pools.
pub(crate) struct Screen {
    in_place: bool,
    lines: usize,
    before: HashMap<String, i64>,
    seen_at: Duration,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let in_place = stdout().is_terminal();
        println!(
            "                    clients           servers   transactions  longest\n\
             time  pool       active waiting   active   idle   per second     wait"
        );
        Self {
            in_place,
            lines: 0,
            before: HashMap::new(),
            seen_at: Duration::ZERO,
        }
    }

    /// Draws what SHOW POOLS and SHOW STATS_TOTALS said at that time.
    pub(crate) fn draw(&mut self, at: Duration, pools: &[Row], totals: &[Row]) {
        if self.in_place && self.lines > 0 {
            print!("\x1b[{}A\x1b[J", self.lines);
        }
        let pools = pools.iter().filter(|pool| &pool["database"] != "pgbouncer");
        let seconds = (at - self.seen_at).as_secs_f64();
        self.lines = 0;
        for pool in pools {
            let database = &pool["database"];
            let count = transactions(totals, database);
            let before = self.before.insert(database.to_owned(), count).unwrap_or(0);
            let per_second = (count - before) as f64 / seconds;
            println!("{}", line(at, pool, per_second));
            self.lines += 1;
        }
        self.seen_at = at;
    }
}

fn line(at: Duration, pool: &Row, per_second: f64) -> String {
    let idle = pool.number("sv_idle") + pool.number("sv_used");
    let waited = pool.number("maxwait") as f64 + pool.number("maxwait_us") as f64 / 1e6;
    format!(
        "{:>3}s  {:<10} {:>6} {:>7}   {:>6} {:>6}   {:>10.0} {:>6.2} s",
        at.as_secs(),
        &pool["database"],
        pool.number("cl_active"),
        pool.number("cl_waiting"),
        pool.number("sv_active"),
        idle,
        per_second,
        waited,
    )
}

fn transactions(totals: &[Row], database: &str) -> i64 {
    let row = totals.iter().find(|row| &row["database"] == database);
    row.map_or(0, |row| row.number("xact_count"))
}

/// A table as psql shows it.
pub(crate) fn print_table(rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    let columns = first.columns();
    let cell = |row: &Row, column: &str| row.get(column).unwrap_or("").to_owned();
    let width = |column: &str| {
        let cells = rows.iter().map(|row| cell(row, column).len());
        cells.chain([column.len()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = columns.iter().map(|column| width(column)).collect();
    let print = |cells: Vec<String>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:>width$}"));
        println!(" {}", padded.collect::<Vec<_>>().join(" | "));
    };
    print(columns.iter().map(ToString::to_string).collect());
    println!(
        "-{}-",
        widths
            .iter()
            .map(|&width| "-".repeat(width))
            .collect::<Vec<_>>()
            .join("-+-")
    );
    for row in rows {
        print(columns.iter().map(|column| cell(row, column)).collect());
    }
}
