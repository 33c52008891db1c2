/** The list of conversations. */

import { ApiError, get } from "./api.js";
import { byId, el, failure } from "./dom.js";

/** @import { ConversationSeen, ConversationsListed } from "./schemas.d.ts" */

/** Return a conversation's address within the page. @param {string | number} id */
export function chatHash(id) {
  return `#c/${encodeURIComponent(id)}`;
}

/** The conversation that the address names, or null. */
export function chatInAddress() {
  const match = /^#c\/(.+)$/.exec(location.hash);
  try {
    return match ? decodeURIComponent(match[1]) : null;
  } catch {
    return null; // The address is malformed.
  }
}

/** Return the time for a moment today, or else the day. @param {Date} at */
function whenText(at) {
  const now = new Date();
  if (at.toDateString() === now.toDateString()) return at.toLocaleTimeString("en", { hour: "numeric", minute: "2-digit" });
  const year = at.getFullYear() === now.getFullYear() ? undefined : "numeric";
  return at.toLocaleDateString("en", { month: "short", day: "numeric", year });
}

/** @param {{onError: (error: unknown, retry: () => void) => void}} on */
export function createChatList({ onError }) {
  const list = byId("chat-list");
  /** @type {Map<string, string>} */
  const titles = new Map();
  /** @type {string | null} */
  let current = null;
  let round = 0;

  async function refresh() {
    await fill(++round);
  }

  /** @param {number} mine */
  async function fill(mine, cursor = "") {
    try {
      const query = cursor ? `?${new URLSearchParams({ cursor })}` : "";
      const page = /** @type {ConversationsListed} */ (await get(`/api/conversations${query}`));
      if (mine !== round) return;
      list.querySelector(".more")?.remove();
      if (!cursor) list.replaceChildren();
      list.append(...page.conversations.map(row));
      const next = page.next_cursor;
      if (next) {
        const more = () => fill(mine, next);
        list.append(el("li", { class: "more" }, el("button", { type: "button", class: "quiet", onclick: more }, "Show more")));
      }
      mark(current);
    } catch (error) {
      if (mine !== round) return;
      if (cursor || (error instanceof ApiError && error.status === 401)) return onError(error, refresh);
      list.replaceChildren(el("li", {}, failure(/** @type {Error} */ (error).message, "Try again", refresh)));
    }
  }

  /** @param {ConversationSeen} chat */
  function row({ id, title, updated_at }) {
    const name = title || "New chat";
    titles.set(String(id), name);
    const when = el("time", { datetime: updated_at }, whenText(new Date(updated_at)));
    const link = el("a", { href: chatHash(id), title: name, "data-testid": "conversation" }, el("span", {}, name), when);
    return el("li", { "data-conversation-id": id }, link);
  }

  /** Mark the open conversation in the list. @param {string | null} id */
  function mark(id) {
    current = id;
    for (const item of list.querySelectorAll("li")) {
      const link = item.querySelector("a");
      if (item.dataset.conversationId === id) link?.setAttribute("aria-current", "page");
      else link?.removeAttribute("aria-current");
    }
    const title = (id !== null && titles.get(id)) || "New chat";
    byId("chat-title").textContent = title;
    document.title = id === null ? "DocuTalk" : `${title} · DocuTalk`;
  }

  return {
    refresh,
    mark,
    /** Set a conversation's title, as the conversation itself reports it. @param {string} id @param {string} title */
    name(id, title) {
      if (title) titles.set(id, title);
    },
    clear() {
      round += 1;
      titles.clear();
      list.replaceChildren();
      mark(null);
    },
  };
}
