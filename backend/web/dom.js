/** Making elements. Text always goes in as text, never as markup. */

/**
 * @param {string} tag
 * @param {Record<string, any>} [attributes] names that start with "on" take a listener; false and null leave one out
 * @param {...(Node | string)} children
 * @returns {any} the element
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** The element that the page is known to have. @param {string} id @returns {any} */
export function byId(id) {
  return document.getElementById(id);
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
