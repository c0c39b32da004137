"""psycopg2: threads, simple queries, and fast-path calls for large objects."""

import io
import select
import threading

import psycopg2
import psycopg2.extras
import psycopg2.pool
from checks import CLIENTS, ROUNDS, SLEEPERS, TAGGED, Tally, check, in_threads, raises, run
from psycopg2 import errors
from psycopg2.extensions import ISOLATION_LEVEL_SERIALIZABLE, POLL_OK, POLL_READ, POLL_WRITE


def connect(place, autocommit=False, **options):
    db = psycopg2.connect(place.dsn, **options)
    db.autocommit = autocommit
    return db


def ask(db, sql, args=None):
    with db.cursor() as cursor:
        cursor.execute(sql, args)
        return cursor.fetchall() if cursor.description else cursor.rowcount


@check
def connects(place):
    db = connect(place, application_name="usher's guest", client_encoding="latin1")
    assert db.server_version >= 140000
    assert ask(db, "SHOW application_name") == [("usher's guest",)]
    assert ask(db, "SHOW client_encoding") == [("LATIN1",)]
    assert ask(db, "SELECT %s", ["é"]) == [("é",)]
    db.close()


@check
def pools_its_own_connections(place):
    pool = psycopg2.pool.ThreadedConnectionPool(2, 6, place.dsn)
    seats = threading.Semaphore(6)

    def use(number):
        for n in range(5):
            with seats:
                db = pool.getconn()
                assert ask(db, "SELECT %s, %s", [number, n]) == [(number, n)]
                # Rolls the transaction back that is still open.
                pool.putconn(db)

    in_threads(use, 12)
    pool.closeall()


@check
def prepares_in_sql_for_a_transaction(place):
    db = connect(place)
    for number in range(5):
        with db:
            ask(db, "PREPARE plus AS SELECT $1::int + 1")
            assert ask(db, "EXECUTE plus (%s)", [number]) == [(number + 1,)]
            ask(db, "DEALLOCATE plus")
    db.close()


@check
def commits_and_rolls_back(place):
    db = connect(place)
    with db:
        ask(db, "DROP TABLE IF EXISTS notes")
        ask(db, "CREATE TABLE notes (text text UNIQUE)")
    db.set_session(isolation_level=ISOLATION_LEVEL_SERIALIZABLE)
    with db:
        ask(db, "INSERT INTO notes VALUES (%s)", ["kept"])
        ask(db, "SAVEPOINT here")
        ask(db, "INSERT INTO notes VALUES (%s)", ["undone"])
        ask(db, "ROLLBACK TO here")
        assert ask(db, "SHOW transaction_isolation") == [("serializable",)]
    with raises(LookupError), db:
        ask(db, "INSERT INTO notes VALUES (%s)", ["undone, too"])
        raise LookupError
    with db, db.cursor() as cursor:
        rows = [(f"{n:03}",) for n in range(200)]
        psycopg2.extras.execute_values(cursor, "INSERT INTO notes VALUES %s", rows, page_size=30)
        psycopg2.extras.execute_batch(cursor, "DELETE FROM notes WHERE text = %s", rows[1:])
    assert ask(db, "SELECT text FROM notes ORDER BY text") == [("000",), ("kept",)]
    db.close()


@check
def recovers_from_errors(place):
    for autocommit in True, False:
        db = connect(place, autocommit)
        for sql, args, error in [
            ("SELECT 1 / %s", [0], errors.DivisionByZero),
            ("SELEKT", None, errors.SyntaxError),
            ("SELECT * FROM absent", None, errors.UndefinedTable),
            ("INSERT INTO notes VALUES (%s)", ["kept"], errors.UniqueViolation),
        ]:
            with raises(error):
                ask(db, sql, args)
            if not autocommit:
                with raises(errors.InFailedSqlTransaction):
                    ask(db, "SELECT 'ignored'")
                db.rollback()
            assert ask(db, "SELECT 'goes on'") == [("goes on",)]
        db.close()


@check
def copies_both_ways(place):
    db = connect(place)
    ask(db, "DROP TABLE IF EXISTS copies")
    ask(db, "CREATE TABLE copies (n int, text text)")
    db.commit()
    lines = "".join(f"{n}\tcopied {n} {'x' * 100}\n" for n in range(20_000))
    with db, db.cursor() as cursor:
        cursor.copy_from(io.StringIO(lines), "copies")
        assert cursor.rowcount == 20_000
        out = io.StringIO()
        cursor.copy_expert("COPY (SELECT * FROM copies ORDER BY n) TO STDOUT", out)
        assert out.getvalue() == lines
    with raises(errors.InvalidTextRepresentation), db, db.cursor() as cursor:
        cursor.copy_from(io.StringIO("no number\tx\n" * 50_000), "copies")
    with raises(errors.QueryCanceled), db, db.cursor() as cursor:
        cursor.copy_from(RunsDry(), "copies")
    assert ask(db, "SELECT count(*) FROM copies") == [(20_000,)]
    db.close()


