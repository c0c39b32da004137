"""psycopg 3: prepared statements, pipelines, binary COPY, cursors, threads and tasks."""

import asyncio
import threading

import psycopg
from checks import CLIENTS, ROUNDS, SLEEPERS, TAGGED, Tally, check, in_threads, raises, run
from psycopg import errors
from psycopg_pool import AsyncConnectionPool, ConnectionPool


def connect(place, autocommit=True, **options):
    return psycopg.connect(place.dsn, autocommit=autocommit, **options)


async def connect_async(place):
    return await psycopg.AsyncConnection.connect(place.dsn, autocommit=True)


def value(db, sql, *args, **how):
    return db.execute(sql, args, **how).fetchone()[0]


@check
def connects_with_every_protocol_it_knows(place):
    assert psycopg.pq.version() >= 180000
    for version in "3.0", "3.2", "latest":
        options = {"max_protocol_version": version, "application_name": "usher's guest"}
        with connect(place, **options) as db:
            assert db.info.server_version >= 140000
            assert value(db, "SHOW application_name") == "usher's guest"
            assert value(db, "SELECT %s", "é") == "é"
            times_out(db)
            cancels(db, connect(place))


@check
def pools_its_own_connections(place):
    check_first = ConnectionPool.check_connection
    with ConnectionPool(place.dsn, min_size=2, max_size=6, check=check_first) as pool:

        def use(number):
            for n in range(8):
                with pool.connection() as db:
                    assert value(db, "SELECT %s::int + %s", number, n) == number + n

        in_threads(use, 12)


@check
def keeps_prepared_statements(place):
    dbs = [connect(place) for _ in range(6)]

    def ask(n):
        for number in range(20):
            everybodys = value(dbs[n], "SELECT %s::text || %s", n, number, prepare=True)
            assert everybodys == f"{n}{number}"
            assert value(dbs[n], f"SELECT {n} + %s::int", number, prepare=True) == n + number

    in_threads(ask, 6)
    for db in dbs:
        db.close()


@check
def prepares_what_it_uses_often_and_forgets_what_it_used_long_ago(place):
    with connect(place) as db:
        db.prepare_threshold, db.prepared_max = 2, 3
        for number in [n for _ in range(4) for n in range(8) for _ in range(4)]:
            assert value(db, f"SELECT {number} + %s::int", number) == 2 * number


@check
def prepares_again_after_deallocate_all(place):
    with connect(place) as db, connect(place) as other:
        for _ in range(3):
            assert value(db, "SELECT %s::int", 1, prepare=True) == 1
            assert value(other, "SELECT %s::int", 2, prepare=True) == 2
            # A rolled-back transaction makes it forget all names, with DEALLOCATE ALL.
            with raises(LookupError), db.transaction():
                assert value(db, "SELECT %s::int + 1", 1, prepare=True) == 2
                raise LookupError
            assert value(db, "SELECT %s::int + 1", 1, prepare=True) == 2
            assert value(other, "SELECT %s::int", 2, prepare=True) == 2
            db.execute("DISCARD ALL")


@check
def goes_on_after_ddl(place):
    with connect(place) as db, connect(place) as other:
        db.execute("DROP TABLE IF EXISTS towns; CREATE TABLE towns (name text)")
        db.execute("INSERT INTO towns VALUES ('Lima')")
        for row in [("Lima",), ("Lima", 10)]:
            if len(row) == 2:
                other.execute("ALTER TABLE towns ADD COLUMN people int DEFAULT 10")
                # In a transaction, after which it prepares anew.
                with raises(errors.FeatureNotSupported), db.transaction():
                    db.execute("SELECT * FROM towns", prepare=True)
            for _ in range(3):
                assert db.execute("SELECT * FROM towns", prepare=True).fetchone() == row


