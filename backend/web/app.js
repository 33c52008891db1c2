/** The chat page: connects its parts, and runs one turn at a time. */

import { offerToForget, showAccount } from "./account.js";
import { ApiError, ensureSession, forgetSession, get, onSessionChangedElsewhere, session } from "./api.js";
import { chatHash, chatInAddress, createChatList } from "./chats.js";
import { createComposer } from "./composer.js";
import { createDocumentList } from "./documents.js";
import { byId } from "./dom.js";
import { linkInAddress } from "./links.js";
import { nameModel, showModel } from "./model.js";
import { announce, clearNotice, showNotice } from "./notices.js";
import { createPanels } from "./panels.js";
import { cancelRun, startRun, tellRun, UNEXPLAINED } from "./run.js";
import { stickToEnd } from "./scroll.js";
import { createTaskPanel } from "./tasks.js";
import { Answer, question } from "./turn.js";
import { clearUndo, connectUndo } from "./undo.js";
import { createUploads } from "./uploads.js";
import { openDocument } from "./viewer.js";

/** @import { ConversationWithMessages, DocumentSeen, RunSeen, RunStarted, TaskSeen } from "./schemas.d.ts" */

const thread = byId("thread");
const scroller = byId("thread-scroll");
const toEnd = stickToEnd(scroller, thread, byId("to-end"));

const chats = createChatList({ onError: report });
const tasks = createTaskPanel({ onError: report });
const documents = createDocumentList({ onError: report });
const uploads = createUploads({ onSession: showAccount, onStored: documents.add, onRefused: reportUpload });
const composer = createComposer({ send, stop });
const closePanels = createPanels({ chats: "(max-width: 759px)", tasks: "(max-width: 1099px)", documents: "(max-width: 1099px)" });

/** @type {string | null} */
let conversation = null;
/** The turn that the page follows now. @type {{answer: Answer, ending: AbortController, runId: string | null, stopping: boolean} | null} */
let turn = null;

// ── One turn ─────────────────────────────────────────────────────────────────────────────────

/** @param {string} text */
async function send(text) {
  if (turn) return;
  const asked = question(text);
  const answer = new Answer();
  const mine = begin(answer, null);
  const body = conversation === null ? { message: text } : { message: text, conversation_id: numeric(conversation) };
  const key = composer.keyFor(body);
  composer.hold(text);
  thread.append(asked, answer.element);
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
    if (accepted) failRejoinably(answer, error, mine.runId, text, asked);
    if (!accepted || ended(error)) report(error, () => byId("composer", HTMLFormElement).requestSubmit());
  } finally {
    end(mine);
  }
}

/**
 * Follow a run that is already in progress. Return false if this page stopped following the run, or never started.
 * @param {string | null} runId
 * @param {string} text the question
 * @param {Element} asked the question's element
 */
async function rejoin(runId, text, asked) {
  if (turn || runId === null) return false;
  const answer = new Answer();
  const mine = begin(answer, runId);
  asked.after(answer.element);
  try {
    await follow(answer, mine, { runId, retry: () => send(text) });
  } catch (error) {
    if (mine.ending.signal.aborted) return false;
    failRejoinably(answer, error, runId, text, asked);
    if (ended(error)) report(error, null);
  } finally {
    end(mine);
  }
  return !mine.ending.signal.aborted;
}

/**
 * Close an answer whose run could not be followed. "Try again" follows the run again.
 * @param {Answer} answer
 * @param {unknown} error
 * @param {string | null} runId
 * @param {string} text the question
 * @param {Element} asked the question's element
 */
function failRejoinably(answer, error, runId, text, asked) {
  answer.fail(/** @type {Error} */ (error).message, () => {
    answer.element.remove();
    rejoin(runId, text, asked);
  });
}

/** Ask the server to stop the current answer. The text so far, and everything done so far, stays. */
function stop() {
  if (!turn || turn.stopping) return;
  turn.stopping = true;
  clearNotice("stop");
  turn.answer.note("Stopping…");
  composer.setBusy(true, true);
  composer.focus();
  // If the server does not have the message yet, the run is stopped as soon as it does.
  if (turn.runId !== null) cancel(turn, turn.runId);
}

