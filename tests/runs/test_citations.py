"""Every citation mark in an answer is checked before the answer is stored."""

import asyncio
import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from backend.agent.assistant import AgentAssistant
from backend.agent.choice import ModelChoice
from backend.conversations.repository import MessageRepository
from backend.documents.repository import DocumentRepository
from backend.documents.tools import DOCUMENT_TOOLS
from backend.identity.caller import Caller
from backend.jobs import finder
from backend.limits.fair_share import FairShare
from backend.mcp_server.server import ToolServer
from backend.postgres.database import Database, Scope
from backend.runs import ending
from backend.runs.citations import LONGEST_QUOTATION, MARK, MOST_MARKS, Passage, check, passages_in
from backend.runs.repository import Event
from backend.runs.turns import Turn
from bench.scripted_model import Reply, ScriptedModel, Silence, ToolCall, calls, says, scripted_model
from tests.agent.talk import KEY
from tests.conftest import query, wait_until
from tests.documents.filed import Filed, door, file
from tests.runs.scripted import Parts, text_of

TEXT = 'Either party may end this “great”\nagreement \u2013 with three months\u2019 notice. Pipes are 12" wide.'
PASSAGES = {
    12: Passage(12, 3, "contract.pdf", 4, TEXT, 100, 100 + len(TEXT)),
    13: Passage(13, 3, "contract.pdf", 5, "The rent is 900 euros.", 0, 22),
}


@pytest.mark.spec("CITE-1")
@pytest.mark.parametrize(
    "answer",
    [
        "It ends after three months [p12].",
        'It says "three months\' notice" [p12].',
        "It says “Three months\u2019 notice.” [p12]",
        "Da steht „three  months\nnotice“ nicht, aber „three months\u2019 notice“ [p12].",
        "Il dit « three months' notice » [p12].",
        'It says **"agreement - with three months"** [p12].',
        "It says \"may end this 'great' agreement\" [p12].",
        'It says "may end this "great" agreement" [p12].',
        'It says "pipes are 12" wide." [p12]',
        'A pipe of 12" [p12].',
        'He says "yes", and nothing of it is quoted [p12].',
        '"" [p12]',
    ],
)
def test_a_mark_whose_quotation_stands_in_its_passage_is_proven(answer: str) -> None:
    checked = check(answer, PASSAGES)

    assert checked.text == answer
    assert [citation["passage_id"] for citation in checked.citations] == [12]
    assert checked.removed == 0


@pytest.mark.spec("CITE-2")
@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("It ends [p99].", "It ends."),
        ("[p99] It ends.", "It ends."),
        ("It ends [p99] [p98], says he.\n[p97] So.", "It ends, says he.\nSo."),
        ('It says "four months" [p12].', 'It says "four months".'),
        ('It says "month" [p12].', 'It says "month".'),
        ('It says "three months … wide" [p12].', 'It says "three months … wide".'),
        ("It says “four months”. [p12]", "It says “four months”."),
        ("Da steht „four months“ [p12].", "Da steht „four months“."),
        ("Da steht »four months« [p12].", "Da steht »four months«."),
        ('It says "we pay 12" for it" [p12].', 'It says "we pay 12" for it".'),
        ('It says "the rent is 900 euros" [p12].', 'It says "the rent is 900 euros".'),
    ],
)
def test_a_mark_that_fails_is_removed_and_the_words_stay(answer: str, left: str) -> None:
    checked = check(answer, PASSAGES)

    assert (checked.text, checked.citations) == (left, [])
    assert checked.removed == len(MARK.findall(answer))


@pytest.mark.spec("CITE-2")
@pytest.mark.parametrize("written", ["[p12, p13]", "[P12; p13]", "[p12][p13]", "[ p12,13 ]", "[p 12, p 99, p13]"])
def test_several_passages_may_stand_in_one_mark_and_are_told_one_by_one(written: str) -> None:
    checked = check(f"So it is {written}.", PASSAGES)

    assert checked.text == "So it is [p12][p13]."
    assert [citation["mark"] for citation in checked.citations] == ["[p12]", "[p13]"]


@pytest.mark.spec("CITE-2")
def test_each_of_two_marks_must_have_the_quotation_before_them() -> None:
    checked = check('It says "The rent is 900 euros" [p12][p13].', PASSAGES)

    assert checked.text == 'It says "The rent is 900 euros"[p13].'
    assert (checked.citations[0]["quote"], checked.removed) == ("The rent is 900 euros", 1)


