// JDBC at work: it prepares after five uses, pages through portals, calls functions by their oid.
//
// Usage: java -cp postgresql.jar Jdbc.java direct|session|transaction [CHECK...], with PGHOST and
// so on set. The word says who answers: PostgreSQL itself, or a pooler in that mode.

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import org.postgresql.PGConnection;
import org.postgresql.PGStatement;
import org.postgresql.ds.PGPoolingDataSource;
import org.postgresql.largeobject.LargeObjectManager;

@SuppressWarnings("deprecation") // PGPoolingDataSource: the one pool that comes with the driver.
public class Jdbc {
    /** How many ask at once, and how many servers a pooler shares among them. */
    static final int WORKERS = 20, SEATS = 3;

    static final String TAGGED =
            "SELECT n, ? AS tag, pg_backend_pid() AS pid FROM generate_series(1, 10) n";

    record Row(String tag, int pid) {}

    interface Check {
        void hold() throws Exception;
    }

    interface Work {
        void on(Connection connection) throws Exception;
    }

    interface Ask {
        List<Row> rows(int worker, String tag) throws Exception;
    }

    static boolean shared;

    public static void main(String[] args) throws Exception {
        List<String> arguments = Arrays.asList(args);
        if (arguments.isEmpty()) {
            throw new IllegalArgumentException("direct, session or transaction?");
        }
        shared = arguments.get(0).equals("transaction");
        with(Map.of(), c -> {
            run(c, "DROP TABLE IF EXISTS notes, widening; CREATE TABLE notes (name text, n int)");
        });

        Map<String, Check> checks = new LinkedHashMap<>();
        checks.put("valuesArriveUnharmed", Jdbc::valuesArriveUnharmed);
        checks.put("poolServesTwentyWorkers", Jdbc::poolServesTwentyWorkers);
        checks.put("everyQueryModeWorks", Jdbc::everyQueryModeWorks);
        checks.put("transactionsKeepOrUndo", Jdbc::transactionsKeepOrUndo);
        checks.put("autosaveSurvivesErrors", Jdbc::autosaveSurvivesErrors);
        checks.put("statementsHealAfterDdl", Jdbc::statementsHealAfterDdl);
        checks.put("statementsSurviveDeallocate", Jdbc::statementsSurviveDeallocate);
        checks.put("batchesAreCounted", Jdbc::batchesAreCounted);
        checks.put("portalsPageThroughRows", Jdbc::portalsPageThroughRows);
        checks.put("copiesInAndOut", Jdbc::copiesInAndOut);
        checks.put("functionsAreCalledByOid", Jdbc::functionsAreCalledByOid);
        checks.put("statementsAreDescribedOnly", Jdbc::statementsAreDescribedOnly);
        checks.put("cancelsReachTheirOwnQuery", Jdbc::cancelsReachTheirOwnQuery);
        checks.put("noticesGoToWhomTheyConcern", Jdbc::noticesGoToWhomTheyConcern);
        if (arguments.size() > 1) {
            checks.keySet().retainAll(arguments);
        } else if (shared) {
            // This driver asks but once what the columns are, at a portal. Where a server has to
            // prepare the statement again after DDL, they are others, and no error says so.
            checks.remove("statementsHealAfterDdl");
        }
        same(false, checks.isEmpty());
        checks.forEach(Jdbc::holds);
        System.out.println(checks.size() + " checks hold");
        System.exit(0);
    }

    static void holds(String name, Check check) {
        try {
            together(1, worker -> check.hold());
        } catch (Exception error) {
            System.err.print(name + ": ");
            error.printStackTrace();
            // Others may be stuck.
            Runtime.getRuntime().halt(1);
        }
    }

