/** Calls to the server, as the guest whose session this browser stores. */

/** @import { DocumentSeen, Problem, SignedIn } from "./schemas.d.ts" */

const STORED = "docutalk.session";

/** A refusal or a failure, with a sentence for people. Status 0 means that there was no answer. */
export class ApiError extends Error {
  /** @param {number} status @param {string} sentence @param {string} code */
  constructor(status, sentence, code = "") {
    super(sentence);
    this.status = status;
    this.code = code;
  }

  /** Whether the same call may succeed in a moment. */
  get passing() {
    return [0, 408, 429, 502, 503, 504].includes(this.status);
  }
}

/** @type {SignedIn | null} */
let current = load();
/** @type {Promise<SignedIn> | null} */
let starting = null;

/** The stored session, or null before the user's first action. */
export function session() {
  return current;
}

/** Return the session. If there is none, start a guest's session. @returns {Promise<SignedIn>} */
export async function ensureSession() {
  if (current) return current;
  const time_zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  starting ??= startSession(time_zone).finally(() => (starting = null));
  const made = await starting;
  remember(made);
  return made;
}

/** @param {string} time_zone @returns {Promise<SignedIn>} */
async function startSession(time_zone) {
  return (await call("/api/auth/guest", { method: "POST", body: { time_zone } })).json();
}

/** Delete the session from this browser. */
export function forgetSession() {
  remember(null);
}

/** Call `listener` when another tab starts or forgets the session. @param {() => void} listener */
export function onSessionChangedElsewhere(listener) {
  window.addEventListener("storage", (event) => {
    if (event.key === STORED || event.key === null) listener();
  });
}

/**
 * Send one request and return the answer, or throw an ApiError.
 * @param {string} path
 * @param {{method?: string, body?: unknown, headers?: Record<string, string>, signal?: AbortSignal}} options
 */
export async function call(path, { method = "GET", body, headers = {}, signal } = {}) {
  const sent = new Headers({ Accept: "application/json", ...headers });
  if (current) sent.set("Authorization", `Bearer ${current.token}`);
  if (body !== undefined) sent.set("Content-Type", "application/json");
  let response;
  try {
    response = await fetch(path, { method, headers: sent, body: JSON.stringify(body), signal, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "The server cannot be reached. Check the connection and try again.", "unreachable");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** Return the JSON at a path. The caller casts it to the right schema. @param {string} path @returns {Promise<unknown>} */
export async function get(path) {
  return (await call(path)).json();
}

/**
 * Send a file as a form would, and return the answer, or throw an ApiError. Unlike fetch, it reports its progress.
 * @param {string} path
 * @param {File} file
 * @param {{onProgress: (part: number) => void, signal: AbortSignal}} how `part` is the share that was sent, from 0 to 1
 * @returns {Promise<DocumentSeen>}
 */
export function upload(path, file, { onProgress, signal }) {
  const request = new XMLHttpRequest();
  const form = new FormData();
  form.append("file", file);
  return new Promise((resolve, reject) => {
    request.open("POST", path);
    request.responseType = "json";
    request.setRequestHeader("Accept", "application/json");
    if (current) request.setRequestHeader("Authorization", `Bearer ${current.token}`);
    request.upload.addEventListener("progress", (event) => event.total && onProgress(event.loaded / event.total));
    request.addEventListener("load", () => {
      if (request.status >= 200 && request.status < 300) resolve(request.response);
      else reject(refused(request.status, request.response));
    });
    request.addEventListener("error", () => reject(new ApiError(0, "The server cannot be reached, or the file cannot be read.", "unreachable")));
    request.addEventListener("abort", () => reject(signal.reason));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** @param {Response} response */
async function refusal(response) {
  return refused(response.status, await response.json().catch(() => null));
}

/** @param {number} status @param {Problem | null} problem the body of the server's answer, if it is a problem */
function refused(status, problem) {
  const sentence = problem?.detail || problem?.title || `The server failed with status ${status}.`;
  return new ApiError(status, String(sentence), problem?.code);
}

/** @returns {SignedIn | null} */
function load() {
  try {
    return JSON.parse(localStorage.getItem(STORED) ?? "null");
  } catch {
    return null;
  }
}

/** @param {SignedIn | null} made */
function remember(made) {
  current = made;
  try {
    if (made) localStorage.setItem(STORED, JSON.stringify(made));
    else localStorage.removeItem(STORED);
  } catch {
    // If the browser refuses to store the session, the session lasts as long as the page is open.
  }
}
