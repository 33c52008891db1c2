"""Answers in Markdown at the page, in Chromium: what they become, while they are written and afterwards."""

import re
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Dialog, Locator, Page, Request, expect

from backend.runs.citations import MARK
from bench.scripted_model import Answer, ToolCall, says
from tests.conftest import wait_until
from tests.web.conftest import IN_BROWSER, OpenPage, Scripted
from tests.web.person import assert_fits, choose, document, nth_answer, say, text_file, text_of, titles

pytestmark = IN_BROWSER

READING = 60_000
"""Milliseconds that reading and indexing a short text may take, the embedding model's start included."""
SAMPLE = """\
Before you begin, look at **the plan** and *the price*.

## Steps to take

1. Open **Settings** and press `Save all`.
2. Run this, with your own name:

   ```python
   print("# *no* heading")
   ```

3. Read [the docs](https://docs.example/start "The start") or ~~ask~~ write.

- One point
  - another **below** it
- [x] done
- [ ] open

Setext heading
--------------

| Plan | Price |
|:-----|------:|
| **Free** | 0 |
| Pro | `12` |

> Quoted words, ***both*** of them,
> over two lines.

***

```sh
npm install
```

![A picture](https://pictures.example/a.png) and the __end__.
"""
CITATION = {"mark": "[p1]", "passage_id": 1, "document_id": 1, "filename": "a.txt", "page_number": None, "quote": "x"}
SOURCES = {"https://docs.example/start", "https://pictures.example/a.png"}
REFUND = "A refund is paid within thirty days after the goods came back"

GROW = """
async (source) => {
  const { Answer } = await import("/static/turn.js");
  const frames = [];
  window.requestAnimationFrame = (show) => frames.push(show);
  const answer = new Answer();
  document.querySelector("#thread").append(answer.element);
  answer.begin();
  const body = answer.element.querySelector(".answer-text");
  const steps = [];
  for (const point of source) {
    answer.add(point);
    frames.splice(0).forEach((show) => show());
    const read = body.cloneNode(true);
    read.querySelectorAll(".code").forEach((code) => code.remove());
    const whole = new Answer();
    whole.begin();
    whole.add(steps.map((step) => step.point).join("") + point);
    frames.splice(0).forEach((show) => show());
    steps.push({
      point,
      text: read.textContent,
      blocks: [...body.children].map((block) => block.tagName),
      links: [...body.querySelectorAll("a")].map((link) => link.href),
      code: [...body.querySelectorAll(".code pre")].map((code) => code.textContent),
      isAsAtOnce: body.isEqualNode(whole.element.querySelector(".answer-text")),
    });
  }
  return steps;
}
"""
"""Writes an answer letter by letter, each in a frame of its own, and returns what is shown after each."""

STORED = """
async (messages) => {
  const { Answer } = await import("/static/turn.js");
  const message = { tool_calls: [], citations: [], model: "any" };
  for (const one of messages) {
    document.querySelector("#thread").append(Answer.stored({ ...message, ...one }).element);
  }
}
"""


def stored(page: Page, *texts: str, **more: Any) -> None:
    """Show answers as they are shown after a reload."""
    page.evaluate(STORED, [{"content": text, **more} for text in texts])


@pytest.mark.spec("WEB-47")
def test_markdown_becomes_elements_and_a_reload_shows_the_same(open_page: OpenPage, scripted: Scripted) -> None:
    scripted.model.follow([says(SAMPLE)])
    page = open_page(scripted.url)
    say(page, "How do I begin?")
    answer = text_of(page, 1)
    expect(nth_answer(page, 1)).to_have_attribute("data-state", "completed")
    shown = answer.inner_html()

    page.reload()

    expect(nth_answer(page, 1)).to_have_attribute("data-state", "completed")
    assert answer.inner_html() == shown
    expect(answer.get_by_role("heading", level=3)).to_have_text(["Steps to take", "Setext heading"])
    expect(answer.get_by_role("list").first.locator("> li")).to_have_count(3)
    expect(answer.get_by_role("listitem").filter(has_text="another")).to_have_count(2)
    expect(answer.get_by_role("listitem").filter(has_text=re.compile("^☑ done"))).to_have_count(1)
    expect(answer.get_by_role("listitem").filter(has_text=re.compile("^☐ open"))).to_have_count(1)
    expect(answer.get_by_role("columnheader")).to_have_text(["Plan", "Price"])
    expect(answer.get_by_role("cell")).to_have_text(["Free", "0", "Pro", "12"])
    expect(answer.get_by_role("cell", name="12")).to_have_css("text-align", "right")
    expect(answer.get_by_role("blockquote")).to_contain_text("Quoted words, both of them,")
    expect(answer.get_by_role("separator")).to_have_count(1)
    expect(answer.get_by_role("strong").first).to_have_text("the plan")
    expect(answer.get_by_role("emphasis").first).to_have_text("the price")
    expect(answer.get_by_role("deletion")).to_have_text("ask")
    expect(answer.get_by_test_id("code").locator("pre")).to_have_text(['print("# *no* heading")', "npm install"])
    expect(answer.locator(".code-language")).to_have_text(["python", "sh"])
    expect(answer.get_by_role("link", name="the docs")).to_have_attribute("href", "https://docs.example/start")
    expect(answer.get_by_role("link", name="A picture")).to_have_attribute("href", "https://pictures.example/a.png")
    assert not set("#*`|~[]") & set(re.sub(r"print.*", "", answer.inner_text()))


