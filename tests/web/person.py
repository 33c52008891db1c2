"""What a person does at the page, and where they look."""

import re
from collections.abc import Sequence

from playwright.sync_api import FilePayload, Locator, Page


def say(page: Page, text: str) -> None:
    """Type a message as a person would, and send it."""
    page.get_by_test_id("message").click()
    page.keyboard.type(text)
    page.keyboard.press("Enter")


def nth_answer(page: Page, number: int) -> Locator:
    return page.get_by_test_id("assistant-message").nth(number - 1)


def text_of(page: Page, number: int) -> Locator:
    return nth_answer(page, number).get_by_test_id("answer-text")


def titles(page: Page, tasks: str) -> Locator:
    return page.get_by_test_id(tasks).get_by_test_id("task-title")


def choose(page: Page, files: Sequence[FilePayload]) -> None:
    """Choose files for an upload."""
    page.get_by_test_id("files").set_input_files(files)


def text_file(name: str, text: str) -> FilePayload:
    return {"name": name, "mimeType": "text/plain", "buffer": text.encode()}


def document(page: Page, name: str) -> Locator:
    """A document in the list, by its file name."""
    return page.get_by_test_id("document").filter(has_text=name)


def authorization(page: Page) -> dict[str, str]:
    token = page.evaluate("JSON.parse(localStorage.getItem('docutalk.session')).token")
    return {"Authorization": f"Bearer {token}"}


def tab(page: Page) -> str:
    """Go to the next stop of the keyboard, make sure that it shows, and return its name."""
    page.keyboard.press("Tab")
    name, is_marked = page.evaluate(
        """() => {
          const stop = document.activeElement;
          const shown = stop.id === "message" ? stop.closest(".composer") : stop;
          const style = getComputedStyle(shown);
          const name = stop.getAttribute("aria-label") ?? (stop.labels?.[0] ?? stop).textContent;
          const marked = style.outlineStyle === "solid" || shown.matches(".composer:focus-within");
          return [name.trim(), stop !== document.body && marked];
        }"""
    )
    assert is_marked, name
    return re.sub(r"\s+", " ", name)


def assert_fits(page: Page) -> None:
    """Make sure that neither the page nor any part of it can be scrolled sideways, but for what scrolls by itself."""
    wide = """() => [...document.querySelectorAll("html, body, main, .scroll, .thread *, .task, .document, .composer")]
        .filter((part) => !part.closest(".wide"))
        .filter((part) => part.scrollWidth > part.clientWidth && getComputedStyle(part).overflowX !== "hidden"
          && getComputedStyle(part).display !== "inline")
        .map((part) => `${part.tagName}.${part.className}`)"""
    assert page.evaluate(wide) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def be_hidden(page: Page, hidden: bool) -> None:
    """Bring another tab to the front, or this one again; Chromium without a screen shows every tab."""
    page.evaluate(
        """(hidden) => {
          Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )
