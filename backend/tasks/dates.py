"""Due dates: what a person's words for a day or a time mean in the person's own time zone.

Where English leaves a choice, these rules apply:

- A day without a time means 23:59 on that day. A week, weekend, month or year means its last day. Weeks begin on
  Monday.
- "Friday" is the first Friday after today. Said on a Friday, it means the Friday a week later. "This Friday" may be
  today.
- "Next Friday" and "Friday next week" are the Friday of the next calendar week, on whatever day they are said.
- "At 5" is 5 PM. Without AM, PM or a leading zero, 1 to 7 are in the afternoon, and 8 to 12 are used unchanged.
- A time without a day is the next such time. If the task already has a due day, it is the time on that day. A time on a
  named day stays on that day, even if the time has passed.
- "Morning" is 9 AM, "afternoon" 3 PM, "evening" 6 PM and "night" 8 PM. If that time has passed today, the words mean
  the end of today.
- "December 1" is the next December 1, possibly today. In "12/1/2026" the month comes first; in "1.12.2026" the day
  comes first.
- When the clocks go forward, they skip some times. A skipped time moves later by the length of the gap.
- When the clocks go back, some times occur twice. The first occurrence is meant, except that a day ends at its last
  23:59.

Callers show the result with `in_words`, so that a person can correct a wrong choice.
"""

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from backend.errors import InvalidInput

LONGEST = 100
"""The most characters of the words for a due date."""

YEARS = range(1970, 2201)

_END_OF_DAY = time(23, 59)


class DueNotUnderstood(InvalidInput):
    """The words do not name a day or a time that this module understands."""

    code = "due_not_understood"

    def __init__(self, words: str) -> None:
        said = f'"{words}"' if len(words) <= LONGEST and words.isprintable() else "that"
        super().__init__(
            f"{said[0].upper()}{said[1:]} was not understood as a date. Say for example "
            '"tomorrow", "next Friday at 5pm", "in two weeks", "end of the month" or "2026-12-01T17:00".'
        )


@dataclass(frozen=True)
class Due:
    """A point in time, in the user's time zone."""

    at: datetime
    """23:59 if only a day was named."""


def understand(words: str, *, now: datetime, zone: ZoneInfo, day: date | None = None) -> Due:
    """Return the point in time that English words or an ISO 8601 date mean, said at `now` by somebody in `zone`.

    `now` has a time zone. A time without a day falls on `day`; if `day` is None, the next such time is meant. A time
    with a UTC offset is used exactly. A date in the past is accepted.

    Raises:
        DueNotUnderstood: The words are not understood, or the year is outside 1970 to 2200.
    """
    try:
        at = _resolve(_plain(words), now.astimezone(zone), zone, day)
    except (ValueError, OverflowError):  # The date does not exist, such as February 30, or is in the year 12000.
        at = None
    if at is None or at.year not in YEARS:
        raise DueNotUnderstood(words)
    return Due(at)


def in_words(at: datetime, zone: ZoneInfo) -> str:
    """Format a time in `zone` as "Friday, November 27, 2026 at 5:00 PM", or without the time at the end of a day."""
    # strftime is not used, because its names depend on the process's locale.
    local = at.astimezone(zone)
    day = f"{_DAYS[local.weekday()]}, {_MONTHS[local.month - 1]} {local.day}, {local.year}"
    if _is_end_of_day(local):
        return day
    return f"{day} at {local.hour % 12 or 12}:{local.minute:02} {'AM' if local.hour < 12 else 'PM'}"


# The grammar. Its patterns get at most a hundred lower-case characters, with single spaces and without commas.

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_WEEKDAY = r"(?:mon(?:day)?|tue(?:s|sday)?|wed(?:nesday)?|thu(?:r|rs|rsday)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?)"
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?"
    r"|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_PART = r"(?:morning|afternoon|evening|night)"
