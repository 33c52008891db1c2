"""The child process: reads one file within limits and writes its pages as JSON lines to standard output.

The parent starts this file by its path, with an isolated interpreter, an empty environment and one argument, the
request as JSON. The only code of the service that it imports is one parser, after the limits are in force.
"""

import contextlib
import fcntl
import json
import os
import resource
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from backend.documents.reading.parsing.limits import Limits
    from backend.documents.reading.parsing.pages import About, Page

OFFICE = "application/vnd.openxmlformats-officedocument."


def confine(*, seconds: int, memory_mb: int) -> None:
    """Limit this process's memory, CPU time, files, processes and core dumps, and make it die with its parent."""
    bounds = {
        "RLIMIT_AS": memory_mb * 1024 * 1024,
        "RLIMIT_CPU": seconds,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_NOFILE": 32,
        "RLIMIT_NPROC": 0,
        "RLIMIT_CORE": 0,
    }
    for name, bound in bounds.items():
        # Some systems lack some of these limits or do not allow changing them.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            limit = getattr(resource, name)
            _, hard = resource.getrlimit(limit)
            most = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
            # The hard limit, which kills, is one second higher. So the parent sees SIGXCPU first and knows the cause.
            resource.setrlimit(limit, (most, most + 1 if name == "RLIMIT_CPU" and most != hard else most))
    os.nice(10)
    # The parent holds the other end of standard input. When the parent dies, even by SIGKILL, the kernel sends SIGIO.
    # SIGIO ends a process that has no handler for it, even inside a parser's C code.
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def pages_of(path: str, content_type: str, from_page: int, limits: "Limits") -> "Iterator[About | Page]":
    """Read the file with the parser for its type; only that parser is imported."""
    match content_type:
        case "application/pdf":
            from backend.documents.reading.parsing import pdf

            return pdf.read(path, limits, from_page)
        case "text/html" | "application/xhtml+xml":
            from backend.documents.reading.parsing import hypertext

            return hypertext.read(path)
        case "text/markdown":
            from backend.documents.reading.parsing import markdown

            return markdown.read(path)
        case "text/csv" | "text/tab-separated-values":
            from backend.documents.reading.parsing import plain

            return plain.read_table(path)
        case _ if content_type.startswith(OFFICE):
            from backend.documents.reading.parsing import archive

            return archive.read(path, content_type.removeprefix(OFFICE))
    from backend.documents.reading.parsing import plain

    return plain.read(path)


def told(parts: "Iterable[About | Page]", from_page: int, limits: "Limits") -> Iterator[dict[str, Any]]:
    """Yield the messages for the parent; raise Refused if the file exceeds a limit, or at its end if it has no text."""
    from backend.documents.reading.parsing.limits import Refused
    from backend.documents.reading.parsing.pages import About

    pages = scanned = characters = 0
    has_text = has_pages = False
    for part in parts:
        if isinstance(part, About):
            has_pages = part.has_pages
            yield {"about": {"pages": part.pages, "title": part.title, "has_pages": has_pages}}
            continue
        pages = part.number
        scanned += part.is_scanned
        characters += len(part.text)
        has_text = has_text or bool(part.text.strip())
        if pages > limits.pages:
            raise Refused("too_many_pages", limit=limits.pages)
        if characters > limits.characters:
            raise Refused("too_many_characters", limit=limits.characters)
        if part.number >= from_page:
            headings = [[heading.start, heading.level, heading.title] for heading in part.headings]
            page = {"number": part.number, "text": part.text, "headings": headings, "is_scanned": part.is_scanned}
            yield {"page": page}
    if not has_text:
        raise (
            Refused("scanned", pages=pages, scanned=scanned)
            if scanned
            else Refused("no_text", pages=pages if has_pages else 0)
        )
    yield {"end": pages}


def main(request: dict[str, Any], out: BinaryIO) -> int:
    """Write the requested file's pages to `out`, or the reason why they cannot be read."""
    sys.path[:] = request["search"]
    from backend.documents.reading.parsing.limits import Limits, Refused

    limits = Limits(**request["limits"])
    confine(seconds=limits.seconds, memory_mb=limits.memory_mb)
    from_page = request["from_page"]
    failure: dict[str, Any] = {}
    try:
        for message in told(pages_of(request["path"], request["content_type"], from_page, limits), from_page, limits):
            _tell(out, message)
    except Refused as refused:
        failure = {"failed": refused.reason, "numbers": refused.numbers}
    except MemoryError:
        failure = {"failed": "too_much_memory", "numbers": {"limit": limits.memory_mb}}
    except RecursionError:
        failure = {"failed": "too_deep", "numbers": {}}
    if failure:
        _tell(out, failure)
    return 0


def _tell(out: BinaryIO, message: dict[str, Any]) -> None:
    # Lone surrogates are passed on, because the parent replaces all characters that cannot be stored.
    out.write(json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
    out.flush()


def _without_values(kind: type[BaseException], _error: BaseException, trace: Any) -> None:
    """Report a crash by its type and lines only, because an exception's message may quote the file."""
    places = []
    while trace is not None:
        places.append(f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    _report.write(f"{kind.__name__} at {' > '.join(places[-12:])}\n")


if __name__ == "__main__":
    # A library may print text from the file. Such text must not get among the pages or into the log.
    _out, _report = os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(2), "w")
    _nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(_nowhere, 1)
    os.dup2(_nowhere, 2)
    sys.excepthook = _without_values
    try:
        sys.exit(main(json.loads(sys.argv[1]), _out))
    except BrokenPipeError:
        os._exit(1)
