"""The sources of answers at the page, in Chromium: marks, the list below, and the text that they lead to."""

import re

import httpx
import pytest
from playwright.sync_api import Page, expect

from bench.scripted_model import Answer, ToolCall, calls, says
from tests.conftest import wait_until
from tests.web.conftest import IN_BROWSER, OpenPage, Scripted
from tests.web.person import authorization, choose, document, nth_answer, say, text_file, text_of

pytestmark = IN_BROWSER

READING = 60_000
"""Milliseconds that reading and indexing a short text may take, the embedding model's start included."""
REFUNDS = "A refund is paid within thirty days after the goods came back"
VAULT = "The key of the vault hangs behind the picture of the 😀 founder"
SEARCH = ToolCall("search_documents", {"query": "refund"})


def with_documents(page: Page) -> None:
    """Upload two short texts, whose passages are 1 and 2, and wait until they are ready."""
    for name, text in (("policy.txt", f"😀😀😀 Refunds.\n\n{REFUNDS}.\n\nAsk the desk."), ("vault.txt", f"{VAULT}.")):
        choose(page, [text_file(name, text)])
        expect(document(page, name)).to_have_attribute("data-status", "ready", timeout=READING)


def scripted_answer(scripted: Scripted, text: str, *, wait: float = 0.0) -> None:
    searches = Answer(calls=(SEARCH, ToolCall("search_documents", {"query": "vault key"}, id="call_2")))
    scripted.model.follow([searches, says(text, wait=wait)])


@pytest.mark.spec("WEB-42")
def test_proven_marks_are_numbered_and_the_sources_stand_below(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)
    with_documents(page)
    words = f'"{VAULT}" [p2] And "{REFUNDS}" [p1] Both are strict. [p2] This is made up. [p99] The end [p'

    scripted_answer(scripted, words)
    say(page, "When is a refund paid, and where is the key?")

    answer = nth_answer(page, 1)
    for _ in range(2):
        expect(answer).to_have_attribute("data-state", "completed")
        expect(text_of(page, 1)).to_have_text(
            f'"{VAULT}"1 And "{REFUNDS}"2 Both are strict.1 This is made up. The end [p'
        )
        names = [mark.get_attribute("aria-label") for mark in answer.get_by_test_id("citation").all()]
        assert names == ["Source 1: vault.txt", "Source 2: policy.txt", "Source 1: vault.txt"]
        expect(answer.get_by_test_id("source")).to_have_text([f"1 vault.txt “{VAULT}”", f"2 policy.txt “{REFUNDS}”"])
        page.reload()


@pytest.mark.spec("WEB-42")
def test_a_mark_is_not_shown_before_it_is_proven(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)
    with_documents(page)
    page.evaluate(
        """() => {
          window.seen = [];
          const look = () => window.seen.push(document.querySelector("[data-testid=answer-text]")?.textContent ?? "");
          new MutationObserver(look).observe(document.querySelector("#thread"),
            { childList: true, characterData: true, subtree: true });
        }"""
    )

    more = " ".join(f"word{number}" for number in range(30))
    scripted_answer(scripted, f'"{REFUNDS}" [p1] {more}', wait=0.05)
    say(page, "When is a refund paid?")

    expect(text_of(page, 1)).to_have_text(f'"{REFUNDS}"1 {more}')
    seen = page.evaluate("window.seen")
    assert any(text.startswith(f'"{REFUNDS}" word0') for text in seen), seen
    assert not [text for text in seen if "[" in text]


@pytest.mark.spec("WEB-43")
def test_a_source_opens_the_page_at_its_words(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)
    with_documents(page)
    scripted_answer(scripted, f'"{REFUNDS}" [p1]')
    say(page, "When is a refund paid?")
    mark = nth_answer(page, 1).get_by_test_id("citation")

    mark.press("Enter")

    viewer = page.get_by_test_id("viewer")
    expect(viewer.get_by_test_id("viewer-title")).to_have_text("policy.txt")
    expect(viewer.get_by_test_id("viewer-place")).to_have_text("Part 1 of 1")
    expect(viewer.get_by_test_id("viewer-mark")).to_have_text(REFUNDS)
    expect(viewer.get_by_test_id("viewer-mark")).to_be_in_viewport()
    expect(viewer.get_by_role("region", name="Text of the page")).to_be_focused()
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(mark).to_be_focused()
    nth_answer(page, 1).get_by_test_id("source").click()
    expect(viewer.get_by_test_id("viewer-mark")).to_have_text(REFUNDS)
    viewer.get_by_role("button", name="Close").click()
    expect(nth_answer(page, 1).get_by_test_id("source")).to_be_focused()


@pytest.mark.spec("WEB-43")
def test_a_source_that_was_deleted_says_so(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)
    with_documents(page)
    scripted_answer(scripted, f'"{REFUNDS}" [p1]')
    say(page, "When is a refund paid?")
    mark = nth_answer(page, 1).get_by_test_id("citation")
    expect(mark).to_be_visible()
    httpx.delete(f"{scripted.url}/api/documents/1", headers=authorization(page)).raise_for_status()

    mark.click()

    expect(page.get_by_test_id("viewer").get_by_test_id("error")).to_contain_text("Document 1 does not exist.")
    expect(page.get_by_test_id("viewer-title")).to_have_text("policy.txt")


@pytest.mark.spec("WEB-44")
def test_what_is_done_with_documents_is_told_in_words(open_page: OpenPage, scripted: Scripted) -> None:
    page = open_page(scripted.url)
    with_documents(page)
    reads = ToolCall("read_document", {"document_id": 1}, id="call_2")
    lists = ToolCall("list_documents", {}, id="call_3")
    missing = ToolCall("read_document", {"document_id": 77}, id="call_4")
    scripted.model.follow([calls(SEARCH, reads, lists, missing), says("There.")])

    say(page, "What do you have?")

    words = nth_answer(page, 1).get_by_test_id("tool-words")
    told: list[str | re.Pattern[str]] = [
        re.compile(r"^Searched your documents: “refund” \([12] passages?\)$"),
        "Read “policy.txt”, from page 1",
        "Looked through your documents (2 documents)",
        "Reading document 77, from page 1",
    ]
    for _ in range(2):
        expect(words).to_have_text(told)
        page.reload()
    row = nth_answer(page, 1).get_by_test_id("tool-call").first
    row.locator("summary").press("Enter")
    expect(row.get_by_test_id("tool-name")).to_be_visible()
    expect(row.get_by_test_id("tool-name")).to_have_text("search_documents")


@pytest.mark.spec("WEB-19")
def test_what_looks_like_a_mark_in_a_question_is_shown(open_page: OpenPage, service: str) -> None:
    page = open_page(service)

    say(page, "Add a task to read [p12] and [ ] boxes")

    expect(page.get_by_test_id("user-message")).to_have_text("You: Add a task to read [p12] and [ ] boxes")
    wait_until(lambda: nth_answer(page, 1).get_attribute("data-state") == "completed")
