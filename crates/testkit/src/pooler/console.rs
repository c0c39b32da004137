//! The admin console, as operators use it.

use std::ops::Index;

use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// An administrator's session at the console.
pub struct Console {
    client: Client,
}

impl Console {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The rows of `SHOW what`.
    pub async fn show(&self, what: &str) -> Vec<Row> {
        let command = format!("SHOW {what}");
        let rows = self.try_show(what).await;
        rows.unwrap_or_else(|error| panic!("{command}: {error:?}"))
    }

    /// The rows of `SHOW what`, or why there are none.
    pub async fn try_show(&self, what: &str) -> Result<Vec<Row>, Error> {
        let answer = self.client.simple_query(&format!("SHOW {what}")).await?;
        Ok(answer.into_iter().filter_map(Row::read).collect())
    }

    /// The one row of `SHOW what` in which `column` holds `value`.
    pub async fn show_row(&self, what: &str, column: &str, value: &str) -> Row {
        let mut rows = self.show(what).await;
        rows.retain(|row| row.get(column) == Some(value));
        assert_eq!(
            rows.len(),
            1,
            "SHOW {what}: rows with {column}={value}: {rows:?}"
        );
        rows.remove(0)
    }

    /// The row of one pool.
    pub async fn pool(&self, database: &str, user: &str) -> Row {
        let mut rows = self.show("POOLS").await;
        rows.retain(|row| row.get("database") == Some(database) && row.get("user") == Some(user));
        assert_eq!(rows.len(), 1, "pools of {database}/{user}: {rows:?}");
        rows.remove(0)
    }

    /// The value that SHOW CONFIG has for a key.
    pub async fn setting(&self, key: &str) -> String {
        self.show_row("CONFIG", "key", key).await["value"].to_owned()
    }

    /// Runs a command.
    pub async fn run(&self, command: &str) {
        self.try_run(command)
            .await
            .unwrap_or_else(|error| panic!("{command}: {error:?}"));
    }

    /// Runs a command, or says why it failed.
    pub async fn try_run(&self, command: &str) -> Result<(), Error> {
        self.client.simple_query(command).await.map(drop)
    }
}

/// A row of a SHOW table: texts by column name, in the order of the columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(pub Vec<(String, Option<String>)>);

impl Row {
    fn read(message: SimpleQueryMessage) -> Option<Self> {
        let SimpleQueryMessage::Row(row) = message else {
            return None;
        };
        let columns = row.columns().iter().enumerate();
        let value = |index| row.get(index).map(str::to_owned);
        Some(Self(
            columns
                .map(|(index, column)| (column.name().to_owned(), value(index)))
                .collect(),
        ))
    }

    /// The names of its columns.
    pub fn columns(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// A value; `None` if it is NULL or there is no such column.
    pub fn get(&self, column: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == column)?.1.as_deref()
    }

    /// A value that is a number.
    pub fn number(&self, column: &str) -> i64 {
        let number = self[column].parse();
        number.unwrap_or_else(|_| panic!("{column} is no number: {:?}", &self[column]))
    }
}

impl Index<&str> for Row {
    type Output = str;

    fn index(&self, column: &str) -> &str {
        self.get(column)
            .unwrap_or_else(|| panic!("{column} is NULL or missing in {self:?}"))
    }
}
