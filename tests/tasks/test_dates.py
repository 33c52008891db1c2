"""The meaning of words for a due date, said on Wednesday, November 18, 2026 at 10 AM unless stated otherwise."""

import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.tasks.dates import YEARS, DueNotUnderstood, in_words, understand

BERLIN = ZoneInfo("Europe/Berlin")
END_OF_DAY = datetime(2026, 11, 18, 23, 59, tzinfo=BERLIN).time()
LOS_ANGELES = ZoneInfo("America/Los_Angeles")
KATHMANDU = ZoneInfo("Asia/Kathmandu")
NOW = datetime(2026, 11, 18, 10, 0, tzinfo=BERLIN)


def said(words: str, now: datetime = NOW, zone: ZoneInfo = BERLIN) -> str:
    """Return what the zone's clocks show at the time that the words mean."""
    return f"{understand(words, now=now, zone=zone).at:%Y-%m-%d %H:%M}"


def moments(first: int, before: int) -> st.SearchStrategy[datetime]:
    """Draw times in the years from `first` up to, but not including, `before`."""
    start, end = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (first, before))
    return st.integers(start, end - 1).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@pytest.mark.spec("DUE-1")
@pytest.mark.parametrize(
    ("words", "day"),
    [
        ("today", "2026-11-18"),
        ("tomorrow", "2026-11-19"),
        ("yesterday", "2026-11-17"),
        ("the day after tomorrow", "2026-11-20"),
        ("in two weeks", "2026-12-02"),
        ("two weeks from today", "2026-12-02"),
        ("within 3 days", "2026-11-21"),
        ("a week from now", "2026-11-25"),
        ("in a month", "2026-12-18"),
        ("3 days ago", "2026-11-15"),
        ("the 3rd", "2026-12-03"),
        ("by the 18th", "2026-11-18"),
        ("Dec 1", "2026-12-01"),
        ("the 1st of December", "2026-12-01"),
        ("November 18", "2026-11-18"),
        ("November 17", "2027-11-17"),
        ("Feb 29", "2028-02-29"),
        ("1 December 2026", "2026-12-01"),
        ("Fri, Nov 27", "2026-11-27"),
        ("12/31", "2026-12-31"),
        ("12/1/2026", "2026-12-01"),
        ("31/12/2026", "2026-12-31"),
        ("12/31/25", "2025-12-31"),
        ("1.12.2026", "2026-12-01"),
        ("2026-12-01", "2026-12-01"),
        ("2020-01-01", "2020-01-01"),
        ("midnight", "2026-11-18"),
        ("EOD tomorrow", "2026-11-19"),
        ("by end of day on Friday", "2026-11-20"),
    ],
)
def test_a_day_without_a_time_ends_at_23_59(words: str, day: str) -> None:
    assert said(words) == f"{day} 23:59"
    assert understand(words, now=NOW, zone=BERLIN).at.time() == END_OF_DAY


@pytest.mark.spec("DUE-2")
@pytest.mark.parametrize(
    ("words", "moment"),
    [
        ("next Friday at 5", "2026-11-27 17:00"),
        ("Friday at 5pm", "2026-11-20 17:00"),
        ("5 p.m. on Friday", "2026-11-20 17:00"),
        ("due by Friday 17:00", "2026-11-20 17:00"),
        ("tomorrow at 5:30", "2026-11-19 17:30"),
        ("tomorrow at 05:30", "2026-11-19 05:30"),
        ("tomorrow at 9", "2026-11-19 09:00"),
        ("tomorrow at 12", "2026-11-19 12:00"),
        ("tomorrow at 5 o'clock", "2026-11-19 17:00"),
        ("tomorrow 12am", "2026-11-19 00:00"),
        ("tomorrow at noon", "2026-11-19 12:00"),
        ("tonight", "2026-11-18 20:00"),
        ("tonight at 9", "2026-11-18 21:00"),
        ("Monday morning", "2026-11-23 09:00"),
        ("tomorrow morning at 7", "2026-11-19 07:00"),
        ("tomorrow at 7 in the evening", "2026-11-19 19:00"),
        ("in 3 days at 9am", "2026-11-21 09:00"),
        ("1 December 2026 14:00", "2026-12-01 14:00"),
        ("December 1st at 5", "2026-12-01 17:00"),
        ("2026-12-01 5pm", "2026-12-01 17:00"),
        ("2026-12-01T17:00", "2026-12-01 17:00"),
        ("in 2 hours", "2026-11-18 12:00"),
        ("in half an hour", "2026-11-18 10:30"),
        ("in 1 hour and 30 minutes", "2026-11-18 11:30"),
    ],
)
def test_a_time_is_kept_and_its_missing_half_of_the_day_is_the_likely_one(words: str, moment: str) -> None:
    assert said(words) == moment
    assert understand(words, now=NOW, zone=BERLIN).at.time() != END_OF_DAY