    static void valuesArriveUnharmed() throws Exception {
        byte[] bytes = new byte[70_000];
        new Random(1).nextBytes(bytes);
        String text = "ünïcødé ✓ '\\\"" + "x".repeat(1 << 20);
        Timestamp moment = Timestamp.valueOf("2024-02-29 12:34:56.789");
        String sql = "SELECT ?::text, ?::bytea, ?::float8, ?::timestamp, ?::text[], ?::int";
        with(Map.of(), c -> {
            var statement = c.prepareStatement(sql);
            // As text at first, and in binary once it is prepared.
            for (int use = 0; use < 8; use++) {
                statement.setString(1, text);
                statement.setBytes(2, bytes);
                statement.setDouble(3, 0.1 + 0.2);
                statement.setTimestamp(4, moment);
                statement.setArray(5, c.createArrayOf("text", new String[] {"", "a\"b", null}));
                statement.setNull(6, Types.INTEGER);
                var rows = statement.executeQuery();
                rows.next();
                same(text, rows.getString(1));
                same(true, Arrays.equals(bytes, rows.getBytes(2)));
                same(0.1 + 0.2, rows.getDouble(3));
                same(moment, rows.getTimestamp(4));
                same("[, a\"b, null]", Arrays.toString((Object[]) rows.getArray(5).getArray()));
                same(null, rows.getObject(6));
            }
        });
    }

    static void poolServesTwentyWorkers() throws Exception {
        var pool = new PGPoolingDataSource();
        pool.setDataSourceName("pool");
        pool.setUrl(url());
        pool.setUser(System.getenv("PGUSER"));
        pool.setPassword(System.getenv("PGPASSWORD"));
        pool.setMaxConnections(10);
        everyRowIsTaggedByItsAsker(3, (worker, tag) -> {
            try (var c = pool.getConnection()) {
                var own = c.prepareStatement(TAGGED + " WHERE n <> " + worker);
                List<Row> rows = new ArrayList<>();
                for (int use = 0; use < 8; use++) {
                    rows.addAll(tagged(own, tag));
                }
                same(true, own.unwrap(PGStatement.class).isUseServerPrepare());
                rows.addAll(inTransaction(c, tag));
                var failing = c.prepareStatement("SELECT 1 / ?");
                failing.setInt(1, 0);
                for (int use = 0; use < 7; use++) {
                    fails("22012", failing::executeQuery);
                }
                rows.addAll(tagged(own, tag));
                String unprepared = TAGGED.replace("?", "'" + tag + "'");
                rows.addAll(rows(c.createStatement().executeQuery(unprepared)));
                return rows;
            }
        });
        pool.close();
    }

    static List<Row> inTransaction(Connection c, String tag) throws Exception {
        c.setAutoCommit(false);
        var insert = c.prepareStatement("INSERT INTO notes VALUES (?, ?)");
        var select = c.prepareStatement(
                "SELECT name AS tag, pg_backend_pid() AS pid FROM notes WHERE name = ?");
        List<Row> rows = new ArrayList<>();
        for (int n = 1; n <= 7; n++) {
            insert.setString(1, tag);
            insert.setInt(2, n);
            same(1, insert.executeUpdate());
            List<Row> found = tagged(select, tag);
            same(n, found.size());
            rows.addAll(found);
        }
        same(1L, rows.stream().map(Row::pid).distinct().count());
        c.rollback();
        c.setAutoCommit(true);
        return rows;
    }

    static void everyQueryModeWorks() throws Exception {
        var modes = List.of("simple", "extended", "extendedForPrepared", "extendedCacheEverything");
        for (String mode : modes) {
            for (String threshold : List.of("0", "1", "-1")) {
                with(Map.of("preferQueryMode", mode, "prepareThreshold", threshold), c -> {
                    for (int use = 0; use < 4; use++) {
                        same(10, tagged(c.prepareStatement(TAGGED), "me").size());
                        run(c, "SELECT 1; SELECT 2");
                        fails("42703", () -> run(c, "SELECT absent"));
                    }
                    same(true, c.isValid(10));
                });
            }
        }
    }

    static void transactionsKeepOrUndo() throws Exception {
        with(Map.of(), c -> {
            c.setAutoCommit(false);
            run(c, "INSERT INTO notes VALUES ('me', 1)");
            c.commit();
            run(c, "INSERT INTO notes VALUES ('me', 2)");
            fails("42703", () -> run(c, "SELECT absent FROM notes"));
            fails("25P02", () -> run(c, "SELECT 1"));
            c.rollback();
            same("1", ask(c, "SELECT count(*) FROM notes"));
            var here = c.setSavepoint("here");
            run(c, "INSERT INTO notes VALUES ('me', 3)");
            fails("22P02", () -> run(c, "SELECT 'x'::int"));
            c.rollback(here);
            run(c, "INSERT INTO notes VALUES ('me', 4)");
            c.commit();
            c.setReadOnly(true);
            fails("25006", () -> run(c, "INSERT INTO notes VALUES ('me', 5)"));
            c.rollback();
            c.setReadOnly(false);
            same("1,4", ask(c, "SELECT string_agg(n::text, ',' ORDER BY n) FROM notes"));
            run(c, "DELETE FROM notes");
            c.commit();
        });
    }