@pytest.mark.spec("WEB-47")
def test_a_list_begins_at_its_own_number(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)

    stored(page, "3. c\n4. d")

    expect(text_of(page, 1).locator("ol")).to_have_attribute("start", "3")


@pytest.mark.spec("WEB-47")
def test_a_screen_reader_hears_lines_apart(open_page: OpenPage, scripted: Scripted) -> None:
    scripted.model.follow([says("milk\neggs")])
    page = open_page(scripted.url)

    say(page, "What shall I buy?")

    expect(page.get_by_test_id("announcer")).to_have_text("milk eggs")


DEEP = [">" * 2500 + "a", "- " * 2000 + "a", "*" * 2000 + "a" + "*" * 2000, "*a " * 1500 + "b*" * 1500]


@pytest.mark.spec("WEB-61")
def test_markup_that_is_nested_too_deeply_is_plain_text(open_page: OpenPage, scripted: Scripted) -> None:
    # The model client takes a piece that comes again and again for a fault.
    sent = [source for source in DEEP if " " not in source]
    scripted.model.follow([says(source) for source in [*sent, "The **end**."]])
    page = open_page(scripted.url)

    for number in range(1, len(sent) + 2):
        say(page, "Go on.")
        expect(nth_answer(page, number)).to_have_attribute("data-state", "completed")

    for _ in range(2):
        expect(text_of(page, len(sent) + 1).locator("strong")).to_have_text("end")
        for number, source in enumerate(sent, 1):
            assert text_of(page, number).locator(".plain").text_content() == source
        page.reload()
    expect(nth_answer(page, len(sent) + 1)).to_be_visible()
    stored(page, *DEEP, "The **end**.")
    for number, source in enumerate(DEEP, len(sent) + 2):
        assert text_of(page, number).locator(".plain").text_content() == source
    expect(text_of(page, len(sent) + len(DEEP) + 2).locator("strong")).to_have_text("end")


@pytest.mark.spec("WEB-61")
def test_an_answer_that_nests_too_deeply_as_it_grows_becomes_plain_text(
    open_page: OpenPage, scripted: Scripted
) -> None:
    page = open_page(scripted.url)
    parts = ["A **first**.\n\n", "> b", "\n" + "> " * 2500 + "c", "\n\nAnd **more**."]

    shown = page.evaluate(
        """async (parts) => {
          const { Answer } = await import("/static/turn.js");
          const frames = [];
          window.requestAnimationFrame = (show) => frames.push(show);
          const answer = new Answer();
          answer.begin();
          return parts.map((part) => {
            answer.add(part);
            frames.splice(0).forEach((show) => show());
            const body = answer.element.querySelector(".answer-text");
            return [body.textContent.trim(), [...body.children].map((block) => block.className || block.tagName)];
          });
        }""",
        parts,
    )

    assert [blocks for _, blocks in shown] == [["P"], ["P", "BLOCKQUOTE"], ["plain"], ["plain"]]
    assert [text for text, _ in shown[2:]] == ["".join(parts[:3]), "".join(parts)]


@pytest.mark.spec("WEB-61")
def test_a_text_of_more_than_100000_characters_is_plain_text(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)

    stored(page, "**a** " + "b" * 99_994, "**a** " + "b" * 99_995)

    expect(text_of(page, 1).locator("strong")).to_have_text("a")
    expect(text_of(page, 2).locator("strong")).to_have_count(0)
    assert (text_of(page, 2).locator(".plain").text_content() or "").startswith("**a** b")


