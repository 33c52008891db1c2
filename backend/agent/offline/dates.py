r"""Find due dates in a person's sentence, and words that only look like dates.

If the tools' parser understands the words of a due date, they are passed to it unchanged. Words that look like a date,
a time or a repetition but are not understood must not end up in a title unnoticed. `doubts` finds such words, and the
rules ask the person about them. Quoted text is hidden (see `patterns`), so no function here reads a quoted word.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import NamedTuple
from zoneinfo import ZoneInfo

from backend.tasks.dates import LONGEST, DueNotUnderstood, understand

MOST_WORDS = 14
"""The most words in a due date."""
MOST_DOUBTS = 10
"""A search for doubtful dates in a text stops after this many."""


class Doubt(NamedTuple):
    """Words in a text that look like a date but were not taken as the due date."""

    start: int
    end: int
    words: str
    repeats: bool
    """Whether the words ask for a repeating task."""
    due: str
    """The due date that the words may mean, or ""."""
    is_name: bool
    """Whether the words are part of a name, as in "the Monday meeting"."""


def _re(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


# fmt: off
_DAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_MONTH = (r"(?:january|february|april|june|july|august|september|october|november|december"
          r"|jan|feb|apr|jun|jul|aug|sept?|oct|nov|dec)")
# Names of days and months that are also ordinary words: "sit in the sun", "I may".
_AMBIGUOUS = r"(?:mon|wed|sat|sun|mar|march|may)"
_UNIT = r"(?:minute|min|hour|hr|day|week|weekend|month|quarter|year|fortnight|wk|mth|yr)s?"
_NUMBER = (r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|ninety)")
_ORDINAL = (r"(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|thirteenth"
            r"|fourteenth"
            r"|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|twenty-\w+|thirtieth|thirty-first)")
_PART = r"(?:morning|afternoon|evening|night)"
_AMOUNT = rf"(?:an?|\d+(?:[.,]\d+)?|{_NUMBER}|(?:a )?few|several|a couple(?: of)?|couple(?: of)?|some|half an?)"
_HOLIDAY = (r"(?:christmas|xmas|x-mas|easter|thanksgiving|halloween|hanukkah|diwali|ramadan|eid|pentecost|whitsun"
            r"|advent"
            r"|boxing day|new year'?s?|valentine'?s|labou?r day|memorial day|independence day|bank holiday"
            r"|(?:good|black) friday|(?:ash|cyber|easter|palm|whit) (?:mon|wednes|sun)day|mother'?s day|father'?s day"
            r"|the holidays)(?: day| eve)?")
_AT_DATE = (r"(?:on|by|in|at|until|till?|before|after|since|from|next|this|last|due|mid|early|late|every|each|around"
            r"|over|of)")
_END = r"[\s.,;:!?)]*$"

_LOOKS = _re(r"|".join((
    # Days.
    rf"\b{_DAY}s?\b", r"\b(?:tues?|thu(?:rs?)?|fri)\b(?![-'])",
    r"\b(?:today|tomorrow|tonight|yesterday|tmr|tmrw|tmrow|tmw|tomoz|2moro|2morrow|2day|2nite)\b",
    rf"\b{_AT_DATE} {_AMBIGUOUS}\b", rf"\b{_AMBIGUOUS}[.,]? (?:at |@ ?)?(?:the )?(?:\d|{_PART}\b|noon|next\b)",
    rf"\d(?:st|nd|rd|th)?\.?(?: of)? {_AMBIGUOUS}\b", rf"(?<!\bthe )(?<!\ba )(?<!\bmy )(?<!^)\b{_AMBIGUOUS}{_END}",
    r"\b(?:mon|tues?|wed|thu(?:rs?)?|fri|sat|sun)\.?[/&-](?:mon|tues?|wed|thu(?:rs?)?|fri|sat|sun)\b",
    rf"\b{_MONTH}\b(?!')", rf"\b{_HOLIDAY}\b",
    r"\b(?:fortnights?|week-?ends?|week-?days?|mid-?(?:week|month|year))\b",
    r"\b(?:year|quarter|month|week|day)(?:'?s)?[ -]end\b", r"\bthis eve\b",
    rf"\b(?:within|inside|during) (?:the|this|an?) {_UNIT}\b", r"\bin the week\b",
    r"(?<![\w./-])\d{1,4}[/.-]\d{1,2}[/.-](?:\d{4}|\d\d)\b(?![.\w])", r"(?<![\w./])\d{1,2}/\d{1,2}(?![\w/])",
    r"(?<![\w.])\d{1,2}\.(?:\d{1,2}\.| ?\d{1,2}\. ?\d{2,4})(?!\w)",
    r"\b(?:on|by|until|till|before|due|after|from|for)(?: the)? \d{1,2}[.-]\d{1,2}\b",
    rf"(?<![\w-])\d{{1,2}}-\d{{1,2}}{_END}",
    # A day or a time with a dot, such as "24.12" or "5.30", but not a version number.
    "".join(rf"(?<!\b{word} )" for word in ("python", "version", "release", "chapter", "section", "part", "page", "to",
                                            "figure", "step", "item", "of", "java", "ubuntu", "ios", "android"))
    + rf"(?<![\w./$\u20ac\u00a3-])\d{{1,2}}\.(?:0?[1-9]|[1-5]\d|00){_END}",
    rf"(?<![\w.:])\d{{1,2}}(?:[:.]\d\d)? ?p{_END}", r"(?:\bat|@) ?\d{1,2}(?:[:.]\d\d)? ?[ap]\b",
    r"\b\d{4}-\d\d?(?:-\d\d?)?(?:t[\d:+z]*)?\b",
    r"\b\d{1,2}(?:st|nd|rd|th)\b", rf"\b(?:the|on|by) {_ORDINAL}(?: of\b|{_END})",
    r"\b(?:in|by|until|till|before|since|of|during) (?:19|20|21)\d\d\b",
    r"\b(?:in|by|until|till|before|after|next|this|last|during|over)(?: the)?(?: early| late)?"
    r" (?:spring|summer|autumn|fall|winter)\b",
    # Times.
    r"(?<![\w.:])\d{1,2}(?:[:.]\d\d)? ?[ap]\.?m\b", r"(?<![\w.:])\d{1,2}:\d\d\b", r"\b\d{1,2} ?h ?\d\d\b",
    r"\b\d{1,2} ?o'?clock\b", r"\b\d{3,4} ?(?:hours|hrs)\b",
    rf"\b(?:{_NUMBER})(?:[ -](?:oh[ -])?(?:{_NUMBER}|forty-five))? ?(?:[ap]\.?m\b|o'?clock\b)",
    rf"\b{_NUMBER}[ -](?:fifteen|thirty|forty-five)\b",
    rf"(?:\bat|@|\bby|\bbefore|\bafter|\baround|\buntil|\btill) ?(?:\d{{1,2}}|{_NUMBER})(?:ish)?{_END}",
    rf"(?:\bat|@) ?(?:\d{{1,2}}|{_NUMBER})(?:ish)?\b(?! ?[%€$])", r"\b\d{1,2}-?ish\b",
    rf"\b(?:half|quarter|\d{{1,2}}|{_NUMBER}) (?:past|to|after) (?:\d{{1,2}}|{_NUMBER}|noon|midnight)\b",
    rf"\bhalf (?:\d{{1,2}}|{_NUMBER})\b",
    r"\b(?:noon|midday|midnight|lunch-?time|dinner-?time|bed-?time|cob|eob|eod|eow|eom|eoq|eoy|(?:first|last) thing)\b",
    r"\b(?:close|end) of (?:business|play|work)\b",
    rf"\b(?:in|at|by|this|during|before|after|until|over)(?: the)?(?: early| late)?"
    rf" (?:{_PART}|dawn|dusk|sunrise|sunset)s?\b",
    r"\b(?:on|by|before|after|until|till) [\w']+ (?:birthday|anniversary)\b",
    # Dates in other languages are not understood, but they are recognized as doubtful.
    r"\b(?:heute|morgen|übermorgen|(?:mon|diens|donners|frei|sams|sonn)tags?|mittwochs?|sonnabend|uhr|demain"
    r"|aujourd'hui"
    r"|(?:lun|mar|mercre|jeu|vendre|same)di|dimanche|mañana|lunes|martes|miércoles|jueves|viernes|sábado)\b",
    r"\b(?:by|before|after|until|at) (?:lunch|dinner|breakfast|supper|work|school|class)\b",
    # Spans.
    rf"\b(?:this|next|last|coming|following|same|another|mid|all|any)[ -](?:\w+ )?{_UNIT}\b",
    r"(?:\b(?:in|within|after|before|another|next|following|by|over)|\+)"
    rf" ?(?:the )?(?:next |following |about |around |another )?{_AMOUNT}(?: and a half)?(?: more)?"
    rf" ?-?(?:{_UNIT}|[hdwm])\b",
    rf"\b{_AMOUNT} (?:more )?(?:{_UNIT}|sleeps)"
    r" (?:from|after|before|later|ahead|on|hence|time|ago|since|until|earlier|of)\b",
    rf"\bthe (?:{_UNIT}|eve|{_PART}) (?:of|after|before|following|from|on)\b",
    r"\b\d{1,3}(?:d|w|wks?|hrs?|mins?)\b", r"(?<!\w)\+ ?\d+\b",
    rf"(?<!\bfor )(?<!\bin )\b(?:\d{{1,3}}|{_NUMBER}) {_UNIT}{_END}",
    r"\b(?:end|start|beginning|middle|close|turn)(?:ing)? of (?:the |this |next |last |my |our )?"
    rf"(?:{_UNIT}|q[1-4]|{_MONTH}|{_AMBIGUOUS}|term|semester)\b",
    r"\b(?:in|by|until|till|before|of|this|next|for) q[1-4]\b", rf"\bq[1-4](?: (?:of )?\d{{4}}|{_END})",
)))
_SAYS_DUE = _re(r"\b(?:due|deadline)\b")
_REPEATS = _re(r"|".join((
    r"\b(?:every|each)\b", r"\beveryday\b", r"\balternat(?:e|ing)\b", r"\b(?:repeat|recur)\w*\b", r"\bregularly\b",
    r"\b(?:dai|night|hour|week|month|quarter|year|fortnight|bi-?week|bi-?month|semi-?week)ly\b",
    r"\b(?:annually|bi-?annually)\b",
    rf"\b{_DAY}s\b", r"\b(?:week-?days|week-?ends|mornings|afternoons|evenings|nights)\b",
    rf"\b(?:once|twice|thrice|\d+ ?x|(?:\d+|{_NUMBER}|several|many) times)(?: (?:an?|per|each|every|in an?))?"
    rf" {_UNIT}\b",
    rf"\bper {_UNIT}\b",
)))
# Consecutive words of this kind are passed to the tools' parser.
_WORD = _re("|".join((
    rf"{_DAY}s?|mon|tues?|wed|thu(?:rs?)?|fri|sat|sun|{_MONTH}|march|mar|may",
    r"today|tomorrow|tonight|yesterday|tmr|tmrw|tmrow|tmw|tomoz|2moro|2morrow|2day|2nite",
    rf"{_PART}s?|noon|midday|midnight|lunch-?time|lunch|dinner|breakfast|cob|eob|eod|eow|eom|eoq|eoy|dawn|dusk",
    rf"\d{{1,4}}(?:st|nd|rd|th)?|'\d\d|{_NUMBER}|{_ORDINAL}|half|quarter|couple|few|several|q[1-4]",
    r"\d{1,2}(?:[:.h]\d\d)?(?:[ap]\.?m)?h?|\d{1,2}-?ish|@ ?\d{1,2}(?::\d\d)?(?:[ap]\.?m)?|[ap]\.?m|o'?clock",
    r"\d{1,2}[ap]|mid-?(?:week|month|year)|(?:year|quarter|month|week|day)(?:'?s)?-end|(?:year|month|week)'?s",
    r"utc|gmt|[ecmp][sd]?t|cet|cest",
    r"\d{1,4}[./-]\d{1,2}(?:[./-]\d{1,4})?|\d{4}-\d\d?-\d\d?t[\d:.+z-]*",
    rf"{_UNIT}|weekdays?|\+?\d{{1,3}}(?:d|w|wks?|h|hrs?|m|mins?)|hours?|hence|ago|sleeps|time",
    r"in|on|at|by|for|until|til|till|before|prior|after|from|of|the|a|an|and|or|within|around|about|during|over|past"
    r"|to|since|between|through|thru|than|not|no|later?|latest|earlier|early|mid|end|start|beginning|middle|close|business|thing"
    r"|due|date|deadline|is|it's|with|has|next|this|last|coming|following|other|same|first|any|another|more|now|@"
    r"|[-\u2013&+]",
    r"every|each|once|twice|times|per|everyday|daily|weekly|monthly|yearly|annually|hourly|nightly|fortnightly"
    r"|quarterly",
    r"christmas|xmas|eve|easter|thanksgiving|halloween|boxing|new|year'?s|good|black|spring|summer|autumn|fall|winter",
)))
_LEAD = _re(
    r"(?<![\w'])(?:(?:(?:(?:it's|is|with|has|should be) )?(?:an? |the )?(?:due date|due|deadline)"
    r"(?: of| on| by| at| is| to| before|:)?|by|on|for|to|until|til|till|before|at|around|over|not? later than"
    r"|at the latest(?: on| by)?) )$")
_EDGES = " ,;:.!?()-\u2013\u2014"
_DASH = _re(r"(?<!\S)(?P<before>\S+)(?P<dash>\s+[-\u2013\u2014]\s*)$")
_TIME = _re(rf"\d ?[ap]\.?m\b|\d:\d\d|\bat \d|o'?clock|\b(?:noon|midday|midnight|{_PART})\b")
_GOES_ON = _re(r"\s*$|\s*[,:;]|\s+[-\u2013\u2014]\s|\s+(?:to|called|named|that|about|remind|remember|don't|do not|i)\b")
_LEADS = _re(r"[\s,(]*(?:(?:due(?: on| by| at)?|by|on|for|until|till|before|at) )?")
_STARTS = re.compile(r"in|within|this|next|coming|the|an?|end|today|tomorrow|tonight|noon|midday|midnight|[^\W_]*\d.*"
                     rf"|eod|half|{_NUMBER}|(?:{_DAY}|{_MONTH}|mon|tues?|wed|thu(?:rs?)?|fri|sat|sun|march|mar|may)")
# One of these words changes the meaning of the date after it: "after Friday" is not Friday.
_CHANGES_IT = _re(
    r"(?:after|before|prior|until|till|within|about|from|of|or|and|between|through|thru|since|than|not|never|no|except|only"
    r"|almost|ago|past|now|early|earlier|late|later|mid|middle|end|start|starting|beginning|sometime|some ?day"
    r"|any ?time"
    r"|first|last|second|third|fourth|next|this|every|each|other|couple|few|half|quarter|eve|plus|minus"
    rf"|{_UNIT}|{_PART}|{_AMBIGUOUS}|[-\u2013+&/])")
_A_NUMBER = re.compile(rf"(?:\d{{1,4}}|{_NUMBER})", re.IGNORECASE)
# Words that the parser understands but that seldom mean a date on their own, each with the leading words that make them
# a date.
_NEEDS_LEAD = tuple((_re(alone), _re(leads)) for alone, leads in (
    (r"(?:the )?(?:week|month|year|day|days|weeks)|now|.*\b(?:yesterday|ago)\b.*|.+ (?:until|till)\b.*"
     r"|.* (?:by|on|before|around|at)", r"(?!)"),
    (rf"(?:the |an? ){_AMBIGUOUS}", r"(?!)"),
    (rf"{_MONTH}|march|mar|may", r"(?:by|until|til|till|before|due|deadline|.* (?:by|of|on|is))"),
    (r"(?:mon|wed|sat|sun)\.?|(?:the )?(?:noon|midday|midnight)|\d{1,2}/\d{1,2}|\d{1,2}(?:st|nd|rd|th)", r".+"),
    (rf"(?:the |an? )?{_PART}", r"(?:by|until|till|before)"),
    (r"(?:the |an? )?weekend", r".+"),
))
_NOUN_AFTER = _re(r" (?!(?:at|on|by|in|or|and|to|for|of|with|without|about|from|until|till|before|after|if|when|so"
                  r"|because"
                  r"|as|is|are|was|not|sharp|early|late|latest|first|only|please|regarding|via|near|per|instead"
                  r"|again)\b)"
                  r"(?!\d)[^\W\d_]{3,}")
_NAMED = _re(rf"\b(?:the|my|our|his|her|their|your|an?) (?:(?:{_DAY}|{_MONTH}|today|tomorrow)\b|{_HOLIDAY}\b)"
             rf"|\b(?:{_DAY}|today|tomorrow|tonight|yesterday|(?:this|next|last) {_UNIT})'s"
             rf"|(?<!\bon )(?<!\bby )(?<!\bat )(?<!\bfor )(?<!\bover )(?<!\btill )"
             rf"(?<!\buntil )(?<!\bbefore )(?<!\bafter )(?<!\bthis )(?<!\bnext )(?<!\bsince )(?<!\baround )(?<!\bof )"
             rf"(?<!\bthe )(?<!\bin ){_HOLIDAY}\b")
# Names that contain a date word and need no noun after it: "Mr. March", "the invoice from March".
_WHOLE_NAME = _re(rf"\b(?:mr|mrs|ms|miss|dr|prof)\.? (?:{_DAY}|{_MONTH}|{_AMBIGUOUS})\b"
                  r"|\b(?:invoice|bill|receipt|report|statement|letter|e?-?mail|minutes|notes?|photos?|pictures?|message"
                  r"|order|payslip|numbers|figures|results|expenses|taxes)s? (?:from|of) (?:last )?"
                  rf"(?:{_DAY}|{_MONTH}|{_AMBIGUOUS})(?: \d{{4}})?{_END}")
# "The weekly report" and "check daily deals" are names, but "a weekly report" and "stretch daily" may repeat.
_PERIODIC = (r"(?:dai|night|hour|week|month|quarter|year|fortnight|bi-?week|bi-?month)ly|annual")
_PERIODIC_NAME = _re(r"(?:\b(?:the|my|our|his|her|their|your|this|next|last) "
                     rf"|^\s*(?:to )?[^\W\d]+ (?<!\ba )(?<!\ban ))(?:{_PERIODIC})")
_ANY_NAME = _re(rf"{_HOLIDAY}|(?:mr|mrs|ms|miss|dr|prof) {_DAY}|(?:good|black|ash|cyber|palm|whit|freaky) {_DAY}")
_TASK_NUMBERS = _re(r"tasks? #?\d{1,9}(?:(?:,? and |, ?| & | \+ | to |-| - )(?:task )?#?\d{1,9}){0,20}")
_ONCE = _re(rf"\b(?:every|each)\b(?: (?:single|and every))?(?: {_UNIT}\b)?|\b(?:dai|week|month|year)ly\b|\bannually\b")
# fmt: on

_ANYWHERE = ZoneInfo("UTC")


def cut_due(text: str) -> tuple[str, str] | None:
    """Split the due date off the end of a text; return the rest and the date in the text's own words.

    The date is the longest sequence of words at the end that the tools understand as a date. Returns None if there is
    no such date, or if the words before the date change its meaning.
    """
    tokens = list(re.finditer(r"\S+", text))
    run = [token for token in tokens[_run_start(tokens) :] if token.start() >= len(text.rstrip()) - LONGEST]
    for token in run[-MOST_WORDS:]:
        due = text[token.start() :].strip(_EDGES)
        before = text[: token.start()]
        if not _STARTS.fullmatch(_plain(token[0])) and not (_plain(token[0]) == "at" and _bare_hour(due)):
            continue
        lead = _LEAD.search(before, max(len(before) - 40, 0))
        if not _is_due(due, lead[0].strip() if lead else ""):
            continue
        rest = before[: lead.start()] if lead else before
        if _is_earlier(due, lead[0].strip() if lead else ""):
            return None
        if (dash := _DASH.search(rest)) and not _WORD.fullmatch(_plain(dash["before"])):
            rest = rest[: dash.start("dash")]
        return None if _changes_it(rest, due, has_lead=lead is not None) else (rest.rstrip(" ,;(:-\u2013\u2014"), due)
    return None


def cut_leading_due(text: str) -> tuple[str, str] | None:
    """Split the due date off the start of a text, as in "tomorrow to call Ida"; return rest and date, or None."""
    begins = _LEADS.match(text)
    lead = begins[0].strip(" ,(") if begins else ""
    rest = text[begins.end() :] if begins else text
    tokens = list(re.finditer(r"\S+", rest[:LONGEST]))
    length = next((place for place, token in enumerate(tokens) if not _WORD.fullmatch(_plain(token[0]))), len(tokens))
    for token in reversed(tokens[: min(length, MOST_WORDS)]):
        words, after = rest[: token.end()].rstrip(" ,;:"), rest[token.end() :]
        due = f"at {words}" if lead.lower().endswith("at") and words[:1].isdigit() else words
        if (token[0][-1] in ",;:" or _GOES_ON.match(after)) and _is_due(due, lead) and not _is_earlier(due, lead):
            return after.lstrip(" ,;:-\u2013\u2014"), due
    return None


def doubts(text: str, *, says_due: bool = True) -> list[Doubt]:
    """Find dates, times and repetitions that remain in a text after its due date has been removed."""
    found: list[Doubt] = []
    tokens = list(re.finditer(r"\S+", text))
    for start, end, repeats in islice(_merged(text, says_due=says_due), MOST_DOUBTS):
        begins, ends = _widened(tokens, start, end)
        is_name, comes_again = _is_name(text, start, end, repeats=repeats), repeats
        if found and begins < found[-1].end:
            one = found.pop()
            begins, is_name, comes_again = one.start, False, repeats or one.repeats
        words = text[begins:ends].strip(" ,;:.!?()")
        due = _single(words) if comes_again else whole_due(words)
        found.append(Doubt(begins, ends, words, comes_again, due, is_name))
    return found


def whole_due(words: str) -> str:
    """Return a date without its leading word, such as "by". Return "" if the words are not just a date."""
    cut = cut_due(words)
    return cut[1] if cut and not cut[0] else ""


def _single(words: str) -> str:
    """Return the date of one repetition, such as "Monday at 9" for "every Monday at 9", or "" if it is unclear."""
    once = re.sub(r"(?i) of (?:every|each) month\b", "", words)
    once = " ".join(_ONCE.sub(" ", once).split())
    once = re.sub(rf"(?i)\b({_DAY})s\b", r"\1", once)
    if _REPEATS.search(once) or not (_LOOKS.search(once) or re.search(r"\d", once)):
        return ""
    return whole_due(once)


def is_made_of_dates(text: str) -> bool:
    """Return whether a text consists only of words that can be part of a date."""
    return _run_start(list(re.finditer(r"\S+", text))) == 0


def _is_earlier(due: str, lead: str) -> bool:
    """Return whether the words ask for a day before the day that they name.

    "before Friday" asks for an earlier day, but "before 5pm" means by 5pm.
    """
    return re.search(r"(?i)\bbefore\b", f"{lead} {due}") is not None and not _TIME.search(due)


def _is_due(words: str, lead: str) -> bool:
    plain = words.lower()
    if any(alone.fullmatch(plain) and not leads.fullmatch(lead.lower()) for alone, leads in _NEEDS_LEAD):
        return False
    return not _REPEATS.search(words) and _understands(plain)


@lru_cache(maxsize=1_000)
def _understands(words: str) -> bool:
    try:
        understand(words, now=datetime.now(UTC), zone=_ANYWHERE)
    except DueNotUnderstood:
        return False
    return True


def _changes_it(rest: str, due: str, *, has_lead: bool) -> bool:
    """Return whether the words before a date change its meaning: "a week from" Sunday, "tomorrow or" Friday."""
    tokens = list(re.finditer(r"\S+", rest))
    if not tokens or _TASK_NUMBERS.fullmatch(rest.strip()):
        return False
    last, run = _plain(tokens[-1][0]), _run_start(tokens)
    if any(_CHANGES_IT.fullmatch(_plain(token[0])) for token in [*tokens[run:], tokens[-1]]):
        return True
    if _ANY_NAME.search(f"{last} {due}"):
        return True
    before_it = _plain(tokens[-2][0]) if len(tokens) > 1 else ""
    if _A_NUMBER.fullmatch(last) and not has_lead and before_it != "for":
        return True
    # Only the words directly before the date count: "the Monday meeting by Friday" has one date.
    near = rest[tokens[run].start() :] if run < len(tokens) else ""
    return bool(_LOOKS.search(near) or _REPEATS.search(near))


def _run_start(tokens: list[re.Match[str]]) -> int:
    """Return the index at which the sequence of date words at the text's end begins."""
    place = len(tokens)
    while place and _WORD.fullmatch(_plain(tokens[place - 1][0])):
        place -= 1
    return place