/** @param {NonNullable<typeof turn>} mine @param {string} runId */
async function cancel(mine, runId) {
  try {
    await cancelRun(runId, mine.ending.signal);
  } catch (error) {
    if (turn !== mine) return; // Too late: the answer is complete.
    mine.stopping = false;
    mine.answer.note();
    composer.setBusy(true);
    if (ended(error)) report(error, null);
    else showNotice("stop", /** @type {Error} */ (error).message, "Try again", stop);
  }
}

/**
 * Show a run's events in its answer.
 * @param {Answer} answer
 * @param {NonNullable<typeof turn>} mine
 * @param {{runId?: string, start?: () => Promise<Response>, accepted?: () => void, retry: () => void}} how
 */
function follow(answer, mine, { accepted, ...how }) {
  const onRun = (/** @type {RunStarted} */ run) => {
    if (mine.runId === null && mine.stopping) cancel(mine, run.run_id);
    mine.runId = run.run_id;
    if (run.model) nameModel(run.model, run.model_notice);
    accepted?.();
    settleIn(String(run.conversation_id));
  };
  return tellRun(answer, { ...how, signal: mine.ending.signal, onRun });
}

/** @param {Answer} answer @param {string | null} runId the run, if it exists already */
function begin(answer, runId) {
  clearNotice();
  // Only the newest failure keeps its "Try again" button.
  for (const button of thread.querySelectorAll(".failure button")) button.remove();
  turn = { answer, ending: new AbortController(), runId, stopping: false };
  answer.begin();
  composer.setBusy(true);
  byId("welcome").hidden = true;
  return turn;
}

/** @param {NonNullable<typeof turn>} mine */
function end(mine) {
  if (turn !== mine) return;
  turn = null;
  clearNotice("connection");
  clearNotice("stop");
  composer.setBusy(false);
  if (session()) refreshLists();
}

// ── Which conversation is shown ──────────────────────────────────────────────────────────────

/** Record which conversation is shown, once the server has reported its id. @param {string} id */
function settleIn(id) {
  if (conversation === id) return;
  conversation = id;
  history.pushState(null, "", chatHash(id));
  chats.mark(id);
  chats.refresh();
}

/** Show what the address names, unless the page already shows it. */
async function showAddressed() {
  const link = linkInAddress();
  if (link) return openLinked(link);
  const id = session() ? chatInAddress() : null;
  if (id === null || id !== conversation) await show(id);
}

/** Open the document or task that a link names. The conversation that is shown stays. @param {import("./links.js").Link} link */
async function openLinked(link) {
  history.replaceState(null, "", conversation === null ? location.pathname : chatHash(conversation));
  showWelcome();
  clearNotice("error");
  byId("viewer", HTMLDialogElement).close();
  if (!session()) return showNotice("error", "This link belongs to a user who is not signed in here.");
  try {
    const found = await get(`/api/${link.kind}s/${link.id}`);
    if (link.kind === "document") return openDocument(/** @type {DocumentSeen} */ (found), link.page);
    // When a hidden page becomes visible it reads its lists again, so the task is shown after that.
    if (document.hidden) await new Promise((seen) => document.addEventListener("visibilitychange", seen, { once: true }));
    if (byId("tasks").inert) byId("tasks-opener").click();
    await tasks.show(/** @type {TaskSeen} */ (found));
  } catch (error) {
    const missing = error instanceof ApiError && error.status === 404;
    if (missing) showNotice("error", `You have no ${link.kind} ${link.id}: it was deleted, or it belongs to somebody else.`);
    else report(error, () => openLinked(link));
  }
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
    const found = /** @type {ConversationWithMessages} */ (await get(`/api/conversations/${encodeURIComponent(id)}`));
    if (conversation !== id || turn) return;
    showConversation(id, found);
  } catch (error) {
    if (conversation !== id) return;
    const missing = error instanceof ApiError && [404, 422].includes(error.status);
    if (!missing) return report(error, () => show(id));
    leaveConversation();
    showNotice("error", "This conversation does not exist, or it belongs to somebody else.");
  }
}

/** @param {string} id @param {ConversationWithMessages} found */
function showConversation(id, found) {
  chats.name(id, found.title);
  chats.mark(id);
  thread.replaceChildren();
  let text = "";
  /** The last answer, with its run. @type {{answer: Answer, runId: string | null} | null} */
  let last = null;
  /** @type {{runId: string | null, text: string, asked: Element}[]} */
  let unanswered = [];
  for (const message of found.messages) {
    if (message.role === "user") {
      text = message.content;
      const asked = question(text);
      unanswered.push({ runId: message.run_id, text, asked });
      thread.append(asked);
    } else {
      const answer = Answer.stored(message);
      last = { answer, runId: message.run_id };
      unanswered = [];
      thread.append(answer.element);
    }
  }
  toEnd();
  if (unanswered.length) rejoinAll(unanswered);
  else if (last) showOutcome(last.answer, last.runId, text);
}

