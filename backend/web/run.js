/** One run: start it, show its events in an answer, and stop it. */

import { call } from "./api.js";
import { announce, clearNotice, showNotice } from "./notices.js";
import { followRun } from "./stream.js";

/** @import { RunStarted } from "./schemas.d.ts" */

/** The sentence for an answer that failed without a reason. */
export const UNEXPLAINED = "The answer failed. Your message is kept.";
const GOES_ON = "The connection was lost. The server is still working on the answer, and this page is reconnecting.";
// A connection counts as stable after this time. A server that goes down accepts a connection, only to ask at once for a
// new one.
const HOLDS_AFTER = 300;

/** Ends the wait for the next connection, if the page is waiting. */
let reconnectNow = () => {};
let recovering = 0;

/**
 * Show a run's events in its answer until the run ends, over as many connections as necessary.
 * @param {import("./turn.js").Answer} answer
 * @param {object} how
 * @param {string} [how.runId] the run, if it exists already
 * @param {() => Promise<Response>} [how.start] starts the run, if it does not exist yet
 * @param {AbortSignal} how.signal stops following the run; the run itself goes on
 * @param {(run: RunStarted) => void} how.onRun called when the server has the run
 * @param {() => void} how.retry called by the button under a failed answer
 */
export async function tellRun(answer, { runId, start, signal, onRun, retry }) {
  let wrong = UNEXPLAINED;
  let known = runId ?? null;
  const open = async (/** @type {string | null} */ id, /** @type {number} */ lastId) => {
    const response = id === null && start ? await start() : await resume(String(id), lastId, signal);
    recovering = setTimeout(() => clearNotice("connection"), HOLDS_AFTER);
    return response;
  };
  for await (const { name, data } of followRun(open, { runId, signal, wait: (delay) => reconnecting(delay, signal) })) {
    if (signal.aborted) return;
    if ("model" in data && data.model) answer.writtenBy(data.model);
    if (name === "run") {
      known = data.run_id;
      onRun(data);
    } else if (name === "text") answer.add(data.delta, data.offset);
    else if (name === "tool_call") answer.toolCall(data);
    else if (name === "tool_result") answer.toolResult(data);
    else if (name === "citation") answer.cite([...answer.citations, data]);
    else if (name === "reset") answer.reset(data.offset);
    else if (name === "approval") answer.note("Waiting for approval.");
    else if (name === "error") wrong = data.detail || wrong;
    else if (name === "done") {
      const why = data.error?.detail;
      if (data.citations) answer.cite(data.citations);
      if (data.status === "failed") answer.fail(wrong, retry);
      else answer.end(data.status, data.response, why);
      answer.offerUndo(known);
      announce({ failed: wrong, cancelled: why || "Stopped." }[/** @type {string} */ (data.status)] ?? answer.text);
    }
  }
}

/** @param {unknown} body @param {string} key the idempotency key, the same for every attempt at one message @param {AbortSignal} signal */
export function startRun(body, key, signal) {
  return call("/api/chat", { method: "POST", body, signal, headers: { Accept: "text/event-stream", "Idempotency-Key": key } });
}

/** Ask the server to stop a run. Every client that follows the run gets the end as an event. @param {string} runId @param {AbortSignal} signal */
export async function cancelRun(runId, signal) {
  const answer = await call(`/api/runs/${encodeURIComponent(runId)}/cancel`, { method: "POST", signal });
  // For the browser, a request whose answer may not be cached is unfinished until the answer is read.
  await answer.text();
  reconnectNow();
}

/** @param {string} runId @param {number} lastId @param {AbortSignal} signal */
function resume(runId, lastId, signal) {
  const headers = { Accept: "text/event-stream", ...(lastId ? { "Last-Event-ID": String(lastId) } : {}) };
  return call(`/api/runs/${encodeURIComponent(runId)}/events`, { headers, signal });
}

/** Wait for the next attempt, with a notice. A click, or being online again, ends the wait. @param {number} delay @param {AbortSignal} signal */
function reconnecting(delay, signal) {
  clearTimeout(recovering);
  /** @type {Promise<void>} */
  const waited = new Promise((resolve) => {
    const go = () => {
      reconnectNow = () => {};
      clearTimeout(timer);
      window.removeEventListener("online", go);
      signal.removeEventListener("abort", go);
      resolve();
    };
    const timer = setTimeout(go, delay);
    reconnectNow = go;
    window.addEventListener("online", go);
    signal.addEventListener("abort", go);
    showNotice("connection", GOES_ON, "Reconnect now", go);
  });
  return waited;
}