class RunsDry:
    """A source whose second read fails, so that psycopg2 sends CopyFail."""

    def __init__(self):
        self.rest = ["1\tone\n"]

    def read(self, _):
        return self.rest.pop()

    def readline(self, _):
        raise NotImplementedError


@check
def walks_server_cursors_in_transactions(place):
    db = connect(place)
    with db, db.cursor("walk") as cursor:
        cursor.itersize = 70
        cursor.execute("SELECT generate_series(1, %s)", [500])
        assert [n for (n,) in cursor] == list(range(1, 501))
    with db, db.cursor("jump", scrollable=True) as cursor:
        cursor.execute("SELECT generate_series(1, 100)")
        cursor.scroll(50)
        assert cursor.fetchone() == (51,)
        cursor.scroll(-11)
        assert cursor.fetchmany(2) == [(41,), (42,)]
    db.close()


@check
def keeps_large_objects(place):
    db = connect(place)
    data = bytes(range(256)) * 1000
    with db:
        thing = db.lobject(0, "wb")
        assert thing.write(data) == len(data)
        number = thing.oid
        thing.close()
    with db:
        thing = db.lobject(number, "rwb")
        assert thing.read() == data
        thing.seek(1000)
        thing.truncate(2000)
        assert thing.read() == data[1000:2000]
        thing.unlink()
    with raises(psycopg2.OperationalError):
        db.lobject(number, "rb")
    db.rollback()
    assert ask(db, "SELECT 'goes on'") == [("goes on",)]
    db.close()


@check
def times_out_and_cancels(place):
    db, watcher = connect(place), connect(place, autocommit=True)
    for _ in range(3):
        with raises(errors.QueryCanceled), db:
            ask(db, "SET LOCAL statement_timeout = 10")
            ask(db, "SELECT pg_sleep(60)")

        def cancel(_):
            while ask(watcher, SLEEPERS) == [(0,)]:
                pass
            db.cancel()

        def sleep(_):
            with raises(errors.QueryCanceled), db:
                ask(db, "SELECT pg_sleep(60)")

        in_threads(lambda n: [cancel, sleep][n](n), 2)
        assert ask(db, "SELECT 'goes on'") == [("goes on",)]
        db.commit()
    db.close()
    watcher.close()


@check
def hears_notices(place):
    db = connect(place)
    ask(db, "DO $$ BEGIN RAISE NOTICE 'look'; RAISE WARNING 'out'; END $$")
    assert db.notices == ["NOTICE:  look\n", "WARNING:  out\n"], db.notices
    db.close()


@check
def waits_in_an_event_loop(place):
    db = psycopg2.connect(place.dsn, async_=True)
    wait(db)
    cursor = db.cursor()
    for number in range(20):
        cursor.execute("SELECT %s, repeat('x', 100000)", [number])
        wait(db)
        assert cursor.fetchall() == [(number, "x" * 100_000)]
    db.close()


def wait(db):
    while (state := db.poll()) != POLL_OK:
        reads, writes = {POLL_READ: ([db], []), POLL_WRITE: ([], [db])}[state]
        select.select(reads, writes, [])


def ask_for_tagged_rows(place, asker, tally):
    db = connect(place)
    for number in range(ROUNDS):
        db.autocommit = True
        tally.take(asker, ask(db, f"SELECT '{asker}', {TAGGED}"))
        db.autocommit = False
        with db:
            ask(db, "INSERT INTO askers VALUES (%s, %s)", [asker, number])
            own = "SELECT sum(number), count(*) FROM askers WHERE asker = %s"
            assert ask(db, own, [asker]) == [(sum(range(number + 1)), number + 1)]
            tally.take(asker, ask(db, f"SELECT %s, {TAGGED} WHERE n > %s", [asker, 0]))
        with db:
            ask(db, "PREPARE own AS " + f"SELECT '{asker}', {TAGGED}")
            tally.take(asker, ask(db, "EXECUTE own"))
            ask(db, "DEALLOCATE own")
    db.close()


@check
def gives_everybody_their_own_rows(place):
    db = connect(place, autocommit=True)
    ask(db, "DROP TABLE IF EXISTS askers")
    ask(db, "CREATE TABLE askers (asker text, number int)")
    tally = Tally()
    in_threads(lambda n: ask_for_tagged_rows(place, f"asker {n}", tally), CLIENTS)
    tally.settle(place, answers=3 * ROUNDS)
    db.close()


run()
