"""Undo at the page, in Chromium: the line under an answer, and the notice after a change by hand."""

import httpx
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from bench.scripted_model import Refusal, ToolCall, calls
from tests.web.conftest import IN_BROWSER, OpenPage, Scripted
from tests.web.person import (
    assert_fits,
    authorization,
    be_hidden,
    choose,
    document,
    nth_answer,
    say,
    tab,
    text_file,
    titles,
)

pytestmark = IN_BROWSER

BOTH = ["Buy milk", "Buy bread"]
UNDO, REDO = "Undo the changes of this answer", "Redo the changes of this answer"
HOSTILE = "<img src=x onerror=alert(1)> \u202e\u2066abc &amp; {{7*7}}"
STAYS = 8_000
"""Milliseconds that a notice stays."""


def ask(page: Page, text: str, number: int = 1) -> Locator:
    """Say something, and return the line under the finished answer."""
    say(page, text)
    answer = nth_answer(page, number)
    expect(answer).to_have_attribute("data-state", "completed")
    return line_of(answer)


def line_of(answer: Locator) -> Locator:
    return answer.get_by_test_id("undo-line")


def button(line: Locator, name: str = UNDO) -> Locator:
    return line.get_by_role("button", name=name, exact=True)


def said(line: Locator) -> Locator:
    return line.get_by_role("status")


def undo_by_program(page: Page, url: str) -> httpx.Response:
    """Undo everything that the page's first answer changed, as another client would."""
    mine = authorization(page)
    number = page.get_by_test_id("conversation-list").locator("li").get_attribute("data-conversation-id")
    messages = httpx.get(f"{url}/api/conversations/{number}", headers=mine).json()["messages"]
    return httpx.post(f"{url}/api/runs/{messages[1]['run_id']}/undo", headers=mine)