@pytest.mark.spec("CITE-3")
@pytest.mark.parametrize(
    "answer",
    [
        'It says "Three months [p13] notice" [p12].',
        '"The rent is [p12] 900 euros." [p13]',
        "“Pay [p12, p13] now” [p99]",
    ],
)
def test_a_mark_within_a_quotation_is_none_of_the_assistants(answer: str) -> None:
    assert check(answer, PASSAGES).citations == []


@pytest.mark.spec("CITE-3")
@pytest.mark.parametrize("answer", ["A [p[p99]12].", "A [p [p99]12].", "A [p[p[p99]9]12] [p13].", "[p" * 9 + "9]" * 9])
def test_no_mark_is_made_by_removing_another(answer: str) -> None:
    checked = check(answer, PASSAGES)

    assert MARK.findall(checked.text) == [citation["mark"] for citation in checked.citations]


@pytest.mark.spec("CITE-4")
def test_a_citation_leads_to_the_quoted_words_or_to_the_whole_passage() -> None:
    page = "x" * 100 + TEXT
    quoted, whole = check('"MAY END THIS "GREAT" AGREEMENT" [p12]. So it is [p12].', PASSAGES).citations

    assert quoted == {
        "mark": "[p12]",
        "passage_id": 12,
        "document_id": 3,
        "filename": "contract.pdf",
        "page_number": 4,
        "quote": "may end this “great”\nagreement",
        "start": page.index("may end"),
        "end": page.index("agreement") + len("agreement"),
    }
    assert page[quoted["start"] : quoted["end"]] == quoted["quote"]
    assert (whole["quote"], whole["start"], whole["end"]) == (TEXT, 100, 100 + len(TEXT))


PIECES = st.sampled_from(
    [
        '"',
        "“",
        "”",
        "„",
        "«",
        "»",
        "[p12]",
        "[p13]",
        "[p99]",
        "[p12, p13]",
        "[p",
        "12]",
        " ",
        "\n",
        ".",
        "three months",
        "A",
    ]
)


@pytest.mark.spec("CITE-5")
@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=30).map("".join))
def test_whatever_is_said_has_one_citation_for_each_mark_that_is_left_in_their_order(answer: str) -> None:
    checked = check(answer, PASSAGES)

    assert MARK.findall(checked.text) == [citation["mark"] for citation in checked.citations]
    assert {citation["passage_id"] for citation in checked.citations} <= {12, 13}
    assert check(checked.text, PASSAGES).text == checked.text


@pytest.mark.spec("CITE-5")
@pytest.mark.parametrize(
    "answer",
    [
        'x" [p12] ' * 10_000,
        '"' * 500_000 + "[p12]",
        "[p12]" * 20_000,
        "[p9] " * 20_000,
        "“" * 300_000 + "”[p12]" * 9_000,
    ],
    ids=range(5),
)
def test_a_hostile_answer_is_checked_in_time(answer: str) -> None:
    begun = time.process_time()

    checked = check(answer, PASSAGES)

    assert time.process_time() - begun < 5
    assert len(checked.citations) <= MOST_MARKS