@check
def sends_pipelines(place):
    with connect(place) as db:
        db.execute("DROP TABLE IF EXISTS notes; CREATE TABLE notes (text text UNIQUE)")
        with db.pipeline():
            cursors = [db.execute("SELECT %s::int", [n], prepare=n % 2 == 0) for n in range(200)]
            assert [cursor.fetchone()[0] for cursor in cursors] == list(range(200))
        with db.pipeline() as pipeline:
            with db.transaction():
                db.execute("INSERT INTO notes VALUES (%s)", ["kept"])
            pipeline.sync()
            with raises(errors.DivisionByZero):
                db.execute("INSERT INTO notes VALUES (%s)", ["undone"])
                fails = db.execute("SELECT 1 / %s::int", [0], prepare=True)
                fails.fetchone()
            with raises(errors.PipelineAborted):
                db.execute("SELECT 'skipped'").fetchone()
            pipeline.sync()
            assert value(db, "SELECT 1 / %s::int", 1, prepare=True) == 1
        # One in a pipeline of its own for each list.
        with db.cursor() as cursor:
            rows = [(f"{n:03}",) for n in range(300)]
            cursor.executemany("INSERT INTO notes VALUES (%s)", rows)
            delete = "DELETE FROM notes WHERE text = %s RETURNING text"
            cursor.executemany(delete, rows, returning=True)
            assert [result.fetchone() for result in cursor.results()] == rows
            with raises(errors.UniqueViolation):
                cursor.executemany("INSERT INTO notes VALUES (%s)", [*rows[:50], *rows[:1]])
        assert db.execute("SELECT text FROM notes").fetchall() == [("kept",)]


@check
def commits_and_rolls_back(place):
    with connect(place, autocommit=False) as db:
        db.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        db.execute("TRUNCATE notes")
        db.execute("INSERT INTO notes VALUES (%s)", ["kept"])
        with raises(LookupError), db.transaction():
            db.execute("INSERT INTO notes VALUES (%s)", ["undone"])
            raise LookupError
        assert value(db, "SHOW transaction_isolation") == "serializable"
        db.commit()
        db.execute("INSERT INTO notes VALUES (%s)", ["undone, too"])
        db.rollback()
        assert db.execute("SELECT text FROM notes").fetchall() == [("kept",)]


@check
def recovers_from_errors(place):
    with connect(place) as db:
        for sql, args, error in [
            ("SELECT 1 / %s::int", [0], errors.DivisionByZero),
            ("SELEKT %s", [1], errors.SyntaxError),
            ("SELECT %s FROM absent", [1], errors.UndefinedTable),
            ("INSERT INTO notes VALUES (%s)", ["kept"], errors.UniqueViolation),
        ]:
            for prepare in [False, True] * 2:
                with raises(error):
                    db.execute(sql, args, prepare=prepare)
                assert value(db, "SELECT %s", "alone", prepare=prepare) == "alone"
                with raises(error), db.transaction():
                    db.execute(sql, args, prepare=prepare)
                with db.transaction():
                    with raises(error), db.transaction():
                        db.execute(sql, args, prepare=prepare)
                    assert value(db, "SELECT %s", "within", prepare=prepare) == "within"
    with connect(place, autocommit=False) as db:
        with raises(errors.DivisionByZero):
            db.execute("SELECT 1 / 0")
        with raises(errors.InFailedSqlTransaction):
            db.execute("SELECT 'ignored'")
        db.rollback()
        assert value(db, "SELECT 'goes on'") == "goes on"


@check
def copies_both_ways(place):
    with connect(place) as db, db.cursor() as cursor:
        db.execute("DROP TABLE IF EXISTS copies; CREATE TABLE copies (n int, text text)")
        rows = [(n, f"copied {n} {'x' * 100}") for n in range(10_000)]
        for form in "TEXT", "BINARY":
            db.execute("TRUNCATE copies")
            with cursor.copy(f"COPY copies FROM STDIN (FORMAT {form})") as copy:
                copy.set_types(["int4", "text"])
                for row in rows:
                    copy.write_row(row)
            assert cursor.rowcount == len(rows)
            picked = f"COPY (SELECT * FROM copies WHERE n < %s) TO STDOUT (FORMAT {form})"
            with cursor.copy(picked, [1000]) as copy:
                copy.set_types(["int4", "text"])
                assert list(copy.rows()) == rows[:1000]
        take = "COPY copies FROM STDIN"
        with raises(LookupError), cursor.copy(take) as copy:
            copy.write_row(rows[0])
            raise LookupError
        with raises(errors.InvalidTextRepresentation), cursor.copy(take) as copy:
            for _ in range(50_000):
                copy.write(b"no number\tx\n")
        assert value(db, "SELECT count(*) FROM copies") == len(rows)


