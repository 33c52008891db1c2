/** Markdown as elements. What a model writes makes only the elements named here; HTML in it stays text. */

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
  // DOMPurify tests every other attribute as an address.
  ADD_URI_SAFE_ATTR: ["start"],
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: /** @type {const} */ (true),
};
const PROTOCOLS = ["http:", "https:", "mailto:"];
const LOWEST_HEADING = 6;
// The search begins at the start of a name only, so that it takes linear time.
const NAMES_OF_HOSTS = /(?<![\p{L}\p{N}-]|[\p{L}\p{N}-]\.)(?:[\p{L}\p{N}-]+\.)+\p{L}[\p{L}\p{N}-]+/gu;
const INVISIBLE = /[\p{Cf}\p{Mn}\p{DI}\u2800]/gu;

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
      return linked(href, this.parser.parseInline(tokens.map(withoutLinks)));
    },
    // A picture would tell another host that the answer was read, and more by its address.
    image(picture) {
      return linked(picture.href, this.parser.parseInline([withoutLinks(picture)]));
    },
    // With a line break as text, because the announcer reads the text alone.
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

/** Return the block structure, without parsing inline content. @param {string} source @returns {Block[]} */
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

/** A token with the words of links and pictures in their place. @param {Token} token @returns {Token} */
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
  const real = address.hostname || address.pathname;
  const words = withoutSigns(link.textContent ?? "").trim();
  const seen = words.normalize("NFKC").replace(INVISIBLE, "").replaceAll("\u3002", ".");
  const names = seen.match(NAMES_OF_HOSTS) ?? [];
  const isHonest = words === real || (words === seen && isAddressAt(words, address.host));
  if (!seen.trim()) link.append(real);
  // Words that look like one address must not lead to another unseen; nor may an override in them turn its name around.
  else if (!isHonest && names.some((name) => bare(name) !== bare(real))) {
    link.replaceChildren(el("bdi", {}, ...link.childNodes), " (", el("bdi", {}, real), ")");
  }
}

/** Whether words are nothing but an address at this host; its path may hold other names. @param {string} words @param {string} host */
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