@pytest.mark.spec("DUE-3")
@pytest.mark.parametrize(
    ("today", "bare", "this", "following"),
    [
        (16, "20", "20", "27"),
        (18, "20", "20", "27"),
        (20, "27", "20", "27"),
        (21, "27", "27", "27"),
        (22, "27", "27", "27"),
    ],
    ids=["Monday", "Wednesday", "Friday", "Saturday", "Sunday"],
)
def test_next_friday_is_in_the_next_calendar_week(today: int, bare: str, this: str, following: str) -> None:
    now = NOW.replace(day=today)

    assert said("Friday", now) == said("by fri", now) == f"2026-11-{bare} 23:59"
    assert said("this Friday", now) == f"2026-11-{this} 23:59"
    assert said("next Friday", now) == said("Friday next week", now) == f"2026-11-{following} 23:59"


@pytest.mark.spec("DUE-4")
@pytest.mark.parametrize(
    ("words", "day"),
    [
        ("this week", "2026-11-22"),
        ("the weekend", "2026-11-22"),
        ("next week", "2026-11-29"),
        ("by the end of next week", "2026-11-29"),
        ("end of the month", "2026-11-30"),
        ("next month", "2026-12-31"),
        ("in February", "2027-02-28"),
        ("November", "2026-11-30"),
        ("end of Feb 2028", "2028-02-29"),
        ("end of the year", "2026-12-31"),
    ],
)
def test_a_period_lasts_until_its_last_day(words: str, day: str) -> None:
    assert said(words) == f"{day} 23:59"


@pytest.mark.spec("DUE-5")
def test_a_time_without_a_day_is_the_next_to_come() -> None:
    assert said("at 5") == "2026-11-18 17:00"
    assert said("at 5", NOW.replace(hour=18)) == "2026-11-19 17:00"
    assert said("noon", NOW.replace(hour=12)) == "2026-11-19 12:00"
    assert said("today at 5", NOW.replace(hour=18)) == "2026-11-18 17:00"


@pytest.mark.spec("DUE-5")
def test_a_time_alone_belongs_to_the_day_that_is_given() -> None:
    def of_day(words: str) -> str:
        due = understand(words, now=NOW.replace(hour=18), zone=BERLIN, day=date(2026, 12, 5))
        return f"{due.at:%Y-%m-%d %H:%M}"

    assert of_day("at 5") == "2026-12-05 17:00"
    assert of_day("morning") == "2026-12-05 09:00"
    assert of_day("tomorrow at 5") == "2026-11-19 17:00"
    assert of_day("today") == "2026-11-18 23:59"
    assert of_day("in 2 hours") == "2026-11-18 20:00"


@pytest.mark.spec("DUE-6")
def test_tonight_said_late_is_the_end_of_today() -> None:
    assert said("tonight", NOW.replace(hour=21)) == "2026-11-18 23:59"


@pytest.mark.spec("DUE-7")
def test_now_is_now() -> None:
    assert understand("now", now=NOW, zone=LOS_ANGELES).at == NOW


@pytest.mark.spec("DUE-8")
def test_words_are_resolved_in_the_zone_of_the_user() -> None:
    now = datetime(2026, 11, 18, 23, 30, tzinfo=UTC)

    assert said("tomorrow at 5", now, BERLIN) == "2026-11-20 17:00"
    assert said("tomorrow at 5", now, LOS_ANGELES) == "2026-11-19 17:00"
    assert understand("today", now=now, zone=KATHMANDU).at.isoformat() == "2026-11-19T23:59:00+05:45"


@pytest.mark.spec("DUE-9")
@pytest.mark.parametrize("words", ["2026-12-01T17:00:30+01:00", "2026-12-01t16:00:30z", "2026-12-01 11:00:30-0500"])
def test_a_time_with_an_offset_is_taken_exactly(words: str) -> None:
    due = understand(words, now=NOW, zone=LOS_ANGELES)

    assert due.at == datetime(2026, 12, 1, 16, 0, 30, tzinfo=UTC)
    assert due.at.tzinfo is LOS_ANGELES


@pytest.mark.spec("DUE-10")
def test_a_time_that_the_clocks_skip_is_as_much_later() -> None:
    assert said("2027-03-28 02:30") == said("2027-03-28T02:30") == "2027-03-28 03:30"


@pytest.mark.spec("DUE-10")
def test_a_time_that_comes_twice_is_the_first_but_a_day_ends_last() -> None:
    twice = understand("2026-10-25 02:30", now=NOW, zone=BERLIN).at
    paraguay = understand("2024-03-23", now=NOW, zone=ZoneInfo("America/Asuncion")).at

    assert twice.utcoffset() == timedelta(hours=2)
    assert (paraguay.hour, paraguay.minute, paraguay.utcoffset()) == (23, 59, timedelta(hours=-4))


@pytest.mark.spec("DUE-10")
def test_hours_are_counted_as_they_pass() -> None:
    before_the_change = datetime(2027, 3, 28, 1, 30, tzinfo=BERLIN)

    assert said("in 2 hours", before_the_change) == "2027-03-28 04:30"
    assert said("in 1 day", before_the_change) == "2027-03-29 23:59"


