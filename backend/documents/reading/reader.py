"""Read a file's pages in a child process with little access and strict limits. The child's output is not trusted."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Self, cast

import structlog

from backend.documents.reading.parsing import child
from backend.documents.reading.parsing.limits import LONGEST_PAGE, LONGEST_TITLE, MOST_HEADINGS, Limits
from backend.documents.reading.parsing.pages import About, Heading, Page, one_line
from backend.documents.reading.reasons import Unreadable, because
from backend.errors import Unavailable
from backend.plain_text import storable

__all__ = ["About", "Heading", "Limits", "Page", "Stopped", "Unreadable", "read"]

log = structlog.get_logger()

LONGEST_LINE = 8 * LONGEST_PAGE
"""The most bytes of one message from the child. The longest page fits, with its JSON escapes."""

LONGEST_REPORT = 2_000
AT_ONCE = 256 * 1024
POLL_SECONDS = 0.5
"""Seconds between two checks of `is_stopped` while the child sends nothing."""
PROGRAM = Path(child.__file__)
ISOLATED = ("-I", "-S", "-B", "-X", "utf8", "-W", "ignore")


class Stopped(Unavailable):
    """The caller no longer wants the file's pages."""

    code = "reading_stopped"

    def __init__(self) -> None:
        super().__init__("The reading was told to stop.", retry_after=1)


def read(
    path: Path,
    content_type: str,
    *,
    from_page: int = 1,
    limits: Limits | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
    program: Path = PROGRAM,
) -> Generator[About | Page]:
    """Yield facts about the file, then its pages in order, starting at `from_page`. Blocks.

    If a file has no text at all or turns out to be damaged, the error is raised after the pages, when the whole file
    has been read. `limits.characters` counts from `from_page` for a PDF, and from the first page for other formats.
    `limits.seconds` counts only the time spent waiting for the child. The child runs `program`; closing the iterator
    kills the child.

    Raises:
        Unreadable: The file cannot be read, or cannot be read beyond the pages yielded so far.
        Stopped: `is_stopped` returned true. The function is called twice a second while the child sends nothing.
    """
    limits = limits or Limits()
    if path.stat().st_size == 0:
        raise because("empty")
    request = {
        "path": str(path.absolute()),
        "content_type": content_type.partition(";")[0].strip().lower(),
        "from_page": from_page,
        "limits": asdict(limits),
        "search": [place for place in sys.path if Path(place).is_absolute()],
    }
    with _Child(program, request, limits, is_stopped) as process:
        yield from _checked(process.messages(), from_page, limits)


def _checked(messages: Iterator[dict[str, Any]], from_page: int, limits: Limits) -> Iterator[About | Page]:
    """Yield the facts and pages from the child's messages; raise Unreadable for a message that cannot be true."""
    about = _about(next(messages).get("about"))
    yield about
    expected = from_page
    characters = 0
    while "page" in (message := next(messages)):
        page = _page(message["page"], expected)
        characters += len(page.text)
        if page.number > limits.pages:
            raise because("too_many_pages", limit=limits.pages)
        if characters > limits.characters:
            raise because("too_many_characters", limit=limits.characters)
        yield page
        expected += 1
    is_short = about.pages is not None and expected - 1 != max(about.pages, from_page - 1)
    if "end" not in message or is_short or (from_page == 1 and not characters):
        raise because("crashed")


def _about(told: Any) -> About:
    match told:
        case {"pages": int() | None as pages, "title": str(title), "has_pages": bool(has_pages)}:
            return About(pages, one_line(storable(title)), has_pages)
    raise because("crashed")


def _page(told: Any, expected: int) -> Page:
    match told:
        case {"number": int(number), "text": str(text), "headings": list(headings), "is_scanned": bool(is_scanned)}:
            if number == expected and len(text) <= LONGEST_PAGE and len(headings) <= MOST_HEADINGS:
                found = tuple(_heading(heading, len(text)) for heading in headings)
                return Page(number, storable(text), found, is_scanned and not text.strip())
    raise because("crashed")


def _heading(told: Any, length: int) -> Heading:
    match told:
        case [int(start), int(level), str(title)] if 0 <= start <= length and 1 <= level <= 9:
            return Heading(start, level, storable(title[:LONGEST_TITLE]))
    raise because("crashed")


class _Child:
    """The child process. It lives as long as the `with` block."""

    def __init__(self, program: Path, request: dict[str, Any], limits: Limits, is_stopped: Callable[[], bool]) -> None:
        self._content_type = request["content_type"]
        self._limits = limits
        self._is_stopped = is_stopped
        self._left = float(limits.seconds)
        self._report = b""
        # The interpreter is isolated and runs without `site`, so neither environment variables nor files can make it
        # run anything else.
        self._process = subprocess.Popen(
            [sys.executable, *ISOLATED, str(program), json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
            cwd="/",
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield the child's messages; raise Unreadable if the child fails or ends before its last message."""
        for line in self._lines():
            try:
                message = json.loads(line.decode("utf-8", "surrogatepass"))
            except (ValueError, RecursionError):
                raise because("crashed") from None
            if not isinstance(message, dict):
                raise because("crashed")
            if "failed" in message:
                raise because(message["failed"], message.get("numbers"))
            yield message
        raise self._ended()

    def _lines(self) -> Iterator[bytes]:
        """Yield lines of the child's standard output. Drain standard error too, so that the child never blocks."""
        output, report = (cast(IO[bytes], pipe).fileno() for pipe in (self._process.stdout, self._process.stderr))
        held = bytearray()
        pipes = {output, report}
        while pipes:
            for ready in self._waited(pipes):
                part = os.read(ready, AT_ONCE)
                if not part:
                    pipes.remove(ready)
                elif ready == report:
                    self._report = (self._report + part)[-LONGEST_REPORT:]
                else:
                    held += part
            *whole, rest = held.split(b"\n") if b"\n" in held else (held,)
            held = bytearray(rest)
            if len(held) > LONGEST_LINE:
                raise because("crashed")
            yield from map(bytes, whole)

    def _waited(self, pipes: set[int]) -> list[int]:
        """Return the ready pipes; raise Unreadable when the time is up, or Stopped if `is_stopped()` is true."""
        poll = select.poll()
        for pipe in pipes:
            poll.register(pipe, select.POLLIN)
        while True:
            if self._is_stopped():
                raise Stopped
            began = time.monotonic()
            ready = poll.poll(min(max(self._left, 0), POLL_SECONDS) * 1000)
            self._left -= time.monotonic() - began
            if ready:
                return [pipe for pipe, _ in ready]
            if self._left <= 0:
                raise because("too_slow", limit=self._limits.seconds)

    def _ended(self) -> Unreadable:
        try:
            status = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            status = 0  # The child only closed its pipes; leaving `with` kills it.
        report = storable(self._report.decode("utf-8", "replace"))
        log.warning("parser_ended", content_type=self._content_type, status=status, report=report)
        match -status:
            case signal.SIGXCPU:
                return because("too_slow", limit=self._limits.seconds)
            case signal.SIGKILL:
                # Only a system that runs out of memory kills the child this way.
                return because("too_much_memory", limit=self._limits.memory_mb)
        return because("crashed")