    static void autosaveSurvivesErrors() throws Exception {
        with(Map.of("autosave", "always"), c -> {
            c.setAutoCommit(false);
            var insert = c.prepareStatement("INSERT INTO notes VALUES ('saved', 1 / ?)");
            for (int n = 0; n < 20; n++) {
                insert.setInt(1, n % 2);
                if (n % 2 == 0) {
                    fails("22012", insert::executeUpdate);
                } else {
                    same(1, insert.executeUpdate());
                }
            }
            c.commit();
            same("10", ask(c, "SELECT count(*) FROM notes"));
            run(c, "DELETE FROM notes");
            c.commit();
        });
    }

    static void statementsHealAfterDdl() throws Exception {
        for (boolean autocommit : List.of(true, false)) {
            with(Map.of("autosave", "conservative"), c -> {
                run(c, "CREATE TABLE widening (c1 int); INSERT INTO widening VALUES (1)");
                c.setAutoCommit(autocommit);
                var statement = c.prepareStatement("SELECT * FROM widening");
                for (int columns = 1; columns <= 4; columns++) {
                    // The driver asks again by itself, under a new name.
                    for (int use = 0; use < 7; use++) {
                        same(columns, statement.executeQuery().getMetaData().getColumnCount());
                    }
                    same(true, statement.unwrap(PGStatement.class).isUseServerPrepare());
                    if (!autocommit) {
                        c.commit();
                    }
                    String alter = "ALTER TABLE widening ADD c" + (columns + 1) + " int";
                    with(Map.of(), other -> run(other, alter));
                }
                c.setAutoCommit(true);
                run(c, "DROP TABLE widening");
            });
        }
    }

    static void statementsSurviveDeallocate() throws Exception {
        Map<String, String> prepared = Map.of("prepareThreshold", "1");
        with(prepared, one -> with(prepared, other -> {
            var ones = one.prepareStatement(TAGGED);
            var others = other.prepareStatement(TAGGED);
            for (String command : List.of("DEALLOCATE ALL", "DISCARD ALL", "SELECT 1")) {
                same(10, tagged(ones, "one").size());
                same(10, tagged(others, "other").size());
                run(one, command);
            }
            one.setAutoCommit(false);
            run(one, "PREPARE mine AS SELECT 'mine'");
            same("mine", ask(one, "EXECUTE mine"));
            same(10, tagged(others, "other").size());
            run(one, "DEALLOCATE mine");
            one.commit();
        }));
    }

    static void batchesAreCounted() throws Exception {
        for (String rewrite : List.of("false", "true")) {
            with(Map.of("reWriteBatchedInserts", rewrite), c -> {
                var keyed = new String[] {"n"};
                var insert = c.prepareStatement("INSERT INTO notes VALUES (?, ?)", keyed);
                for (int n = 0; n < 1000; n++) {
                    insert.setString(1, "batch");
                    insert.setInt(2, n);
                    insert.addBatch();
                }
                same(1000, insert.executeBatch().length);
                List<Integer> keys = new ArrayList<>();
                for (var rows = insert.getGeneratedKeys(); rows.next(); ) {
                    keys.add(rows.getInt(1));
                }
                same(IntStream.range(0, 1000).boxed().toList(), keys);

                var divide = c.prepareStatement("DELETE FROM notes WHERE n = 1 / ?");
                for (int n = 5; n >= -5; n--) {
                    divide.setInt(1, n);
                    divide.addBatch();
                }
                fails("22012", divide::executeBatch);
                // The batch was one pipeline with one Sync, so nothing of it is kept.
                same("1000", ask(c, "SELECT count(*) FROM notes"));
                run(c, "DELETE FROM notes");
            });
        }
    }