_NTH = r"(?:\d{1,2}(?:st|nd|rd|th)?)"
_MINUTES = r"(?:minute|min|hour|hr)s?"
_NUMBER = r"(?:\d{1,4}|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)"
_AMOUNT = rf"{_NUMBER} (?:{_MINUTES}|(?:day|week|month|year)s?)"

_SYNONYMS = tuple(
    (re.compile(rf"\b(?:{said})\b"), meant)
    for said, meant in (
        (r"tonight", "today night"),
        (rf"this (?={_PART})", "today "),
        (r"(?:12 )?(?:noon|midday)", "12pm"),
        (r"midnight|eod|end of (?:the )?day", "23:59"),
        (r"weekend", "week"),
        (r"(?:this )?coming", "this"),
        (rf"(this|next) week (?:on )?({_WEEKDAY})", r"\1 \2"),
        (rf"({_WEEKDAY}) (?:of )?(this|next) week", r"\2 \1"),
        (r"half an hour", "30 minutes"),
        (r"within", "in"),
        (r"(\d\d?/\d\d?)/(\d\d)", r"\1/20\2"),
        (r"from today", "from now"),  # dateparser 1.5 reads "two weeks from today" as two weeks ago.
    )
)
_LEAD = re.compile(r"^(?:(?:by|on|before|until|till|due|for|around|at|the|end of|no later than) )+")
_TRAIL = re.compile(r"(?: (?:by|on|before|until|around))+$")

_EXACT = re.compile(r"\d{4}-\d\d-\d\d[t ](?:[01]\d|2[0-3]):\d\d(?::\d\d(?:\.\d{1,9})?)?(?:z|[+-]\d\d:?\d\d)?", re.ASCII)
_CLOCK = re.compile(
    r"(?<![\w:/.+-])(?:(?:at |@ ?)(?=\d)|(?=\d{1,2}(?::\d\d| ?[ap]\.?m\b| o'clock)))"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))?(?: ?(?P<half>[ap])\.?m\b\.?| o'clock)?(?![\w:/.+-])",
    re.ASCII,
)
_PART_OF_DAY = re.compile(rf"(?:\b(?:in the|at) )?\b(?P<part>{_PART})\b")
_NAMED_WEEKDAY = re.compile(rf"(?:(?P<which>this|next) )?(?P<weekday>{_WEEKDAY})")
_NTH_OF_MONTH = re.compile(r"(?P<day>\d{1,2})(?:st|nd|rd|th)", re.ASCII)
_PERIOD = re.compile(r"(?:(?P<which>this|next) )?(?P<unit>week|month|year)")
_NAMED_MONTH = re.compile(rf"(?:in )?(?P<month>{_MONTH})(?: (?P<year>\d{{4}}))?", re.ASCII)
_ISO_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_COUNT = re.compile(rf"in {_AMOUNT}(?:(?: and)? {_AMOUNT})?|{_AMOUNT} (?:from now|ago)", re.ASCII)
_HOURS_OR_MINUTES = re.compile(rf"\b{_MINUTES}\b")
_DATE = re.compile(
    rf"(?:(?P<weekday>{_WEEKDAY}) )?(?:the )?"
    rf"(?P<date>(?:{_NTH} (?:of )?{_MONTH}|{_MONTH} (?:the )?{_NTH})(?: \d{{4}})?"
    r"|\d{4}-\d\d-\d\d|\d{1,2}/\d{1,2}(?:/\d{4})?|\d{1,2}\.\d{1,2}\.\d{4})",
    re.ASCII,
)

_PARTS = {
    "morning": (time(9), range(12)),
    "afternoon": (time(15), range(12, 19)),
    "evening": (time(18), range(16, 24)),
    "night": (time(20), range(17, 24)),
}
"""The usual time of each part of a day, and the hours it covers."""

_NEAR_DAYS = {
    "day before yesterday": -2, "yesterday": -1, "today": 0, "tomorrow": 1, "day after tomorrow": 2,
}  # fmt: skip

