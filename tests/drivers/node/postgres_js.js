// postgres.js at work: it prepares everything, sends ahead, and asks for types with Flush alone.

import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

import postgres from "postgres";

import {
  eventually,
  everyRowIsTaggedByItsAsker,
  failsWith,
  hold,
  pooled,
  shared,
  together,
} from "./checks.js";

/** Lends a pool to `work`. */
async function withPool(work, options) {
  const sql = postgres({ max: 10, onnotice: () => {}, ...options });
  try {
    return await work(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/** Lends a pool of one connection to `work`. */
const withOne = (work, options) => withPool(work, { max: 1, ...options });

async function valuesArriveUnharmed() {
  const texts = ["", "ünïcødé ✓", "'\\\"", "x".repeat(100_000)];
  const bytes = Buffer.from(Array.from({ length: 70_000 }, (_, n) => n % 256));
  const moment = new Date("2024-02-29T12:34:56.789Z");
  const document = { deep: [1, { er: null }] };
  await withOne(async (sql) => {
    for (let time = 0; time < 3; time++) {
      const row = await sql`
        SELECT ${texts}::text[] AS texts, ${bytes}::bytea AS bytes,
          ${moment}::timestamptz AS moment, ${sql.json(document)}::json AS document`;
      assert.deepEqual([...row], [{ texts, bytes, moment, document }]);
    }
    const values = await sql`SELECT 1 AS a, ${2} || 'b' AS b`.values();
    assert.deepEqual([...values], [[1, "2b"]]);
    assert.equal((await sql`SELECT WHERE false`).count, 0);
  });
}

async function refusalsAreHeard() {
  const absent = withOne((sql) => sql`SELECT 1`, { database: "absent" });
  await failsWith(pooled ? "08P01" : "3D000", absent);
}

async function poolServesTwentyWorkers() {
  await withPool(async (sql) => {
    const tagged = (by, tag) =>
      by`SELECT n, ${tag}::text AS tag, pg_backend_pid() AS pid FROM generate_series(1, 10) n`;
    const ways = [
      (tag) => tagged(sql, tag),
      (tag) => sql.unsafe(`SELECT '${tag}' AS tag, pg_backend_pid() AS pid`).simple(),
      (tag) => sql.unsafe("SELECT $1::text AS tag, pg_backend_pid() AS pid", [tag]),
      (tag) =>
        sql.begin(async (sql) => {
          await sql`INSERT INTO notes VALUES (${tag}, 'kept')`;
          const [rows, deleted] = await Promise.all([
            tagged(sql, tag),
            sql`DELETE FROM notes WHERE name = ${tag} RETURNING name AS tag, pg_backend_pid() AS pid`,
          ]);
          return [...rows, ...deleted];
        }),
      async (tag) => {
        await failsWith("22012", sql`SELECT 1 / ${0}::int`);
        return tagged(sql, tag);
      },
    ];
    await everyRowIsTaggedByItsAsker(5, async (_worker, tag) =>
      (await Promise.all(ways.map((way) => way(tag)))).flat(),
    );
  });
}

async function onlyUnnamedStatementsWithoutPrepare() {
  await withPool(
    (sql) =>
      everyRowIsTaggedByItsAsker(10, (_worker, tag) => {
        return sql`SELECT ${tag}::text AS tag, pg_backend_pid() AS pid`;
      }),
    { prepare: false },
  );
}

async function queriesSentAheadAreAnsweredInTurn() {
  await withOne(async (sql) => {
    const queries = Array.from({ length: 100 }, (_, n) => {
      if (n % 10 === 7) return sql`SELECT 1 / ${0}::int AS n`;
      if (n % 10 === 3) return sql.unsafe(`SELECT ${n} AS n`).simple();
      if (n % 10 === 5) return sql`SELECT absent AS n`;
      return sql.unsafe(`SELECT $1::int AS n, ${n % 4}`, [n], { prepare: n % 2 === 0 });
    });
    const answers = await Promise.allSettled(queries);
    answers.forEach((answer, n) => {
      if (n % 10 === 7) assert.equal(answer.reason?.code, "22012");
      else if (n % 10 === 5) assert.equal(answer.reason?.code, "42703");
      else assert.equal(answer.value?.[0].n, n, answer.reason);
    });
  });
}

async function statementsAreDescribedOnly() {
  await withOne(async (sql) => {
    const { types, columns } =
      await sql`SELECT ${1}::int AS number, ${""}::text AS text`.describe();
    assert.deepEqual(types, [23, 25]);
    assert.deepEqual(
      columns.map((column) => column.name),
      ["number", "text"],
    );
    await failsWith("42P01", sql`SELECT * FROM absent WHERE n = ${1}`.describe());
    assert.deepEqual((await sql`DELETE FROM notes WHERE name = ${""}`.describe()).columns, []);
    assert.equal((await sql`SELECT ${"goes on"} AS it`)[0].it, "goes on");
  });
}

async function transactionsKeepOrUndo() {
  await withPool(async (sql) => {
    const count = async () => (await sql`SELECT count(*)::int AS count FROM notes`)[0].count;
    const undone = sql.begin(async (sql) => {
      await sql`INSERT INTO notes VALUES ('me', 'undone')`;
      await failsWith("42703", sql`SELECT absent FROM notes WHERE name = ${"me"}`);
      await failsWith("25P02", sql`SELECT ${1}::int`);
    });
    // The driver rolls back after an error, caught or not.
    await failsWith("42703", undone);
    assert.equal(await count(), 0);
    await sql.begin("ISOLATION LEVEL SERIALIZABLE", async (sql) => {
      await sql`INSERT INTO notes VALUES ('me', ${"kept"})`;
      await failsWith(
        "22P02",
        sql.savepoint((sql) => sql`SELECT ${"no number"}::text::int`),
      );
      assert.equal(
        (await sql`SHOW transaction_isolation`)[0].transaction_isolation,
        "serializable",
      );
    });
    assert.equal(await count(), 1);
    await sql`DELETE FROM notes`;
  });
}

async function reservedConnectionsAreGivenBack() {
  await withPool(async (sql) => {
    const mine = await sql.reserve();
    await mine`BEGIN`;
    const pid = async () => (await mine`SELECT pg_backend_pid() AS pid`)[0].pid;
    assert.equal(await pid(), await pid());
    await mine`ROLLBACK`;
    mine.release();
    assert.equal((await sql`SELECT ${"goes on"} AS it`)[0].it, "goes on");
  });
}

async function queriesHealAfterDdl() {
  await withOne(async (sql) => {
    await sql`CREATE TABLE widening (a int)`;
    const all = () => sql`SELECT * FROM widening WHERE a IS DISTINCT FROM ${1}`;
    for (let time = 0; time < 3; time++) await all();
    await sql`ALTER TABLE widening ADD b int`;
    // The driver asks again by itself, under a new name.
    assert.deepEqual(
      (await all()).columns.map((column) => column.name),
      ["a", "b"],
    );
    await sql`ALTER TABLE widening ADD c int`;
    assert.equal((await all()).columns.length, 3);
    await sql`DROP TABLE widening`;
  });
}

async function cursorsPageThroughRows() {
  await withPool(async (sql) => {
    await everyRowIsTaggedByItsAsker(3, async (worker, tag) => {
      const rows = [];
      const cursor = sql`
        SELECT n, ${tag}::text AS tag, pg_backend_pid() AS pid FROM generate_series(1, 100) n`;
      for await (const page of cursor.cursor(40)) {
        rows.push(...page);
        // Half of them leave in the middle.
        if (worker % 2) break;
      }
      assert.equal(rows.length, worker % 2 ? 40 : 100);
      return rows;
    });
    const failing = sql`SELECT 1 / (15 - n) FROM generate_series(1, 100) n`.cursor(10, () => {});
    await failsWith("22012", failing);
    const numbers = [];
    await sql`SELECT n FROM generate_series(1, 500) n`.forEach(({ n }) => numbers.push(n));
    assert.equal(numbers.length, 500);
  });
}

async function copiesInAndOut() {
  const copy = async (sql, name) => {
    const lines = Array.from({ length: 1000 }, (_, n) => `${name}\t${n}\n`);
    await pipeline(Readable.from(lines), await sql`COPY notes FROM STDIN`.writable());
    assert.equal((await sql`SELECT FROM notes WHERE name = ${name}`).count, 1000);
    const query = sql.unsafe(
      `COPY (SELECT * FROM notes WHERE name = '${name}' ORDER BY text::int) TO STDOUT`,
    );
    const chunks = await (await query.readable()).toArray();
    assert.equal(Buffer.concat(chunks).toString(), lines.join(""));
    await sql`DELETE FROM notes WHERE name = ${name}`;
  };
  await withPool(async (sql) => {
    // In transactions: otherwise this driver sends other queries into the middle of a COPY.
    await together(20, (worker) => sql.begin((sql) => copy(sql, `copy ${worker}`)));
  });
  await together(5, (worker) => withOne((sql) => copy(sql, `alone ${worker}`)));
}

async function copiesFail() {
  await withOne(async (sql) => {
    await failsWith("42P01", sql`COPY absent FROM STDIN`.writable());
    await failsWith("42P01", sql`COPY absent TO STDOUT`.readable());
    const into = await sql`COPY notes FROM STDIN`.writable();
    into.on("error", () => {});
    into.write("me\tnever\n");
    into.destroy(new Error("changed my mind"));
    assert.equal((await sql`SELECT FROM notes WHERE name = ${"me"}`).count, 0);
  });
}

async function cancelsReachTheirOwnQuery() {
  await withPool(async (sql) => {
    const holder = await sql.reserve();
    await holder`BEGIN`;
    await holder`SELECT pg_advisory_xact_lock(7)`;
    const locks = async () => {
      const waiting = holder`SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`;
      return (await waiting).count;
    };
    const wait = (tag) => sql`SELECT pg_advisory_xact_lock(7), ${tag}::text AS tag`;
    const cancelled = wait("cancelled");
    const ended = failsWith("57014", cancelled.execute());
    const other = wait("other").execute();
    await eventually(async () => (await locks()) === 2);
    cancelled.cancel();
    await ended;
    assert.equal(await locks(), 1);
    await holder`COMMIT`;
    holder.release();
    assert.equal((await other)[0].tag, "other");
  });
}

async function timeoutsEndQueries() {
  await withPool(async (sql) => {
    const slow = sql.begin(async (sql) => {
      await sql`SET LOCAL statement_timeout = '50ms'`;
      await sql`SELECT pg_sleep(${60})`;
    });
    await failsWith("57014", slow);
    assert.equal((await sql`SHOW statement_timeout`)[0].statement_timeout, "0");
  });
}

async function noticesGoToWhomTheyConcern() {
  await together(20, async (worker) => {
    const heard = [];
    const onnotice = (notice) => heard.push(notice.message);
    const told = Array.from({ length: 5 }, (_, round) => `${worker}-${round}`);
    await withOne(
      async (sql) => {
        for (const text of told) await sql.unsafe(`DO $$ BEGIN RAISE NOTICE '${text}'; END $$`);
      },
      { onnotice },
    );
    assert.deepEqual(heard, told);
  });
}

await withOne((sql) =>
  sql`DROP TABLE IF EXISTS notes, widening; CREATE TABLE notes (name text, text text)`.simple(),
);
await hold(
  valuesArriveUnharmed,
  refusalsAreHeard,
  poolServesTwentyWorkers,
  onlyUnnamedStatementsWithoutPrepare,
  queriesSentAheadAreAnsweredInTurn,
  statementsAreDescribedOnly,
  transactionsKeepOrUndo,
  reservedConnectionsAreGivenBack,
  queriesHealAfterDdl,
  cursorsPageThroughRows,
  copiesInAndOut,
  copiesFail,
  cancelsReachTheirOwnQuery,
  timeoutsEndQueries,
  noticesGoToWhomTheyConcern,
);