@pytest.mark.spec("WEB-48")
def test_blanks_without_end_in_an_address_are_held_back_at_once(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)

    milliseconds = page.evaluate(
        """async (source) => {
          const { completed } = await import("/static/unfinished.js");
          const { structure } = await import("/static/markdown.js");
          const start = performance.now();
          completed(source, structure);
          return performance.now() - start;
        }""",
        f"[a]({' ' * 90_000}x",
    )

    # A pattern that takes the square of the length takes ten times as long.
    assert milliseconds < 3_000


@pytest.mark.spec("WEB-48")
def test_at_every_letter_of_an_answer_nothing_half_written_shows(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)

    steps = page.evaluate(GROW, SAMPLE)

    assert len(steps) == len(SAMPLE)
    for number, step in enumerate(steps, 1):
        written = SAMPLE[:number]
        assert not set("#*`|~[]_<>\\") & set(step["text"]), (written, step["text"])
        assert not re.search(r"^\s*(?:\d+[.)]|[-=+]+)\s*$", step["text"], re.MULTILINE), (written, step["text"])
        assert set(step["links"]) <= SOURCES, written
        assert step["isAsAtOnce"], written
    assert {step["blocks"][0] for step in steps if step["blocks"]} == {"P"}
    # What is open is shown as what it will be, not held back until it is closed.
    ends = [SAMPLE.index(until) + len(until) for until in ("look at **the", "(https:/")]
    shown = {steps[end - 1]["text"].strip().split("\n")[-1] for end in ends}
    assert shown == {"Before you begin, look at the", "Read the docs"}
    begun = steps[SAMPLE.index("print") + 4]
    assert begun["code"] == ["print"]
    assert [step["code"][0] for step in steps if step["code"]][-1] == 'print("# *no* heading")'


HALF_WRITTEN = {
    "A price of **12": "A price of 12",
    "A price of **12*": "A price of 12",
    "Both ***of": "Both of",
    "It is **bold and *both*": "It is bold and both",
    "The sum is 2*3 and 4": "The sum is 2*3 and 4",
    "A snake_case_name": "A snake_case_name",
    "5 * 3 * 2": "5 * 3 * 2",
    "See [the": "See the",
    "See [the docs]": "See the docs",
    "See [the docs](": "See the docs",
    "See [the docs](https://docs.example/a (b": "See the docs",
    "See **[the docs](https://do": "See the docs",
    "A note [in brackets] goes on": "A note [in brackets] goes on",
    "Type `npm": "Type npm",
    "Type ``a ` b`": "Type a ` b",
    "Type \\": "Type",
    "Ann &am": "Ann",
    "See <https://docs.exa": "See",
    "Proven [p12": "Proven",
    "Above\n---": "Above",
    "Above\n\n- ": "Above",
    "Above\n\n- [": "Above",
    "Above\n\n12": "Above",
    "Above\n\n12.": "Above",
    "Above\n\n> ": "Above",
    "Above\n\n| Plan | Pri": "Above",
    "Above\n\n| Plan | Price |\n|--": "Above",
    "Above\n\n![A pict": "Above A pict",
    "```": "",
    "```py": "",
    "```py\nprint()\n``": "print()",
    "- one\n  ```\n  code\n  `": "one code",
    "| Plan | Price |\n|---|---|\n| **Fr": "Plan Price Fr",
}
"""Beginnings of answers, and what is to be read of each."""


@pytest.mark.spec("WEB-48")
def test_a_half_written_end_is_read_as_what_it_will_be(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)

    read = page.evaluate(
        """async (sources) => {
          const { Answer } = await import("/static/turn.js");
          const frames = [];
          window.requestAnimationFrame = (show) => frames.push(show);
          return sources.map((source) => {
            const answer = new Answer();
            answer.begin();
            answer.add(source);
            frames.splice(0).forEach((show) => show());
            return answer.text.replace(/\\s+/g, " ").trim();
          });
        }""",
        list(HALF_WRITTEN),
    )

    assert dict(zip(HALF_WRITTEN, read, strict=True)) == HALF_WRITTEN


@pytest.mark.spec("WEB-48")
def test_a_finished_answer_is_shown_as_it_stands(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)

    stored(page, "A price of **12", "See [the docs](https://do", "Above\n\n- ", "| Plan | Price |", "Type `npm")

    expect(text_of(page, 1)).to_have_text("A price of **12")
    expect(text_of(page, 2)).to_have_text("See [the docs](https://do")
    expect(text_of(page, 3).get_by_role("listitem")).to_have_count(1)
    expect(text_of(page, 4)).to_have_text("| Plan | Price |")
    expect(text_of(page, 5)).to_have_text("Type `npm")


