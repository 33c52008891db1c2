/** What the page has to say: one notice above the message box, and words for screen readers. */

import { byId, failure } from "./dom.js";

const notice = byId("notice");
/** What the notice's button does. */
let act = () => {};

/** @param {string} kind @param {string} sentence @param {string} [label] @param {() => void} [action] */
export function showNotice(kind, sentence, label, action) {
  act = action ?? act;
  // Said once, however often it happens: a screen reader need not repeat it, and the button keeps the focus.
  const isThere = notice.dataset.kind === kind && notice.querySelector("p")?.textContent === sentence;
  if (isThere && Boolean(notice.querySelector("button")) === Boolean(action)) return;
  notice.dataset.kind = kind;
  notice.hidden = false;
  notice.replaceChildren(failure(sentence, label, action && (() => act())));
}

/** @param {string} [kind] only one of this kind */
export function clearNotice(kind) {
  if (kind && notice.dataset.kind !== kind) return;
  notice.hidden = true;
  notice.dataset.kind = "";
  notice.replaceChildren();
}

/** Have a screen reader say something. @param {string} text */
export function announce(text) {
  byId("announcer").replaceChildren(text);
}