    static void portalsPageThroughRows() throws Exception {
        everyRowIsTaggedByItsAsker(1, (worker, tag) -> {
            List<Row> rows = new ArrayList<>();
            with(Map.of("prepareThreshold", worker % 2 == 0 ? "1" : "5"), c -> {
                c.setAutoCommit(false);
                var pages = c.prepareStatement(TAGGED.replace("10", "1000"));
                pages.setFetchSize(100);
                pages.setString(1, tag);
                var result = pages.executeQuery();
                while (result.next()) {
                    rows.add(new Row(result.getString("tag"), result.getInt("pid")));
                    if (rows.size() % 300 == 0) {
                        same(10, tagged(c.prepareStatement(TAGGED), "between").size());
                    }
                }
                same(1000, rows.size());
                c.commit();
            });
            return rows;
        });
    }

    static void copiesInAndOut() throws Exception {
        together(WORKERS, worker -> with(Map.of(), c -> {
            var copies = c.unwrap(PGConnection.class).getCopyAPI();
            String name = "copy " + worker;
            String lines = IntStream.range(0, 1000)
                    .mapToObj(n -> name + "\t" + n + "\n").collect(Collectors.joining());
            same(1000L, copies.copyIn("COPY notes FROM STDIN", new StringReader(lines)));
            var out = new StringWriter();
            String mine = "SELECT * FROM notes WHERE name = '" + name + "' ORDER BY n";
            same(1000L, copies.copyOut("COPY (" + mine + ") TO STDOUT", out));
            same(lines, out.toString());

            var wrong = new StringReader("one\t1\ntwo\ttwo\n" + lines);
            fails("22P02", () -> copies.copyIn("COPY notes FROM STDIN", wrong));
            var abandoned = copies.copyIn("COPY notes FROM STDIN");
            abandoned.writeToCopy(lines.getBytes(), 0, 20);
            abandoned.cancelCopy();
            fails("42P01", () -> copies.copyOut("COPY absent TO STDOUT"));
            run(c, "DELETE FROM notes WHERE name = '" + name + "'");
        }));
        with(Map.of(), c -> same("0", ask(c, "SELECT count(*) FROM notes")));
    }

    /** Large objects go through the protocol's FunctionCall. */
    static void functionsAreCalledByOid() throws Exception {
        together(WORKERS, worker -> with(Map.of(), c -> {
            byte[] bytes = new byte[100_000];
            new Random(worker).nextBytes(bytes);
            c.setAutoCommit(false);
            var objects = c.unwrap(PGConnection.class).getLargeObjectAPI();
            long oid = objects.createLO(LargeObjectManager.READWRITE);
            var object = objects.open(oid, LargeObjectManager.READWRITE);
            object.write(bytes);
            object.seek(0);
            same(true, Arrays.equals(bytes, object.read(bytes.length)));
            object.close();
            objects.delete(oid);
            c.commit();
            c.setAutoCommit(false);
            fails("42704", () -> objects.open(oid, LargeObjectManager.READ));
            c.rollback();
        }));
    }

    static void statementsAreDescribedOnly() throws Exception {
        with(Map.of(), c -> {
            for (int use = 0; use < 7; use++) {
                var insert = c.prepareStatement("INSERT INTO notes VALUES (?, ?)");
                same("int4", insert.getParameterMetaData().getParameterTypeName(2));
                var select = c.prepareStatement("SELECT * FROM notes WHERE n = ?");
                same("name", select.getMetaData().getColumnName(1));
            }
            var columns = c.getMetaData().getColumns(null, "public", "notes", null);
            columns.next();
            same("name", columns.getString("COLUMN_NAME"));
        });
    }

    static void cancelsReachTheirOwnQuery() throws Exception {
        String wait = "SELECT 'waited' FROM pg_advisory_xact_lock(7)";
        with(Map.of(), holder -> with(Map.of(), one -> with(Map.of(), other -> {
            holder.setAutoCommit(false);
            ask(holder, "SELECT pg_advisory_xact_lock(7)");
            var cancelled = one.createStatement();
            var oneEnds = later(() -> fails("57014", () -> cancelled.executeQuery(wait)));
            var otherEnds = later(() -> same("waited", ask(other, wait)));
            waitForLocks(holder, "2");
            cancelled.cancel();
            oneEnds.get();
            waitForLocks(holder, "1");
            holder.commit();
            otherEnds.get();
            same("goes on", ask(one, "SELECT 'goes on'"));

            cancelled.setQueryTimeout(1);
            fails("57014", () -> cancelled.executeQuery("SELECT pg_sleep(60)"));
            same("goes on", ask(one, "SELECT 'goes on'"));
        })));
    }

