"""The page in Chromium, against the service: what a person sees and does."""

import os
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from bench.scripted_model import Refusal, ToolCall, calls, says
from tests.conftest import query
from tests.web.conftest import IN_BROWSER, OpenPage, Scripted
from tests.web.person import assert_fits, authorization, nth_answer, say, tab, text_of, titles

pytestmark = IN_BROWSER

PICTURES = Path(__file__).parents[2] / "docs" if os.environ.get("TEST_PICTURES") else None
"""Where the README's pictures are; they are taken anew only when TEST_PICTURES is set."""

GROCERIES, BILLS, MOM, MEETING = "Buy groceries", "Pay bills", "Call mom", "Prepare the meeting"
TURNS: list[tuple[str, list[str], list[str]]] = [
    ("Add a task to buy groceries", ["add_task"], [GROCERIES]),
    ("I need to remember to pay bills", ["add_task"], [GROCERIES, BILLS]),
    (
        "Add a task to call mom and a task to prepare the meeting by next Friday, high priority",
        ["add_task", "add_task"],
        [GROCERIES, BILLS, MOM, MEETING],
    ),
    ("Show me all my tasks", ["list_tasks"], [GROCERIES, BILLS, MOM, MEETING]),
    ("What's pending?", ["list_tasks"], [GROCERIES, BILLS, MOM, MEETING]),
    ("Mark task 3 as complete", ["complete_task"], [GROCERIES, BILLS, MEETING]),
    ("Delete the meeting task", ["list_tasks", "delete_task"], [GROCERIES, BILLS]),
    ("Change task 1 to 'Call mom tonight'", ["update_task"], ["Call mom tonight", BILLS]),
    ("What have I completed?", ["list_tasks"], ["Call mom tonight", BILLS]),
    ("Delete it", ["delete_task"], ["Call mom tonight", BILLS]),
]
"""What is typed, the tools that are called, and the open tasks after it."""

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script> \u202e\u2066abc\u200f &amp; {{7*7}}"


@pytest.mark.spec("WEB-10")
def test_opening_the_page_makes_no_account(open_page: OpenPage, service: str, superuser_url: str) -> None:
    before = query(superuser_url, "select count(*) from users")

    page = open_page(service)

    expect(page.get_by_test_id("account")).to_have_text("Not signed in.")
    expect(page.get_by_test_id("model")).to_have_text("Offline rules, no language model")
    assert page.evaluate("localStorage.length") == 0
    assert query(superuser_url, "select count(*) from users") == before


@pytest.mark.spec("WEB-11")
def test_the_ten_turns_can_be_typed_and_the_task_list_follows(open_page: OpenPage, service: str) -> None:
    page = open_page(service)

    for number, (said, tools, tasks) in enumerate(TURNS, 1):
        say(page, said)
        answer = nth_answer(page, number)
        expect(answer).to_have_attribute("data-state", "completed")
        expect(answer.get_by_test_id("tool-name")).to_have_text(tools)
        expect(titles(page, "open-tasks")).to_have_text(tasks)
        expect(page.get_by_test_id("task-count")).to_have_text(str(len(tasks)))
        if number == 6:
            page.get_by_text("Completed", exact=True).click()
            expect(titles(page, "done-tasks")).to_have_text([MOM])

    expect(titles(page, "done-tasks")).to_have_count(0)
    expect(page.get_by_test_id("user-message")).to_have_text([f"You: {said}" for said, _, _ in TURNS])
    expect(page.get_by_test_id("conversation")).to_have_count(1)
    expect(page.get_by_test_id("chat-title")).to_have_text(TURNS[0][0])


