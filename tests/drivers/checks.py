"""What the drivers' scripts share: named checks, run one by one, and the tally of a crowd.

Each script is called with a DSN and the number of servers behind it, which is at least `CLIENTS`
where a client keeps its server. It ends with 0 if all its checks held, and says which did not.
"""

import asyncio
import collections
import concurrent.futures
import faulthandler
import inspect
import sys
import time
import traceback
from dataclasses import dataclass

CLIENTS = 20
ROUNDS = 8
ROWS = 40
PATIENCE = 20

# Whom the rows were meant for, and which server they came from.
TAGGED = f"n, pg_backend_pid() AS server FROM generate_series(1, {ROWS}) n"

SLEEPERS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"

_checks = []


@dataclass(frozen=True)
class Place:
    """Where to connect to, and how many servers there are."""

    dsn: str
    servers: int

    @property
    def is_shared(self):
        return self.servers < CLIENTS


def check(function):
    """Adds a check, to be called with the place."""
    _checks.append(function)
    return function


def run():
    """Runs all checks; the process ends with their outcome."""
    # What hangs shows where it does: a thread so, a task by its timeout.
    faulthandler.dump_traceback_later(PATIENCE + 5, exit=True)
    place = Place(sys.argv[1], int(sys.argv[2]))
    for function in _checks:
        name = function.__name__.replace("_", " ")
        started = time.monotonic()
        try:
            if inspect.iscoroutinefunction(function):
                asyncio.run(asyncio.wait_for(function(place), PATIENCE))
            else:
                function(place)
        except BaseException:
            traceback.print_exc()
            sys.exit(f"failed: it {name}")
        print(f"it {name} ({time.monotonic() - started:.1f} s)", flush=True)
    print(f"all {len(_checks)} checks held")


def in_threads(work, count):
    """Does that many times the same at once, and fails as the first of them does."""
    with concurrent.futures.ThreadPoolExecutor(count) as threads:
        for done in [threads.submit(work, n) for n in range(count)]:
            done.result()


class raises:
    """Expects an error of that class from a block, and keeps it."""

    def __init__(self, expected):
        self.expected = expected

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        assert kind is not None, f"no {self.expected.__name__}"
        self.error = error
        return issubclass(kind, self.expected)


class Tally:
    """Whose rows came to whom in a crowd of askers."""

    def __init__(self):
        self.rows = collections.Counter()
        self.mismatches = []
        self.servers = collections.defaultdict(set)

    def take(self, asker, rows):
        """Looks through the answer to a query that names its asker and is `TAGGED`."""
        got = [(row[0], row[1]) for row in rows]
        if got != [(asker, n) for n in range(1, ROWS + 1)]:
            self.mismatches.append((asker, got))
        self.rows[asker] += len(got)
        self.servers[asker].update(row[2] for row in rows)

    def settle(self, place, answers):
        """Each asker was answered so many times, with its own rows, by the servers there are."""
        self.settle_rows(answers)
        used = set().union(*self.servers.values())
        most = max(len(servers) for servers in self.servers.values())
        assert len(used) <= place.servers, f"{len(used)} servers"
        if place.is_shared:
            assert most > 1, "nobody went from one server to another"
        else:
            assert most == 1, "somebody lost its server"

    def settle_rows(self, answers):
        """Each asker was answered so many times, with its own rows."""
        assert not self.mismatches, f"{len(self.mismatches)} mismatches: {self.mismatches[0]}"
        assert sorted(self.rows.values()) == [answers * ROWS] * CLIENTS, self.rows
