"""The page when the answers by the model, which all guests share, are spent for the day."""

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Page, expect

from backend.postgres.embedded import EmbeddedPostgres
from backend.settings import Settings
from bench.scripted_model import says, scripted_model
from tests.conftest import query, serving
from tests.own_database import OwnDatabase, own_database
from tests.web.conftest import IN_BROWSER, OpenPage, asking
from tests.web.person import assert_fits, nth_answer, say

pytestmark = IN_BROWSER

COUNT_CHANGES = """() => {
  window.changes = 0;
  const observer = new MutationObserver((records) => (window.changes += records.length));
  observer.observe(document.getElementById("model-notice"), { childList: true, characterData: true, subtree: true });
}"""


@pytest.fixture
def own(cluster: EmbeddedPostgres, template: str) -> Iterator[OwnDatabase]:
    """A database whose guests have taken no turn yet."""
    with own_database(cluster, template, f"budget_{secrets.token_hex(4)}") as made:
        yield made


def ask(page: Page, number: int) -> None:
    say(page, "Add a task to buy groceries")
    expect(nth_answer(page, number)).to_have_attribute("data-state", "completed")


@pytest.mark.spec("WEB-60")
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
def test_the_page_says_that_the_budget_is_spent_until_the_model_answers_again(
    open_page: OpenPage, make_settings: Callable[..., Settings], own: OwnDatabase, zone: str
) -> None:
    tomorrow = datetime.combine(datetime.now(UTC).date() + timedelta(days=1), time(), UTC)
    at = f"{tomorrow.astimezone(ZoneInfo(zone)):%I:%M %p}".lstrip("0")
    sentence = f"Guests have together used today's 1 answer from openai/scripted. The offline model answers until {at}."
    with scripted_model([says("Hello.")]) as model:
        settings = make_settings(**asking(model), database_url=own.url, guest_model_turns_per_day=1)
        with serving(settings) as url:
            page = open_page(url, width=360, height=740, timezone_id=zone)
            line = page.get_by_test_id("model-notice")
            ask(page, 1)
            expect(page.get_by_test_id("model")).to_have_text("openai/scripted")
            expect(line).to_have_text("")
            page.evaluate(COUNT_CHANGES)

            ask(page, 2)
            ask(page, 3)

            expect(line).to_have_text(sentence)
            expect(line).to_be_in_viewport(ratio=1)
            expect(page.get_by_test_id("model")).to_have_text("Offline rules, no language model")
            assert_fits(page)
            assert line.get_attribute("role") == "status"
            assert page.evaluate("changes") == 1
            page.reload()
            expect(line).to_have_text(sentence)
            expect(page.get_by_test_id("model")).to_have_text("Offline rules, no language model")

            query(own.superuser_url, "delete from guest_model_turns")
            ask(page, 4)
            expect(line).to_have_text("")
            expect(page.get_by_test_id("model")).to_have_text("openai/scripted")


@pytest.mark.spec("WEB-60")
def test_the_line_disappears_once_the_model_answers_again(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    page.clock.install()
    page.evaluate(
        """async () => {
          const { nameModel } = await import("/static/model.js");
          const until = new Date(Date.now() + 3_600_000).toISOString();
          nameModel("offline-rules-1", { detail: "It is spent.", until });
        }"""
    )
    line = page.get_by_test_id("model-notice")

    page.clock.run_for(3_590_000)
    expect(line).to_contain_text("It is spent. The offline model answers until")
    page.clock.run_for(20_000)

    expect(line).to_have_text("")
