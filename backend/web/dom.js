/** Making and finding elements. Text always goes in as text, never as markup. */

/** @typedef {string | number | boolean | null | undefined | ((event: Event) => unknown)} Attribute */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, Attribute>} [attributes] a function listens to the event after "on"; false and null leave one out
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children);
  return element;
}

/**
 * Return the element that the page is known to have.
 * @template {HTMLElement} [Kind=HTMLElement]
 * @param {string} id
 * @param {new () => Kind} [kind] its class, where it is needed
 * @returns {Kind}
 */
export function byId(id, kind) {
  const element = document.getElementById(id);
  if (element instanceof (kind ?? HTMLElement)) return /** @type {Kind} */ (element);
  throw new TypeError(`The page has no ${kind?.name ?? "HTMLElement"} with the id ${id}.`);
}

/**
 * A sentence about what went wrong, with a button that does something about it.
 * @param {string} sentence
 * @param {string} [label]
 * @param {() => void} [action]
 */
export function failure(sentence, label, action) {
  const button = action ? [el("button", { type: "button", class: "quiet", "data-testid": "retry", onclick: action }, label ?? "Try again")] : [];
  return el("div", { class: "failure", role: "alert", "data-testid": "error" }, el("p", {}, sentence), ...button);
}