/** Follow the runs of several waiting messages, which the server answers one after the other. @param {{runId: string | null, text: string, asked: Element}[]} runs */
async function rejoinAll(runs) {
  for (const { runId, text, asked } of runs) {
    if (!(await rejoin(runId, text, asked))) return;
  }
}

/** Show how an answer's run ended. The stored answer does not say that it is incomplete. @param {Answer} answer @param {string | null} runId @param {string} asked */
async function showOutcome(answer, runId, asked) {
  if (runId === null) return;
  try {
    const { status, error } = /** @type {RunSeen} */ (await get(`/api/runs/${encodeURIComponent(runId)}`));
    if (status === "failed") answer.fail(error?.detail ?? UNEXPLAINED, thread.lastElementChild === answer.element ? () => send(asked) : undefined);
    if (status === "cancelled") answer.end(status, null, error?.detail);
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

/** Convert an id from an address to the number that the API uses. @param {string} id */
function numeric(id) {
  return /^\d+$/.test(id) ? Number(id) : id;
}

// ── What went wrong ──────────────────────────────────────────────────────────────────────────────────

/** Return whether an error means that the guest's session has ended. @param {unknown} error */
function ended(error) {
  return error instanceof ApiError && error.status === 401 && session() !== null;
}

/** Show what went wrong. @param {unknown} error @param {(() => void) | null} retry */
function report(error, retry) {
  const { name, message } = /** @type {Error} */ (error);
  if (name === "AbortError") return;
  if (ended(error)) {
    const kept = composer.isEmpty() ? "" : " What you typed is still in the box.";
    showNotice("session", `Your guest session has ended.${kept}`, "Start a new session", startAgain);
  } else {
    const again = () => {
      clearNotice();
      retry?.();
    };
    showNotice("error", message, "Try again", retry ? again : undefined);
  }
}

/** Report a failed upload. Its own row shows the error, so a notice is needed only if the panel is hidden. @param {Error} error */
function reportUpload(error) {
  if (ended(error)) report(error, null);
  else if (byId("documents").inert) showNotice("upload", error.message, "Show documents", showDocuments);
  else announce(error.message);
}

function showDocuments() {
  clearNotice("upload");
  byId("documents-opener").click();
}

// ── The guest ────────────────────────────────────────────────────────────────────────────────

function forgetHere() {
  forgetSession();
  showAccount();
  chats.clear();
  tasks.clear();
  documents.clear();
  clearUndo();
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

// ── Start ────────────────────────────────────────────────────────────────────────────────────

function refreshLists() {
  return Promise.all([chats.refresh(), tasks.refresh(), documents.refresh()]);
}

byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  composer.focus();
});
byId("new-chat").addEventListener("click", () => {
  closePanels();
  leaveConversation();
  composer.focus();
});
byId("chat-list").addEventListener("click", (event) => /** @type {Element} */ (event.target).closest("a") && closePanels());
for (const example of byId("examples").querySelectorAll("button")) {
  example.addEventListener("click", () => send(example.textContent));
}
connectUndo({ onUndone: async () => session() && refreshLists(), onError: report });
offerToForget(() => {
  composer.clear();
  uploads.clear();
  forgetHere();
  announce("Your data was deleted.");
});
// Typing anywhere on the page goes to the message box.
document.addEventListener("keydown", (event) => {
  const types = event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey && !event.altKey;
  if (types && event.target === document.body) composer.focus();
});
document.addEventListener("keydown", (event) => {
  const isFree = !event.defaultPrevented && !event.isComposing && !document.querySelector("dialog[open]");
  if (event.key === "Escape" && isFree) stop();
});
window.addEventListener("popstate", showAddressed);
document.addEventListener("visibilitychange", () => !document.hidden && session() && !turn && refreshLists());
onSessionChangedElsewhere(() => location.reload());

showAccount();
showModel({ onError: report });
if (session()) refreshLists();
showAddressed();
