"""Citations: the marks in an answer, checked against the passages that the run's own tools returned."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

MOST_MARKS = 200
"""The most marks in one answer that are checked; further marks are removed."""
MOST_PASSES = 5
"""The most times that one answer is checked. The check is repeated, because the text on both sides of a removed mark
can join into a new mark."""
LONGEST_QUOTATION = 5_000
"""The most characters between the start of a quotation and its mark."""

MARK = re.compile(r"\[ ?p ?\d{1,9}(?: ?[,;] ?(?:p ?)?\d{1,9})* ?\]", re.ASCII | re.IGNORECASE)
"""A citation mark. The page uses the same pattern, in `marks.js`."""
_BLANKS = " \t\u00a0"
_BETWEEN = " \t\r\n\u00a0.,;:!?\u2026)*_"
"""Characters allowed between a quotation and its mark."""
_OPENERS = {'"': '"', "\u201d": "\u201c\u201e\u201d", "\u201c": "\u201e", "\u00bb": "\u00ab\u00bb", "\u00ab": "\u00bb"}
"""For each closing quotation mark, the opening marks that match it, in English, German, French and Swedish."""
_BEFORE_OPENER = " \t\r\n\u00a0([{<*_-\u2013\u2014/:"
_EDGES = ' .,;:!?"'
_LEFT_OUT = "\u00ad\u200b\u200c\u200d\u2060\ufeff\ufffe\x02"
"""Characters ignored in comparisons: zero-width characters, and soft hyphens in the forms that file readers produce."""
_QUOTES = "'`\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2212"
_STRAIGHT = str.maketrans(dict.fromkeys(_QUOTES, '"') | dict.fromkeys(_DASHES, "-"))
_FIRST_WITHOUT_BLANKS = "\u0e00"
"""The first character of the scripts that have no spaces between words, such as Thai and Chinese."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage as a tool returned it."""

    id: int
    document_id: int
    filename: str
    page_number: int | None
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Checked:
    """An answer in which every citation mark is proven."""

    text: str
    citations: list[dict[str, Any]]
    """One citation for each mark, in the order of the marks in the text."""
    removed: int
    """How many unproven marks were removed."""


@dataclass(frozen=True, slots=True)
class _Mark:
    start: int
    end: int
    ids: list[int]


def passages_in(results: Iterable[Any]) -> dict[int, Passage]:
    """Return the passages in tools' results, at any depth, by passage id.

    A passage is an object in a list named `passages`. If a passage lacks a field, the field is taken from the objects
    around the list.
    """
    return {passage.id: passage for result in results for passage in _passages(result, {})}


def cited_in(answer: str) -> set[int]:
    """Return the ids of the passages that an answer's marks name."""
    return {number for mark in _marks(answer) for number in mark.ids}


def check(answer: str, passages: dict[int, Passage]) -> Checked:
    """Check an answer's marks, and remove each unproven mark together with the blank before it.

    A mark is proven if its passage is in `passages`. If a quotation stands directly before the mark, the passage must
    also contain that quotation. Case, blanks and the style of quotes and dashes do not matter. A mark inside a
    quotation is removed, because it comes from the document and not from the assistant.
    """
    removed = 0
    for _ in range(MOST_PASSES):
        checked = _checked_once(answer, passages)
        answer, removed = checked.text, removed + checked.removed
        if [mark[0] for mark in MARK.finditer(answer)] == [citation["mark"] for citation in checked.citations]:
            return Checked(answer, checked.citations, removed)
    # A mark is left after all passes. Only an attack nests marks this deeply, so all brackets are replaced.
    return Checked(answer.replace("[", "("), [], removed)


def _checked_once(answer: str, passages: dict[int, Passage]) -> Checked:
    marks = list(_marks(answer))
    quotations = [_quotation_before(answer, marks, number) for number in range(len(marks[:MOST_MARKS]))]
    quoted = _quoted(marks, quotations)
    pieces, citations, removed, told = list[str](), list[dict[str, Any]](), 0, 0
    for number, mark in enumerate(marks):
        proven = list[dict[str, Any]]()
        if number < MOST_MARKS and number not in quoted:
            place = quotations[number]
            quote = None if place is None else answer[slice(*place)]
            found = [_citation(passages.get(one), quote) for one in mark.ids]
            proven = [citation for citation in found if citation is not None]
        removed += len(mark.ids) - len(proven)
        citations += proven
        before, told = answer[told : mark.start], mark.end
        before = before if proven else before.rstrip(_BLANKS)
        pieces += [before] if before else []
        pieces += [citation["mark"] for citation in proven]
        if not proven and (not pieces or pieces[-1].endswith("\n")):
            while answer[told : told + 1] in set(_BLANKS):
                told += 1
    return Checked("".join(pieces) + answer[told:], citations, removed)