@pytest.mark.spec("WEB-49")
def test_what_is_finished_keeps_its_elements_selection_and_focus(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)
    page.evaluate(
        """async (source) => {
          const { Answer } = await import("/static/turn.js");
          window.frames_ = [];
          window.requestAnimationFrame = (show) => window.frames_.push(show);
          window.draw = () => window.frames_.splice(0).forEach((show) => show());
          window.answer = new Answer();
          document.querySelector("#thread").append(answer.element);
          answer.begin();
          answer.add(source);
          draw();
        }""",
        "A first paragraph.\n\n```sh\nnpm install\n```\n\n1. One\n2. Two\n\n   ```sh\n   npm test\n   ```\n\nAnd a",
    )
    first = text_of(page, 1).locator("p").first
    first.select_text()
    handles = text_of(page, 1).locator("> *, li, .code, pre").element_handles()
    copy = text_of(page, 1).get_by_test_id("copy").last
    copy.focus()

    made = page.evaluate(
        """() => {
          const watch = new MutationObserver(() => {});
          watch.observe(answer.element, { childList: true, subtree: true });
          for (const word of [" word", " and", " more.\\n\\n", "The", " end."]) { answer.add(word); draw(); }
          return watch.takeRecords().flatMap((change) => [...change.addedNodes].map((node) => node.nodeName));
        }"""
    )

    # Words are appended to the text that stands there; a new paragraph is all that is made.
    assert made == ["#text", "P"]
    expect(copy).to_be_focused()
    assert page.evaluate("getSelection().toString()") == "A first paragraph."
    page.evaluate("answer.end('completed', null)")
    assert all(handle.evaluate("node => node.isConnected") for handle in handles)
    expect(copy).to_be_focused()
    expect(text_of(page, 1).locator("p").last).to_have_text("The end.")


@pytest.mark.spec("WEB-49")
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_a_long_answer_is_not_read_again_for_each_word(open_page: OpenPage, scripted: Scripted, line_end: str) -> None:
    page = open_page(scripted.url)

    longest, written = page.evaluate(
        """async (end) => {
          const { Lexer } = await import("/static/vendor/marked/marked.esm.js");
          const { Answer } = await import("/static/turn.js");
          const read = Lexer.prototype.blockTokens;
          let longest = 0;
          Lexer.prototype.blockTokens = function (source, ...more) {
            longest = Math.max(longest, source.length);
            return read.call(this, source, ...more);
          };
          const frames = [];
          window.requestAnimationFrame = (show) => frames.push(show);
          const answer = new Answer();
          answer.begin();
          for (let number = 100; number < 500; number += 1) {
            answer.add(`Paragraph **${number}** goes on.${end}${end}`);
            frames.splice(0).forEach((show) => show());
          }
          return [longest, answer.text.length];
        }""",
        line_end,
    )

    paragraph = len("Paragraph **100** goes on.\n\n")
    assert written > 300 * paragraph
    assert longest == 2 * paragraph


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '<svg onload=alert(1)><a xlink:href="javascript:alert(1)">x</a></svg>',
    "<svg/onload=alert(1)>",
    "<style>*{display:none}</style>",
    '<link rel=stylesheet href="https://evil.example/x.css">',
    '<iframe src="/docs"></iframe>',
    '<form id=message action="/docs"><input name=body><button>x</button></form>',
    '<a href="javascript:alert(1)" id=thread name=thread>x</a>',
    '<p id="__proto__" class="skip" style="position:fixed;inset:0">x</p>',
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<div\n\nonclick=alert(1)>",
    "<details open ontoggle=alert(1)><summary>x</summary>\n\n**bold**\n\n</details>",
    "<!-- --><img src=x onerror=alert(1)>",
    "<![CDATA[<img src=x onerror=alert(1)>]]>",
    "<?php <img src=x onerror=alert(1)> ?>",
    "# <a id=top>x</a>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java&#115;cript:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](<javascript:alert(1)>)",
    "[x](javascript&colon;alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:msgbox(1))",
    "[x](blob:https://evil.example/1)",
    "[x](file:///etc/passwd)",
    "[x](//evil.example/x)",
    "[x](/docs)",
    "[x](docs)",
    "[x](#message)",
    "[x]()",
    "<javascript:alert(1)>",
    "<data:text/html;base64,PHN2Zz4=>",
    "![x](https://evil.example/pixel.png)",
    "![x](/static/favicon.svg)",
    "![x](javascript:alert(1))",
    '![x" onerror="alert(1)](https://evil.example/y)',
    '[x](https://a.example "t\\" onclick=\\"alert(1)")',
    '[x](https://a.example/"onclick="alert(1))',
    "[x](https://a.example/'><img/src=x/onerror=alert(1)>)",
    "[a]: javascript:alert(1)\n\n[a] [x][a]",
    "[![x](javascript:alert(1))](javascript:alert(2))",
    "[![x](https://evil.example/pixel.png)](https://a.example)",
    "`<img src=x onerror=alert(1)>`",
    '```html"onload=alert(1)><img src=x onerror=alert(1)>\n<script>alert(1)</script>\n```',
    "&lt;img src=x onerror=alert(1)&gt; &#60;script>alert(1)&#60;/script>",
    "| <img src=x onerror=alert(1)> | [x](javascript:alert(1)) |\n|---|---|\n| <svg/onload=alert(1)> | `<b>` |",
    "- [x](data:text/html,x) <form><input name=nodeName><input name=attributes>",
    "1234567890. <img src=x onerror=alert(1)>",
    "<<img src=x onerror=alert(1)>>",
    "</div></article></main><script>alert(1)</script>",
    "\ufdd00\ufdd1 \x00 <im\x00g src=x onerror=alert(1)>",
]
TAGS = {
    *("P", "BR", "H2", "H3", "H4", "H5", "H6", "UL", "OL", "LI", "BLOCKQUOTE", "PRE", "CODE", "STRONG", "EM", "DEL"),
    *("HR", "A", "TABLE", "THEAD", "TBODY", "TR", "TH", "TD", "DIV", "SPAN", "BUTTON", "BDI"),
}
"""Of these DIV, SPAN, BUTTON and BDI are the page's own, around code, tables and the words of links."""
ATTRIBUTES = {
    "A": {"href", "target", "rel", "title", "dir"},
    "OL": {"start", "dir"},
    "DIV": {"class", "dir", "tabindex", "role", "aria-label", "data-testid"},
    "SPAN": {"class"},
    "BUTTON": {"type", "class", "data-testid"},
    "PRE": {"class", "tabindex", "role", "aria-label", "dir"},
}


