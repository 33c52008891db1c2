"""Stopping an answer at the page, in Chromium."""

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from bench.scripted_model import Answer, ToolCall, says
from tests.web.conftest import IN_BROWSER, OpenPage, Scripted
from tests.web.person import assert_fits, authorization, nth_answer, say, tab, text_of, titles

pytestmark = IN_BROWSER

WORDS = " ".join(f"word{number}" for number in range(600))
ADDS_AND_TALKS = [
    Answer(text="Adding it.", calls=(ToolCall("add_task", {"title": "Buy groceries"}),)),
    says(WORDS, wait=0.08),
]
STOPPED = "You stopped this answer. Anything already done is kept."


def click(page: Page) -> None:
    page.get_by_role("button", name="Stop the answer").click()


def tab_and_enter(page: Page) -> None:
    page.get_by_test_id("message").focus()
    assert tab(page) == "Stop the answer"
    page.keyboard.press("Enter")


def press_escape(page: Page) -> None:
    page.get_by_test_id("tool-call").locator("summary").focus()
    page.keyboard.press("Escape")


def reload_and_click(page: Page) -> None:
    page.reload()
    expect(text_of(page, 1)).to_contain_text("word5")
    click(page)


def hold(page: Page, url: str) -> list[Route]:
    """Hold requests back; returns where they gather."""
    held: list[Route] = []

    def keep(route: Route) -> None:
        held.append(route)

    page.route(url, keep)
    return held


@pytest.mark.spec("WEB-26")
@pytest.mark.parametrize("stop", [tab_and_enter, press_escape, reload_and_click])
def test_a_stop_keeps_what_was_said_and_done(
    open_page: OpenPage, scripted: Scripted, stop: Callable[[Page], None]
) -> None:
    scripted.model.follow(ADDS_AND_TALKS)
    page = open_page(scripted.url, width=360, height=740)
    say(page, "Groceries, please.")
    expect(text_of(page, 1)).to_contain_text("word5")
    expect(page.get_by_test_id("send")).to_be_hidden()
    assert_fits(page)

    stop(page)

    answer = nth_answer(page, 1)
    expect(answer).to_have_attribute("data-state", "cancelled")
    expect(answer.get_by_test_id("answer-note")).to_have_text(STOPPED)
    expect(page.get_by_test_id("announcer")).to_have_text(STOPPED)
    expect(text_of(page, 1)).to_have_text(re.compile(r"^Adding it\.\s+word0 .*word5"))
    expect(answer.get_by_test_id("tool-call")).to_have_attribute("data-state", "done")
    expect(answer.get_by_test_id("undo")).to_be_visible()
    expect(page.get_by_test_id("message")).to_be_focused()
    expect(page.get_by_test_id("stop")).to_be_hidden()
    expect(page.get_by_test_id("send")).to_be_visible()
    assert_fits(page)
    shown = page.get_by_test_id("thread").inner_text()

    page.reload()
    expect(answer.get_by_test_id("answer-note")).to_have_text(STOPPED)
    assert page.get_by_test_id("thread").inner_text() == shown
    scripted.model.follow([says("Hello.")])
    say(page, "Hello?")
    expect(text_of(page, 2)).to_have_text("Hello.")
    expect(titles(page, "open-tasks")).to_have_text(["Buy groceries"])


@pytest.mark.spec("WEB-26")
def test_an_answer_that_was_stopped_before_a_word_says_so_after_a_reload_too(
    open_page: OpenPage, scripted: Scripted
) -> None:
    scripted.model.follow([says(WORDS, wait=30)])
    page = open_page(scripted.url)
    with page.expect_request("**/api/chat"):
        say(page, "Talk.")
    click(page)

    for _ in range(2):
        expect(nth_answer(page, 1)).to_have_attribute("data-state", "cancelled")
        expect(nth_answer(page, 1).get_by_test_id("answer-note")).to_have_text(STOPPED)
        expect(text_of(page, 1)).to_have_text("")
        page.reload()