@check
def walks_cursors(place):
    with connect(place, autocommit=False) as db:
        with db.cursor("walk") as cursor:
            cursor.itersize = 70
            cursor.execute("SELECT generate_series(1, %s)", [500])
            assert [n for (n,) in cursor] == list(range(1, 501))
        with db.cursor("jump", scrollable=True, binary=True) as cursor:
            cursor.execute("SELECT generate_series(1, 100)")
            cursor.scroll(50)
            assert cursor.fetchone() == (51,)
            cursor.scroll(-11)
            assert cursor.fetchmany(2) == [(41,), (42,)]
    with connect(place) as db:
        for size in 1, 50:
            numbers = db.cursor().stream("SELECT generate_series(1, %s)", [300], size=size)
            assert [n for (n,) in numbers] == list(range(1, 301))
        # Left in the middle, which cancels it.
        for (n,) in db.cursor().stream("SELECT generate_series(1, 10000000)"):
            if n == 3:
                break
        assert value(db, "SELECT 'goes on'") == "goes on"
        simple = psycopg.ClientCursor(db).execute("SELECT %s; SELECT %s", [1, 2])
        assert [result.fetchone() for result in simple.results()] == [(1,), (2,)]


@check
def times_out_and_cancels(place):
    with connect(place) as db, connect(place) as watcher:
        for _ in range(3):
            times_out(db)
            cancels(db, watcher)
            cancels(watcher, db)


def times_out(db):
    with raises(errors.QueryCanceled), db.transaction():
        db.execute("SET LOCAL statement_timeout = 10")
        db.execute("SELECT pg_sleep(%s)", [60])
    assert value(db, "SELECT 'goes on'") == "goes on"


def cancels(db, watcher):
    def cancel():
        while value(watcher, SLEEPERS) == 0:
            pass
        db.cancel_safe()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with raises(errors.QueryCanceled):
        db.execute("SELECT pg_sleep(%s)", [60])
    canceller.join()
    assert value(db, "SELECT 'goes on'") == "goes on"


@check
async def cancels_tasks(place):
    db, watcher = await connect_async(place), await connect_async(place)
    for _ in range(3):
        sleeps = asyncio.create_task(db.execute("SELECT pg_sleep(60)"))
        while (await (await watcher.execute(SLEEPERS)).fetchone())[0] == 0:
            pass
        sleeps.cancel()
        with raises(asyncio.CancelledError):
            await sleeps
        assert await (await db.execute("SELECT 'goes on'")).fetchone() == ("goes on",)
    await db.close()
    await watcher.close()


@check
def hears_notices(place):
    with connect(place) as db:
        heard = []
        db.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        db.execute("DO $$ BEGIN RAISE NOTICE 'look'; RAISE WARNING 'out'; END $$")
        assert heard == ["look", "out"], heard


def ask_for_tagged_rows(place, asker, tally):
    with connect(place) as db:
        for number in range(ROUNDS):
            for prepare in False, True:
                everybodys = db.execute(f"SELECT %s, {TAGGED}", [asker], prepare=prepare)
                tally.take(asker, everybodys.fetchall())
                # The same name in every client, for a statement that only this one has.
                own = f"SELECT '{asker}', {TAGGED} WHERE n > %s"
                tally.take(asker, db.execute(own, [0], prepare=prepare).fetchall())
            with db.pipeline(), db.transaction():
                db.execute("INSERT INTO askers VALUES (%s, %s)", [asker, number])
                rows = db.execute(f"SELECT %s, {TAGGED}", [asker], prepare=True)
                seen = db.execute("SELECT sum(number) FROM askers WHERE asker = %s", [asker])
                assert seen.fetchone() == (sum(range(number + 1)),)
                tally.take(asker, rows.fetchall())


@check
def gives_everybody_their_own_rows(place):
    with connect(place) as db:
        db.execute("DROP TABLE IF EXISTS askers; CREATE TABLE askers (asker text, number int)")
    tally = Tally()
    in_threads(lambda n: ask_for_tagged_rows(place, f"asker {n}", tally), CLIENTS)
    tally.settle(place, answers=5 * ROUNDS)


@check
async def gives_every_task_its_own_rows(place):
    tally = Tally()

    async def ask(pool, asker):
        for _ in range(ROUNDS):
            async with pool.connection() as db:
                rows = await db.execute(f"SELECT '{asker}', {TAGGED}", prepare=True)
                tally.take(asker, await rows.fetchall())

    async with AsyncConnectionPool(place.dsn, min_size=4, max_size=CLIENTS) as pool:
        await asyncio.gather(*(ask(pool, f"asker {n}") for n in range(CLIENTS)))
    tally.settle_rows(answers=ROUNDS)


run()
