"""The links that `search` gives to other clients, opened in Chromium."""

import re

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.mcp_server.sessions import over_http
from tests.web.conftest import IN_BROWSER, OpenPage
from tests.web.person import authorization, be_hidden, choose, document, say, text_file, text_of

pytestmark = IN_BROWSER

POLICY = "# Refunds\n\nA refund for groceries is paid within thirty days."


def links(page: Page, service: str, query: str) -> list[str]:
    """What an MCP client of the same user is given to show."""
    with over_http(service, authorization(page)["Authorization"].removeprefix("Bearer ")) as mcp:
        found = mcp.result("search", query=query)["results"]
    # Their host is that of the settings, which do not know which port this service was given.
    return [f"{service}/#{item['url'].partition('#')[2]}" for item in found]


@pytest.mark.spec("WEB-46")
def test_the_links_of_search_open_what_was_found(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    choose(page, [text_file("policy.md", POLICY)])
    expect(document(page, "policy.md")).to_have_attribute("data-status", "ready", timeout=60_000)
    say(page, "Add a task to buy groceries")
    expect(text_of(page, 1)).to_contain_text("Buy groceries")
    conversation = page.url
    to_page, to_task = sorted(links(page, service, "groceries refund"))

    page.goto(to_page)

    expect(page.get_by_test_id("viewer-text")).to_contain_text("paid within thirty days")
    assert page.url == conversation
    page.keyboard.press("Escape")
    expect(text_of(page, 1)).to_contain_text("Buy groceries")
    page.goto(to_task)
    expect(page.get_by_test_id("task-checkbox")).to_be_focused()
    page.keyboard.press("Space")
    expect(page.get_by_test_id("task")).to_have_attribute("data-completed", "true")
    page.goto("about:blank")
    page.goto(to_task)
    expect(page.get_by_test_id("done-tasks").get_by_test_id("task-checkbox")).to_be_focused()
    page.goto("about:blank")
    page.goto(to_page)
    expect(page.get_by_test_id("viewer-text")).to_contain_text("paid within thirty days")
    assert page.url == f"{service}/"


@pytest.mark.spec("WEB-46")
@pytest.mark.parametrize("link", ["#document-7", "#document-7-page-2", "#task-7"])
def test_a_link_to_what_is_not_the_user_s_says_so(open_page: OpenPage, service: str, link: str) -> None:
    page = open_page(f"{service}/{link}")

    expect(page.get_by_test_id("notice")).to_contain_text("a user who is not signed in here")
    say(page, "Add a task to buy groceries")
    expect(text_of(page, 1)).to_contain_text("Buy groceries")
    assert httpx.get(f"{service}/api/tasks/1", headers=authorization(page)).status_code == 200
    page.goto(f"{service}/{link}")
    expect(page.get_by_test_id("notice")).to_contain_text(re.compile("You have no (document|task) 7"))
    expect(page.get_by_test_id("viewer-text")).to_be_hidden()


@pytest.mark.spec("WEB-46")
def test_a_task_of_a_long_list_is_shown_once_when_the_page_is_looked_at(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    say(page, "Add a task to buy groceries")
    expect(text_of(page, 1)).to_contain_text("Buy groceries")
    with httpx.Client(base_url=service, headers=authorization(page)) as client:
        for number in range(2, 61):
            client.post("/api/tasks", json={"title": f"Task {number}"}).raise_for_status()
    shown = page.get_by_test_id("open-tasks").get_by_test_id("task")
    page.goto("about:blank")
    page.add_init_script("Object.defineProperty(document, 'hidden', { configurable: true, get: () => true })")

    # In a tab that was opened in the background.
    page.goto(f"{service}/#task-60")
    expect(shown).to_have_count(50)
    be_hidden(page, False)

    expect(shown.first).to_contain_text("Task 60")
    expect(shown.first.get_by_test_id("task-checkbox")).to_be_focused()
    page.get_by_test_id("tasks-panel").get_by_role("button", name="Show more").click()
    expect(shown).to_have_count(60)
