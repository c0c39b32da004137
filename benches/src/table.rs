//! A table that reads well on a terminal and in Markdown.

use std::fmt;

/// Rows under a header; the first `labels` columns are text, the others numbers.
pub(crate) struct Table {
    labels: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(labels: usize, header: Vec<String>) -> Self {
        Self {
            labels,
            rows: vec![header],
        }
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell: &String| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        (0..columns).map(width).collect()
    }

    fn write_rule(&self, f: &mut fmt::Formatter<'_>, widths: &[usize]) -> fmt::Result {
        f.write_str("|")?;
        for (column, width) in widths.iter().enumerate() {
            let (left, right) = if column < self.labels {
                ("-", "-")
            } else {
                ("-", ":")
            };
            write!(f, "{left}{}{right}|", "-".repeat(*width))?;
        }
        writeln!(f)
    }

    fn write_row(
        &self,
        f: &mut fmt::Formatter<'_>,
        row: &[String],
        widths: &[usize],
    ) -> fmt::Result {
        f.write_str("|")?;
        for (column, (cell, &width)) in row.iter().zip(widths).enumerate() {
            if column < self.labels {
                write!(f, " {cell:<width$} |")?;
            } else {
                write!(f, " {cell:>width$} |")?;
            }
        }
        writeln!(f)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for (index, row) in self.rows.iter().enumerate() {
            self.write_row(f, row, &widths)?;
            if index == 0 {
                self.write_rule(f, &widths)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn labels_stand_left_and_numbers_right() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let mut table = Table::new(1, row(["workload", "↓", "PgBouncer"]));
        table.push(row(["simple", "1.25", "–"]));

        expect![[r#"
            | workload |    ↓ | PgBouncer |
            |----------|-----:|----------:|
            | simple   | 1.25 |         – |
        "#]]
        .assert_eq(&table.to_string());
    }
}