@pytest.mark.spec("WEB-27")
def test_escape_closes_what_is_open_before_it_stops_an_answer(open_page: OpenPage, scripted: Scripted) -> None:
    scripted.model.follow([says(WORDS, wait=0.08)])
    page = open_page(scripted.url, width=1000)
    say(page, "Talk.")
    expect(text_of(page, 1)).to_contain_text("word2")
    cancelled: list[str] = []
    page.on("request", lambda request: cancelled.append(request.url) if request.url.endswith("/cancel") else None)

    expect(page.get_by_test_id("hint")).to_have_text("Escape to stop the answer.")
    page.locator("#tasks-opener").click()
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("tasks-panel")).to_be_hidden()
    page.get_by_test_id("forget-me").click()
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("forget-dialog")).to_be_hidden()
    assert cancelled == []

    page.keyboard.press("Escape")

    expect(nth_answer(page, 1)).to_have_attribute("data-state", "cancelled")
    assert len(cancelled) == 1
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("message")).to_be_focused()
    assert len(cancelled) == 1


@pytest.mark.spec("WEB-28")
def test_a_stop_before_the_server_has_the_message_counts(open_page: OpenPage, scripted: Scripted) -> None:
    scripted.model.follow([says(WORDS, wait=0.08)])
    page = open_page(scripted.url)
    held = hold(page, "**/api/chat")
    with page.expect_request("**/api/chat"):
        say(page, "Talk.")
    click(page)
    expect(page.get_by_test_id("stop")).to_be_disabled()

    held[0].continue_()

    expect(nth_answer(page, 1)).to_have_attribute("data-state", "cancelled")
    runs = httpx.get(f"{scripted.url}/api/conversations/1", headers=authorization(page)).json()["messages"]
    run = httpx.get(f"{scripted.url}/api/runs/{runs[0]['run_id']}", headers=authorization(page)).json()
    assert (run["status"], run["error"]["code"]) == ("cancelled", "run_cancelled")


@pytest.mark.spec("WEB-29")
def test_a_stop_that_comes_too_late_shows_the_finished_answer(open_page: OpenPage, scripted: Scripted) -> None:
    scripted.model.follow([says("One two three four five.", wait=0.5)])
    page = open_page(scripted.url)
    held = hold(page, "**/cancel")
    say(page, "Count.")
    expect(text_of(page, 1)).to_contain_text("One")
    with page.expect_request("**/cancel"):
        click(page)
    expect(nth_answer(page, 1)).to_have_attribute("data-state", "completed")

    with page.expect_response("**/cancel") as late:
        held[0].continue_()

    assert late.value.json()["status"] == "completed"
    expect(text_of(page, 1)).to_have_text("One two three four five.")
    expect(nth_answer(page, 1).get_by_test_id("answer-note")).to_have_count(0)
    expect(page.get_by_test_id("notice")).to_be_hidden()


@pytest.mark.spec("WEB-30")
def test_a_stop_that_fails_is_told_and_can_be_tried_again(open_page: OpenPage, scripted: Scripted) -> None:
    scripted.model.follow([says(WORDS, wait=0.08)])
    page = open_page(scripted.url)
    problem = {"detail": "The database does not answer.", "code": "database_unavailable"}
    page.route("**/cancel", lambda route: route.fulfill(status=503, json=problem))
    say(page, "Talk.")
    expect(text_of(page, 1)).to_contain_text("word2")

    click(page)

    expect(page.get_by_test_id("notice")).to_contain_text("The database does not answer.")
    expect(nth_answer(page, 1)).to_have_attribute("data-state", "streaming")
    expect(page.get_by_test_id("stop")).to_be_enabled()
    page.unroute("**/cancel")
    page.get_by_test_id("notice").get_by_test_id("retry").click()
    expect(nth_answer(page, 1)).to_have_attribute("data-state", "cancelled")
    expect(page.get_by_test_id("notice")).to_be_hidden()
