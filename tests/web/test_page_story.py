"""A document's whole way at the page, in Chromium: uploaded, read, asked, and shown at the very words."""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.documents.files import pdf
from tests.web.conftest import IN_BROWSER, OpenPage
from tests.web.person import choose, document, nth_answer, say

pytestmark = [IN_BROWSER, pytest.mark.slow]

PICTURES = Path(__file__).parents[2] / "docs" if os.environ.get("TEST_PICTURES") else None
"""Where the README's pictures are; they are taken anew only when TEST_PICTURES is set."""

SUBJECTS = ["Lighting", "Parking", "Deliveries", "Cleaning", "Visitors", "Fire drills", "Lockers", "Window displays"]
REFUND = "A refund is paid within thirty days after the goods came back"
PAGE = 57


def section(number: int) -> str:
    if number == PAGE:
        return "\n".join(
            [
                f"# {number}. Returns",
                "Customers may bring goods back when the box and the bill come with them.",
                f"{REFUND}.",
                "The desk on the ground floor takes them from nine to five.",
            ]
        )
    subject = SUBJECTS[number % len(SUBJECTS)]
    return "\n".join(
        [
            f"# {number}. {subject} on floor {number % 9 + 1}",
            f"The team on floor {number % 9 + 1} looks after {subject.lower()} and keeps a list of it.",
            f"Whoever notices that {subject.lower()} needs attention tells extension {4000 + number}.",
            f"Every {number % 5 + 2} weeks the list is compared with the one of the year before.",
        ]
    )


@pytest.mark.spec("WEB-45")
def test_a_question_about_a_hundred_pages_leads_to_the_very_words(open_page: OpenPage, service: str) -> None:
    page = open_page(service)
    page.evaluate(
        """() => {
          window.stages = [];
          const look = () => document.querySelectorAll("[data-testid=document-state]")
            .forEach((state) => window.stages.push(state.textContent));
          const list = document.querySelector("#document-list");
          new MutationObserver(look).observe(list, { childList: true, subtree: true });
        }"""
    )
    handbook = pdf(*(section(number) for number in range(1, 101)), title="The shop's handbook")
    choose(page, [{"name": "handbook.pdf", "mimeType": "application/pdf", "buffer": handbook}])
    row = document(page, "handbook.pdf")
    expect(row).to_have_attribute("data-status", "ready", timeout=180_000)
    expect(row.get_by_test_id("document-facts")).to_contain_text("100 pages")
    stages = page.evaluate("window.stages")
    assert any(re.fullmatch(r"Indexing \d+ of 100 pages", stage) for stage in stages), stages

    say(page, "Within how many days is a refund paid?")

    answer = nth_answer(page, 1)
    expect(answer).to_have_attribute("data-state", "completed")
    expect(answer.get_by_test_id("answer-text")).to_contain_text("thirty days")
    expect(answer.get_by_test_id("tool-words")).to_have_text(
        re.compile(r"^Searched your documents: “.+” \(\d passages?\)$")
    )
    mark = answer.get_by_role("button", name=f"Source 1: handbook.pdf, page {PAGE}", exact=True).first
    take_picture(page, "documents")
    mark.click()
    viewer = page.get_by_test_id("viewer")
    expect(viewer.get_by_test_id("viewer-place")).to_have_text(f"Page {PAGE} of 100")
    expect(viewer.get_by_test_id("viewer-mark")).to_have_text(REFUND)
    expect(viewer.get_by_test_id("viewer-mark")).to_be_in_viewport()
    take_picture(page, "documents-source")
    viewer.get_by_role("button", name="Next page").click()
    expect(viewer.get_by_test_id("viewer-place")).to_have_text(f"Page {PAGE + 1} of 100")
    expect(viewer.get_by_test_id("viewer-text")).to_contain_text(f"{PAGE + 1}.")
    expect(viewer.get_by_test_id("viewer-mark")).to_have_count(0)
    viewer.get_by_role("button", name="Previous page").press("Enter")
    expect(viewer.get_by_test_id("viewer-mark")).to_have_text(REFUND)
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(mark).to_be_focused()


def take_picture(page: Page, name: str) -> None:
    if PICTURES is None:
        return
    PICTURES.mkdir(exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")