@pytest.mark.spec("CITE-2")
def test_a_quotation_longer_than_any_passage_is_not_taken_for_none() -> None:
    words = "three months " * (LONGEST_QUOTATION // 20)

    assert check(f'"{words}" [p12]', PASSAGES).citations == []


@pytest.mark.spec("CITE-1")
def test_passages_are_found_where_tools_put_them_and_nowhere_else() -> None:
    found = {"id": 1, "document_id": 3, "filename": "a.pdf", "page_number": 2, "text": "A", "start": 0, "end": 1}
    read = {"id": 2, "text": "B", "start": 5, "end": 6}
    results = [
        {"passages": [found, "odd", {"id": 9}, {**found, "id": 9, "page_number": "x"}], "reason": None},
        {"document_id": 4, "filename": "b.md", "pages_read": [{"page_number": None, "passages": [read]}]},
        {"tasks": [{**found, "id": 8}], "title": '{"passages": []}'},
        None,
    ]

    assert passages_in(results) == {
        1: Passage(1, 3, "a.pdf", 2, "A", 0, 1),
        2: Passage(2, 4, "b.md", None, "B", 5, 6),
    }


PAGES = ("Either party may end this agreement with three months' notice.", "The rent is 900 euros a month.")
SEARCH = calls(ToolCall("search_documents", {"query": "notice rent"}))


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    """The provider's server."""
    importlib.import_module("backend.agent.providers")
    with scripted_model([says("Hello.")]) as server:
        yield server


@dataclass
class Reader:
    """A user with a document, whose questions a scripted model answers."""

    database: Database
    model: ScriptedModel
    caller: Caller
    document: Filed

    @property
    def notice(self) -> int:
        return self.document.passages[PAGES[0]]

    @property
    def rent(self) -> int:
        return self.document.passages[PAGES[1]]

    def ask(self, *replies: Sequence[Reply], also: Callable[[Parts, Turn], Any] | None = None) -> list[list[Event]]:
        """Return the events of one turn for each script."""

        async def turns() -> list[list[Event]]:
            choice = ModelChoice(name="openai/any", keys={"openai": KEY}, base_url=self.model.url)
            now = self.database.now
            assistant = AgentAssistant(
                choice, DOCUMENT_TOOLS, now=now, max_steps=6, history_characters=10_000, share=FairShare()
            )
            await assistant.load(ToolServer(DOCUMENT_TOOLS, door(self.database)))
            parts = Parts.of(self.database, assistant)
            parts.turns.still_there = still_there
            told, conversation_id = [], None
            for script in replies:
                self.model.follow(list(script))
                turn = await parts.worker.accept(self.caller, "What?", conversation_id=conversation_id)
                conversation_id = turn.conversation_id
                other = await also(parts, turn) if also else None
                told.append(await (other or parts).told(self.caller, turn))
            return told

        return asyncio.run(turns())


def still_there(scope: Scope, ids: set[int]) -> set[int]:
    return {document.id for document in DocumentRepository(scope).all(limit=100)} & ids


@pytest.fixture
def reader(database: Database, model: ScriptedModel, alice: Caller) -> Reader:
    return Reader(database, model, alice, file(database, alice, *PAGES, filename="lease.pdf"))


def assert_told_alike(events: list[Event], database: Database, caller: Caller) -> dict[str, Any]:
    """Fail unless the stream, the last event and the message agree; return the last event."""
    done = events[-1].data
    assert text_of(events) == done["response"]
    assert [event.data for event in events if event.kind == "citation"] == done["citations"]
    with database.scope(caller.user_id, caller.zone) as scope:
        message = MessageRepository(scope).find(done["message_id"])
        assert message is not None
        assert (message.content, message.citations) == (done["response"], done["citations"])
    assert [event.seq for event in events if event.seq] == list(range(1, len([e for e in events if e.seq]) + 1))
    return done


@pytest.mark.spec("CITE-6")
def test_what_fails_is_taken_back_from_the_first_difference_on(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        f'It ends "with three months\' notice" [p{reader.notice}] 👍. It costs "1 euro" [p{reader.rent}]. Bye [p999].'
    )

    # A service started by another test in this process may have left the log level at warnings.
    unfiltered = structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=structlog.BoundLogger)
    monkeypatch.setattr(ending, "log", unfiltered)
    with capture_logs() as logs:
        (events,) = reader.ask([SEARCH, says(said)])

    done = assert_told_alike(events, reader.database, reader.caller)
    right = f'It ends "with three months\' notice" [p{reader.notice}] 👍. It costs "1 euro". Bye.'
    assert done["response"] == right
    assert [event.kind for event in events][-4:] == ["reset", "text", "citation", "done"]
    assert events[-4].data == {"offset": right.index('euro". Bye.') + len('euro"')}
    assert events[-3].data["offset"] == events[-4].data["offset"]
    [citation] = done["citations"]
    assert citation == {
        "mark": f"[p{reader.notice}]",
        "passage_id": reader.notice,
        "document_id": reader.document.id,
        "filename": "lease.pdf",
        "page_number": 1,
        "quote": "with three months' notice",
        "start": PAGES[0].index("with"),
        "end": PAGES[0].index("."),
    }
    checked = [(log["proven"], log["removed"]) for log in logs if log["event"] == "citations_checked"]
    assert checked == [(1, 2)]