@pytest.mark.spec("WEB-50")
def test_nothing_in_an_answer_becomes_more_than_it_may(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)
    dialogs: list[Dialog] = []
    asked: list[str] = []

    def appeared(dialog: Dialog) -> None:
        dialogs.append(dialog)

    def heard(request: Request) -> None:
        asked.append(request.url)

    # One answer goes all the way, then each by itself, whole and letter by letter.
    scripted.model.follow([says("\n\n".join(HOSTILE))])
    say(page, "Break it.")
    expect(nth_answer(page, 1)).to_have_attribute("data-state", "completed")
    page.on("dialog", appeared)
    page.on("request", heard)
    stored(page, *HOSTILE)
    for source in HOSTILE:
        page.evaluate(GROW, source)
    stored(page, "The end.")
    expect(nth_answer(page, 2 * len(HOSTILE) + 2)).to_have_text("DocuTalk: The end.")

    found = page.evaluate(
        """() => [...document.querySelectorAll(".answer-text *")].map((one) => ({
          tag: one.tagName, names: one.getAttributeNames(), href: one.getAttribute("href"), classes: one.className,
        }))"""
    )
    assert len(found) > 100
    for one in found:
        assert one["tag"] in TAGS, one
        assert set(one["names"]) <= ATTRIBUTES.get(one["tag"], {"class", "dir"}), one
        assert one["href"] is None or re.match(r"https?://(?:a|evil)\.example/", one["href"]), one
        assert set(one["classes"].split()) <= {"wide", "code", "code-head", "code-language", "copy", "visually-hidden"}
    for number, source in enumerate(HOSTILE, 2):
        if source.startswith(("<img", "<script", "<iframe", "<form", "<style", "<a ", "<link")):
            assert text_of(page, number).text_content() == source
    assert [url for url in asked if "/static/" not in url] == []
    assert {url for url in asked if "/static/" in url} <= {f"{scripted.url}/static/turn.js"}
    assert dialogs == []
    assert page.locator("script").count() == 1


