/** The chat page: puts its parts together and runs one turn at a time. */

import { ApiError, call, ensureSession, forgetSession, get, onSessionChangedElsewhere, session } from "./api.js";
import { chatHash, chatInAddress, createChatList } from "./chats.js";
import { createComposer } from "./composer.js";
import { byId, el, failure } from "./dom.js";
import { announce, clearNotice, showNotice } from "./notices.js";
import { createPanels } from "./panels.js";
import { startRun, tellRun } from "./run.js";
import { stickToEnd } from "./scroll.js";
import { createTaskPanel } from "./tasks.js";
import { Answer, question } from "./turn.js";

const thread = byId("thread");
const scroller = byId("thread-scroll");
const toEnd = stickToEnd(scroller, thread, byId("to-end"));

const chats = createChatList({ onError: report });
const tasks = createTaskPanel({ onError: report });
const composer = createComposer({ send });
const closePanels = createPanels({ chats: "(max-width: 759px)", tasks: "(max-width: 1099px)" });

/** @type {string | null} */
let conversation = null;
/** What is being followed now. @type {{ending: AbortController, runId: string | null} | null} */
let turn = null;

// ── One turn ─────────────────────────────────────────────────────────────────────────────────

/** @param {string} text */
async function send(text) {
  if (turn) return;
  const mine = begin();
  const asked = question(text);
  const answer = new Answer();
  const body = conversation === null ? { message: text } : { message: text, conversation_id: numeric(conversation) };
  const key = composer.keyFor(body);
  composer.hold(text);
  thread.append(asked, answer.element);
  answer.begin();
  toEnd();
  let accepted = false;

  try {
    await ensureSession();
    showAccount();
    await follow(answer, mine, {
      start: () => startRun(body, key, mine.ending.signal),
      accepted: () => {
        accepted = true;
        composer.accepted();
      },
      retry: () => send(text),
    });
  } catch (error) {
    if (!accepted) {
      asked.remove();
      answer.element.remove();
      composer.restore();
    }
    if (mine.ending.signal.aborted) return;
    showWelcome();
    if (accepted) answer.fail(/** @type {Error} */ (error).message, () => (answer.element.remove(), rejoin(mine.runId, text)));
    if (!accepted || ended(error)) report(error, () => byId("composer").requestSubmit());
  } finally {
    end(mine);
  }
}

/** Follow a run that is under way already. @param {string | null} runId @param {string} text what was asked */
async function rejoin(runId, text) {
  if (turn || runId === null) return;
  const mine = begin();
  const answer = new Answer();
  thread.append(answer.element);
  answer.begin();
  try {
    await follow(answer, mine, { runId, retry: () => send(text) });
  } catch (error) {
    if (mine.ending.signal.aborted) return;
    answer.fail(/** @type {Error} */ (error).message, () => (answer.element.remove(), rejoin(runId, text)));
    if (ended(error)) report(error, null);
  } finally {
    end(mine);
  }
}

/**
 * Let the answer grow with its run.
 * @param {Answer} answer
 * @param {NonNullable<typeof turn>} mine
 * @param {{runId?: string, start?: () => Promise<Response>, accepted?: () => void, retry: () => void}} how
 */
function follow(answer, mine, { accepted, ...how }) {
  const onRun = (/** @type {any} */ run) => {
    mine.runId = run.run_id;
    if (run.model) nameModel(run.model);
    accepted?.();
    settleIn(String(run.conversation_id));
  };
  return tellRun(answer, { ...how, signal: mine.ending.signal, onRun });
}

function begin() {
  clearNotice();
  // Trying again makes sense for the newest failure only.
  for (const button of thread.querySelectorAll(".failure button")) button.remove();
  turn = { ending: new AbortController(), runId: null };
  composer.setBusy(true);
  byId("welcome").hidden = true;
  return turn;
}

/** @param {NonNullable<typeof turn>} mine */
function end(mine) {
  if (turn !== mine) return;
  turn = null;
  clearNotice("connection");
  composer.setBusy(false);
  if (session()) refreshLists();
}

// ── Which conversation is shown ──────────────────────────────────────────────────────────────

/** The server has said which conversation this is. @param {string} id */
function settleIn(id) {
  if (conversation === id) return;
  conversation = id;
  history.pushState(null, "", chatHash(id));
  chats.mark(id);
  chats.refresh();
}

/** Show what the address names, unless it stands there already. */
async function showAddressed() {
  const id = session() ? chatInAddress() : null;
  if (id === null || id !== conversation) await show(id);
}

/** @param {string | null} id */
async function show(id) {
  turn?.ending.abort();
  if (turn) end(turn);
  clearNotice();
  conversation = id;
  thread.replaceChildren();
  chats.mark(id);
  showWelcome();
  if (id === null) return history.replaceState(null, "", location.pathname);
  try {
    const found = await get(`/api/conversations/${encodeURIComponent(id)}`);
    if (conversation !== id || turn) return;
    showConversation(id, found);
  } catch (error) {
    if (conversation !== id) return;
    const missing = error instanceof ApiError && error.status === 404;
    if (missing) leaveConversation();
    report(error, missing ? null : () => show(id));
  }
}

