//! What scripts ask PostgreSQL to do: nothing that lives on in the session but what a pooler
//! carries over, and nothing whose answer depends on time, order of rows, or others.

/// A statement for the extended protocol. `{t}` and `{x}` are the client's tables.
pub(super) struct Statement {
    pub(super) sql: &'static str,
    /// The values to choose from, for each parameter.
    pub(super) values: &'static [&'static [Option<&'static str>]],
}

const fn plain(sql: &'static str) -> Statement {
    Statement { sql, values: &[] }
}

const NUMBERS: &[Option<&str>] = &[
    Some("1"),
    Some("2"),
    Some("3"),
    Some("4"),
    Some("0"),
    Some("x"),
    None,
];
const WORDS: &[Option<&str>] = &[Some("word"), Some(""), Some("ü"), Some("o'hara"), None];
const TIMES: &[Option<&str>] = &[Some("2024-02-03 04:05:06+00"), Some("soon"), None];

/// Statements that may be prepared under a name: what they mean does not depend on when and
/// under which parameters they are prepared.
pub(super) const NAMED: [Statement; 27] = [
    plain("SELECT 1 AS one"),
    plain("SELECT g FROM generate_series(1, 6) g"),
    plain("SELECT n, w FROM {t} ORDER BY n, w"),
    plain(""),
    plain("BEGIN"),
    plain("COMMIT"),
    plain("ROLLBACK"),
    plain("SHOW TimeZone"),
    plain("SET TimeZone = 'Asia/Tokyo'"),
    plain("SET DateStyle = 'German'"),
    plain("DEALLOCATE ALL"),
    plain("DISCARD ALL"),
    plain("COPY (SELECT n, w FROM {t} ORDER BY n, w) TO STDOUT"),
    plain("COPY {t} FROM STDIN"),
    plain("CREATE TABLE {x} (n int, w text)"),
    plain("DROP TABLE {x}"),
    plain("SELECT n, w FROM {x} ORDER BY n, w"),
    plain("DO $$ BEGIN RAISE NOTICE 'heard'; END $$"),
    plain("DELETE FROM {t} WHERE n > 3"),
    Statement {
        sql: "SELECT $1::int + 1 AS next",
        values: &[NUMBERS],
    },
    Statement {
        sql: "SELECT 4 / $1::int AS part",
        values: &[NUMBERS],
    },
    Statement {
        sql: "SELECT $1",
        values: &[WORDS],
    },
    Statement {
        sql: "SELECT $1::timestamptz AS moment",
        values: &[TIMES],
    },
    Statement {
        sql: "SELECT n, w FROM {t} WHERE n >= $1 ORDER BY n, w",
        values: &[NUMBERS],
    },
    Statement {
        sql: "INSERT INTO {t} VALUES ($1, $2)",
        values: &[NUMBERS, WORDS],
    },
    Statement {
        sql: "UPDATE {t} SET w = $2 WHERE n = $1 RETURNING n, w",
        values: &[NUMBERS, WORDS],
    },
    Statement {
        sql: "SELECT g, 6 / (4 - g) AS q FROM generate_series(1, $1::int) g",
        values: &[NUMBERS],
    },
];

/// Statements that are used as soon as they are prepared, or fail at once.
pub(super) const UNNAMED: [Statement; 9] = [
    plain("SELECT nothing"),
    plain("SELEC 1"),
    plain("SELECT 1; SELECT 2"),
    plain("SELECT * FROM missing"),
    plain("SELECT timestamptz '2024-02-03 04:05:06', interval '26 hours'"),
    plain("ALTER TABLE {x} ADD COLUMN more int DEFAULT 7"),
    plain("SELECT * FROM {x} ORDER BY 1, 2"),
    plain("SELECT repeat('long ', 15000) AS long"),
    Statement {
        sql: "INSERT INTO {x} VALUES ($1, $2) RETURNING *",
        values: &[NUMBERS, WORDS],
    },
];

/// Simple queries.
pub(super) const QUERIES: [&str; 52] = [
    "SELECT 1 AS one",
    "SELECT n, w FROM {t} ORDER BY n, w",
    "SELECT 'ü' AS umlaut, 'back\\slash' AS backslash",
    "SELECT repeat('long ', 15000) AS long",
    "SELECT 1; SELECT 2",
    "SELECT 1; SELECT 1 / 0; SELECT 2",
    "SELECT 6 / (4 - g) FROM generate_series(1, 6) g",
    "",
    " ; ;",
    "-- nothing",
    "INSERT INTO {t} VALUES (7, 'seven')",
    "INSERT INTO {t} VALUES (8, 'eight') RETURNING n",
    "UPDATE {t} SET w = w || '!' WHERE n < 3",
    "DELETE FROM {t} WHERE n = 5",
    "INSERT INTO {t} VALUES (9, 'nine'); SELECT nothing",
    "BEGIN; INSERT INTO {t} VALUES (10, 'ten'); COMMIT",
    "BEGIN; INSERT INTO {t} VALUES (11, 'eleven'); SELECT 1 / 0; COMMIT",
    "SELECT nothing",
    "SELEC 1",
    "SELECT * FROM missing",
    "SET TimeZone = 'Asia/Tokyo'",
    "SET TimeZone = 'Atlantis/Poseidonis'",
    "SET DateStyle = 'SQL, DMY'",
    "SET IntervalStyle = 'iso_8601'",
    "SET application_name = 'differential'",
    "SET client_encoding = 'LATIN1'",
    "SET standard_conforming_strings = off",
    "SET LOCAL TimeZone = 'America/Lima'",
    "RESET TimeZone",
    "RESET ALL",
    "SHOW TimeZone",
    "SHOW application_name",
    "SELECT timestamptz '2024-02-03 04:05:06+00', interval '26 hours'",
    "DO $$ BEGIN RAISE NOTICE 'heard'; END $$",
    "DO $$ BEGIN RAISE WARNING 'heard'; RAISE INFO 'too'; END $$",
    "DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING HINT = 'none'; END $$",
    "CREATE TABLE {x} (n int, w text)",
    "CREATE TABLE IF NOT EXISTS {x} (n int, w text)",
    "DROP TABLE {x}",
    "ALTER TABLE {x} ADD COLUMN more int DEFAULT 7",
    "INSERT INTO {x} VALUES (1, 'one') RETURNING *",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "DEALLOCATE missing",
    "PREPARE q{x} AS SELECT 1; EXECUTE q{x}; DEALLOCATE q{x}",
    "CREATE TEMP TABLE brief ON COMMIT DROP AS SELECT 1",
    "SELECT pg_backend_pid()",
    "NOTIFY {x}",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT set_config('work_mem', '1MB', true)",
    "COPY {t} FROM STDIN WITH (FORMAT csv); COPY {t} FROM STDIN; SELECT count(*) FROM {t}",
    "COPY (SELECT 6 / (4 - g) FROM generate_series(1, 6) g) TO STDOUT",
];

/// Simple queries that divide transactions, or only make sense in one.
pub(super) const TRANSACTIONS: [&str; 17] = [
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "COMMIT AND CHAIN",
    "SAVEPOINT a",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "RELEASE a",
    "SET TRANSACTION READ ONLY",
    "DECLARE c CURSOR FOR SELECT g FROM generate_series(1, 6) g",
    "DECLARE c CURSOR FOR SELECT 1; FETCH 2 FROM c; CLOSE c",
    "FETCH 2 FROM c",
    "CLOSE c",
    "SELECT 1 / 0",
    "SET TimeZone = 'Asia/Tokyo'",
    "SET LOCAL DateStyle = 'German'",
    "PREPARE TRANSACTION 'p'",
];

/// COPYs from the client.
pub(super) const COPIES_IN: [&str; 3] = [
    "COPY {t} FROM STDIN",
    "COPY {t} (n) FROM STDIN WITH (FORMAT csv)",
    "COPY {x} FROM STDIN",
];

/// COPYs to the client.
pub(super) const COPIES_OUT: [&str; 3] = [
    "COPY (SELECT n, w FROM {t} ORDER BY n, w) TO STDOUT",
    "COPY (SELECT 6 / (4 - g) FROM generate_series(1, 6) g) TO STDOUT",
    "COPY (SELECT g FROM generate_series(1, 2000) g) TO STDOUT WITH (FORMAT binary)",
];

/// What clients send into a COPY: rows, parts of rows, and what is none.
pub(super) const COPY_DATA: [&str; 9] = [
    "21\tin\n",
    "22\ttoo\n23\tand\n",
    "24",
    "\tapart\n",
    "25,csv\n",
    "26\n",
    "",
    "x\tbad\n",
    "\\.\n",
];

/// Functions to call by OID: int4pl, int4div, upper, and none; each with arguments to choose from.
pub(super) const FUNCTIONS: [(u32, &[&[Option<&str>]]); 4] = [
    (177, &[NUMBERS, NUMBERS]),
    (154, &[NUMBERS, NUMBERS]),
    (871, &[WORDS]),
    (1, &[]),
];
