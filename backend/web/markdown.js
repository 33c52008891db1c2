/** Markdown as elements. A model's text can create only the elements listed here, and its HTML stays text. */

import DOMPurify from "./vendor/dompurify/purify.es.mjs";
import { Lexer, Marked } from "./vendor/marked/marked.esm.js";
import { codeBlock } from "./code.js";
import { el } from "./dom.js";
import { withoutSigns } from "./marks.js";

/** @import { Token } from "./vendor/marked/marked.esm.js" */
/** @typedef {{type: string, raw: string, text?: string, tokens?: Block[], items?: Block[]}} Block */

const TAGS = ["p", "br", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "strong", "em", "del", "hr", "a", "div"];
const TABLE_TAGS = ["table", "thead", "tbody", "tr", "th", "td"];
const ALLOWED = {
  ALLOWED_TAGS: [...TAGS, ...TABLE_TAGS],
  ALLOWED_ATTR: ["href", "start", "class"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  // Without this, DOMPurify would check `start` as if it were an address.
  ADD_URI_SAFE_ATTR: ["start"],
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: /** @type {const} */ (true),
};
const PROTOCOLS = ["http:", "https:", "mailto:"];
const LOWEST_HEADING = 6;
// The search starts only at the beginning of a name, so that it takes linear time.
const NAMES_OF_HOSTS = /(?<![\p{L}\p{N}-]|[\p{L}\p{N}-]\.)(?:[\p{L}\p{N}-]+\.)+\p{L}[\p{L}\p{N}-]+/gu;
const INVISIBLE = /[\p{Cf}\p{Mn}\p{DI}\u2800]/gu;

const marked = new Marked({
  gfm: true,
  breaks: true,
  tokenizer: {
    // HTML stays text.
    html: () => undefined,
    tag: () => undefined,
    // A link definition far below would change text above it. Also, [p12] must never become a link.
    def: () => undefined,
    del: (source) => (source.startsWith("~~") ? false : undefined),
  },
  renderer: {
    // Headings are one level lower, so that they are below the page's own title.
    heading({ tokens, depth }) {
      const level = Math.min(depth + 1, LOWEST_HEADING);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
    code({ text, lang }) {
      const language = withoutSigns(lang ?? "").split(/\s/)[0];
      return `\n<pre><code class="${escaped(language)}">${escaped(text)}</code></pre>\n`;
    },
    link({ href, tokens }) {
      return linked(href, this.parser.parseInline(tokens.map(withoutLinks)));
    },
    // A picture's request would tell another host that the answer was read. Its address could carry more data.
    image(picture) {
      return linked(picture.href, this.parser.parseInline([withoutLinks(picture)]));
    },
    // The line break is also text, because screen readers get only the text.
    br: () => "<br>\n",
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

/** Return the block structure of a source, without its inline content. @param {string} source @returns {Block[]} */
export function structure(source) {
  return new Lexer(marked.defaults).blockTokens(source, []);
}

/** Return the blocks of a source, with their inline content. @param {string} source @returns {Block[]} */
export function blocks(source) {
  return marked.lexer(source);
}

/** Return each block as one element. @param {Block[]} all @returns {HTMLElement[]} */
export function rendered(all) {
  // All blocks are sanitized in one call, because each call parses a whole document.
  const markup = all.map((block) => `<div>${marked.parser(/** @type {Token[]} */ ([block]))}</div>`).join("");
  const fragment = DOMPurify.sanitize(markup, ALLOWED);
  for (const link of fragment.querySelectorAll("a")) finishLink(link);
  for (const pre of fragment.querySelectorAll("pre")) pre.replaceWith(codeBlock(pre.textContent ?? "", pre.firstElementChild?.className ?? ""));
  for (const table of fragment.querySelectorAll("table")) {
    const scroller = el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Table" });
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

/** Return a token with each link and picture replaced by its words. @param {Token} token @returns {Token} */
function withoutLinks(token) {
  const tokens = "tokens" in token && token.tokens?.length ? token.tokens.map(withoutLinks) : undefined;
  if (token.type === "image") return { type: "text", raw: token.raw, text: token.text || "Picture", tokens };
  return token.type === "link" ? { type: "text", raw: token.raw, text: token.text, tokens } : { ...token, tokens };
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
    return null; // It is a relative address, or not an address.
  }
}

/** @param {HTMLAnchorElement} link */
function finishLink(link) {
  const address = safeAddress(link.href);
  if (!address) return link.replaceWith(...link.childNodes);
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  link.title = address.href;
  const real = address.hostname || address.pathname;
  const words = withoutSigns(link.textContent ?? "").trim();
  const seen = words.normalize("NFKC").replace(INVISIBLE, "").replaceAll("\u3002", ".");
  const names = seen.match(NAMES_OF_HOSTS) ?? [];
  const isHonest = words === real || (words === seen && isAddressAt(words, address.host));
  if (!seen.trim()) link.append(real);
  // If a link's words look like one address but it leads to another, the real host is shown. `bdi` keeps a direction
  // override in the words from reversing the host's name.
  else if (!isHonest && names.some((name) => bare(name) !== bare(real))) {
    link.replaceChildren(el("bdi", {}, ...link.childNodes), " (", el("bdi", {}, real), ")");
  }
}

/** Return whether words are only an address at this host. The address's path may contain other names. @param {string} words @param {string} host */
function isAddressAt(words, host) {
  const [start] = words.replace(/^https?:\/\//i, "").split(/[/?#]/, 1);
  return !/\s/.test(words) && bare(start) === bare(host);
}

/** @param {string} host */
function bare(host) {
  return host.toLowerCase().replace(/^www\./, "");
}

/** @param {string} text */
function escaped(text) {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
