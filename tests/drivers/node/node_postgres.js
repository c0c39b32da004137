// node-postgres at work: pools, named queries, pipelines, cursors, COPY, cancels, notices.

import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

import pg from "pg";
import copy from "pg-copy-streams";
import Cursor from "pg-cursor";

import {
  eventually,
  everyRowIsTaggedByItsAsker,
  failsWith,
  hold,
  pooled,
  shared,
  together,
} from "./checks.js";

const TAGGED = "SELECT n, $1::text AS tag, pg_backend_pid() AS pid FROM generate_series(1, 10) n";

/** Lends a new client to `work`. */
async function withClient(work, config) {
  const client = new pg.Client(config);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** Lends a pool to `work`. */
async function withPool(work) {
  const pool = new pg.Pool({ max: 10 });
  try {
    return await work(pool);
  } finally {
    await pool.end();
  }
}

async function valuesArriveUnharmed() {
  const texts = ["", "ünïcødé ✓", "'\\\"", "x".repeat(1 << 20), null];
  const text = "SELECT $1::text[] AS texts, $2::bytea AS bytes, $3::timestamptz AS moment";
  const bytes = Buffer.from(Array.from({ length: 70_000 }, (_, n) => n % 256));
  const moment = new Date("2024-02-29T12:34:56.789Z");
  for (const binary of [false, true]) {
    await withClient(async (client) => {
      const { rows } = await client.query({ text, values: [texts, bytes, moment], binary: false });
      assert.deepEqual(rows, [{ texts, bytes, moment }]);
      const number = await client.query({
        text: "SELECT $1::int + 1 AS number",
        values: [41],
        binary,
      });
      assert.equal(number.rows[0].number, 42);
    });
  }
}

async function refusalsAreHeard() {
  await failsWith(
    pooled ? "08P01" : "3D000",
    withClient(() => {}, { database: "absent" }),
  );
  // It goes into the startup packet, and poolers take what they are told to ignore only.
  const timeout = withClient((client) => client.query("SHOW statement_timeout"), {
    statement_timeout: 7000,
  });
  if (pooled) {
    const error = await failsWith("08P01", timeout);
    assert.match(error.message, /unsupported startup parameter: statement_timeout/);
  } else {
    assert.equal((await timeout).rows[0].statement_timeout, "7s");
  }
}

async function poolServesTwentyWorkers() {
  await withPool(async (pool) => {
    const ways = [
      (tag) => pool.query(TAGGED, [tag]),
      (tag) => pool.query({ name: "tagged", text: TAGGED, values: [tag] }),
      (tag) => pool.query(TAGGED.replace("$1", pg.escapeLiteral(tag))),
      (tag) => inTransaction(pool, tag),
      (tag) => afterError(pool, tag),
    ];
    await everyRowIsTaggedByItsAsker(5, async (_worker, tag) => {
      const rows = [];
      for (const way of ways) rows.push(...(await way(tag)).rows);
      return rows;
    });
    assert(pool.totalCount <= 10);
  });
}

async function inTransaction(pool, tag) {
  const client = await pool.connect();
  await client.query("BEGIN");
  await client.query("INSERT INTO notes VALUES ($1, 'undone')", [tag]);
  const query = {
    name: "in transaction",
    text: `${TAGGED} JOIN notes ON name = $1`,
    values: [tag],
  };
  const result = await client.query(query);
  await client.query("ROLLBACK");
  client.release();
  return result;
}

async function afterError(pool, tag) {
  const client = await pool.connect();
  const failing = { name: "failing", text: "SELECT 1 / $1::int", values: [0] };
  await failsWith("22012", client.query(failing));
  const result = await client.query({ name: "tagged", text: TAGGED, values: [tag] });
  client.release();
  return result;
}

async function namesBelongToTheirClients() {
  const clients = await together(20, async () => {
    const client = new pg.Client();
    await client.connect();
    return client;
  });
  await everyRowIsTaggedByItsAsker(10, async (worker, tag) => {
    const text = `${TAGGED} WHERE n <= $2 OR n = ${worker}`;
    const { rows } = await clients[worker].query({ name: "mine", text, values: [tag, 3] });
    assert.equal(rows.length, worker > 3 && worker <= 10 ? 4 : 3);
    return rows;
  });
  await Promise.all(clients.map((client) => client.end()));
}

async function transactionsKeepOrUndo() {
  await withClient(async (client) => {
    const count = async () =>
      (await client.query("SELECT count(*)::int AS count FROM notes")).rows[0].count;
    const insert = {
      name: "insert",
      text: "INSERT INTO notes VALUES ($1, $2)",
      values: ["me", "text"],
    };
    await client.query("BEGIN");
    await client.query(insert);
    await client.query("COMMIT");
    assert.equal(await count(), 1);

    await client.query("BEGIN");
    await client.query(insert);
    await failsWith("42703", client.query({ name: "wrong", text: "SELECT absent FROM notes" }));
    await failsWith("25P02", client.query(insert));
    assert.equal((await client.query("COMMIT")).command, "ROLLBACK");
    assert.equal(await count(), 1);

    await client.query("BEGIN; SAVEPOINT here");
    await failsWith("22P02", client.query("SELECT $1::int", ["no number"]));
    await client.query("ROLLBACK TO here");
    await client.query(insert);
    await client.query("COMMIT");
    assert.equal(await count(), 2);
    await client.query("DELETE FROM notes");
  });
}

async function aNameWhoseParseFailedIsFree() {
  await withClient(async (client) => {
    const query = { name: "soon", text: "SELECT * FROM soon" };
    for (let attempt = 0; attempt < 3; attempt++) await failsWith("42P01", client.query(query));
    await client.query("CREATE TABLE soon (n int)");
    assert.deepEqual((await client.query(query)).rows, []);
    await client.query("DROP TABLE soon");
  });
}

async function namedQueriesHealAfterDdl() {
  await withClient(async (client) => {
    await client.query("CREATE TABLE IF NOT EXISTS widening (a int)");
    const query = { name: "all of it", text: "SELECT * FROM widening" };
    for (let time = 0; time < 3; time++) await client.query(query);
    await client.query("ALTER TABLE widening ADD b int");
    // It asks at each portal what the columns are, so that a new server may answer at once.
    if (!shared) await failsWith("0A000", client.query(query));
    else await client.query(query).catch(({ code }) => assert.equal(code, "0A000"));
    // The driver does not prepare again: with PostgreSQL alone this name is lost for the session.
    if (!shared) await failsWith("0A000", client.query(query));
    else assert.equal((await client.query(query)).fields.length, 2);
    const { fields } = await client.query({ ...query, name: "another name" });
    assert.equal(fields.length, 2);
    await client.query("DROP TABLE widening");
  });
}

async function pipelinesAnswerEachQuery() {
  await withClient(
    async (client) => {
      const queries = Array.from({ length: 100 }, (_, n) => {
        if (n % 10 === 7) return { name: "failing", text: "SELECT 1 / $1::int", values: [0] };
        if (n % 10 === 3) return { text: `SELECT ${n} AS n` };
        if (n % 10 === 5) return { text: "SELECT $1::int AS n", values: [n] };
        return { name: `named ${n % 3}`, text: `SELECT $1::int AS n, ${n % 3}`, values: [n] };
      });
      const answers = await Promise.allSettled(queries.map((query) => client.query(query)));
      answers.forEach((answer, n) => {
        if (n % 10 === 7) assert.equal(answer.reason?.code, "22012");
        else assert.equal(answer.value?.rows[0].n, n, answer.reason);
      });
    },
    { pipeline: true },
  );
}

async function cursorsPageThroughRows() {
  const text = "SELECT n, $1::text AS tag, pg_backend_pid() AS pid FROM generate_series(1, 100) n";
  await withPool(async (pool) => {
    await everyRowIsTaggedByItsAsker(3, async (worker, tag) => {
      const client = await pool.connect();
      if (worker % 2) await client.query("BEGIN");
      const cursor = client.query(new Cursor(text, [tag]));
      const rows = await cursor.read(40);
      // Half of them leave in the middle.
      if (worker % 4 < 2) rows.push(...(await cursor.read(40)), ...(await cursor.read(40)));
      await cursor.close();
      assert.equal(rows.length, worker % 4 < 2 ? 100 : 40);
      if (worker % 2) await client.query("COMMIT");
      client.release();
      return rows;
    });
  });
}

async function cursorsFailInTheMiddle() {
  await withClient(async (client) => {
    const cursor = client.query(new Cursor("SELECT 1 / (15 - n) FROM generate_series(1, 100) n"));
    assert.equal((await cursor.read(10)).length, 10);
    await failsWith("22012", cursor.read(10));
    assert.equal((await client.query("SELECT 'goes on' AS it")).rows[0].it, "goes on");

    await failsWith("42P01", client.query(new Cursor("SELECT * FROM absent")).read(1));
    assert.equal((await client.query("SELECT 'goes on' AS it")).rows[0].it, "goes on");

    const paged = {
      text: "SELECT n FROM generate_series(1, 35) n",
      values: [],
      rows: 10,
      portal: "page",
    };
    assert.equal((await client.query(paged)).rows.length, 35);
  });
}

async function copiesInAndOut() {
  await withPool((pool) =>
    together(20, async (worker) => {
      const client = await pool.connect();
      const lines = Array.from({ length: 1000 }, (_, n) => `copy ${worker}\t${n}\n`);
      await pipeline(Readable.from(lines), client.query(copy.from("COPY notes FROM STDIN")));
      const sql = `COPY (SELECT * FROM notes WHERE name = 'copy ${worker}' ORDER BY text::int) TO STDOUT`;
      const chunks = await client.query(copy.to(sql)).toArray();
      assert.equal(Buffer.concat(chunks).toString(), lines.join(""));
      await client.query("DELETE FROM notes WHERE name = $1", [`copy ${worker}`]);
      client.release();
    }),
  );
}

async function copiesFail() {
  await withClient(async (client) => {
    const wrong = Readable.from(["1\n", "two\n", ...Array(1000).fill("3\n")]);
    await client.query("CREATE TABLE IF NOT EXISTS numbers (n int)");
    await failsWith("22P02", pipeline(wrong, client.query(copy.from("COPY numbers FROM STDIN"))));
    const into = client.query(copy.from("COPY numbers FROM STDIN"));
    into.write("1\n");
    const closed = new Promise((resolve, reject) => into.on("error", reject).on("close", resolve));
    into.destroy();
    await failsWith("57014", closed);
    assert.equal(
      (await client.query("SELECT count(*)::int AS count FROM numbers")).rows[0].count,
      0,
    );
    await failsWith("42P01", client.query(copy.to("COPY absent TO STDOUT")).toArray());
    await client.query("DROP TABLE numbers");
  });
}

async function cancelsReachTheirOwnQuery() {
  await withPool(async (pool) => {
    const holder = await pool.connect();
    const [cancelled, other] = [await pool.connect(), await pool.connect()];
    const locks = async () => {
      const sql =
        "SELECT count(*)::int AS count FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
      return (await holder.query(sql)).rows[0].count;
    };
    await holder.query("BEGIN; SELECT pg_advisory_xact_lock(7)");
    const wait = "SELECT pg_advisory_xact_lock(7), $1 AS tag";
    const ended = [];
    const query = cancelled.query(new pg.Query(wait, ["cancelled"], (error) => ended.push(error)));
    const row = other.query(wait, ["other"]);
    await eventually(async () => (await locks()) === 2);
    new pg.Client().cancel(cancelled, query);
    await eventually(async () => (await locks()) === 1);
    await holder.query("COMMIT");
    assert.equal((await row).rows[0].tag, "other");
    assert.equal((await cancelled.query("SELECT 'goes on' AS it")).rows[0].it, "goes on");
    assert.deepEqual(
      ended.map((error) => error?.code),
      ["57014"],
    );
    [holder, cancelled, other].forEach((client) => client.release());
  });
}

async function timeoutsEndQueries() {
  await withClient(async (client) => {
    await client.query("BEGIN; SET LOCAL statement_timeout = '50ms'");
    await failsWith("57014", client.query("SELECT pg_sleep($1)", [60]));
    await client.query("ROLLBACK");
    assert.equal((await client.query("SHOW statement_timeout")).rows[0].statement_timeout, "0");
  });
  const name = `impatient ${process.pid}`;
  const impatient = new pg.Client({ query_timeout: 50, application_name: name });
  await impatient.connect();
  await assert.rejects(impatient.query("SELECT pg_sleep(60)"), /Query read timeout/);
  await impatient.end();
  // PostgreSQL alone would sleep on.
  if (pooled) {
    const sleepers = `SELECT FROM pg_stat_activity
      WHERE wait_event = 'PgSleep' AND application_name = '${name}'`;
    const ended = async (client) => (await client.query(sleepers)).rowCount === 0;
    await withClient((client) => eventually(() => ended(client)));
  }
}

async function noticesGoToWhomTheyConcern() {
  await together(20, (worker) =>
    withClient(async (client) => {
      const heard = [];
      client.on("notice", (notice) => heard.push(notice.message));
      const told = [];
      for (let round = 0; round < 5; round++) {
        told.push(`${worker}-${round}`);
        await client.query(`DO $$ BEGIN RAISE NOTICE '${worker}-${round}'; END $$`);
      }
      assert.deepEqual(heard, told);
    }),
  );
}

async function parametersFollowTheirClient() {
  const settings = (worker) => ({
    app: `worker ${worker}`,
    zone: worker % 2 ? "Asia/Tokyo" : "UTC",
  });
  const clients = await together(20, async (worker) => {
    const { app, zone } = settings(worker);
    const client = new pg.Client({ application_name: app });
    await client.connect();
    await client.query(`SET TimeZone = '${zone}'`);
    return client;
  });
  const text =
    "SELECT current_setting('application_name') AS app, current_setting('TimeZone') AS zone";
  for (let round = 0; round < 5; round++) {
    await together(20, async (worker) => {
      const { rows } = await clients[worker].query({ name: "settings", text });
      assert.deepEqual(rows, [settings(worker)]);
    });
  }
  await Promise.all(clients.map((client) => client.end()));
}

await withClient((client) =>
  client.query(
    "DROP TABLE IF EXISTS notes, soon, widening, numbers; CREATE TABLE notes (name text, text text)",
  ),
);
await hold(
  valuesArriveUnharmed,
  refusalsAreHeard,
  poolServesTwentyWorkers,
  namesBelongToTheirClients,
  transactionsKeepOrUndo,
  aNameWhoseParseFailedIsFree,
  namedQueriesHealAfterDdl,
  pipelinesAnswerEachQuery,
  cursorsPageThroughRows,
  cursorsFailInTheMiddle,
  copiesInAndOut,
  copiesFail,
  cancelsReachTheirOwnQuery,
  timeoutsEndQueries,
  noticesGoToWhomTheyConcern,
  parametersFollowTheirClient,
);
