/** Follow a run's events over a connection that may break. This module does not use the page. */

import { ApiError } from "./api.js";

/** @import { RunEvent } from "./schemas.d.ts" */

const FIRST_DELAY = 500;
const LONGEST_DELAY = 15_000;
// Heartbeats come far more often, so a connection that is silent for this long is dead.
const LONGEST_SILENCE = 60_000;

/**
 * Yield a run's events until the run is done. Reconnect if necessary, and yield each stored event only once.
 * @param {(runId: string | null, lastId: number) => Promise<Response>} open connects to the run; without an id it starts a run
 * @param {object} options
 * @param {string | null} [options.runId] the run, if it exists already
 * @param {AbortSignal} options.signal stops following the run
 * @param {(milliseconds: number) => Promise<void>} options.wait resolves when the next attempt is due
 * @returns {AsyncGenerator<RunEvent>}
 */
export async function* followRun(open, { runId = null, signal, wait }) {
  let lastId = 0;
  let failures = 0;
  for (;;) {
    try {
      const response = await open(runId, lastId);
      for await (const event of readEvents(response.body)) {
        if (event.name === "reconnect") break;
        failures = 0;
        if (event.id !== null) {
          if (event.id <= lastId) continue;
          lastId = event.id;
        }
        if (event.name === "run") runId = event.data.run_id;
        yield event;
        if (event.name === "done") return;
      }
    } catch (error) {
      if (signal.aborted || (error instanceof ApiError && !error.passing)) throw error;
      if (runId === null) {
        if (error instanceof ApiError) throw error;
        throw new ApiError(0, "The connection broke before the message was accepted.", "unreachable");
      }
    }
    const delay = Math.min(FIRST_DELAY * 2 ** failures, LONGEST_DELAY);
    failures += 1;
    await wait(delay * (0.75 + Math.random() / 2));
    signal.throwIfAborted();
  }
}

/**
 * Yield the server-sent events in a body.
 * @param {ReadableStream<Uint8Array<ArrayBuffer>> | null} body null counts as a stream without events
 * @returns {AsyncGenerator<RunEvent>}
 */
export async function* readEvents(body) {
  let rest = "";
  let block = emptyBlock();
  for await (const text of readText(body)) {
    // A carriage return at the very end may be half of a CRLF, so it is kept until more text arrives.
    const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (block.data.length) yield eventOf(block);
        block = emptyBlock();
      } else {
        readLine(line, block);
      }
    }
  }
}

/** @returns {{id: number | null, name: string, data: string[]}} */
function emptyBlock() {
  return { id: null, name: "message", data: [] };
}

/** @param {ReturnType<typeof emptyBlock>} block @returns {RunEvent} assumes that the server sends only known events */
function eventOf({ id, name, data }) {
  return /** @type {RunEvent} */ ({ id, name, data: JSON.parse(data.join("\n")) });
}

/** @param {string} line @param {ReturnType<typeof emptyBlock>} block */
function readLine(line, block) {
  const colon = line.indexOf(":");
  const field = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
  if (field === "data") block.data.push(value);
  else if (field === "event") block.name = value;
  else if (field === "id") block.id = Number(value);
}

/** @param {ReadableStream<Uint8Array<ArrayBuffer>> | null} body */
async function* readText(body) {
  if (body === null) return;
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await inTime(reader.read());
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** @template T @param {Promise<T>} read @returns {Promise<T>} */
function inTime(read) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("The server stopped sending the answer.")), LONGEST_SILENCE);
    read.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
