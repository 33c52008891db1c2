"""Find the due date at the end of a line in a document."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

from backend.tasks.dates import LONGEST, DueNotUnderstood, understand

_LEAD = re.compile(
    r"(?<![\w-])(?:by|until|till|before|on|no later than|due(?: by| on| date)?|deadline"
    r"|bis(?: spätestens)?(?: zum| zur| am)?|spätestens(?: bis)?(?: zum| am)?|am|fällig(?: bis)?(?: zum| am)?|frist)"
    r"(?: ?: ?| )",
    re.IGNORECASE,
)
_DAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:mon|diens|donners|frei|sams|sonn)tag|mittwoch"
_BARE = re.compile(
    rf"(?<![\w-])(?:today|tonight|tomorrow|heute|übermorgen|(?:next|this|nächste[nrs]?|diese[nrs]?) "
    rf"(?:week|month|year|woche|monat|jahr|{_DAY})|\d{{4}}-\d\d-\d\d|\d{{1,2}}\.\d{{1,2}}\.\d{{4}})"
    r"(?: (?:at|um) [\d: apmuhr]{1,12})?$",
    re.IGNORECASE,
)
_IN_ENGLISH = tuple(
    (re.compile(rf"\b{german}\b", re.IGNORECASE), english)
    for german, english in (
        (r"über ?morgen", "day after tomorrow"), (r"heute", "today"), (r"morgen", "tomorrow"),
        (r"montag", "monday"), (r"dienstag", "tuesday"), (r"mittwoch", "wednesday"), (r"donnerstag", "thursday"),
        (r"freitag", "friday"), (r"(?:samstag|sonnabend)", "saturday"), (r"sonntag", "sunday"),
        (r"(?:zum )?ende de[rs]", "end of the"), (r"ende (?=nächst|diese)", "end of "),
        (r"nächste[nrsm]?", "next"), (r"diese[nrsm]?", "this"),
        (r"woche", "week"), (r"monate?s?", "month"), (r"jahre?s?", "year"),
        (r"januar", "january"), (r"februar", "february"), (r"märz", "march"), (r"mai", "may"), (r"juni", "june"),
        (r"juli", "july"), (r"oktober", "october"), (r"dezember", "december"),
        (r"um (?=\d)", "at "), (r"(\d\d?:\d\d) ?uhr", r"\1"), (r"(\d\d?) ?uhr", r"\1:00"),
        (r"(\d\d?)\. (?=[a-z])", r"\1 "),
    )
)  # fmt: skip
MOST_TRIES = 4
"""The most words such as "by" that are tried as the start of a due date, beginning at the line's end. Each try costs
milliseconds."""
_ENDS = " \t.,;!)]"
_BEFORE = " \t,;:(\u2013\u2014-["


def split_due(line: str, *, now: datetime, zone: ZoneInfo) -> tuple[str, datetime | None]:
    """Split the words for a due date off the end of a line; return the rest of the line and the due date.

    The words may be English or German: "by next Friday", "(due 2026-12-01)", "bis Ende der Woche". If there are no such
    words, or they are not understood, return the unchanged line and None.
    """
    text = line.rstrip(_ENDS)
    places = [(found.start(), found.end()) for found in _LEAD.finditer(text, max(len(text) - LONGEST, 0))]
    if bare := _BARE.search(text, max(len(text) - LONGEST, 0)):
        places.append((bare.start(), bare.start()))
    for begins, when in sorted(places)[-MOST_TRIES:]:
        rest = text[:begins].rstrip(_BEFORE)
        due = _moment(text[when:], now, zone)
        if due is not None and rest:
            return rest + ")" * (rest.count("(") - rest.count(")")), due
    return line, None


def _moment(words: str, now: datetime, zone: ZoneInfo) -> datetime | None:
    words = words.strip()
    for german, english in _IN_ENGLISH:
        words = german.sub(english, words)
    try:
        return understand(words, now=now, zone=zone).at
    except DueNotUnderstood:
        return None
