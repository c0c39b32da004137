"""The console, as drivers talk to it by themselves: prepared, in binary, in pipelines."""

import asyncpg
import psycopg
from checks import check, raises, run
from psycopg import errors


@check
def psycopg_looks_and_commands(place):
    with psycopg.connect(place.dsn, autocommit=True) as db:
        state = db.execute("SHOW STATE", prepare=True).fetchall()
        assert state == [("active", "yes"), ("paused", "no"), ("suspended", "no")]
        for binary in False, True:
            databases = db.cursor(binary=binary).execute("SHOW DATABASES").fetchall()
            assert ("app", 3) in [(row[0], row[5]) for row in databases]
            totals = db.cursor(binary=binary).execute("SHOW STATS_TOTALS").fetchall()
            assert all(isinstance(int(number), int) for row in totals for number in row[1:])
        with raises(errors.ProtocolViolation):
            db.execute("KILL_CLIENT %s", [2**40])
        with raises(errors.ProtocolViolation):
            db.execute("SHOW NONSENSE")
        assert db.execute("SET default_pool_size = %s", ["7"]).statusmessage.endswith("=7")
        assert db.execute("RELOAD").statusmessage == "RELOAD"


@check
def psycopg_asks_in_a_pipeline(place):
    with psycopg.connect(place.dsn, autocommit=True) as db, db.pipeline():
        version, lists = db.execute("SHOW VERSION"), db.execute("SHOW LISTS")
        assert version.fetchone()[0].startswith("PgBouncer 1.25.2")
        assert len(lists.fetchall()) == 14


@check
async def asyncpg_looks_and_commands(place):
    db = await asyncpg.connect(place.dsn)
    pools = await db.fetch("SHOW POOLS")
    assert [pool["cl_active"] for pool in pools if pool["database"] == "pgbouncer"] == [1]
    totals = await db.fetch("SHOW STATS_TOTALS")
    assert all(row["xact_count"] >= 0 for row in totals)
    assert await db.execute("RELOAD") == "RELOAD"
    await db.fetch("SET default_pool_size = $1", "7")
    with raises(asyncpg.ProtocolViolationError):
        await db.fetch("KILL_CLIENT $1", 2**40)
    await db.close()


run()