_LIKELY_HOURS = range(8, 20)
"""The hours that "at 5" can mean if no part of the day is named."""


def _plain(words: str) -> str:
    """Normalize words for the grammar; return "" if they are too long or not printable."""
    text = unicodedata.normalize("NFKC", words).lower()
    if len(words) > LONGEST or not text.isprintable():
        return ""
    text = " ".join(text.replace(",", " ").split()).strip(" .!?")
    for said, meant in _SYNONYMS:
        text = said.sub(meant, text)
    return text


def _resolve(text: str, now: datetime, zone: ZoneInfo, day_of_time: date | None) -> datetime | None:
    """Return the point in time that normalized text means, or None; `now` is local."""
    if _EXACT.fullmatch(text):
        exact = datetime.fromisoformat(text.upper())
        return exact.astimezone(zone) if exact.tzinfo else _settle(exact, zone)
    text, clock, part = _cut_time(text)
    text = _TRAIL.sub("", " " + _LEAD.sub("", f"{text} ").rstrip()).strip()
    if (clock or part) and not text and day_of_time:
        return _settle(datetime.combine(day_of_time, _time_of_day(clock, part)), zone)
    if clock or part:
        return _at_time(text, _time_of_day(clock, part), now, zone, vague=clock is None)
    if text == "now":
        return now
    if _COUNT.fullmatch(text) and _HOURS_OR_MINUTES.search(text):
        # Hours are counted in UTC, where an hour always has sixty minutes, even when local clocks change.
        moment = _ask_library(text, now.astimezone(UTC).replace(tzinfo=None, second=0, microsecond=0))
        return moment.replace(tzinfo=UTC).astimezone(zone) if moment else None
    day = _last_day(text, now.date()) or _day(text, now.date())
    return _settle(datetime.combine(day, _END_OF_DAY), zone) if day else None


def _cut_time(text: str) -> tuple[str, re.Match[str] | None, str]:
    """Split off the time of day: return the rest, the match of a clock time, and the part of the day."""
    if clock := _CLOCK.search(text):
        text = f"{text[: clock.start()]} {text[clock.end() :]}"
    if part := _PART_OF_DAY.search(text):
        text = f"{text[: part.start()]} {text[part.end() :]}"
    return " ".join(text.split()), clock, part["part"] if part else ""


def _time_of_day(clock: re.Match[str] | None, part: str) -> time:
    """Return the time of day; raise ValueError if there is no such time."""
    usual, hours = _PARTS.get(part, (_END_OF_DAY, range(24)))
    if clock is None:
        return usual
    hour = int(clock["hour"])
    if clock["half"]:
        if not 1 <= hour <= 12:
            raise ValueError("The clock has twelve hours.")
        choices = [hour % 12 + (12 if clock["half"] == "p" else 0)]
    elif clock["hour"].startswith("0") or hour > 12:
        choices = [hour]
    else:
        choices = [hour, hour + 12]
        hours = hours if part else _LIKELY_HOURS
    return time(min(choice for choice in choices if choice in hours), int(clock["minute"] or 0))


def _at_time(text: str, at: time, now: datetime, zone: ZoneInfo, *, vague: bool) -> datetime | None:
    """Return this time on the day that the text names. If the text names no day, return the next such time."""
    today = now.date()
    day = _day(text, today) if text else today
    if day is None:
        return None
    due = _settle(datetime.combine(day, at), zone)
    if day > today or due.timestamp() > now.timestamp():
        return due
    if not text:
        return _settle(datetime.combine(today + timedelta(days=1), at), zone)
    return _settle(datetime.combine(today, _END_OF_DAY), zone) if vague and day == today else due


