// What a check is for clients in JavaScript, and how they are run; the same as in checks.py beside this folder.
'use strict';
const crypto = require('crypto');

// What is waited for here takes a second; the rest is for a loaded machine.
const PATIENCE = 60_000;

/** A name that nobody else uses. */
const unique = (what) => `${what}-${crypto.randomBytes(5).toString('hex')}`;

const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** Polls until `ready` gives something true, and gives that. */
async function eventually(what, ready) {
  const limit = Date.now() + PATIENCE;
  for (;;) {
    const value = await ready();
    if (value) return value;
    if (Date.now() > limit) throw new Error(`not in time: ${what}`);
    await sleep(50);
  }
}

/** Ends with an error where `promise` takes too long. */
function limited(promise) {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`not done after ${PATIENCE} ms`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Runs all checks, or those with a word of the command line in their name; gives the exit code. */
async function run(suite, checks, jobs = 4) {
  const wanted = process.argv.slice(2);
  const queue = checks.filter((check) => !wanted.length || wanted.some((word) => check.name.includes(word)));
  const count = { ok: 0, FAIL: 0 };
  const began = Date.now();
  const worker = async () => {
    for (let check = queue.shift(); check; check = queue.shift()) {
      const start = Date.now();
      let verdict = 'ok';
      let why = '';
      try {
        await limited(check());
      } catch (failure) {
        verdict = 'FAIL';
        why = `: ${failure.stack || failure}`.slice(0, 1200).replaceAll('\n', ' | ');
      }
      count[verdict] += 1;
      console.log(`  ${verdict.padEnd(5)} ${check.name}${why} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  const seconds = Math.round((Date.now() - began) / 1000);
  console.log(`suite ${suite}: ${count.ok} passed, ${count.FAIL} failed, 0 skipped (${seconds} s)`);
  return count.FAIL ? 1 : 0;
}

module.exports = { eventually, run, unique };