def _passages(node: Any, around: dict[str, Any], name: str = "") -> Iterator[Passage]:
    if isinstance(node, list):
        for item in node:
            yield from _passages(item, around, name)
    elif isinstance(node, dict):
        known = around | {key: value for key, value in node.items() if isinstance(value, str | int | None)}
        if name == "passages":
            if (passage := _passage(node, known)) is not None:
                yield passage
            return
        for key, value in node.items():
            yield from _passages(value, known, key)


def _passage(node: dict[str, Any], known: dict[str, Any]) -> Passage | None:
    numbers = [node.get("id"), known.get("document_id"), node.get("start"), node.get("end")]
    page = known.get("page_number")
    if not all(isinstance(number, int) for number in [*numbers, page or 0]) or not isinstance(node.get("text"), str):
        return None
    return Passage(
        id=node["id"],
        document_id=known["document_id"],
        filename=str(known.get("filename") or ""),
        page_number=page,
        text=node["text"],
        start=node["start"],
        end=node["end"],
    )


def _marks(answer: str) -> Iterator[_Mark]:
    for found in MARK.finditer(answer):
        yield _Mark(found.start(), found.end(), [int(number) for number in re.findall(r"\d+", found[0])])


def _quotation_before(answer: str, marks: list[_Mark], number: int) -> tuple[int, int] | None:
    """Return the span of the quotation that ends directly before a mark, without its quotation marks, or None."""
    end, before = marks[number].start, number - 1
    while end:
        if before >= 0 and end == marks[before].end:
            end, before = marks[before].start, before - 1
        elif answer[end - 1] in _BETWEEN:
            end -= 1
        else:
            break
    if not end or answer[end - 1] not in _OPENERS:
        return None
    opening = _opening(answer, end - 1, no_nested_before=marks[before].end if before >= 0 else 0)
    if opening is None or not _plain(answer[opening : end - 1])[0].strip(_EDGES):
        return None
    return opening + 1, end - 1


def _opening(answer: str, closing_at: int, *, no_nested_before: int) -> int | None:
    """Return where the quotation that closes at `closing_at` begins, or None.

    Quotation marks inside the quotation must be balanced. If they are not, for example because one of them means
    inches, the start of the longest possible quotation is returned. A quotation that is too long fails the check, but a
    quotation that is too short would leave words unchecked.
    """
    closing, depth, outermost = answer[closing_at], 1, None
    for place in range(closing_at - 1, max(-1, closing_at - 1 - LONGEST_QUOTATION), -1):
        char = answer[place]
        if char in _OPENERS[closing] and (char != closing or not place or answer[place - 1] in _BEFORE_OPENER):
            depth -= 1
            if place >= no_nested_before:
                outermost = place
            if not depth:
                return place
        elif char == closing:
            depth += 1
    return outermost


def _quoted(marks: list[_Mark], quotations: list[tuple[int, int] | None]) -> set[int]:
    """Return the positions, in `marks`, of the marks inside a quotation."""
    inside: set[int] = set()
    for number, quotation in enumerate(quotations):
        before = number - 1
        while quotation is not None and before >= 0 and marks[before].start >= quotation[0]:
            if marks[before].end <= quotation[1]:
                inside.add(before)
            before -= 1
    return inside


def _citation(passage: Passage | None, quote: str | None) -> dict[str, Any] | None:
    if passage is None:
        return None
    place = (0, len(passage.text)) if quote is None else _find(quote, passage.text)
    if place is None:
        return None
    return {
        "mark": f"[p{passage.id}]",
        "passage_id": passage.id,
        "document_id": passage.document_id,
        "filename": passage.filename,
        "page_number": passage.page_number,
        "quote": passage.text[slice(*place)],
        "start": passage.start if quote is None else passage.start + place[0],
        "end": passage.end if quote is None else passage.start + place[1],
    }


def _find(quote: str, text: str) -> tuple[int, int] | None:
    """Return the span at which the quoted words occur in a text as whole words, or None.

    Punctuation at the quotation's ends is ignored.
    """
    wanted = _plain(quote)[0].strip(_EDGES)
    plain, places = _plain(text)
    at = plain.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        if not _is_within_a_word(plain, at) and not _is_within_a_word(plain, end):
            return places[at], places[end - 1] + 1
        at = plain.find(wanted, at + 1)
    return None


def _is_within_a_word(text: str, place: int) -> bool:
    around = text[place - 1 : place + 1] if place else ""
    return len(around) == 2 and around.isalnum() and max(around) < _FIRST_WITHOUT_BLANKS


def _plain(text: str) -> tuple[str, list[int]]:
    """Return a text normalized for comparison, and the original position of each of its characters."""
    plain, places = list[str](), list[int]()
    for place, char in enumerate(text):
        if char.isspace():
            form = "" if plain and plain[-1] == " " else " "
        else:
            form = "" if char in _LEFT_OUT else unicodedata.normalize("NFKD", char).casefold().translate(_STRAIGHT)
        plain += form
        places += [place] * len(form)
    return "".join(plain), places
