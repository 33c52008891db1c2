"""The page goes on over whatever breaks: connections, servers, reloads and other tabs; in Chromium."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Request, Route, expect

from backend.settings import Settings
from bench.scripted_model import Answer, ToolCall, says, scripted_model
from bench.scripted_model import Request as Asked
from tests.conftest import serving
from tests.process import running
from tests.web.cable import cable_to
from tests.web.conftest import IN_BROWSER, OpenPage, Scripted, asking
from tests.web.person import authorization, nth_answer, say, text_of, titles

pytestmark = IN_BROWSER

LOST = "The connection was lost."
WORDS = " ".join(f"word{number}" for number in range(600))


@pytest.mark.spec("WEB-15")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_server_that_stops_in_mid_answer_and_returns_finishes_it(
    open_page: OpenPage, own_database_url: str, free_port: int, tmp_path: Path, number: signal.Signals
) -> None:
    script = [
        Answer(text="Adding 😀 it.", calls=(ToolCall("add_task", {"title": "Buy groceries"}),)),
        says(WORDS, wait=0.08),
        says("This is all."),
    ]
    with scripted_model(script) as model:
        settings: dict[str, Any] = {name.upper(): value for name, value in asking(model).items()}
        settings |= {"DATABASE_URL": own_database_url, "PORT": free_port, "LEASE_SECONDS": 5}
        with running(tmp_path, loaded=True, **settings) as service:
            page = open_page(service.url)
            say(page, "Groceries, please.")
            # More than a second of it, so that some of what will be void is stored and some is not.
            expect(text_of(page, 1)).to_contain_text("word25", timeout=30_000)
            page.keyboard.type("And another")
            status = service.stop(number)
            assert status == (-number if number == signal.SIGKILL else 0)
        expect(page.get_by_test_id("notice")).to_contain_text(LOST)
        expect(text_of(page, 1)).to_contain_text("word25", timeout=30_000)
        expect(nth_answer(page, 1)).to_have_attribute("data-state", "streaming")

        with running(tmp_path, name="again", loaded=True, **settings):
            expect(nth_answer(page, 1)).to_have_attribute("data-state", "completed", timeout=30_000)
            for _ in range(2):
                expect(text_of(page, 1)).to_have_text("Adding 😀 it. This is all.")
                expect(nth_answer(page, 1).get_by_test_id("tool-name")).to_have_text(["add_task"])
                expect(nth_answer(page, 1).get_by_test_id("tool-call")).to_have_attribute("data-state", "done")
                expect(page.get_by_test_id("user-message")).to_have_count(1)
                expect(titles(page, "open-tasks")).to_have_text(["Buy groceries"])
                expect(page.get_by_test_id("notice")).to_be_hidden()
                expect(page.get_by_test_id("message")).to_have_value("And another")
                page.reload()
        assert len(model.requests) == 3


@pytest.mark.spec("WEB-31")
def test_a_connection_that_breaks_is_made_anew_and_no_word_is_lost_or_doubled(
    open_page: OpenPage, scripted: Scripted
) -> None:
    words = " ".join(f"😀{number}" for number in range(60))
    scripted.model.follow([says(words, wait=0.08)])
    resumed: list[str] = []

    def asked(request: Request) -> None:
        if request.url.endswith("/events"):
            resumed.append(request.headers.get("last-event-id", ""))

    with cable_to(scripted.url) as cable:
        page = open_page(cable.url)
        page.on("request", asked)
        say(page, "Talk.")
        for word in ("😀8", "😀25", "😀45"):
            expect(text_of(page, 1)).to_contain_text(word)
            expect(page.get_by_test_id("notice")).to_be_hidden()
            cable.cut()
            expect(page.get_by_test_id("notice")).to_contain_text(LOST)

        expect(nth_answer(page, 1)).to_have_attribute("data-state", "completed")
        expect(text_of(page, 1)).to_have_text(words)
        expect(page.get_by_test_id("notice")).to_be_hidden()

    assert len(resumed) >= 3
    assert [int(number) for number in resumed] == sorted({int(number) for number in resumed})


@pytest.mark.spec("WEB-32")
def test_a_message_whose_acceptance_got_lost_is_sent_again_under_the_same_key(
    open_page: OpenPage, service: str
) -> None:
    page = open_page(service)
    keys: list[str] = []

    def lose(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        route.fetch()
        route.abort()

    page.route("**/api/chat", lose)
    say(page, "Add a task to buy groceries")
    expect(page.get_by_test_id("notice")).to_contain_text("The server cannot be reached.")
    page.reload()
    page.get_by_test_id("message").press("Enter")
    expect(page.get_by_test_id("notice")).to_contain_text("The server cannot be reached.")
    page.unroute("**/api/chat")
    with page.expect_request("**/api/chat") as last:
        page.get_by_test_id("notice").get_by_test_id("retry").click()

    expect(nth_answer(page, 1)).to_contain_text("Added task 1")
    assert len(keys) == 2
    assert {*keys, last.value.headers["idempotency-key"]} == {keys[0]}
    expect(page.get_by_test_id("user-message")).to_have_count(1)
    expect(page.get_by_test_id("conversation")).to_have_count(1)
    listed = httpx.get(f"{service}/api/tasks", headers=authorization(page)).json()
    assert [task["title"] for task in listed["tasks"]] == ["Buy groceries"]


@pytest.mark.spec("WEB-33")
def test_messages_of_two_tabs_are_answered_in_order_and_found_again_after_a_reload(
    open_page: OpenPage, make_settings: Callable[..., Settings], own_database_url: str
) -> None:
    def script(request: Asked) -> Answer:
        said = [message["content"] for message in request["messages"] if message["role"] == "user"][-1]
        return says(WORDS, wait=0.08) if said == "Talk." else says(f"You said {said}")

    with (
        scripted_model(script) as model,
        serving(make_settings(database_url=own_database_url, **asking(model))) as url,
    ):
        page = open_page(url)
        say(page, "Hello.")
        expect(text_of(page, 1)).to_have_text("You said Hello.")
        other = page.context.new_page()
        other.goto(page.url)
        expect(text_of(other, 1)).to_have_text("You said Hello.")
        say(page, "Talk.")
        expect(text_of(page, 2)).to_contain_text("word5")
        say(other, "And I?")
        expect(nth_answer(other, 2)).to_have_attribute("data-state", "streaming")
        expect(other.get_by_test_id("send")).to_be_hidden()

        page.reload()
        expect(page.get_by_test_id("user-message")).to_have_text(["You: Hello.", "You: Talk.", "You: And I?"])
        expect(text_of(page, 2)).to_contain_text("word5")
        page.keyboard.press("Escape")

        expect(nth_answer(page, 2)).to_have_attribute("data-state", "cancelled")
        for tab, number in ((page, 3), (other, 2)):
            expect(nth_answer(tab, number)).to_have_attribute("data-state", "completed")
            expect(text_of(tab, number)).to_have_text("You said And I?")
        order = page.locator("#thread > *").evaluate_all("parts => parts.map(part => part.dataset.testid)")
        assert order == ["user-message", "assistant-message"] * 3
        assert len(model.requests) == 3
