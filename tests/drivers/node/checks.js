// What the scripts share: checks that are run one after the other, each with a deadline.
//
// Usage: node SCRIPT direct|session|transaction [CHECK...], with PGHOST and so on set. The word
// says who answers: PostgreSQL itself, or a pooler in that mode.

import assert from "node:assert/strict";
import { inspect } from "node:util";

const MODES = ["direct", "session", "transaction"];
const [mode, ...chosen] = process.argv.slice(2);
assert(MODES.includes(mode), `usage: ${process.argv[1]} ${MODES.join("|")}`);

/** Whether a pooler answers. */
export const pooled = mode !== "direct";
/** Whether clients get their servers for a transaction only. */
export const shared = mode === "transaction";
/** How many servers a pooler shares. */
const SEATS = 3;
/** How many ask at once. */
const WORKERS = 20;

const PATIENCE = 20_000;

/** Runs the checks; the first that fails is named, and ends the script. */
export async function hold(...checks) {
  const wanted = checks.filter(({ name }) => !chosen.length || chosen.includes(name));
  assert(wanted.length > 0, `no such check: ${chosen}`);
  for (const check of wanted) {
    const late = setTimeout(() => fail(check, new Error("stuck")), PATIENCE);
    await check().catch((error) => fail(check, error));
    clearTimeout(late);
  }
  console.log(`${wanted.length} checks hold`);
}

function fail(check, error) {
  console.error(`${check.name}:`, inspect(error, { maxStringLength: 2000 }).slice(0, 10_000));
  process.exit(1);
}

/** So many pieces of work at once. */
export function together(count, work) {
  return Promise.all(Array.from({ length: count }, (_, number) => work(number)));
}

/**
 * Twenty workers ask; `ask(worker, tag)` returns rows, each of which must bear the tag.
 * Where servers are shared, no more than there are seats may have answered.
 */
export async function everyRowIsTaggedByItsAsker(rounds, ask) {
  const servers = new Set();
  let mismatches = 0;
  await together(WORKERS, async (worker) => {
    for (let round = 0; round < rounds; round++) {
      const tag = `worker ${worker} round ${round}`;
      const rows = await ask(worker, tag);
      assert(rows.length > 0, `${tag}: no rows`);
      mismatches += rows.filter((row) => row.tag !== tag).length;
      rows.forEach((row) => servers.add(row.pid));
    }
  });
  assert.equal(mismatches, 0, "rows went to somebody else");
  assert(!shared || servers.size <= SEATS, `${servers.size} servers answered`);
}

/** The error must come, with this SQLSTATE. */
export async function failsWith(code, promise) {
  const error = await promise.then(
    () => assert.fail(`${code} did not come`),
    (error) => error,
  );
  assert.equal(error.code, code, error.stack);
  return error;
}

/** Asks again and again until the answer is yes. */
export async function eventually(holds) {
  while (!(await holds())) await new Promise(setImmediate);
}
