"""What the rules recognize as action items, and what they ignore."""

import time
from pathlib import Path

import pytest

from backend.documents.models import DocumentPage
from backend.documents.reading.reader import Page, read
from backend.workspace.action_rules import LONGEST_QUOTE, Action, find_actions
from tests.documents.files import HTML


def page(text: str, *headings: tuple[str, int], number: int = 1) -> DocumentPage:
    """Return a page with these headings in its text."""
    known = [{"start": text.index(title), "level": level, "title": title} for title, level in headings]
    return DocumentPage(user_id="u", document_id=1, number=number, content=text, headings=known)


def found(*texts: str) -> list[str]:
    """Return the action items on pages without known headings."""
    pages = [page(text, number=number) for number, text in enumerate(texts, 1)]
    return [action.text for action in find_actions(pages)]


@pytest.mark.spec("DTOOL-30")
@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ("- [ ] Call Anna\n- [x] Call Bob\n* [X] Call Eve", ["Call Anna"]),
        ("1. [ ] First\n2) [] Second\n[ ] Third", ["First", "Second", "Third"]),
        ("☐ Order paper\n☑ Order ink\n□ Order pens\n✓ Done", ["Order paper", "Order pens"]),
        ("> - [ ] Quoted mail", []),
        ("See [1] for details.\n[2] Knuth, D.: The Art.", []),
        ("- [ ] ~~No longer~~\n- [ ] ---", []),
    ],
)
def test_a_box_that_is_not_ticked_is_an_action(text: str, actions: list[str]) -> None:
    assert found(text) == actions


@pytest.mark.spec("DTOOL-30")
@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ("TODO: call Anna", ["call Anna"]),
        ("todo (Bob): call Anna", ["call Anna"]),
        ("- **Action item:** send the minutes", ["send the minutes"]),
        ("**Action items**: send the minutes", ["send the minutes"]),
        ("Action 3 (Bob): book a room", ["book a room"]),
        ("# TODO: write the introduction", ["write the introduction"]),
        ("Pricing was discussed. TODO: ask Bob for the list", ["ask Bob for the list"]),
        ("Aufgabe: Vertrag prüfen\nZu erledigen: Anna anrufen", ["Vertrag prüfen", "Anna anrufen"]),
        ("Maßnahme 2: Brandschutz prüfen", ["Brandschutz prüfen"]),
        ('He said "TODO: nothing".', []),
        ("The action: it was slow to begin with.\nTodos are fine.", []),
        ("Reaction: calm\nTransaction: 3", []),
    ],
)
def test_what_follows_a_label_is_an_action(text: str, actions: list[str]) -> None:
    assert found(text) == actions


@pytest.mark.spec("DTOOL-31")
@pytest.mark.parametrize(
    "heading",
    [
        "# Action items",
        "### 3.2 Next steps",
        "Action Items:",
        "**To do**",
        "Tasks",
        "IV. Tasks:",
        "Our next steps for March",
        "Decisions\nwere made.\n\nActions and next steps",
        "## Aufgaben",
        "Nächste Schritte:",
        "Offene Punkte",
        "MASSNAHMEN",
        "To-do-Liste",
    ],
)
def test_items_under_a_heading_that_says_so_are_actions(heading: str) -> None:
    text = f"Minutes\n- Anna was there\n\n{heading}\n\n- Book a room\n2. Send the minutes\n• Pay the bill\n\n- Rest\n"

    assert found(text) == ["Book a room", "Send the minutes", "Pay the bill", "Rest"]


@pytest.mark.spec("DTOOL-31")
@pytest.mark.parametrize("end", ["# Attendees", "Attendees:", "**Attendees**", "Anna thanked everybody for coming."])
def test_a_section_ends_where_something_else_begins(end: str) -> None:
    text = f"# Tasks\nThis was agreed:\n- Book a room\n\nBob:\n- Send the minutes\n{end}\n- Anna\n- Bob\nThe end.\n"

    assert found(text) == ["Book a room", "Send the minutes"]


@pytest.mark.spec("DTOOL-31")
def test_known_headings_open_and_close_a_section_by_their_level() -> None:
    text = "Next steps\nMarketing\n- Print flyers\nBudget\n- Ask the bank\nHistory\n- Founded in 1990\n"
    headings = ("Next steps", 1), ("Marketing", 2), ("Budget", 2), ("History", 1)

    assert [action.text for action in find_actions([page(text, *headings)])] == ["Print flyers", "Ask the bank"]