def _last_day(text: str, today: date) -> date | None:
    """Return the last day of the week, month or year that the text names, or None."""
    if period := _PERIOD.fullmatch(text):
        later = 1 if period["which"] == "next" else 0
        match period["unit"]:
            case "week":
                return today + timedelta(days=6 - today.weekday() + 7 * later)
            case "month":
                return _end_of_month(today.year, today.month + later)
            case _:
                return date(today.year + later, 12, 31)
    if named := _NAMED_MONTH.fullmatch(text):
        month = _position(named["month"], _MONTHS) + 1
        year = int(named["year"]) if named["year"] else today.year + (month < today.month)
        return _end_of_month(year, month)
    return None


def _day(text: str, today: date) -> date | None:
    """Return the day that the text names, or None."""
    if text in _NEAR_DAYS:
        return today + timedelta(days=_NEAR_DAYS[text])
    if named := _NAMED_WEEKDAY.fullmatch(text):
        ahead = _position(named["weekday"], _DAYS) - today.weekday()
        match named["which"]:
            case "next":
                return today + timedelta(days=ahead + 7)
            case "this":
                return today + timedelta(days=ahead % 7)
            case _:
                return today + timedelta(days=ahead % 7 or 7)
    if nth := _NTH_OF_MONTH.fullmatch(text):
        coming = (today + timedelta(days=days) for days in range(62))
        return next((day for day in coming if day.day == int(nth["day"])), None)
    if _COUNT.fullmatch(text) and not _HOURS_OR_MINUTES.search(text):
        counted = _ask_library(text, datetime.combine(today, time()))
        return counted and counted.date()
    if dated := _DATE.fullmatch(text):
        day = _calendar_day(dated["date"], today)
        contradicted = day and dated["weekday"] and day.weekday() != _position(dated["weekday"], _DAYS)
        return None if contradicted else day
    return None


def _calendar_day(text: str, today: date) -> date | None:
    """Return the day that a calendar date means. Without a year, it is the next such day, possibly today."""
    if _ISO_DAY.fullmatch(text):
        return date.fromisoformat(text)
    # The library finds only dates after its base. The base is yesterday, so that today can be found.
    base = datetime.combine(today - timedelta(days=1), time())
    found = _ask_library(text, base, order="DMY" if "." in text else "MDY")
    if found is None:
        return None
    # The library also guesses: it reads "13/13" as a day in 2113. So the found day and month must appear in the text.
    said = {int(number) for number in re.findall(r"\d+", text)}
    named = re.search(_MONTH, text) is not None
    return found.date() if found.day in said and (named or found.month in said) else None


def _ask_library(text: str, base: datetime, *, order: str = "MDY") -> datetime | None:
    """Return dateparser's reading of English text, relative to a base without time zone."""
    # Imported at first use, because the import takes half a second and most words do not need the library.
    import dateparser

    found: datetime | None = dateparser.parse(
        text,
        languages=["en"],
        settings={
            "RELATIVE_BASE": base,
            "DATE_ORDER": order,
            "PREFER_DATES_FROM": "future",
            "REQUIRE_PARTS": ["day", "month"],
            "PARSERS": ["relative-time", "absolute-time"],
            "TIMEZONE": "UTC",  # Without this, the library uses the machine's zone.
            "RETURN_AS_TIMEZONE_AWARE": False,
        },
    )
    return found


def _settle(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the point in time when the zone's clocks show `wall`. The conversion to UTC resolves gaps and repeats."""
    at = wall.replace(tzinfo=zone, fold=1 if _is_end_of_day(wall) else 0)
    return at.astimezone(UTC).astimezone(zone)


def _is_end_of_day(at: datetime) -> bool:
    return (at.hour, at.minute) == (_END_OF_DAY.hour, _END_OF_DAY.minute)


def _end_of_month(year: int, month: int) -> date:
    """Return the last day of a month. Month 13 means the next year's January."""
    return date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)


def _position(word: str, names: tuple[str, ...]) -> int:
    """Return the index of the name that begins with the same three letters as the word."""
    return [name[:3].lower() for name in names].index(word[:3])
