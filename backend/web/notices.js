/** What the page has to say: one notice above the message box, and words for screen readers. */

import { byId, failure } from "./dom.js";

const notice = byId("notice");

/** @param {string} kind @param {string} sentence @param {string} [label] @param {() => void} [action] */
export function showNotice(kind, sentence, label, action) {
  notice.dataset.kind = kind;
  notice.hidden = false;
  notice.replaceChildren(failure(sentence, label, action));
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