@pytest.mark.spec("CITE-6")
def test_of_an_answer_that_is_right_nothing_is_taken_back(reader: Reader) -> None:
    (events,) = reader.ask([SEARCH, says(f"It ends [p{reader.notice}]. The rent is 900 [p{reader.rent}].")])

    done = assert_told_alike(events, reader.database, reader.caller)
    assert [event.kind for event in events].count("reset") == 0
    assert [citation["page_number"] for citation in done["citations"]] == [1, 2]


@pytest.mark.spec("CITE-7")
def test_a_passage_of_an_earlier_turn_of_another_user_or_that_was_never_found_is_not_cited(
    reader: Reader, bob: Caller
) -> None:
    theirs = file(reader.database, bob, *PAGES).passages[PAGES[0]]
    again = says(f"It ends [p{reader.notice}]. So says Bob's [p{theirs + 10_000}].")

    first, second = reader.ask([SEARCH, again], [again])

    assert [citation["passage_id"] for citation in first[-1].data["citations"]] == [reader.notice]
    assert second[-1].data["response"] == "It ends. So says Bob's."
    assert second[-1].data["citations"] == []


@pytest.mark.spec("CITE-7")
def test_a_document_that_was_deleted_meanwhile_is_not_cited(reader: Reader) -> None:
    async def delete(parts: Parts, _turn: Turn) -> None:
        del parts
        await until(lambda: len(reader.model.requests) == 2)
        with reader.database.scope(reader.caller.user_id, reader.caller.zone) as scope:
            DocumentRepository(scope).delete(reader.document.id)

    slow = says(f"It ends with three months' notice, he says [p{reader.notice}].", wait=0.05)
    (events,) = reader.ask([SEARCH, slow], also=delete)

    done = assert_told_alike(events, reader.database, reader.caller)
    assert (done["status"], done["response"]) == ("completed", "It ends with three months' notice, he says.")


@pytest.mark.spec("CITE-8")
@pytest.mark.parametrize("ends", ["stopped", "failed"])
def test_what_was_said_until_a_stop_or_a_failure_is_checked_too(ends: str, reader: Reader) -> None:
    first = f'It ends [p{reader.notice}], for "4 months" [p{reader.notice}] [p999].'
    begins = says(first, calls=SEARCH.calls)

    async def stop(parts: Parts, turn: Turn) -> None:
        await until(lambda: len(reader.model.requests) == 2)
        if ends == "stopped":
            await parts.worker.cancel(reader.caller, turn.run_id)

    last = Silence() if ends == "stopped" else says("")
    (events,) = reader.ask([begins, last], also=stop)

    done = assert_told_alike(events, reader.database, reader.caller)
    assert done["status"] == {"stopped": "cancelled", "failed": "failed"}[ends]
    assert done["response"] == f'It ends [p{reader.notice}], for "4 months".'
    assert len(done["citations"]) == 1
    assert [event.kind for event in events][-2:] == (["citation", "done"] if ends == "stopped" else ["error", "done"])


@pytest.mark.spec("CITE-9")
def test_an_attempt_that_goes_on_comes_to_the_same_citations(
    reader: Reader, superuser_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finder, "LOOK_SECONDS", 0.05)
    said = says(f'It ends "with three months\' notice" [p{reader.notice}]. No [p999].')

    async def take_over(parts: Parts, turn: Turn) -> Parts:
        await until(lambda: len(reader.model.requests) == 2)
        parts.looking.cancel()
        run_out = "update runs set lease_until = now() - interval '1 second' where id = %s"
        query(superuser_url, run_out, turn.run_id)
        other = Parts.of(reader.database, parts.worker._assistant)
        other.turns.still_there = still_there
        return other

    (undisturbed,) = reader.ask([SEARCH, said])
    (disturbed,) = reader.ask([SEARCH, Silence(), said], also=take_over)

    done = assert_told_alike(disturbed, reader.database, reader.caller)
    assert done["citations"] == undisturbed[-1].data["citations"] != []
    assert done["response"] == undisturbed[-1].data["response"]
    # The model is sent exactly what the tool returned, once more.
    assert reader.model.requests[-1]["messages"] == reader.model.requests[-2]["messages"]


async def until(condition: Callable[[], Any]) -> None:
    await asyncio.to_thread(wait_until, condition)