@pytest.mark.spec("DUE-10")
def test_a_day_that_a_zone_never_had_does_not_crash() -> None:
    assert understand("2011-12-30", now=NOW, zone=ZoneInfo("Pacific/Apia")).at.year == 2011


@pytest.mark.spec("DUE-11")
@pytest.mark.parametrize(
    "words",
    [
        "",
        " ",
        "banana",
        "5 apples",
        "the meeting",
        "the meeting at 5",
        "Dec by 5",
        "5",
        "on",
        "a",
        "mayday",
        "tomorrow tomorrow",
        "tomorrow at 5 or 6",
        "tomorrow 17:30 EST",
        "in 2 hours at 5",
        "end of June at 5",
        "Friday night at 12",
        "5pm in the morning",
        "13pm",
        "25:00",
        "at 99",
        "5:75",
        "Feb 30",
        "Dec 32",
        "13/13/2026",
        "the 32nd",
        "Monday, November 27, 2026",
        "2026-02-30",
        "2026-12-01T24:00",
        "1969-12-31",
        "2201-01-01",
        "0001-01-01T00:00+14:00",
        "9999-12-31T23:00-12:00",
        "in 9999 years",
        "tomorrow\n",
        "tomorrow\x00",
        "tomorrow\ud800",
        "tomorrow" + " " * 100,
    ],
)
def test_nonsense_is_not_guessed_at(words: str) -> None:
    with pytest.raises(DueNotUnderstood, match=r'was not understood as a date\. Say for example "tomorrow"'):
        understand(words, now=NOW, zone=BERLIN)


@pytest.mark.spec("DUE-11")
def test_a_refusal_names_what_was_not_understood() -> None:
    with pytest.raises(DueNotUnderstood, match=r'^"5 apples" was not'):
        understand("5 apples", now=NOW, zone=BERLIN)
    with pytest.raises(DueNotUnderstood, match=r"^That was not"):
        understand("tomorrow\x1b", now=NOW, zone=BERLIN)


@pytest.mark.spec("DUE-12")
def test_a_moment_is_said_back_in_full() -> None:
    five = datetime(2026, 11, 27, 16, 0, tzinfo=UTC)

    assert in_words(five, BERLIN) == "Friday, November 27, 2026 at 5:00 PM"
    assert in_words(five, KATHMANDU) == "Friday, November 27, 2026 at 9:45 PM"
    assert in_words(understand("next Friday", now=NOW, zone=BERLIN).at, BERLIN) == "Friday, November 27, 2026"
    assert in_words(datetime(2026, 1, 1, tzinfo=BERLIN), BERLIN) == "Thursday, January 1, 2026 at 12:00 AM"


@pytest.mark.spec("DUE-12")
@given(moments(1971, 2200))
def test_what_is_said_back_is_understood_again(at: datetime) -> None:
    said_back = in_words(at, KATHMANDU)

    assert in_words(understand(said_back, now=NOW, zone=KATHMANDU).at, KATHMANDU) == said_back


_VOCABULARY = """
    a an the in on at by of from and now today tonight tomorrow this next coming week weekend month year
    day hours end friday mon may dec 1 5 12 31 99 2026 9999 1st 32nd 5pm am p.m. 17:00 0:00 99:99 @ : / .
    - 1/2 13/13 1.12.2026 2026-12-01 t17:00z noon midnight morning night two ago half o'clock eod until
    due within no later than
"""


@pytest.mark.spec("DUE-13")
@settings(deadline=None)  # The first words may load the library.
@given(
    st.one_of(st.text(max_size=100), st.lists(st.sampled_from(_VOCABULARY.split()), max_size=14).map(" ".join)),
    moments(2000, 2100),
    st.sampled_from([BERLIN, LOS_ANGELES, KATHMANDU]),
)
def test_any_words_are_understood_or_refused(words: str, now: datetime, zone: ZoneInfo) -> None:
    try:
        due = understand(words, now=now, zone=zone)
    except DueNotUnderstood:
        return

    assert due.at.tzinfo is zone
    assert due.at.year in YEARS


@pytest.mark.spec("DUE-13")
@pytest.mark.parametrize(
    "piece", ["1", " ", "by ", "the end of ", "at 5 ", "in 1 day and ", "1/", "12:", "next week ", "a.m. "]
)
def test_long_words_are_refused_quickly(piece: str) -> None:
    words = (piece * 100)[:99] + "!"
    started = time.process_time()

    with pytest.raises(DueNotUnderstood):
        understand(words, now=NOW, zone=BERLIN)

    assert time.process_time() - started < 1


@pytest.mark.spec("DUE-14")
def test_the_library_is_loaded_when_first_needed() -> None:
    program = """
import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo
from backend.tasks.dates import understand
understand("next Friday at 5", now=datetime.now(UTC), zone=ZoneInfo("Europe/Berlin"))
assert "dateparser" not in sys.modules
understand("in two weeks", now=datetime.now(UTC), zone=ZoneInfo("Europe/Berlin"))
assert "dateparser" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
