/** The side panels: columns in a wide window, drawers in a narrow one. */

import { byId } from "./dom.js";

/**
 * @param {Record<string, string>} narrow for each panel's id, the media query for windows in which the panel is a drawer
 * @returns {() => void} closes the open drawer, if any
 */
export function createPanels(narrow) {
  const queries = Object.entries(narrow).map(([id, query]) => ({ id, query: window.matchMedia(query) }));
  /** @type {string | null} */
  let open = null;

  /** @param {string | null} id */
  function show(id) {
    const before = open;
    open = id;
    for (const { id: panel, query } of queries) {
      byId(panel).dataset.open = String(open === panel);
      byId(`${panel}-opener`).setAttribute("aria-expanded", String(open === panel));
      // The keyboard cannot reach a closed drawer, or anything under an open drawer.
      byId(panel).inert = open === null ? query.matches : open !== panel;
    }
    byId("main").inert = open !== null;
    byId("backdrop").hidden = open === null;
    if (open) byId(`${open}-closer`).focus();
    else if (before) byId(`${before}-opener`).focus();
  }

  const close = () => {
    if (open) show(null);
  };
  for (const { id, query } of queries) {
    byId(`${id}-opener`).addEventListener("click", () => show(id));
    byId(`${id}-closer`).addEventListener("click", close);
    query.addEventListener("change", () => show(null));
  }
  byId("backdrop").addEventListener("click", close);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || open === null || document.querySelector("dialog[open]")) return;
    // One Escape does only one thing. This one closes the drawer.
    event.preventDefault();
    close();
  });
  show(null);
  return close;
}