def _merged(text: str, *, says_due: bool) -> Iterator[tuple[int, int, bool]]:
    patterns = [(_LOOKS, False), (_REPEATS, True), *([(_SAYS_DUE, False)] if says_due else [])]
    spans = sorted((match.start(), match.end(), repeats) for row, repeats in patterns for match in row.finditer(text))
    held: tuple[int, int, bool] | None = None
    for start, end, repeats in spans:
        if held and start < held[1]:
            held = (held[0], max(end, held[1]), repeats or held[2])
        else:
            if held:
                yield held
            held = (start, end, repeats)
    if held:
        yield held


def _widened(tokens: list[re.Match[str]], start: int, end: int) -> tuple[int, int]:
    """Widen a span to all date words around it, but not to linking words such as "and" at its ends."""
    first = next(place for place, token in enumerate(tokens) if token.end() > start)
    last = max(place for place, token in enumerate(tokens) if token.start() < end)
    low, high = first, last
    while low and tokens[low - 1][0][-1] not in ";:" and _WORD.fullmatch(_plain(tokens[low - 1][0])):
        low -= 1
    while high + 1 < len(tokens) and _WORD.fullmatch(_plain(tokens[high + 1][0])):
        high += 1
    while low < first and _plain(tokens[low][0]) in {"to", "and", "or", "is", "of", "with", "about", "not"}:
        low += 1
    while (
        low < first and _plain(tokens[low][0]) in {"a", "an", "the"} and _REPEATS.fullmatch(_plain(tokens[low + 1][0]))
    ):
        low += 1
    while high > last and _plain(tokens[high][0]) in {
        "to",
        "and",
        "or",
        "with",
        "about",
        "of",
        "the",
        "for",
        "a",
        "is",
    }:
        high -= 1
    return tokens[low].start(), tokens[high].end()


def _is_name(text: str, start: int, end: int, *, repeats: bool) -> bool:
    """Return whether a span is part of a name: "the Monday meeting", "tomorrow's talk", "buy Christmas presents"."""
    if any(named.start() <= start and end <= named.end() for named in _WHOLE_NAME.finditer(text)):
        return True
    for named in (_PERIODIC_NAME if repeats else _NAMED).finditer(text):
        if named.start() <= start and end <= named.end() + 2 and (after := _NOUN_AFTER.match(text, named.end())):
            return not _WORD.fullmatch(after[0].strip())
    return False


def _bare_hour(words: str) -> bool:
    return re.match(r"(?i)at \d{1,2}\b", words) is not None


def _plain(token: str) -> str:
    return token.lower().strip(',;:!?()"').rstrip(".")