@pytest.mark.spec("WEB-50")
def test_a_link_shows_where_it_leads(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)

    stored(
        page,
        "[the docs](https://docs.example/a?b=1&amp;c=2)",
        "[https://bank.example/login](https://evil.example/x)",
        "[bank.example](https://bank.example@evil.example/)",
        "[www.bank.example](https://bank.example/)",
        "https://bank.example/login and ann@bank.example",
        "[ann@bank.example](mailto:eve@evil.example)",
        "[bank.example](https://b\u0430nk.example/)",
    )

    shown = [text_of(page, number).text_content() for number in range(1, 8)]
    assert shown == [
        "the docs",
        "https://bank.example/login (evil.example)",
        "bank.example (evil.example)",
        "www.bank.example",
        "https://bank.example/login and ann@bank.example",
        "ann@bank.example (eve@evil.example)",
        "bank.example (xn--bnk-6cd.example)",
    ]
    docs = text_of(page, 1).get_by_role("link")
    expect(docs).to_have_attribute("title", "https://docs.example/a?b=1&c=2")
    expect(docs).to_have_attribute("target", "_blank")
    expect(docs).to_have_attribute("rel", "noopener noreferrer")
    expect(text_of(page, 5).get_by_role("link")).to_have_count(2)


DISGUISED = [
    "bank\u00ad.example",
    "ba\u200bnk.exa\u2060mple",
    "bank\u3002example",
    "bank\uff0eexample",
    ".bank.example",
    "evil.example: https://bank.example/login",
    "evil.example bank.example",
    "evil.example@bank.example",
    "\u202eelpmaxe.knab",
    "\u202eevil.example/moc.knab",
]
HONEST = ["https://evil.example/index.html", "evil.example/a?to=bank.example", "www.evil.example", "the docs"]


@pytest.mark.spec("WEB-50")
def test_a_link_cannot_hide_where_it_leads(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)

    stored(page, *[f"[{words}](https://evil.example/x)" for words in [*DISGUISED, *HONEST]])
    stored(page, "https://bank.example@evil.example/")

    shown = [text_of(page, number).text_content() for number in range(1, len(DISGUISED) + len(HONEST) + 2)]
    assert shown == [
        *[f"{words} (evil.example)" for words in DISGUISED],
        *HONEST,
        "https://bank.example@evil.example/ (evil.example)",
    ]
    # Neither an override in the label nor one around the link reaches the name.
    expect(text_of(page, 9).locator("a bdi")).to_have_text(["\u202eelpmaxe.knab", "evil.example"])
    expect(text_of(page, 9).locator("a")).to_have_css("unicode-bidi", "isolate")


@pytest.mark.spec("WEB-50")
def test_each_link_has_words_and_stands_in_no_other(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)

    stored(
        page,
        "[](https://a.example)",
        "[\u200b \u3164](https://a.example)",
        "[[p1]](https://a.example)",
        "[**![p](https://p.example)** q](https://a.example)",
        "[a <https://b.example> c](https://a.example)",
        "![a &amp; b < c](https://a.example)",
        "![**a**](https://a.example)",
    )

    links = [text_of(page, number).get_by_role("link") for number in range(1, 8)]
    assert [link.get_attribute("href") for link in links] == ["https://a.example/"] * 7
    for link in links[:3]:
        expect(link).to_contain_text("a.example")
    expect(links[3]).to_have_text("p q")
    expect(links[4]).to_contain_text("a https://b.example c")
    expect(links[5]).to_have_text("a & b < c")
    expect(links[6]).to_have_text("a")


@pytest.mark.spec("WEB-51")
def test_marks_become_numbers_wherever_they_stand_but_in_code(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)
    choose(page, [text_file("policy.txt", f"Refunds.\n\n{REFUND}.\n\nAsk the desk.")])
    expect(document(page, "policy.txt")).to_have_attribute("data-status", "ready", timeout=READING)
    words = f"""\
## Refunds [p1]

- "{REFUND}" [p1]
  - **Really [p1]**

| Rule | Source |
|------|--------|
| Days | [p1]   |

> Quoted [p1](https://docs.example) and [the policy [p1]](https://docs.example), `[p1]`, &#91;p1] and https://docs.example/[p1]

```
[p1]
```
"""
    scripted.model.follow([Answer(calls=(ToolCall("search_documents", {"query": "refund"}),)), says(words)])

    say(page, "When is a refund paid?")

    answer = text_of(page, 1)
    for _ in range(2):
        expect(nth_answer(page, 1)).to_have_attribute("data-state", "completed")
        expect(answer.get_by_role("heading")).to_have_text("Refunds1")
        expect(answer.get_by_role("listitem").last).to_have_text("Really1")
        expect(answer.locator("strong").get_by_test_id("citation")).to_have_count(1)
        expect(answer.get_by_role("cell")).to_have_text(["Days", "1"])
        expect(answer.get_by_role("blockquote")).to_have_text(
            "Quoted1(https://docs.example) and the policy1, [p1], [p1] and https://docs.example/1"
        )
        expect(answer.get_by_test_id("code").locator("pre")).to_have_text("[p1]")
        expect(answer.get_by_test_id("citation")).to_have_text(["1"] * 7)
        expect(answer.locator("a .cite")).to_have_count(0)
        expect(answer.get_by_role("link").last).to_have_attribute("href", "https://docs.example/")
        expect(nth_answer(page, 1).get_by_test_id("source")).to_have_count(1)
        page.reload()
    mark = answer.get_by_role("cell").get_by_role("button", name="Source 1: policy.txt")
    mark.press("Enter")
    expect(page.get_by_test_id("viewer-mark")).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(mark).to_be_focused()


