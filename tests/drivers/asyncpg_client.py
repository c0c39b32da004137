"""asyncpg, with its statement cache as it comes, and without."""

import asyncio
import io

import asyncpg
from checks import CLIENTS, ROUNDS, SLEEPERS, TAGGED, Tally, check, raises, run


async def connect(place, **options):
    return await asyncpg.connect(place.dsn, **options)


@check
async def connects(place):
    db = await connect(place, server_settings={"application_name": "usher's guest"})
    assert db.get_server_version().major >= 14
    assert await db.fetchval("SHOW application_name") == "usher's guest"
    assert await db.fetchval("SELECT $1::text", "é") == "é"
    assert await db.execute("SELECT 1; SELECT 2, 3") == "SELECT 1"
    await db.close()


@check
async def pools_its_own_connections(place):
    async def ask(pool, number):
        async with pool.acquire() as db:
            assert await db.fetchval("SELECT $1::int", number) == number
        assert await pool.fetchval("SELECT $1::int + 1", number) == number + 1

    async with asyncpg.create_pool(place.dsn, min_size=2, max_size=6) as pool:
        await asyncio.gather(*(ask(pool, number) for number in range(50)))


@check
async def keeps_prepared_statements(place):
    dbs = [await connect(place) for _ in range(6)]
    statements = []

    async def ask(n, tag):
        assert tuple(await statements[n].fetchrow(tag)) == (n, tag)

    for n, db in enumerate(dbs):
        statements.append(await db.prepare(f"SELECT {n}, $1::text"))
        assert [it.name for it in statements[n].get_attributes()] == ["?column?", "text"]
        assert [it.name for it in statements[n].get_parameters()] == ["text"]
        # Until then it has not sent a Sync, and keeps a server for itself.
        await ask(n, "at once")
    for number in range(20):
        await asyncio.gather(*(ask(n, f"{n} at {number}") for n in range(6)))
    await statements[0].executemany([(str(n),) for n in range(100)])
    await close_all(dbs)


@check
async def forgets_the_statement_used_longest_ago(place):
    db = await connect(place, statement_cache_size=3)
    for number in [n for _ in range(4) for n in range(8)]:
        assert await db.fetchval(f"SELECT {number} + $1::int", number) == 2 * number
    await db.close()


@check
async def commits_and_rolls_back(place):
    db = await connect(place)
    await db.execute("DROP TABLE IF EXISTS notes; CREATE TABLE notes (text text UNIQUE)")
    async with db.transaction(isolation="serializable"):
        await db.execute("INSERT INTO notes VALUES ($1)", "kept")
        with raises(LookupError):
            async with db.transaction():
                await db.execute("INSERT INTO notes VALUES ($1)", "undone")
                raise LookupError
    with raises(LookupError):
        async with db.transaction():
            await db.execute("INSERT INTO notes VALUES ($1)", "undone, too")
            raise LookupError
    await db.executemany("INSERT INTO notes VALUES ($1)", [("one",), ("two",)])
    texts = await db.fetch("SELECT text FROM notes ORDER BY text")
    assert [row["text"] for row in texts] == ["kept", "one", "two"], texts
    await db.close()


@check
async def recovers_from_errors(place):
    db = await connect(place)
    for sql, args, error in [
        ("SELECT 1 / $1::int", [0], asyncpg.DivisionByZeroError),
        ("SELEKT", [], asyncpg.PostgresSyntaxError),
        ("SELECT * FROM absent", [], asyncpg.UndefinedTableError),
        ("INSERT INTO notes VALUES ($1)", ["one"], asyncpg.UniqueViolationError),
    ]:
        for _ in range(3):
            with raises(error):
                await db.fetch(sql, *args)
            assert await db.fetchval("SELECT $1::text", "alone") == "alone"
            with raises(error):
                async with db.transaction():
                    assert await db.fetchval("SELECT $1::text", "within") == "within"
                    await db.fetch(sql, *args)
            assert await db.fetchval("SELECT $1::text", "after") == "after"
            async with db.transaction():
                with raises(error):
                    async with db.transaction():
                        await db.fetch(sql, *args)
                assert await db.fetchval("SELECT $1::text", "within") == "within"
    transaction = db.transaction()
    await transaction.start()
    with raises(asyncpg.DivisionByZeroError):
        await db.fetch("SELECT 1 / $1::int", 0)
    with raises(asyncpg.InFailedSQLTransactionError):
        await db.fetch("SELECT $1::text", "ignored")
    await transaction.rollback()
    assert await db.fetchval("SELECT 1 / $1::int", 1) == 1
    await db.close()