@pytest.mark.spec("DTOOL-33")
def test_lines_under_a_known_heading_are_items_where_bullets_were_lost() -> None:
    text = (
        "Minutes\n\nWe met.\n\nAction items\n\nThis was agreed.\n\n"
        "Book a room for the next meeting of all who were there\n\n"
        "Pay Bob\nSend minutes\n\nRest\n\nEat and drink\n\nDrink and eat"
    )
    bulleted = "Tasks\n\n- Book a room\n\nAnna and Bob\n\n- Not one"
    prose = (
        "Next steps\nIn the coming quarter we will look at what the market wants and\nwhere we can grow.\nNothing else"
    )

    def found_with(text: str, *headings: str) -> list[str]:
        return [action.text for action in find_actions([page(text, *((heading, 1) for heading in headings))])]

    items = ["Book a room for the next meeting of all who were there", "Pay Bob", "Send minutes"]
    assert found_with(text, "Minutes", "Action items", "Rest") == items
    assert found_with(text) == []
    assert found_with(bulleted, "Tasks") == ["Book a room"]
    assert "In the coming" not in str(found_with(prose, "Next steps"))


@pytest.mark.spec("DTOOL-31")
@pytest.mark.parametrize(
    "source",
    [
        "<h2>Next steps</h2><ul><li>Call Anna today<br>until Friday noon<li>Order the rope</li></ul><p>Rest.",
        "<h2>Next steps</h2><ul><li><p>Call Anna today</p><p>until Friday noon</p><li>- Order the rope</li></ul>Rest.",
        "<ol><li><h3>Next steps</h3><ul><li>Call Anna today until Friday noon<li>Order the rope</ul><li><h3>Rest</h3>",
    ],
)
def test_the_items_of_html_are_actions_with_all_their_lines(tmp_path: Path, source: str) -> None:
    path = tmp_path / "minutes.html"
    path.write_text(source)
    _, read_page = read(path, HTML)
    assert isinstance(read_page, Page)

    headings = [(heading.title, heading.level) for heading in read_page.headings]
    actions = find_actions([page(read_page.text, *headings)])

    assert [action.text for action in actions] == ["Call Anna today until Friday noon", "Order the rope"]


@pytest.mark.spec("DTOOL-31")
def test_a_section_goes_on_over_a_page_with_its_running_titles() -> None:
    first = "ACME minutes\nText.\n\nNext steps\n- Book a room\nPage 1 of 2"
    second = "ACME minutes\n- Send the minutes\n\nThe meeting closed at five.\n- Nobody stayed\nPage 2 of 2"

    assert found(first, second) == ["Book a room", "Send the minutes"]


@pytest.mark.spec("DTOOL-32")
def test_an_action_names_its_page_and_quotes_the_words_as_they_stand() -> None:
    text = (
        "# To do\n\n  - **Send** the [minutes](https://example.org/m) to everybody who was there and to\n"
        "    those who `could not come`;\n- Next"
    )

    first, second = find_actions([page("Nothing here."), page(text, number=2)])

    assert first.page == 2
    assert first.text == "Send the minutes to everybody who was there and to those who could not come"
    assert first.quote == text[text.index("- **Send") : text.index("\n- Next")]
    assert first.quote in text
    assert second == Action(2, "Next", "- Next")


@pytest.mark.spec("DTOOL-32")
def test_a_line_that_the_page_cut_goes_on_in_the_next() -> None:
    text = (
        "Action items\n1. Write to the landlord about the heating, which has not worked\nsince Monday of last week\n"
        "2. Pay\nrent"
    )

    assert found(text) == [
        "Write to the landlord about the heating, which has not worked since Monday of last week",
        "Pay",
    ]


@pytest.mark.spec("DTOOL-32")
def test_what_stands_twice_or_in_code_is_told_once_or_not_at_all() -> None:
    assert found("- [ ] Pay\n```\n- [ ] example\nTODO: example\n```\nTODO: pay", "- [ ] PAY\n- [ ] Go") == ["Pay", "Go"]


@pytest.mark.spec("DTOOL-32")
@pytest.mark.parametrize(
    "text",
    [
        "- [ ] " + "a" * 1_000_000,
        "TODO: x " * 100_000,
        "#" * 300_000,
        "[ " * 500_000,
        "Tasks\n" + "(" * 500_000,
        "- [ ] word\n  more\n" * 10_000,
        "**" * 500_000 + ":",
        "`[" * 400_000 + "](",
    ],
    ids=lambda text: text[:8],
)
def test_hostile_text_is_read_in_bounded_time(text: str) -> None:
    began = time.process_time()

    for action in find_actions([page(text)]):
        assert len(action.quote) <= LONGEST_QUOTE

    assert time.process_time() - began < 5