@pytest.mark.spec("WEB-12")
def test_a_tool_call_opens_and_shows_arguments_and_result(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    say(page, "Add a task to buy groceries")
    row = page.get_by_test_id("tool-call")
    expect(row).to_have_attribute("data-state", "done")
    expect(row.get_by_test_id("tool-arguments")).to_be_hidden()

    row.locator("summary").press("Enter")

    expect(row.get_by_test_id("tool-arguments")).to_contain_text('"title": "Buy groceries"')
    expect(row.get_by_test_id("tool-result")).to_contain_text('"status": "created"')


@pytest.mark.spec("WEB-13")
def test_a_reload_returns_to_the_conversation(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    for number, turn in enumerate((0, 1, 2, 5), 1):
        say(page, TURNS[turn][0])
        expect(nth_answer(page, number)).to_have_attribute("data-state", "completed")
    page.get_by_test_id("message").press_sequentially("Change it to")
    shown = page.get_by_test_id("thread").inner_text()

    page.reload()

    expect(nth_answer(page, 4)).to_have_attribute("data-state", "completed")
    assert page.get_by_test_id("thread").inner_text() == shown
    expect(page.get_by_test_id("message")).to_have_value("Change it to")
    take_pictures(page)
    page.get_by_test_id("message").press("End")
    page.keyboard.type(" 'Call mom tonight'")
    page.keyboard.press("Enter")
    expect(nth_answer(page, 5)).to_contain_text("Updated task 3")
    page.get_by_test_id("new-chat").click()
    expect(page.get_by_test_id("welcome")).to_be_visible()
    page.go_back()
    expect(nth_answer(page, 5)).to_contain_text("Updated task 3")


@pytest.mark.spec("WEB-14")
def test_a_reload_in_mid_answer_follows_the_run(open_page: OpenPage, scripted: Scripted) -> None:
    words = " ".join(f"word{number}" for number in range(40))
    scripted.model.follow([says(words, wait=0.08)])
    page = open_page(scripted.url)
    say(page, "Talk.")
    expect(text_of(page, 1)).to_contain_text("word5")

    page.reload()

    expect(nth_answer(page, 1)).to_have_attribute("data-state", "streaming")
    expect(text_of(page, 1)).to_contain_text("word5")
    expect(nth_answer(page, 1)).to_have_attribute("data-state", "completed")
    expect(text_of(page, 1)).to_have_text(words)
    expect(page.get_by_test_id("user-message")).to_have_count(1)
    assert len(scripted.model.requests) == 1


@pytest.mark.spec("WEB-16")
def test_a_message_that_cannot_be_sent_goes_back_into_the_box(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    page.context.set_offline(True)

    say(page, "Add a task to buy groceries")

    expect(page.get_by_test_id("notice")).to_contain_text("The server cannot be reached.")
    expect(page.get_by_test_id("message")).to_have_value("Add a task to buy groceries")
    page.context.set_offline(False)
    page.get_by_test_id("notice").get_by_test_id("retry").click()
    expect(nth_answer(page, 1)).to_contain_text("Added task 1")
    expect(page.get_by_test_id("user-message")).to_have_count(1)
    expect(page.get_by_test_id("notice")).to_be_hidden()


@pytest.mark.spec("WEB-17")
def test_an_ended_session_is_told_and_the_text_stays(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    say(page, "Add a task to buy groceries")
    expect(nth_answer(page, 1)).to_have_attribute("data-state", "completed")
    httpx.post(f"{service}/api/auth/logout", headers=authorization(page)).raise_for_status()

    say(page, "What's pending?")

    expect(page.get_by_test_id("notice")).to_contain_text("Your guest session has ended.")
    expect(page.get_by_test_id("message")).to_have_value("What's pending?")
    page.get_by_test_id("notice").get_by_test_id("retry").click()
    expect(page.get_by_test_id("notice")).to_be_hidden()
    expect(page.get_by_test_id("message")).to_have_value("What's pending?")
    page.get_by_test_id("message").press("Enter")
    expect(nth_answer(page, 1)).to_contain_text("no pending tasks")


@pytest.mark.spec("WEB-18")
def test_a_failed_answer_says_why_and_can_be_tried_again(open_page: OpenPage, scripted: Scripted) -> None:
    scripted.model.follow([Refusal(401, "Incorrect API key: made-up")])
    page = open_page(scripted.url)
    say(page, "Hello?")
    failure = nth_answer(page, 1).get_by_test_id("error")
    expect(failure).to_contain_text("rejected the API key")
    expect(failure).not_to_contain_text("made-up")

    page.reload()
    expect(failure).to_contain_text("rejected the API key")
    scripted.model.follow([says("Hello.")])
    failure.get_by_test_id("retry").click()

    expect(text_of(page, 2)).to_have_text("Hello.")
    expect(page.get_by_test_id("retry")).to_have_count(0)


@pytest.mark.spec("WEB-18")
def test_an_answer_that_broke_off_still_says_so_after_a_reload(open_page: OpenPage, scripted: Scripted) -> None:
    scripted.model.follow([calls(ToolCall("add_task", {"title": GROCERIES})), Refusal(401)])
    page = open_page(scripted.url)
    say(page, "Groceries, please.")
    expect(nth_answer(page, 1)).to_have_attribute("data-state", "failed")

    page.reload()

    expect(nth_answer(page, 1).get_by_test_id("tool-name")).to_have_text(["add_task"])
    expect(nth_answer(page, 1).get_by_test_id("error")).to_contain_text("rejected the API key")
    expect(titles(page, "open-tasks")).to_have_text([GROCERIES])

    def without_its_name(route: Route) -> None:
        conversation = route.fetch().json()
        conversation["messages"][-1]["tool_calls"][0]["name"] = None
        route.fulfill(json=conversation)

    # The API's description allows for both.
    page.route("**/api/runs/*", lambda route: route.fulfill(json={"status": "failed", "error": None}))
    page.route("**/api/conversations/*", without_its_name)
    page.reload()

    expect(nth_answer(page, 1).get_by_test_id("error")).to_contain_text("The answer failed.")
    expect(nth_answer(page, 1).get_by_test_id("tool-name")).to_have_text([""])


@pytest.mark.spec("WEB-19")
def test_hostile_text_stays_text(open_page: OpenPage, scripted: Scripted) -> None:
    scripted.model.follow([calls(ToolCall("add_task", {"title": HOSTILE})), says(HOSTILE)])
    page = open_page(scripted.url)
    page.get_by_test_id("message").fill(HOSTILE)
    page.get_by_test_id("message").press("Enter")

    for _ in range(2):
        expect(nth_answer(page, 1)).to_have_attribute("data-state", "completed")
        expect(titles(page, "open-tasks")).to_have_count(1)
        expect(page.get_by_test_id("conversation")).to_have_count(1)
        assert page.get_by_test_id("user-message").text_content() == f"You: {HOSTILE}"
        # Of an answer the entity is Markdown, and stands for its sign.
        assert text_of(page, 1).text_content() == HOSTILE.replace("&amp;", "&")
        assert titles(page, "open-tasks").text_content() == HOSTILE
        title = (page.get_by_test_id("chat-title").text_content() or "").removesuffix("…")
        assert HOSTILE.startswith(title)
        assert "<script>" in title
        assert page.title().startswith(title)
        assert page.locator("img").count() == 0
        assert page.locator("script").count() == 1
        page.reload()


@pytest.mark.spec("WEB-20")
def test_at_360_pixels_nothing_scrolls_sideways_and_the_keyboard_works_the_drawers(
    open_page: OpenPage, service: str
) -> None:
    page = open_page(service, width=360, height=740)
    assert_fits(page)
    say(page, f"Add a task to read {'Donaudampfschifffahrtsgesellschaft' * 4}")
    expect(nth_answer(page, 1)).to_have_attribute("data-state", "completed")
    page.get_by_test_id("tool-call").locator("summary").press("Enter")
    assert_fits(page)

    for panel, opener, closer in (
        ("chats-panel", "Show the list of chats", "Close the list of chats"),
        ("tasks-panel", "Tasks 1", "Close the task list"),
        ("documents-panel", "Documents", "Close the list of documents"),
    ):
        expect(page.get_by_test_id(panel)).to_be_hidden()
        page.get_by_role("button", name=opener, exact=True).press("Enter")
        expect(page.get_by_test_id(panel)).to_be_visible()
        expect(page.get_by_role("button", name=closer)).to_be_focused()
        assert_fits(page)
        assert page.locator("main").evaluate("main => main.inert")
        page.keyboard.press("Escape")
        expect(page.get_by_test_id(panel)).to_be_hidden()
        expect(page.get_by_role("button", name=opener, exact=True)).to_be_focused()


@pytest.mark.spec("WEB-21")
def test_everything_can_be_done_with_the_keyboard_alone(open_page: OpenPage, service: str) -> None:
    page = open_page(service)

    walk = [tab(page) for _ in range(10)]
    assert walk[:3] == ["Skip to the message box", "New chat", "API"]
    assert walk[-3:] == ["What can you do?", "Upload documents", "Message"]
    page.reload()
    assert tab(page) == "Skip to the message box"
    expect(page.locator("#skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("message")).to_be_focused()

    page.keyboard.type("Add a task to buy groceries")
    assert tab(page) == "Send"
    page.keyboard.press("Enter")
    expect(nth_answer(page, 1)).to_have_attribute("data-state", "completed")
    expect(page.get_by_test_id("message")).to_be_focused()
    expect(titles(page, "open-tasks")).to_have_text([GROCERIES])
    assert tab(page) == GROCERIES
    page.keyboard.press("Space")
    expect(page.get_by_test_id("task")).to_have_attribute("data-completed", "true")
    expect(page.get_by_test_id("task-checkbox")).to_be_focused()
    assert tab(page) == "Completed"
    page.keyboard.press("Enter")
    expect(titles(page, "done-tasks")).to_have_text([GROCERIES])


@pytest.mark.spec("WEB-22")
def test_typing_anywhere_goes_to_the_message_box(open_page: OpenPage, service: str) -> None:
    page = open_page(service)

    page.keyboard.type("Add a task")

    expect(page.get_by_test_id("message")).to_have_value("Add a task")


@pytest.mark.spec("WEB-23")
def test_a_message_that_is_too_long_is_counted_and_not_sent(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    page.get_by_test_id("message").fill("a" * 16_001)
    expect(page.get_by_test_id("counter")).to_have_text("16,001 of 16,000 characters")
    expect(page.get_by_test_id("send")).to_be_disabled()

    page.get_by_test_id("message").press("Enter")

    expect(page.get_by_test_id("message")).to_have_value("a" * 16_001)
    expect(page.get_by_test_id("user-message")).to_have_count(0)


@pytest.mark.spec("WEB-55")
@pytest.mark.parametrize("ends_first", [True, False], ids=["Safari", "others"])
def test_enter_that_takes_a_composed_word_sends_nothing(ends_first: bool, open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    page.get_by_test_id("message").fill("add task 牛乳")
    page.get_by_test_id("message").evaluate(
        """(box, endsFirst) => {
          const end = () => box.dispatchEvent(new CompositionEvent("compositionend", { data: "牛乳" }));
          const enter = { key: "Enter", bubbles: true, cancelable: true, keyCode: 229, isComposing: !endsFirst };
          box.dispatchEvent(new CompositionEvent("compositionstart"));
          if (endsFirst) end();
          box.dispatchEvent(new KeyboardEvent("keydown", enter));
          if (!endsFirst) end();
        }""",
        ends_first,
    )
    expect(page.get_by_test_id("message")).to_have_value("add task 牛乳")
    page.get_by_test_id("message").press("Enter")

    expect(text_of(page, 1)).to_contain_text("牛乳")
    expect(page.get_by_test_id("user-message")).to_have_count(1)


@pytest.mark.spec("WEB-56")
def test_a_task_that_was_deleted_elsewhere_goes(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    say(page, "Add a task to buy milk")
    expect(titles(page, "open-tasks")).to_have_text(["Buy milk"])
    httpx.delete(f"{service}/api/tasks/1", headers=authorization(page)).raise_for_status()
    page.get_by_test_id("task-checkbox").click()

    expect(page.get_by_test_id("notice")).to_have_text("This task was deleted elsewhere.")
    expect(titles(page, "open-tasks")).to_have_count(0)
    expect(page.get_by_test_id("notice").get_by_role("button")).to_have_count(0)


@pytest.mark.spec("WEB-12")
def test_a_hint_for_models_is_not_shown(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    say(page, "Complete task 999")
    expect(text_of(page, 1)).to_contain_text("There is no task 999.")
    page.get_by_test_id("tool-call").locator("summary").first.click()

    expect(page.get_by_test_id("tool-result").first).to_have_text("Task 999 does not exist.")


@pytest.mark.spec("WEB-57")
@pytest.mark.parametrize("address", ["#c/99999", "#c/abc"])
def test_a_conversation_that_does_not_exist_is_said_to_be_missing(
    address: str, open_page: OpenPage, service: str
) -> None:
    page = open_page(service)
    say(page, "Add a task to buy milk")
    expect(text_of(page, 1)).to_contain_text("Added")
    page.goto(f"{service}/{address}")

    expect(page.get_by_test_id("notice")).to_have_text(
        "This conversation does not exist, or it belongs to somebody else."
    )
    expect(page.get_by_test_id("user-message")).to_have_count(0)
    assert page.url.rstrip("/#") == service


@pytest.mark.spec("WEB-24")
def test_forget_me_deletes_the_account_and_empties_the_page(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    say(page, "Add a task to buy groceries")
    expect(titles(page, "open-tasks")).to_have_text([GROCERIES])
    mine = authorization(page)
    page.get_by_test_id("forget-me").click()
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("forget-dialog")).to_be_hidden()
    assert httpx.get(f"{service}/api/me", headers=mine).status_code == 200

    page.get_by_test_id("forget-me").click()
    page.get_by_test_id("forget-confirm").click()

    expect(page.get_by_test_id("account")).to_have_text("Not signed in.")
    expect(page.get_by_test_id("welcome")).to_be_visible()
    expect(titles(page, "open-tasks")).to_have_count(0)
    expect(page.get_by_test_id("conversation")).to_have_count(0)
    assert page.evaluate("localStorage.length") == 0
    assert httpx.get(f"{service}/api/me", headers=mine).status_code == 401


@pytest.mark.spec("WEB-25")
def test_the_documentation_page_lists_and_tries_operations(open_page: OpenPage, service: str) -> None:
    page = open_page(f"{service}/docs")
    health = page.locator(".opblock", has=page.get_by_text("/health", exact=True))

    health.locator(".opblock-summary-control").click()
    health.get_by_role("button", name="Try it out").click()
    health.get_by_role("button", name="Execute", exact=True).click()

    expect(health.locator(".live-responses-table td.response-col_status")).to_have_text(["Code", "200"])
    expect(health.locator(".live-responses-table")).to_contain_text('"healthy"')
    documented = {path.inner_text().replace("\u200b", "") for path in page.locator(".opblock-summary-path").all()}
    assert {"/api/chat", "/api/tasks", "/api/conversations", "/api/runs/{run_id}/events"} <= documented


def take_pictures(page: Page) -> None:
    if PICTURES is None:
        return
    PICTURES.mkdir(exist_ok=True)
    page.get_by_text("Completed", exact=True).click()
    expect(titles(page, "done-tasks")).to_have_count(1)
    page.get_by_test_id("message").fill("")
    page.screenshot(path=PICTURES / "chat.png")
    page.set_viewport_size({"width": 390, "height": 844})
    page.screenshot(path=PICTURES / "chat-mobile.png")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.get_by_test_id("message").fill("Change it to")