@check
async def copies_both_ways(place):
    db = await connect(place)
    await db.execute("DROP TABLE IF EXISTS copies; CREATE TABLE copies (n int, text text)")
    records = [(n, f"copied {n} " + "x" * 100) for n in range(20_000)]
    assert await db.copy_records_to_table("copies", records=records) == "COPY 20000"
    text = io.BytesIO()
    await db.copy_from_query("SELECT n FROM copies WHERE n < $1 ORDER BY n", 100, output=text)
    assert text.getvalue().split() == [b"%d" % n for n in range(100)]
    all_of_it = io.BytesIO()
    assert await db.copy_from_table("copies", output=all_of_it, format="csv") == "COPY 20000"
    await db.execute("TRUNCATE copies")
    all_of_it.seek(0)
    assert await db.copy_to_table("copies", source=all_of_it, format="csv") == "COPY 20000"

    async def runs_dry():
        yield b"1\tone\n"
        raise LookupError

    with raises(LookupError):
        await db.copy_to_table("copies", source=runs_dry())
    with raises(asyncpg.InvalidTextRepresentationError):
        await db.copy_to_table("copies", source=io.BytesIO(b"no number\tx\n" * 50_000))
    assert await db.fetchval("SELECT count(*) FROM copies WHERE n < $1", 20_000) == 20_000
    await db.close()


@check
async def walks_cursors_in_transactions(place):
    db = await connect(place)
    async with db.transaction():
        numbers = [row[0] async for row in db.cursor("SELECT generate_series(1, 500)", prefetch=7)]
        assert numbers == list(range(1, 501))
        cursor = await db.cursor("SELECT generate_series(1, $1::int)", 10)
        await cursor.forward(4)
        assert [row[0] for row in await cursor.fetch(3)] == [5, 6, 7]
    await db.close()


@check
async def learns_types_of_its_users(place):
    dbs = [await connect(place) for _ in range(3)]
    await dbs[0].execute(
        "DROP TYPE IF EXISTS feat, mood; CREATE TYPE mood AS ENUM ('sad', 'merry');"
        "CREATE TYPE feat AS (name text, moods mood[])"
    )
    for db in dbs:
        feat = await db.fetchval("SELECT ROW('run', ARRAY[$1::mood])::feat", "merry")
        assert (feat["name"], feat["moods"]) == ("run", ["merry"])
    await close_all(dbs)


@check
async def times_out_and_cancels(place):
    db, watcher = await connect(place), await connect(place)
    for _ in range(3):
        with raises(TimeoutError):
            await db.fetch("SELECT pg_sleep($1)", 60, timeout=0.05)
        assert await db.fetchval("SELECT $1::text", "goes on") == "goes on"

        sleeps = asyncio.create_task(db.fetch("SELECT pg_sleep($1)", 60))
        while await watcher.fetchval(SLEEPERS) == 0:
            pass
        sleeps.cancel()
        with raises(asyncio.CancelledError):
            await sleeps
        assert await db.fetchval("SELECT $1::text", "goes on") == "goes on"

        with raises(asyncpg.QueryCanceledError):
            async with db.transaction():
                await db.execute("SET LOCAL statement_timeout = 10")
                await db.fetch("SELECT pg_sleep($1)", 60)
    await close_all([db, watcher])


@check
async def hears_notices(place):
    db = await connect(place)
    heard = []
    db.add_log_listener(lambda _, message: heard.append(message.message))
    await db.execute("DO $$ BEGIN RAISE NOTICE 'look'; RAISE WARNING 'out'; END $$")
    await db.fetchval("SELECT 1")
    assert heard == ["look", "out"], heard
    await db.close()


