"""Chromium, pages that notice what a page must never do, and services whose model is scripted."""

import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from backend.postgres.embedded import EmbeddedPostgres
from backend.settings import Settings
from bench.scripted_model import ScriptedModel, says, scripted_model
from tests.conftest import serving
from tests.own_database import own_database

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
IN_BROWSER = pytest.mark.browser

OpenPage = Callable[..., Page]

expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, one for all the tests of a file: while it runs, nothing else may own the thread's event loop."""
    names = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        reason = "No Chromium was found. Set CHROMIUM to one, or put chromium or google-chrome on the PATH."
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens a service's page in a fresh browser profile; other arguments are the profile's.

    Whatever the test does, the page may load nothing from another host, break no policy and report no error.
    """
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def open_(url: str, *, width: int = 1280, height: int = 800, **options: Any) -> Page:
        given = {"locale": "en-US", "timezone_id": "Europe/Berlin", "reduced_motion": "reduce"} | options
        context = browser.new_context(viewport={"width": width, "height": height}, **given)
        contexts.append(context)
        page = context.new_page()
        here = urlsplit(url).netloc

        def asked(request: Request) -> None:
            if urlsplit(request.url).netloc != here and not request.url.startswith(("data:", "blob:")):
                wrong.append(request.url)

        def told(message: ConsoleMessage) -> None:
            # A refused or broken request is what some tests are about, and Chromium tells each.
            if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
                wrong.append(message.text)

        page.on("request", asked)
        page.on("console", told)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not wrong


@dataclass
class Scripted:
    """A service, and the model that it asks."""

    url: str
    model: ScriptedModel


@pytest.fixture(scope="module")
def scripted_service(make_settings: Callable[..., Settings]) -> Iterator[Scripted]:
    """A service whose model follows the script that a test gives it."""
    with scripted_model([says("Hello.")]) as model, serving(make_settings(**asking(model))) as url:
        yield Scripted(url, model)


def asking(model: ScriptedModel) -> dict[str, str]:
    """The settings of a service that asks a scripted model."""
    return {"model": "openai/scripted", "openai_base_url": model.url, "openai_api_key": "made-up"}


@pytest.fixture
def scripted(scripted_service: Scripted) -> Scripted:
    """The same, with the requests of earlier tests forgotten."""
    scripted_service.model.follow([says("Hello.")])
    return scripted_service


@pytest.fixture
def own_database_url(cluster: EmbeddedPostgres, template: str) -> Iterator[str]:
    """The URL of a fresh database, of which no other service takes up runs."""
    with own_database(cluster, template, f"page_{secrets.token_hex(4)}") as made:
        yield made.url


@pytest.fixture
def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
