/** The message box. Its text is dropped only after the server has accepted it. */

import { byId } from "./dom.js";

const STORED = "docutalk.draft";
const MAX_LENGTH = 16_000;
const COUNT_FROM = 15_000;

const HINTS = { idle: "Enter to send, Shift+Enter for a new line.", busy: "Escape to stop the answer." };

/**
 * @param {{send: (text: string) => void, stop: () => void}} on
 */
export function createComposer({ send, stop }) {
  const box = byId("message", HTMLTextAreaElement);
  const sendButton = byId("send", HTMLButtonElement);
  const stopButton = byId("stop", HTMLButtonElement);
  const counter = byId("counter");
  let held = "";
  let busy = false;
  /** The last message that was sent and is not known to be accepted, with its idempotency key. */
  let attempt = { body: "", key: "" };

  const stored = read();
  attempt = stored.attempt ?? attempt;
  box.value = stored.text ?? "";

  const unsent = () => [held, box.value].filter(Boolean).join("\n\n");
  const save = () => write({ text: unsent(), attempt });

  function show() {
    const length = Array.from(box.value).length;
    const tooLong = length > MAX_LENGTH;
    counter.hidden = length < COUNT_FROM;
    counter.textContent = `${length.toLocaleString("en")} of ${MAX_LENGTH.toLocaleString("en")} characters`;
    counter.dataset.over = String(tooLong);
    box.setAttribute("aria-invalid", String(tooLong));
    sendButton.disabled = busy || tooLong || box.value.trim() === "";
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight}px`;
  }

  function submit() {
    show();
    if (sendButton.disabled) return;
    // Send will be disabled and lose the focus. Keyboard users continue in the box.
    if (document.activeElement === sendButton) box.focus();
    send(box.value);
  }

  box.addEventListener("input", () => {
    show();
    save();
  });
  box.addEventListener("keydown", (event) => {
    // Safari ends a composition before the Enter that accepts its word. Only the key code shows such an Enter.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    submit();
  });
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  stopButton.addEventListener("click", stop);
  window.addEventListener("resize", show);
  show();

  return {
    /** Take a message out of the box while it is being sent. @param {string} text */
    hold(text) {
      held = text;
      if (box.value === text) box.value = "";
      show();
      save();
    },
    /** Forget the message that was sent, because the server has it. */
    accepted() {
      held = "";
      attempt = { body: "", key: "" };
      save();
    },
    /** Put a message that did not arrive back into the box, before any newer text. */
    restore() {
      if (!held) return;
      box.value = unsent();
      held = "";
      show();
      save();
    },
    /** Return the message's idempotency key. Every attempt at one message has the same key. @param {unknown} body */
    keyFor(body) {
      const text = JSON.stringify(body);
      if (attempt.body !== text) attempt = { body: text, key: uuid() };
      save();
      return attempt.key;
    },
    /**
     * Show Stop in the place of Send while an answer arrives. The next message can be written but not sent.
     * @param {boolean} now whether an answer is arriving
     * @param {boolean} [stopping] whether the answer was already asked to stop
     */
    setBusy(now, stopping = false) {
      busy = now;
      // Stop will be hidden or disabled and lose the focus. Keyboard users continue in the box.
      if (document.activeElement === stopButton && (!now || stopping)) box.focus();
      sendButton.hidden = now;
      stopButton.hidden = !now;
      stopButton.disabled = stopping;
      byId("hint").textContent = now ? HINTS.busy : HINTS.idle;
      show();
    },
    isEmpty() {
      return box.value.trim() === "";
    },
    focus() {
      box.focus();
    },
    /** Delete everything that was typed. */
    clear() {
      held = "";
      box.value = "";
      show();
      save();
    },
  };
}

/** Return a random UUID. On plain HTTP, only localhost has crypto.randomUUID. */
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** @returns {{text?: string, attempt?: {body: string, key: string}}} */
function read() {
  try {
    return JSON.parse(sessionStorage.getItem(STORED) ?? "{}");
  } catch {
    return {};
  }
}

/** @param {unknown} value */
function write(value) {
  try {
    sessionStorage.setItem(STORED, JSON.stringify(value));
  } catch {
    // Without storage, a draft lasts as long as the page is open.
  }
}