@check
async def goes_on_after_ddl(place):
    dbs = [await connect(place) for _ in range(3)]
    await dbs[0].execute("DROP TABLE IF EXISTS towns; CREATE TABLE towns (name text)")
    await dbs[0].execute("INSERT INTO towns VALUES ('Lima')")

    async def ask(db):
        return tuple(await db.fetchrow("SELECT * FROM towns"))

    # Three servers know the statement, one for each of three transactions at once.
    transactions = await begin_all(dbs)
    assert [await ask(db) for db in dbs] == [("Lima",)] * 3
    await end_all(transactions)

    await dbs[0].execute("ALTER TABLE towns ADD COLUMN people int DEFAULT 10")
    transactions = await begin_all(dbs)
    for db in dbs:
        with raises(asyncpg.InvalidCachedStatementError):
            await ask(db)
    await end_all(transactions)
    transactions = await begin_all(dbs)
    assert [await ask(db) for db in dbs] == [("Lima", 10)] * 3
    await end_all(transactions)

    # Without a transaction asyncpg tries again by itself. Two others leave one server for it.
    for db in dbs:
        others = [other for other in dbs if other is not db]
        transactions = await begin_all(others)
        assert await ask(db) == ("Lima", 10)
        await db.execute("ALTER TABLE towns ALTER COLUMN people TYPE bigint")
        assert await ask(db) == ("Lima", 10)
        await db.execute("ALTER TABLE towns ALTER COLUMN people TYPE int")
        assert await ask(db) == ("Lima", 10)
        await end_all(transactions)
    await close_all(dbs)


@check
async def reads_no_row_as_another_client_knew_it(place):
    dbs = [await connect(place) for _ in range(2)]
    await dbs[0].execute("DROP TABLE IF EXISTS sums; CREATE TABLE sums (sum int)")
    await dbs[0].execute("INSERT INTO sums VALUES (1)")
    query = "SELECT * FROM sums"
    assert [await db.fetchval(query) for db in dbs] == [1, 1]
    # As wide as before: who takes the new rows for the old ones reads 1065353216.
    await dbs[0].execute("ALTER TABLE sums ALTER COLUMN sum TYPE real")
    assert [await db.fetchval(query) for db in dbs] == [1.0, 1.0]
    await close_all(dbs)


async def begin_all(dbs):
    transactions = [db.transaction() for db in dbs]
    for db, transaction in zip(dbs, transactions):
        await transaction.start()
        await db.execute("SELECT")
    return transactions


async def end_all(transactions):
    for transaction in transactions:
        await transaction.rollback()


async def close_all(dbs):
    for db in dbs:
        await db.close()


async def ask_for_tagged_rows(place, asker, tally, **options):
    db = await connect(place, **options)
    for number in range(ROUNDS):
        everybodys = f"SELECT $1::text, {TAGGED}"
        tally.take(asker, await db.fetch(everybodys, asker))
        own = f"SELECT '{asker}', {TAGGED} WHERE n > $1"
        tally.take(asker, await db.fetch(own, 0))
        async with db.transaction():
            await db.execute("INSERT INTO askers VALUES ($1, $2)", asker, number)
            sum_and_count = await db.fetchrow(
                "SELECT sum(number), count(*) FROM askers WHERE asker = $1", asker
            )
            assert tuple(sum_and_count) == (sum(range(number + 1)), number + 1)
            tally.take(asker, await db.fetch(everybodys, asker))
    await db.close()


@check
async def gives_everybody_their_own_rows(place):
    db = await connect(place)
    await db.execute("DROP TABLE IF EXISTS askers; CREATE TABLE askers (asker text, number int)")
    tally = Tally()
    # Both sorts at once: names of statements, and none, follow each other on a server.
    options = [{}, {"statement_cache_size": 0}] * (CLIENTS // 2)
    askers = [
        ask_for_tagged_rows(place, f"asker {n}", tally, **option)
        for n, option in enumerate(options)
    ]
    await asyncio.gather(*askers)
    tally.settle(place, answers=3 * ROUNDS)
    await db.close()


run()
