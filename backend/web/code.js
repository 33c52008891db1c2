/** A block of code, with a button that copies it. */

import { el } from "./dom.js";
import { announce } from "./notices.js";

const SHOWN_FOR = 2_000;

/** @param {string} code @param {string} language the model's name for it, or "" */
export function codeBlock(code, language) {
  const state = el("span", {}, "Copy");
  const button = el("button", { type: "button", class: "copy", "data-testid": "copy" }, state, el("span", { class: "visually-hidden" }, " code"));
  const head = el("div", { class: "code-head" }, el("span", { class: "code-language" }, language), button);
  const text = el("code", {}, code);
  const block = el("div", { class: "code", dir: "ltr", "data-testid": "code" }, head, el("pre", { class: "wide", tabindex: "0", role: "region", "aria-label": "Code" }, text));
  let timer = 0;
  button.addEventListener("click", async () => {
    const isCopied = await copy(text.textContent, button);
    announce(isCopied ? "Copied." : "The code could not be copied. Select it instead.");
    state.textContent = isCopied ? "Copied" : "Not copied";
    clearTimeout(timer);
    timer = setTimeout(() => (state.textContent = "Copy"), SHOWN_FOR);
  });
  return block;
}

/** @param {string} text @param {HTMLElement} button keeps the focus */
async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // On plain HTTP, only localhost has a clipboard. A browser may also refuse to use the clipboard.
    return copySelected(text, button);
  }
}

/** @param {string} text @param {HTMLElement} button */
function copySelected(text, button) {
  const box = el("textarea", { class: "copied", readonly: true, "aria-hidden": "true" });
  box.value = text;
  document.body.append(box);
  box.select();
  const isCopied = document.execCommand("copy");
  box.remove();
  button.focus();
  return isCopied;
}
