"""Many asyncpg clients at once, each of which checks that it gets its own answers.

Usage: asyncpg_client.py HOST PORT, as alice in the database app. Prints how many checks held.
"""

import asyncio
import sys

import asyncpg

CLIENTS = 20
ROUNDS = 10


async def connect(host, port):
    return await asyncpg.connect(
        host=host,
        port=int(port),
        user="alice",
        password="secret",
        database="app",
        statement_cache_size=0,
        server_settings={"application_name": "driver"},
    )


async def plain_queries(db, name):
    tag = f"{name}-plain"
    assert await db.fetchval("SELECT $1::text", tag) == tag
    rows = await db.fetch("SELECT n, $1::text AS tag FROM generate_series(1, 500) n", tag)
    assert [(row["n"], row["tag"]) for row in rows] == [(n, tag) for n in range(1, 501)]
    assert await db.execute("SELECT 1; SELECT 2") == "SELECT 1"


async def transactions(db, name):
    async with db.transaction():
        await db.execute("INSERT INTO notes VALUES ($1, $2)", name, "kept")
        text = await db.fetchval("SELECT text FROM notes WHERE name = $1", name)
        assert text == "kept", text
    try:
        async with db.transaction():
            await db.execute("INSERT INTO notes VALUES ($1, $2)", name, "undone")
            raise LookupError
    except LookupError:
        pass
    await db.executemany("INSERT INTO notes VALUES ($1, $2)", [(name, "one"), (name, "two")])
    texts = await db.fetch("SELECT text FROM notes WHERE name = $1 ORDER BY text", name)
    assert [row["text"] for row in texts] == ["kept", "one", "two"], texts
    await db.execute("DELETE FROM notes WHERE name = $1", name)


async def errors(db, name):
    for sql, args, error in [
        ("SELECT 1 / $1::int", [0], asyncpg.DivisionByZeroError),
        ("SELEKT", [], asyncpg.PostgresSyntaxError),
        ("SELECT * FROM absent", [], asyncpg.UndefinedTableError),
    ]:
        try:
            await db.fetch(sql, *args)
        except error:
            assert await db.fetchval("SELECT $1::text", name) == name
        else:
            raise AssertionError(f"{sql} did not fail")


async def copies(db, name):
    records = [(name, f"copied {n}") for n in range(100)]
    assert await db.copy_records_to_table("notes", records=records) == "COPY 100"
    lines = bytearray()

    async def take(data):
        lines.extend(data)

    await db.copy_from_query("SELECT text FROM notes WHERE name = $1", name, output=take)
    assert sorted(lines.decode().splitlines()) == sorted(text for _, text in records)
    await db.execute("DELETE FROM notes WHERE name = $1", name)


async def client(host, port, number):
    db = await connect(host, port)
    held = 0
    for number_of_round in range(ROUNDS):
        name = f"client {number} round {number_of_round}"
        for check in plain_queries, transactions, errors, copies:
            await check(db, name)
            held += 1
    await db.close()
    return held


async def cancels(host, port):
    db, watcher = await connect(host, port), await connect(host, port)
    for _ in range(3):
        sleeps = asyncio.create_task(db.execute("SELECT pg_sleep(60)"))
        sleepers = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        while await watcher.fetchval(sleepers) == 0:
            pass
        sleeps.cancel()
        try:
            await sleeps
        except asyncio.CancelledError:
            assert await db.fetchval("SELECT 'goes on'") == "goes on"
        else:
            raise AssertionError("the query was not cancelled")
    await db.close()
    await watcher.close()


async def main(host, port):
    db = await connect(host, port)
    await db.execute("CREATE TABLE IF NOT EXISTS notes (name text, text text)")
    await db.close()
    await cancels(host, port)
    print(sum(await asyncio.gather(*(client(host, port, n) for n in range(CLIENTS)))))


asyncio.run(main(*sys.argv[1:]))
