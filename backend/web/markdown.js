/** Markdown as elements. What a model writes makes only the elements named here; HTML in it stays text. */

import DOMPurify from "./vendor/dompurify/purify.es.mjs";
import { Lexer, Marked } from "./vendor/marked/marked.esm.js";
import { codeBlock } from "./code.js";
import { el } from "./dom.js";
import { withoutSigns } from "./marks.js";

/** @typedef {{type: string, raw: string, text?: string, tokens?: Block[], items?: Block[]}} Block */

const TAGS = ["p", "br", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "strong", "em", "del", "hr", "a", "div"];
const TABLE_TAGS = ["table", "thead", "tbody", "tr", "th", "td"];
const ALLOWED = {
  ALLOWED_TAGS: [...TAGS, ...TABLE_TAGS],
  ALLOWED_ATTR: ["href", "start", "class"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: /** @type {const} */ (true),
};
const PROTOCOLS = ["http:", "https:", "mailto:"];
const LOWEST_HEADING = 6;
const NAME_OF_A_HOST = /(?:[\p{L}\p{N}-]+\.)+\p{L}{2,}/u;

const marked = new Marked({
  gfm: true,
  breaks: true,
  tokenizer: {
    // HTML is text.
    html: () => undefined,
    tag: () => undefined,
    // A definition far below would change what stands above; and [p12] must never become a link.
    def: () => undefined,
    del: (source) => (source.startsWith("~~") ? false : undefined),
  },
  renderer: {
    // Below the page's own title.
    heading({ tokens, depth }) {
      const level = Math.min(depth + 1, LOWEST_HEADING);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
    code({ text, lang }) {
      const language = withoutSigns(lang ?? "").split(/\s/)[0];
      return `\n<pre><code class="${escaped(language)}">${escaped(text)}</code></pre>\n`;
    },
    link({ href, tokens }) {
      return linked(href, this.parser.parseInline(tokens.map(withoutPicture)));
    },
    // A picture would tell another host that the answer was read, and more by its address.
    image: (picture) => linked(picture.href, escaped(withoutPicture(picture).text)),
    listitem(item) {
      return `<li${item.task ? ' class="todo"' : ""}>${this.parser.parse(item.tokens)}</li>\n`;
    },
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    tablecell(token) {
      const tag = token.header ? "th" : "td";
      const align = token.align ? ` class="align-${token.align}"` : "";
      return `<${tag}${align}>${this.parser.parseInline(token.tokens)}</${tag}>\n`;
    },
  },
});

/** The blocks of a source, with their structure and without what stands within their lines. @param {string} source @returns {Block[]} */
export function structure(source) {
  return new Lexer(marked.defaults).blockTokens(source, []);
}

/** The blocks of a source. @param {string} source @returns {Block[]} */
export function blocks(source) {
  return marked.lexer(source);
}

/** Each block as one element. @param {Block[]} all @returns {HTMLElement[]} */
export function rendered(all) {
  // All in one call: the sanitizer parses a document each time.
  const markup = all.map((block) => `<div>${marked.parser(/** @type {any} */ ([block]))}</div>`).join("");
  const fragment = DOMPurify.sanitize(markup, ALLOWED);
  for (const link of fragment.querySelectorAll("a")) finishLink(link);
  for (const pre of fragment.querySelectorAll("pre")) pre.replaceWith(codeBlock(pre.textContent ?? "", pre.firstElementChild?.className ?? ""));
  for (const table of fragment.querySelectorAll("table")) {
    const scroller = el("div", { class: "wide", tabindex: "0" });
    table.replaceWith(scroller);
    scroller.append(table);
  }
  return [...fragment.children].map((block) => {
    const [first] = block.children;
    const isOne = block.children.length === 1 && block.textContent?.trim() === first.textContent?.trim();
    const element = /** @type {HTMLElement} */ (isOne ? first : block);
    element.dir ||= "auto";
    return element;
  });
}

/** A picture's words in its place. @param {any} token */
function withoutPicture(token) {
  return token.type === "image" ? { type: "text", raw: token.raw, text: token.text || "Picture" } : token;
}

/** @param {string} href @param {string} inside markup */
function linked(href, inside) {
  const address = safeAddress(href.replaceAll("&amp;", "&"));
  return address ? `<a href="${escaped(address.href)}">${inside}</a>` : inside;
}

/** @param {string} href */
function safeAddress(href) {
  try {
    const address = new URL(withoutSigns(href));
    return PROTOCOLS.includes(address.protocol) ? address : null;
  } catch {
    return null; // It is relative, or no address.
  }
}

/** @param {HTMLAnchorElement} link */
function finishLink(link) {
  const address = safeAddress(link.href);
  if (!address) return link.replaceWith(...link.childNodes);
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  link.title = address.href;
  // Words that look like one address must not lead to another unseen.
  const real = address.hostname || address.pathname;
  const words = withoutSigns(link.textContent ?? "").trim();
  const said = NAME_OF_A_HOST.exec(words)?.[0];
  if (said && bare(said) !== bare(real) && words !== real) link.append(` (${real})`);
}

/** @param {string} host */
function bare(host) {
  return host.toLowerCase().replace(/^www\./, "");
}

/** @param {string} text */
function escaped(text) {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
