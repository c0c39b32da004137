"""libpq 18 with protocol 3.2 and nothing less: it queries and cancels.

Usage: libpq_3_2.py HOST PORT, as alice in the database app.
"""

import sys
import threading

import psycopg

host, port = sys.argv[1:]
where = f"host={host} port={port} user=alice dbname=app"
both = "min_protocol_version=3.2 max_protocol_version=3.2"

with psycopg.connect(f"{where} {both}", autocommit=True) as db:
    assert psycopg.pq.version() >= 180000, psycopg.pq.version()
    assert db.execute("SELECT 'on'").fetchone() == ("on",)
    for _ in range(3):
        over = threading.Event()

        def cancel():
            # Until one meets the query: the first may come too early.
            while not over.wait(0.05):
                db.cancel_safe()

        canceler = threading.Thread(target=cancel)
        canceler.start()
        try:
            db.execute("SELECT pg_sleep(60)")
        except psycopg.errors.QueryCanceled:
            pass
        else:
            raise AssertionError("the query was not cancelled")
        finally:
            over.set()
            canceler.join()
        assert db.execute("SELECT 'goes on'").fetchone() == ("goes on",)

# Without a lower bound libpq takes what it gets.
with psycopg.connect(f"{where} max_protocol_version=latest") as db:
    assert db.execute("SELECT 'on'").fetchone() == ("on",)