/** @param {string} id @param {any} found */
function showConversation(id, found) {
  chats.name(id, found.title);
  chats.mark(id);
  thread.replaceChildren();
  let asked = "";
  let answer = null;
  for (const message of found.messages) {
    if (message.role === "user") asked = message.content;
    answer = message.role === "user" ? null : Answer.stored(message);
    thread.append(answer ? answer.element : question(message.content));
  }
  toEnd();
  const runId = found.messages.at(-1)?.run_id ?? null;
  if (answer) showOutcome(answer, runId, asked);
  else rejoin(runId, asked);
}

/** A stored answer does not say that it broke off; its run does. @param {Answer} answer @param {string | null} runId @param {string} asked */
async function showOutcome(answer, runId, asked) {
  if (runId === null) return;
  try {
    const { status, error } = await get(`/api/runs/${encodeURIComponent(runId)}`);
    if (status === "failed") answer.fail(error.detail, thread.lastElementChild === answer.element ? () => send(asked) : undefined);
  } catch (error) {
    report(error, null);
  }
}

function leaveConversation() {
  history.pushState(null, "", location.pathname);
  showAddressed();
}

function showWelcome() {
  byId("welcome").hidden = conversation !== null || thread.childElementCount > 0;
}

/** Ids are numbers on the wire and text in an address. @param {string} id */
function numeric(id) {
  return /^\d+$/.test(id) ? Number(id) : id;
}

// ── What went wrong ──────────────────────────────────────────────────────────────────────────────────

/** Whether the guest is gone. @param {any} error */
function ended(error) {
  return error.status === 401 && session() !== null;
}

/** Say what went wrong. @param {any} error @param {(() => void) | null} retry */
function report(error, retry) {
  if (error.name === "AbortError") return;
  if (ended(error)) {
    const kept = composer.isEmpty() ? "" : " What you typed is still in the box.";
    showNotice("session", `Your guest session has ended.${kept}`, "Start a new session", startAgain);
  } else {
    const again = retry && (() => (clearNotice(), retry()));
    showNotice("error", error.message, "Try again", again ?? undefined);
  }
}

// ── The guest ────────────────────────────────────────────────────────────────────────────────

function showAccount() {
  const guest = session();
  byId("forget").hidden = !guest;
  byId("first-note").hidden = Boolean(guest);
  byId("done-section").hidden = !guest;
  const date = guest?.expires_at && new Date(guest.expires_at).toLocaleDateString("en", { dateStyle: "medium" });
  byId("account").textContent = !guest ? "No account yet." : date ? `Guest, expires on ${date}.` : "Guest.";
}

function forgetHere() {
  forgetSession();
  showAccount();
  chats.clear();
  tasks.clear();
  leaveConversation();
}

async function startAgain() {
  forgetHere();
  try {
    await ensureSession();
    showAccount();
    refreshLists();
    composer.focus();
  } catch (error) {
    report(error, startAgain);
  }
}

async function forgetMe() {
  const confirm = byId("forget-confirm");
  confirm.disabled = true;
  try {
    await call("/api/me", { method: "DELETE" });
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 401)) {
      confirm.disabled = false;
      return byId("forget-error").replaceChildren(failure(/** @type {Error} */ (error).message));
    }
  }
  confirm.disabled = false;
  byId("forget-dialog").close();
  composer.clear();
  forgetHere();
  announce("You are forgotten.");
}

// ── Start ────────────────────────────────────────────────────────────────────────────────────

/** Name the model that answers: what the server says at first, and what each answer says of itself. @param {string} model */
function nameModel(model) {
  const badge = byId("model");
  const offline = model === "offline-rules-1";
  badge.replaceChildren(el("span", {}, offline ? "Offline rules, no language model" : model));
  badge.dataset.offline = String(offline);
  badge.title = model;
  badge.hidden = false;
}

async function showModel() {
  try {
    nameModel((await get("/health")).model);
  } catch (error) {
    report(error, showModel);
  }
}

function refreshLists() {
  return Promise.all([chats.refresh(), tasks.refresh()]);
}

byId("skip").addEventListener("click", (/** @type {Event} */ event) => (event.preventDefault(), composer.focus()));
byId("new-chat").addEventListener("click", () => {
  closePanels();
  leaveConversation();
  composer.focus();
});
byId("chat-list").addEventListener("click", (/** @type {any} */ event) => event.target.closest("a") && closePanels());
for (const example of byId("examples").querySelectorAll("button")) {
  example.addEventListener("click", () => send(example.textContent));
}
byId("forget").addEventListener("click", () => {
  byId("forget-error").replaceChildren();
  byId("forget-dialog").showModal();
});
byId("forget-confirm").addEventListener("click", forgetMe);
// Who begins to type, wherever, means the message box.
document.addEventListener("keydown", (event) => {
  const types = event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey && !event.altKey;
  if (types && event.target === document.body) composer.focus();
});
window.addEventListener("popstate", showAddressed);
document.addEventListener("visibilitychange", () => !document.hidden && session() && !turn && refreshLists());
onSessionChangedElsewhere(() => location.reload());

showAccount();
showModel();
if (session()) refreshLists();
showAddressed();