@pytest.mark.spec("WEB-63")
def test_an_answers_changes_are_undone_and_redone_even_after_a_reload(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    line = ask(page, "Add a task to buy milk and a task to buy bread")
    expect(titles(page, "open-tasks")).to_have_text(BOTH)
    expect(line).to_have_text("Undo")

    button(line).click()
    expect(said(line)).to_have_text("Undone: 2 items.")
    expect(titles(page, "open-tasks")).to_have_count(0)
    button(line, REDO).click()
    expect(said(line)).to_have_text("Redone: 2 items.")
    expect(titles(page, "open-tasks")).to_have_text(BOTH)
    expect(line_of(page.get_by_test_id("thread"))).to_have_count(1)

    page.reload()
    expect(said(line)).to_have_text("")
    button(line).click()
    expect(said(line)).to_have_text("Undone: 2 items.")
    expect(titles(page, "open-tasks")).to_have_count(0)


@pytest.mark.spec("WEB-63")
def test_only_an_answer_that_changed_something_has_the_line(open_page: OpenPage, service: str) -> None:
    page = open_page(service)

    expect(ask(page, "What's pending?", 1)).to_have_count(0)
    expect(ask(page, "Complete task 999", 2)).to_have_count(0)
    expect(ask(page, "Add a task to buy milk", 3)).to_have_count(1)
    page.reload()

    expect(nth_answer(page, 3)).to_have_attribute("data-state", "completed")
    expect(line_of(page.get_by_test_id("thread"))).to_have_count(1)
    results = [{"operation_id": 7, "status": "created"}, {"operation_id": 7, "status": "dry_run"}, {"tasks": []}, None]
    changes = page.evaluate(
        "async (results) => { const { isChange } = await import('/static/undo.js'); return results.map(isChange); }",
        results,
    )
    assert changes == [True, False, False, False]


@pytest.mark.spec("WEB-63")
@pytest.mark.parametrize(
    ("request_", "undone", "redone"),
    [
        ("Mark task 1 as complete", "Undone: “Buy milk” is as it was before.", "Redone: “Buy milk” is changed again."),
        ("Delete task 1", "Undone: “Buy milk” is back.", "Redone: “Buy milk” is gone."),
    ],
)
def test_a_single_change_is_named_and_the_keyboard_stays_on_the_line(
    request_: str, undone: str, redone: str, open_page: OpenPage, service: str
) -> None:
    page = open_page(service)
    ask(page, "Add a task to buy milk")
    line = ask(page, request_, 2)
    expect(titles(page, "open-tasks")).to_have_count(0)

    button(line).focus()
    page.keyboard.press("Enter")
    expect(said(line)).to_have_text(undone)
    expect(titles(page, "open-tasks")).to_have_text(["Buy milk"])
    expect(button(line, REDO)).to_be_focused()
    page.keyboard.press("Space")

    expect(said(line)).to_have_text(redone)
    expect(titles(page, "open-tasks")).to_have_count(0)
    expect(button(line)).to_be_focused()


@pytest.mark.spec("WEB-63")
def test_a_failed_answer_can_be_undone_and_hostile_titles_stay_text(open_page: OpenPage, scripted: Scripted) -> None:
    scripted.model.follow([calls(ToolCall("add_task", {"title": HOSTILE})), Refusal(401)])
    page = open_page(scripted.url, width=360, height=740)
    say(page, "Remember this.")
    answer = nth_answer(page, 1)
    expect(answer).to_have_attribute("data-state", "failed")

    button(line_of(answer)).click()

    expect(said(line_of(answer))).to_have_text(f"Undone: “{HOSTILE}” is gone.")
    expect(answer.get_by_test_id("error")).to_contain_text("rejected the API key")
    assert_fits(page)
    assert page.locator("img").count() == 0


@pytest.mark.spec("WEB-63")
def test_while_an_undo_runs_it_is_not_sent_again(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    line = ask(page, "Add a task to buy milk")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/runs/*/undo", hold)
    button(line).focus()

    for _ in range(3):
        page.keyboard.press("Enter")
    expect(button(line)).to_be_disabled()
    expect(button(line)).to_be_focused()
    assert len(held) == 1
    held[0].abort()

    expect(said(line)).to_have_text("The server cannot be reached. Check the connection and try again.")
    expect(button(line)).to_be_enabled()
    page.unroute("**/api/runs/*/undo")
    page.keyboard.press("Enter")
    expect(said(line)).to_have_text("Undone: “Buy milk” is gone.")


@pytest.mark.spec("WEB-64")
def test_a_refusal_shows_the_servers_sentence(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    line = ask(page, "Add a task to buy milk")
    changed = {"title": "Buy oats"}
    httpx.patch(f"{service}/api/tasks/1", json=changed, headers=authorization(page)).raise_for_status()
    sentence = undo_by_program(page, service).json()["detail"]

    button(line).click()

    assert "“Buy milk”" in sentence
    assert "“Buy oats”" in sentence
    expect(said(line)).to_have_text(sentence)
    expect(button(line)).to_be_visible()
    httpx.patch(f"{service}/api/tasks/1", json={"title": "Buy milk"}, headers=authorization(page)).raise_for_status()
    button(line).click()
    expect(said(line)).to_have_text("Undone: “Buy milk” is gone.")


@pytest.mark.spec("WEB-64")
def test_what_was_undone_elsewhere_is_not_offered_again(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    line = ask(page, "Add a task to buy milk")
    undo_by_program(page, service).raise_for_status()

    button(line).press("Enter")

    expect(said(line)).to_have_text("There is nothing to undo.")
    expect(said(line)).to_be_focused()
    expect(line.get_by_role("button")).to_have_count(0)


@pytest.mark.spec("WEB-64")
def test_an_undo_after_the_session_has_ended_says_so(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    line = ask(page, "Add a task to buy milk")
    httpx.post(f"{service}/api/auth/logout", headers=authorization(page)).raise_for_status()

    button(line).click()

    expect(page.get_by_test_id("notice")).to_contain_text("Your guest session has ended.")
    expect(said(line)).to_have_text("")


@pytest.mark.spec("WEB-65")
def test_a_deleted_document_comes_back_to_its_place(open_page: OpenPage, service: str) -> None:
    page = open_page(service, width=360, height=740)
    page.get_by_role("button", name="Documents", exact=True).press("Enter")
    choose(page, [text_file(name, name) for name in ("one.txt", f"{HOSTILE}.txt", "three.txt")])
    names = page.get_by_test_id("document-name")
    expect(names).to_have_count(3)
    before = names.all_text_contents()
    middle = page.get_by_test_id("document").nth(1)
    middle.get_by_role("button", name="Delete").press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("You can undo this right afterwards.")

    page.get_by_test_id("delete-confirm").press("Enter")

    notice = page.get_by_test_id("documents-undo")
    expect(notice.locator("p")).to_have_text(f"Deleted “{before[1]}”.")
    assert notice.get_attribute("role") == "status"
    expect(names).to_have_count(2)
    assert_fits(page)
    while tab(page) != "Undo":
        pass
    page.keyboard.press("Enter")
    expect(notice).to_have_text(f"Undone: “{before[1]}” is back.")
    expect(names).to_have_text(before)
    assert middle.evaluate("row => row.contains(document.activeElement)")
    assert page.locator("img").count() == 0


@pytest.mark.spec("WEB-65")
def test_a_ticked_task_is_reopened_by_undo(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    ask(page, "Add a task to buy milk")
    box, notice = page.get_by_test_id("task-checkbox"), page.get_by_test_id("tasks-undo")
    box.press("Space")
    expect(notice.locator("p")).to_have_text("Completed “Buy milk”.")
    expect(box).to_be_focused()

    assert [tab(page), tab(page)] == ["Completed", "Undo"]
    page.keyboard.press("Enter")

    expect(notice).to_have_text("Undone: “Buy milk” is as it was before.")
    expect(box).not_to_be_checked()
    expect(box).to_be_focused()
    box.press("Space")
    expect(notice.locator("p")).to_have_text("Completed “Buy milk”.")
    box.press("Space")
    expect(notice.locator("p")).to_have_text("Reopened “Buy milk”.")
    httpx.patch(f"{service}/api/tasks/1", json={"completed": True}, headers=authorization(page)).raise_for_status()
    notice.get_by_role("button", name="Undo").press("Enter")
    expect(notice).to_contain_text("Task 1 has changed since, so nothing was undone.")


@pytest.mark.spec("WEB-65")
def test_a_notice_stays_for_a_while_and_longer_under_the_pointer_or_the_focus(
    open_page: OpenPage, service: str
) -> None:
    page = open_page(service)
    ask(page, "Add a task to buy milk")
    choose(page, [text_file("notes.txt", "The key is under the mat.")])
    expect(document(page, "notes.txt")).to_have_count(1)
    of_tasks, of_documents = page.get_by_test_id("tasks-undo"), page.get_by_test_id("documents-undo")
    page.clock.install()

    page.get_by_test_id("task-checkbox").click()
    expect(of_tasks).to_contain_text("Completed")
    document(page, "notes.txt").get_by_role("button", name="Delete notes.txt").click()
    page.get_by_test_id("delete-confirm").click()
    expect(of_documents).to_contain_text("Deleted")
    expect(of_tasks).to_be_empty()
    of_documents.hover()
    page.clock.run_for(3 * STAYS)
    expect(of_documents).to_contain_text("Deleted")
    of_documents.get_by_role("button").focus()
    page.mouse.move(0, 0)
    page.clock.run_for(3 * STAYS)
    expect(of_documents).to_contain_text("Deleted")
    page.get_by_test_id("message").focus()
    page.clock.run_for(STAYS - 1_500)
    expect(of_documents).to_contain_text("Deleted")
    page.clock.run_for(2_000)

    expect(of_documents).to_be_empty()


@pytest.mark.spec("WEB-65")
def test_a_document_that_was_deleted_elsewhere_offers_no_undo(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    choose(page, [text_file("notes.txt", "The key is under the mat.")])
    row = document(page, "notes.txt")
    expect(row).to_have_count(1)
    # A hidden page does not notice by itself that the document is gone.
    be_hidden(page, True)
    address, purge = f"{service}/api/documents/1", {"purge": True}
    httpx.delete(address, params=purge, headers=authorization(page)).raise_for_status()

    row.get_by_role("button", name="Delete notes.txt").click()
    page.get_by_test_id("delete-confirm").click()

    expect(page.get_by_test_id("documents-undo")).to_have_text("Deleted “notes.txt”.")
    expect(page.get_by_test_id("documents-undo").get_by_role("button")).to_have_count(0)