    static void waitForLocks(Connection c, String count) throws Exception {
        String locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        while (!ask(c, locks).equals(count)) {
            Thread.onSpinWait();
        }
    }

    static void noticesGoToWhomTheyConcern() throws Exception {
        String warn = "DO $$ BEGIN RAISE WARNING '%', current_setting('application_name'); END $$";
        together(WORKERS, worker -> with(Map.of("ApplicationName", "worker " + worker), c -> {
            for (int round = 0; round < 5; round++) {
                var statement = c.createStatement();
                statement.execute(warn);
                same("worker " + worker, statement.getWarnings().getMessage());
                same(null, statement.getWarnings().getNextWarning());
            }
            c.setClientInfo("ApplicationName", "renamed " + worker);
            same("renamed " + worker, ask(c, "SHOW application_name"));
        }));
    }

    static void everyRowIsTaggedByItsAsker(int rounds, Ask ask) throws Exception {
        Set<Integer> servers = ConcurrentHashMap.newKeySet();
        together(WORKERS, worker -> {
            for (int round = 0; round < rounds; round++) {
                String tag = "worker " + worker + " round " + round;
                List<Row> rows = ask.rows(worker, tag);
                same(false, rows.isEmpty());
                same(0L, rows.stream().filter(row -> !row.tag().equals(tag)).count());
                rows.forEach(row -> servers.add(row.pid()));
            }
        });
        if (shared && servers.size() > SEATS) {
            throw new AssertionError(servers.size() + " servers answered");
        }
    }

    static List<Row> tagged(PreparedStatement statement, String tag) throws SQLException {
        statement.setString(1, tag);
        return rows(statement.executeQuery());
    }

    static List<Row> rows(ResultSet result) throws SQLException {
        List<Row> rows = new ArrayList<>();
        while (result.next()) {
            rows.add(new Row(result.getString("tag"), result.getInt("pid")));
        }
        return rows;
    }

    static String url() {
        return "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT")
                + "/" + System.getenv("PGDATABASE") + "?sslmode=disable";
    }

    /** Lends a connection to the work. */
    static void with(Map<String, String> options, Work work) throws Exception {
        var properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("password", System.getenv("PGPASSWORD"));
        properties.putAll(options);
        try (var c = DriverManager.getConnection(url(), properties)) {
            work.on(c);
        }
    }

    static void run(Connection c, String sql) throws SQLException {
        try (var statement = c.createStatement()) {
            statement.execute(sql);
        }
    }

    static String ask(Connection c, String sql) throws SQLException {
        try (var statement = c.createStatement(); var rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getString(1);
        }
    }

    interface Numbered {
        void work(int number) throws Exception;
    }

    /** So many at once; one that is stuck counts as failed. */
    static void together(int count, Numbered work) throws Exception {
        var threads = Executors.newFixedThreadPool(count);
        List<Future<?>> all = new ArrayList<>();
        for (int number = 0; number < count; number++) {
            int mine = number;
            all.add(threads.submit(() -> {
                work.work(mine);
                return null;
            }));
        }
        for (var one : all) {
            one.get(20, TimeUnit.SECONDS);
        }
        threads.shutdown();
    }

    static Future<?> later(Check check) {
        return Executors.newSingleThreadExecutor().submit(() -> {
            check.hold();
            return null;
        });
    }

    static void same(Object expected, Object actual) {
        if (!Objects.equals(expected, actual)) {
            throw new AssertionError("expected " + expected + ", got " + actual);
        }
    }

    /** The error must come, with this SQLSTATE. */
    static void fails(String state, Check check) throws Exception {
        try {
            check.hold();
        } catch (SQLException error) {
            if (!state.equals(error.getSQLState())) {
                throw error;
            }
            return;
        }
        throw new AssertionError(state + " did not come");
    }
}
