/** The task list at the side: open tasks first, finished ones on demand. */

import { ApiError, call, get } from "./api.js";
import { byId, el, failure } from "./dom.js";
import { showUndo } from "./undo.js";

/** @import { TaskSeen, TasksListed } from "./schemas.d.ts" */

const DAY = 86_400_000;
const NEAR = new Map([[-1, "yesterday"], [0, "today"], [1, "tomorrow"]]);

/** @param {{onError: (error: unknown, retry: (() => void) | null) => void}} on */
export function createTaskPanel({ onError }) {
  const open = byId("open-tasks");
  const done = byId("done-tasks");
  const doneSection = byId("done-section", HTMLDetailsElement);
  const count = byId("task-count");
  const empty = byId("tasks-empty");
  let round = 0;

  /** Read the lists again. If a newer request has started meanwhile, the older answer is dropped. */
  async function refresh() {
    const mine = ++round;
    await Promise.all([fill(open, "pending", mine), ...(doneSection.open ? [fill(done, "completed", mine)] : [])]);
  }

  /** @param {HTMLElement} list @param {string} status @param {number} mine */
  async function fill(list, status, mine, cursor = "") {
    try {
      const query = new URLSearchParams(cursor ? { status, cursor } : { status });
      const page = /** @type {TasksListed} */ (await get(`/api/tasks?${query}`));
      if (mine !== round) return;
      list.querySelector(".more")?.remove();
      if (!cursor) list.replaceChildren();
      const there = new Set([...list.querySelectorAll("li")].map(({ dataset }) => dataset.taskId));
      list.append(...page.tasks.filter(({ id }) => !there.has(String(id))).map(row));
      const next = page.next_cursor;
      if (next) {
        const more = () => fill(list, status, mine, next);
        list.append(el("li", { class: "more" }, el("button", { type: "button", class: "quiet", onclick: more }, "Show more")));
      }
      tell();
    } catch (error) {
      if (mine !== round) return;
      if (cursor || (error instanceof ApiError && error.status === 401)) return onError(error, refresh);
      list.replaceChildren(el("li", {}, failure(/** @type {Error} */ (error).message, "Try again", refresh)));
      tell();
    }
  }

  function tell() {
    const pending = open.querySelectorAll(".task:not([data-completed=true])").length;
    const more = open.querySelector(".more") ? "+" : "";
    count.textContent = pending ? `${pending}${more}` : "";
    byId("task-count-small").textContent = count.textContent;
    empty.hidden = open.childElementCount > 0;
  }

  /** Remove the row of a task that was deleted elsewhere. @param {HTMLElement} item */
  function gone(item) {
    item.remove();
    tell();
    onError(new Error("This task was deleted elsewhere."), null);
  }

  /** @param {TaskSeen} task */
  function row(task) {
    const box = el("input", { type: "checkbox", "data-testid": "task-checkbox", checked: task.completed });
    const title = el("span", { class: "task-title", "data-testid": "task-title" }, task.title);
    const item = el("li", { class: "task", "data-testid": "task", "data-task-id": task.id }, el("label", {}, box, title), facts(task));
    item.dataset.completed = String(task.completed);
    box.addEventListener("change", async () => {
      const completed = box.checked;
      box.disabled = true;
      try {
        const { headers } = await call(`/api/tasks/${task.id}`, { method: "PATCH", body: { completed } });
        // The row stays in its place until the next refresh, so that a mistaken click can be undone.
        item.dataset.completed = String(completed);
        tell();
        const verb = completed ? "Completed" : "Reopened";
        showUndo("tasks", { verb, name: task.title, operation: headers.get("Operation-Id"), focus: () => focus(task.id) });
      } catch (error) {
        if (error instanceof ApiError && error.status === 404) return gone(item);
        box.checked = !completed;
        onError(error, () => box.click());
      }
      box.disabled = false;
      box.focus();
    });
    return item;
  }

  /** @param {number} id */
  function focus(id) {
    for (const list of [open, done]) rowIn(list, id)?.querySelector("input")?.focus();
  }

  /** @param {HTMLElement} list @param {number} id */
  function rowIn(list, id) {
    return [...list.querySelectorAll("li")].find(({ dataset }) => dataset.taskId === String(id));
  }

  doneSection.addEventListener("toggle", () => doneSection.open && refresh());

  return {
    refresh,
    /** Scroll to a task. If its list does not show the task yet, add it there. @param {TaskSeen} task */
    async show(task) {
      if (task.completed && !doneSection.open) {
        const opened = new Promise((seen) => doneSection.addEventListener("toggle", seen, { once: true }));
        doneSection.open = true;
        await opened; // Opening the section starts its own refresh, which the refresh below replaces.
      }
      await refresh();
      const list = task.completed ? done : open;
      const found = rowIn(list, task.id);
      const item = found ?? row(task);
      if (!found) list.prepend(item);
      item.scrollIntoView({ block: "center" });
      item.querySelector("input")?.focus();
    },
    clear() {
      round += 1;
      doneSection.open = false;
      open.replaceChildren();
      done.replaceChildren();
      tell();
    },
  };
}

/** @param {TaskSeen} task */
function facts(task) {
  const line = el("p", { class: "task-facts" });
  line.append(el("span", { class: "task-number" }, `#${task.id}`));
  if (task.due) {
    const late = !task.completed && new Date(task.due).getTime() < Date.now();
    line.append(el("time", { datetime: task.due, "data-late": late }, (late ? "Overdue, " : "") + dueText(task.due)));
  }
  if (task.priority && task.priority !== "none") line.append(el("span", { class: "priority", "data-priority": task.priority }, `${task.priority} priority`));
  for (const tag of task.tags ?? []) line.append(el("span", { class: "tag" }, tag));
  return line;
}

/** @param {string} due */
function dueText(due) {
  const at = new Date(due);
  const days = Math.round((midnight(at) - midnight(new Date())) / DAY);
  const sameYear = at.getFullYear() === new Date().getFullYear();
  const day = NEAR.get(days) ?? at.toLocaleDateString("en", { weekday: "short", month: "short", day: "numeric", year: sameYear ? undefined : "numeric" });
  const wholeDay = ["00:00", "23:59"].includes(at.toTimeString().slice(0, 5));
  return wholeDay ? day : `${day}, ${at.toLocaleTimeString("en", { hour: "numeric", minute: "2-digit" })}`;
}

/** @param {Date} date */
function midnight(date) {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}
