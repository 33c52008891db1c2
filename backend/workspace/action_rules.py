"""Find action items in a document by fixed rules alone, so that no text can persuade the server to create a task.

An action item is

- an unticked box: `- [ ] Call Anna`, `☐ Call Anna`;
- the text after a label: `TODO: call Anna`, `Action item (Bob): call Anna`, `Aufgabe: Anna anrufen`;
- a bullet or numbered line under a heading such as "Action items", "Next steps", "To do" or "Nächste Schritte", up to
  the end of the section. If the file's format keeps headings but loses bullets, a short line of several words under
  such a heading counts too.

Ticked text, struck-through text and code do not count. The rules know English and German.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from backend.documents.models import DocumentPage

LONGEST_QUOTE = 1_000
"""The most characters that a task quotes from its document."""


@dataclass(frozen=True, slots=True)
class Action:
    """An action item found in a document."""

    page: int
    """The page's number, from 1."""
    text: str
    """The item on one line, without bullet, box, label and markup."""
    quote: str
    """The item exactly as it is in the page's text."""


def find_actions(pages: Iterable[DocumentPage]) -> Iterator[Action]:
    """Yield the action items in document order; a repeated text only once. `pages` must be in order."""
    finder = _Finder()
    seen: set[str] = set()
    for page in pages:
        for action in finder.on_page(page):
            if action.text.casefold() not in seen:
                seen.add(action.text.casefold())
                yield action


_BULLET = r"(?:[-*+•◦▪▫·‣\u2013\u2014∙●○■►➢]|\(?(?:\d{1,3}|[a-zA-Z])[.)])"
_MARKUP = r"(?:\*\*|__)?"
_LABEL = r"(?:todo|to[- ]do|action(?: items?| points?)?|next step|aufgabe|zu tun|zu erledigen|ma(?:ß|ss)nahme)"
_WHOSE = r"(?: ?#?\d{1,3})?(?: ?\([^()]{1,60}\))?"

_BOX = re.compile(rf"(?:{_BULLET}\s*)?(?:\[(?P<mark>[ xX✓✔]?)\]|(?P<box>[☐□❏❑▢☑☒✅✓✔🗹]))\s+(?P<text>\S.*)")
_LABELED = re.compile(
    rf"[#>\s]*(?:{_BULLET}\s+)?{_MARKUP}{_LABEL}{_WHOSE}{_MARKUP}:{_MARKUP}\s+(?P<text>\S.*)", re.IGNORECASE
)
_IN_MIDDLE = re.compile(rf"(?<![\w'\"“„])(?:TODO|TO DO|ACTION(?: ITEM)?|Action item){_WHOSE}: +(?P<text>\S.*)")
_ITEM = re.compile(rf"{_BULLET}\s+(?P<text>\S.*)")
_BARE = re.compile(r"(?=.{3,200}$)(?P<text>\w+,? \S.*[^.:?!…])")
_FENCE = re.compile(r"(?:```|~~~)")
_HEADING = re.compile(r"(?P<marks>#{1,6})\s+\S|\*\*[^*]{1,100}\*\*:?$|__[^_]{1,100}__:?$")
_NUMBERING = re.compile(r"(?:\d{1,3}(?:\.\d{1,3})*[.)]?|[ivx]{1,5}[.)]|[a-z][.)])\s+")

_TO_DO = (
    r"(?:(?:our|my|the|all|key|main|open|agreed|immediate|new) )*"
    r"(?:actions?(?: (?:items?|points?|list))?|next steps?|to[- ]?dos?(?:[- ]list)?|things to do|tasks?(?: list)?"
    r"|open (?:items|points)|follow[- ]?ups?)"
    r"|(?:(?:unsere|meine|die|alle|offene|offenen|weitere|neue|vereinbarte) )*"
    r"(?:aufgaben?(?:liste)?|punkte zu erledigen|nächste[nr]? schritte?|schritte|massnahmen(?:liste)?"
    r"|zu (?:erledigen|tun)|to-?do-?liste|aktionspunkte|offene[n]? punkte)"
)
_SECTION = re.compile(
    rf"(?:{_TO_DO})(?: ?(?:and|und|&|/|,) ?(?:{_TO_DO}))?"
    r"(?: (?:for|from|of|until|by|in|für|aus|bis|von|vom|zum|der|des|im) .{1,60})?"
)
_OTHER_SECTION = re.compile(
    r"(?:decisions?|attendees|participants|present|absent|agenda|discussion|notes|topics|summary|background|risks"
    r"|next meeting|beschlüsse|entscheidungen|teilnehmer\w*|anwesend\w*|tagesordnung|diskussion|notizen|themen"
    r"|zusammenfassung|risiken|nächste[rs]? (?:termin|treffen))\b.{0,60}"
)

_TICKED = set("xX✓✔☑☒✅🗹")
_LEAST_WRAPPED = 50
"""A line of at least this many characters may have been wrapped at the page's width."""
_MOST_LINES = 8
"""The most lines in one item."""
_LONGEST_INTRODUCTION = 3
"""The most lines between a heading and its first item."""
_LEVEL_OF_A_LINE = 6
"""The level that is assumed for a heading that is recognized only by its words."""


@dataclass(slots=True)
class _Line:
    start: int
    end: int
    text: str
    """The line without the spaces at its ends."""
    indent: int
    is_alone: bool
    """Whether the line is a paragraph of its own."""
    is_edge: bool = False
    """Whether the line may be a running title or a page number."""


@dataclass(slots=True)
class _Item:
    """An item that may continue on the next line."""

    start: int
    end: int
    parts: list[str]
    indent: int
    is_open: bool


