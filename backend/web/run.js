/** One run: start it, tell its events to an answer, stop it. */

import { call } from "./api.js";
import { announce, clearNotice, showNotice } from "./notices.js";
import { followRun } from "./stream.js";

/** @import { RunStarted } from "./schemas.d.ts" */

/** What is said of a failed answer that does not say why. */
export const UNEXPLAINED = "The answer failed. Your message is kept.";
const GOES_ON = "The connection was lost. The server is still working on the answer, and this page is reconnecting.";
// A server that goes down still takes a connection, to say at once that it should be made anew.
const HOLDS_AFTER = 300;

/** Ends the wait for the next connection, while there is one. */
let reconnectNow = () => {};
let recovering = 0;

/**
 * Let an answer grow with its run, to the end, over as many connections as it takes.
 * @param {import("./turn.js").Answer} answer
 * @param {object} how
 * @param {string} [how.runId] the run, where it exists already
 * @param {() => Promise<Response>} [how.start] starts it, where it does not
 * @param {AbortSignal} how.signal ends the following; the run itself goes on
 * @param {(run: RunStarted) => void} how.onRun hears that the server has the run
 * @param {() => void} how.retry what the button under a failed answer does
 */
export async function tellRun(answer, { runId, start, signal, onRun, retry }) {
  let wrong = UNEXPLAINED;
  const open = async (/** @type {string | null} */ id, /** @type {number} */ lastId) => {
    const response = id === null && start ? await start() : await resume(String(id), lastId, signal);
    recovering = setTimeout(() => clearNotice("connection"), HOLDS_AFTER);
    return response;
  };
  for await (const { name, data } of followRun(open, { runId, signal, wait: (delay) => reconnecting(delay, signal) })) {
    if (signal.aborted) return;
    if ("model" in data && data.model) answer.writtenBy(data.model);
    if (name === "run") onRun(data);
    else if (name === "text") answer.add(data.delta, data.offset);
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
      announce({ failed: wrong, cancelled: why || "Stopped." }[/** @type {string} */ (data.status)] ?? answer.text);
    }
  }
}

/** @param {unknown} body @param {string} key the same for every attempt at one message @param {AbortSignal} signal */
export function startRun(body, key, signal) {
  return call("/api/chat", { method: "POST", body, signal, headers: { Accept: "text/event-stream", "Idempotency-Key": key } });
}

/** Ask the server to stop a run, from wherever it is followed; its events tell the end. @param {string} runId @param {AbortSignal} signal */
export async function cancelRun(runId, signal) {
  const answer = await call(`/api/runs/${encodeURIComponent(runId)}/cancel`, { method: "POST", signal });
  // What no cache may keep stays unfinished to the browser until somebody reads it.
  await answer.text();
  reconnectNow();
}

/** @param {string} runId @param {number} lastId @param {AbortSignal} signal */
function resume(runId, lastId, signal) {
  const headers = { Accept: "text/event-stream", ...(lastId ? { "Last-Event-ID": String(lastId) } : {}) };
  return call(`/api/runs/${encodeURIComponent(runId)}/events`, { headers, signal });
}

/** Wait for the next attempt, and say so; being online again or a click ends the wait. @param {number} delay @param {AbortSignal} signal */
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
