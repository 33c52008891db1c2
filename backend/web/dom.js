/** Functions that create and find elements. Text is always inserted as text, never as markup. */

/** @typedef {string | number | boolean | null | undefined | ((event: Event) => unknown)} Attribute */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, Attribute>} [attributes] a function listens to the event named after "on"; false or null omits an attribute
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
 * Return an element that the page always has.
 * @template {HTMLElement} [Kind=HTMLElement]
 * @param {string} id
 * @param {new () => Kind} [kind] the element's class, if the caller needs more than an HTMLElement
 * @returns {Kind}
 */
export function byId(id, kind) {
  const element = document.getElementById(id);
  if (element instanceof (kind ?? HTMLElement)) return /** @type {Kind} */ (element);
  throw new TypeError(`The page has no ${kind?.name ?? "HTMLElement"} with the id ${id}.`);
}

/**
 * Return a sentence about what went wrong, with a button for what to do next.
 * @param {string} sentence
 * @param {string} [label]
 * @param {() => void} [action]
 */
export function failure(sentence, label, action) {
  const button = action ? [el("button", { type: "button", class: "quiet", "data-testid": "retry", onclick: action }, label ?? "Try again")] : [];
  return el("div", { class: "failure", role: "alert", "data-testid": "error" }, el("p", {}, sentence), ...button);
}