class _Finder:
    """Reads a document page by page, and remembers the current section."""

    def __init__(self) -> None:
        self._section: int | None = None
        self._is_known = False
        self._before_items = 0
        self._has_items = False
        self._has_bullets = False
        self._in_code = False

    def on_page(self, page: DocumentPage) -> Iterator[Action]:
        """Yield the action items of the next page."""
        levels = {int(heading["start"]): int(heading["level"]) for heading in page.headings}
        item: _Item | None = None
        for line in _lines(page.content):
            if item and self._goes_on(item, line, levels):
                item.parts.append(line.text)
                item.end = line.end
                continue
            yield from _finished(item, page)
            item = self._read(line, levels)
        yield from _finished(item, page)

    def _goes_on(self, item: _Item, line: _Line, levels: dict[int, int]) -> bool:
        if not line.text or line.start in levels or _begins_something(line.text):
            return False
        if line.indent > item.indent and len(item.parts) < _MOST_LINES:
            return True
        last = item.parts[-1]
        return (
            len(item.parts) < _MOST_LINES
            and len(last) >= _LEAST_WRAPPED
            and last[-1] not in ".!?:;"
            and not line.text.endswith(":")
        )

    def _read(self, line: _Line, levels: dict[int, int]) -> _Item | None:
        """Process a line, and return the item that begins on this line, or None."""
        if _FENCE.match(line.text):
            self._in_code = not self._in_code
        if self._in_code or not line.text:
            return None
        if found := _BOX.match(line.text):
            self._has_items = self._has_bullets = True
            return _item(line, found, is_open=not _TICKED & {found["mark"] or "", found["box"] or ""})
        if found := _LABELED.match(line.text) or _IN_MIDDLE.search(line.text):
            return _item(line, found, from_label=True)
        if self._is_heading(line, levels):
            return None
        if self._section is not None and (found := self._bare_item(line) or _ITEM.match(line.text)):
            self._has_items = True
            self._has_bullets |= found.re is _ITEM
            return _item(line, found)
        self._read_prose(line)
        return None

    def _bare_item(self, line: _Line) -> re.Match[str] | None:
        """Match an item that has no bullet. Some file formats keep headings but lose bullets."""
        if not self._is_known or self._has_bullets or line.is_edge:
            return None
        return _BARE.fullmatch(line.text) if line.is_alone or len(line.text) < _LEAST_WRAPPED else None

    def _is_heading(self, line: _Line, levels: dict[int, int]) -> bool:
        words = _title(line.text)
        known = _HEADING.match(line.text)
        level = levels.get(line.start + line.indent, levels.get(line.start))
        if level is None and known:
            level = len(known["marks"] or "") or _LEVEL_OF_A_LINE
        if _SECTION.fullmatch(words) and (level is not None or not _ITEM.match(line.text) or line.text.endswith(":")):
            self._section, self._is_known = level or _LEVEL_OF_A_LINE, level is not None and known is None
            self._has_items, self._has_bullets, self._before_items = False, False, 0
            return True
        if level is not None and (level <= (self._section or 0) or _OTHER_SECTION.fullmatch(words)):
            self._section = None
        return level is not None

    def _read_prose(self, line: _Line) -> None:
        """End the section if this line does not belong to it.

        A page number or a running title does not end a section.
        """
        if self._section is None or line.is_edge:
            return
        if line.text.endswith(":") and not _OTHER_SECTION.fullmatch(_title(line.text)):
            return
        self._before_items += 1
        if self._has_items or self._before_items > _LONGEST_INTRODUCTION:
            self._section = None


def _lines(content: str) -> list[_Line]:
    lines: list[_Line] = []
    start = 0
    raw = content.split("\n")
    for number, line in enumerate(raw):
        around = raw[max(number - 1, 0) : number] + raw[number + 1 : number + 2]
        text, indent = line.strip(), len(line) - len(line.lstrip())
        is_alone = not any(map(str.strip, around))
        lines.append(_Line(start, start + indent + len(text), text, indent, is_alone))
        start += len(line) + 1
    said = [line for line in lines if line.text]
    if len(said) > 2:
        said[0].is_edge = True
        said[-1].is_edge = any(map(str.isdigit, said[-1].text))
    return lines


def _begins_something(text: str) -> bool:
    patterns = (_BOX, _ITEM, _FENCE, _HEADING, _LABELED)
    return any(pattern.match(text) for pattern in patterns) or _SECTION.fullmatch(_title(text)) is not None


def _title(text: str) -> str:
    """Return a heading's words without marks, numbering and colon."""
    words = text[:200].strip("#*_ \t").rstrip(":").strip("*_ \t").casefold()
    return _NUMBERING.sub("", words, count=1) if _NUMBERING.match(words) else words


def _item(line: _Line, found: re.Match[str], *, is_open: bool = True, from_label: bool = False) -> _Item:
    begins = line.start + line.indent + (found.start() if from_label else 0)
    return _Item(begins, line.end, [found["text"]], line.indent, is_open)


def _finished(item: _Item | None, page: DocumentPage) -> Iterator[Action]:
    if item is None or not item.is_open:
        return
    text = _plain(" ".join(item.parts))
    if sum(letter.isalpha() for letter in text) >= 2 and not text.startswith("~~"):
        yield Action(page.number, text, page.content[item.start : item.end][:LONGEST_QUOTE])


def _plain(text: str) -> str:
    """Return the text on one line without emphasis, links and code marks."""
    text = re.sub(r"!?\[([^\]\[]{1,200})\]\([^()\s]{1,500}\)", r"\1", text[:2_000])
    text = re.sub(r"\*\*|__|`", "", text).removesuffix("-->")
    return " ".join(text.split()).strip(" ;,")