@pytest.mark.spec("WEB-51")
def test_no_citation_is_forged_with_the_signs_that_stand_for_marks(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)
    forged = [
        f"Invented {before}{opening}0{closing}{after}."
        for before, after in (("", ""), ("\u27e6", "\u27e7"))
        for opening, closing in (
            ("\ufdd0", "\ufdd1"),
            ("&#xFDD0;", "&#xFDD1;"),
            ("&#X00fdd0;", "&#X00fdd1;"),
            ("&#64976;", "&#64977;"),
            ("&#064976;", "&#064977;"),
        )
    ]

    stored(page, *[f"True [p1]. {words}" for words in forged], citations=[CITATION])
    stored(page, "Lie [p\ufdd01]. Truth [p1].", "Lie [\ufdd1p1]. Truth [p1].", citations=[CITATION])

    for number in range(1, len(forged) + 1):
        expect(text_of(page, number).get_by_test_id("citation")).to_have_count(1)
        expect(text_of(page, number)).to_have_text(re.compile("^True1. Invented .*0.*[.]$"))
    for number in range(len(forged) + 1, len(forged) + 3):
        expect(text_of(page, number)).to_have_text(re.compile("^Lie .*Truth1[.]$"))


EMPHASIZED = {
    "**Refunds take 30 days.**[p1] Ask.": "Refunds take 30 days.1 Ask.",
    "*Really.*[p1] Ask.": "Really.1 Ask.",
    "~~Never.~~[p1]~~So.~~": "Never.1So.",
    "- **One.**[p1] Ask.": "One.1 Ask.",
    "# **One.**[p1] Ask.": "One.1 Ask.",
    "> **One.**[p1] Ask.": "One.1 Ask.",
    "| A |\n|---|\n| **One.**[p1] Ask. |": "A One.1 Ask.",
    "**[One.](https://a.example)**[p1] Ask.": "One.1 Ask.",
}


@pytest.mark.spec("WEB-51")
def test_emphasis_ends_before_a_mark(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)

    stored(page, *EMPHASIZED, citations=[CITATION])
    steps = [page.evaluate(GROW, source) for source in EMPHASIZED]

    for number, text in enumerate(EMPHASIZED.values(), 1):
        expect(text_of(page, number)).to_have_text(text)
        expect(text_of(page, number).get_by_test_id("citation")).to_have_count(1)
    # Nothing is proven yet, so that no number shows.
    for written in steps:
        assert not any(set("*~[") & set(step["text"]) for step in written)


@pytest.mark.spec("WEB-51")
def test_marks_in_one_link_stand_behind_it_in_their_order(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)
    second = CITATION | {"mark": "[p2]", "passage_id": 2}

    stored(page, "[a [p1] **b** [p2] c](https://a.example) d", citations=[CITATION, second])

    expect(text_of(page, 1).get_by_test_id("citation")).to_have_text(["1", "2"])
    expect(text_of(page, 1)).to_have_text("a b c12 d")


MARKS = [
    "[p1]",
    "[P12]",
    "[ p 1 ]",
    "[p1, p2]",
    "[p1, 2]",
    "[p1;2,p 3]",
    "[p1,2 , 3]",
    "[p\u0661]",
    "[p\uff11]",
    "[p1 2]",
    "[p1,]",
    "[1]",
    "[p]",
    "[p1234567890]",
    "[\np1]",
    "[p\ufdd01]",
    "[[p1]]",
    "[p1][p2]",
]


@pytest.mark.spec("WEB-51")
def test_the_page_and_the_server_see_the_same_marks(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)

    seen = page.evaluate(
        """async (sources) => {
          const { withSigns } = await import("/static/marks.js");
          return sources.map((source) => withSigns(source).marks);
        }""",
        MARKS,
    )

    assert seen == [[mark[0] for mark in MARK.finditer(source)] for source in MARKS]
    assert [bool(marks) for marks in seen[:7]] == [True] * 7


@pytest.mark.spec("WEB-53")
def test_an_answer_of_an_unknown_model_is_plain_text(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)

    stored(page, "A *title*.", model=None)

    expect(text_of(page, 1)).to_have_text("A *title*.")


@pytest.mark.spec("WEB-52")
def test_a_second_copy_is_confirmed_as_long_as_the_first(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url, permissions=["clipboard-read", "clipboard-write"])
    page.clock.install()
    stored(page, "```\ncode\n```")
    copy = text_of(page, 1).get_by_test_id("copy")
    announced = page.get_by_test_id("announcer")
    copy.click()
    expect(copy).to_have_text("Copied code")
    page.clock.run_for(1_500)
    copy.click()
    page.evaluate("navigator.clipboard.readText()")

    page.clock.run_for(1_000)

    expect(announced).to_have_text("Copied.")
    expect(copy).to_have_text("Copied code")
    page.clock.run_for(1_500)
    expect(copy).to_have_text("Copy code")


CODE = "  def f(a):\n\treturn a < 1 && '&amp;'  \n\n\n# **end**"


@pytest.mark.spec("WEB-52")
@pytest.mark.parametrize("has_clipboard", [True, False])
def test_code_is_copied_exactly(open_page: OpenPage, scripted: Scripted, *, has_clipboard: bool) -> None:
    page = open_page(scripted.url, permissions=["clipboard-read", "clipboard-write"])
    if not has_clipboard:
        page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    scripted.model.follow([says(f"So:\n\n```python\n{CODE}\n```\n\nThat is all.")])
    say(page, "How?")
    expect(nth_answer(page, 1)).to_have_attribute("data-state", "completed")
    copy = text_of(page, 1).get_by_role("button", name="Copy code", exact=True)

    copy.press("Enter")

    expect(copy.or_(page.get_by_role("button", name="Copied code"))).to_have_text("Copied code")
    expect(page.get_by_test_id("announcer")).to_have_text("Copied.")
    expect(text_of(page, 1).get_by_test_id("copy")).to_be_focused()
    page.get_by_test_id("message").focus()
    page.keyboard.press("Control+V")
    expect(page.get_by_test_id("message")).to_have_value(CODE)
    text_of(page, 1).select_text()
    assert page.evaluate("getSelection().toString()").split() == f"So: {CODE} That is all.".split()


def has_scrolled(scroller: Locator) -> bool:
    return bool(scroller.evaluate("part => part.scrollLeft > 0"))


@pytest.mark.spec("WEB-52")
def test_wide_code_and_tables_scroll_by_themselves_with_the_keyboard(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url, width=360, height=740)
    wide = "Donaudampfschifffahrtsgesellschaft" * 3
    cells = "| " + " | ".join(f"Column{number}" for number in range(12)) + " |"
    table = f"{cells}\n{'|---' * 12}|\n{cells}"
    words = f"# {wide}\n\n- {wide}\n  1. `{wide}`\n\n```\n{wide}\n```\n\n{table}\n\n> {wide}"
    scripted.model.follow([says(words)])

    say(page, "Show me.")

    expect(nth_answer(page, 1)).to_have_attribute("data-state", "completed")
    assert_fits(page)
    for scroller in text_of(page, 1).locator(".wide").all():
        scroller.focus()
        expect(scroller).to_be_focused()
        page.keyboard.press("ArrowRight")
        wait_until(partial(has_scrolled, scroller))
    assert text_of(page, 1).locator(".wide").count() == 2
    expect(text_of(page, 1).get_by_role("region", name="Code")).to_have_count(1)
    expect(text_of(page, 1).get_by_role("region", name="Table")).to_have_count(1)


@pytest.mark.spec("WEB-53")
def test_an_answer_of_the_offline_model_shows_titles_as_they_are(open_page: OpenPage, service: str) -> None:
    title = "*urgent* <b>1. _x_ `y` # [z](https://a.example) &amp; **"
    page = open_page(service)
    say(page, f'Add a task "{title}"')
    expect(titles(page, "open-tasks")).to_have_text([title])
    say(page, "What's pending?")

    for _ in range(2):
        for number in (1, 2):
            expect(nth_answer(page, number)).to_have_attribute("data-state", "completed")
            assert f'"{title}"' in (text_of(page, number).text_content() or "")
            expect(text_of(page, number).locator("*")).to_have_count(1)
        page.reload()
