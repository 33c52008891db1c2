"""The child process that reads files: what it may do and knows, when it ends, and what of its output is trusted."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backend.documents.reading.reader import About, Limits, Page, Unreadable, read
from tests.conftest import wait_until
from tests.documents import files

ROOT = Path(__file__).parents[3]
ABOUT = {"about": {"pages": 1, "title": "", "has_pages": True}}
PAGE = {"number": 1, "text": "text", "headings": [], "is_scanned": False}
CRASHED = "The file crashed the program that reads it."

MODULES = """
import io, json, sys
sys.path[:0] = json.loads(sys.argv[1])["search"]
from backend.documents.reading.parsing import child
child.main(json.loads(sys.argv[1]), io.BytesIO())
print(json.dumps(sorted(sys.modules)))
"""
READING = """
import sys
from pathlib import Path
from backend.documents.reading.reader import read
for _ in read(Path(sys.argv[1]), sys.argv[2]):
    pass
"""
MEASURED = f"""{READING}
import resource
# The kernel counts the memory of the process that started this one as its own, but not in VmHWM.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def children(parent: int) -> list[int]:
    """Return the live child processes of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # It has ended since it was listed.
        if int(ppid) == parent and state != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.spec("READ-18")
def test_the_child_may_do_little_and_knows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret@host/db")
    path = tmp_path / "file"
    path.write_bytes(b"word " * 100_000)
    before = set(children(os.getpid()))

    reading = read(path, files.TEXT, limits=Limits(seconds=50, memory_mb=700))
    next(reading)
    (pid,) = set(children(os.getpid())) - before
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    limits = {
        name: resource.prlimit(pid, getattr(resource, f"RLIMIT_{name}"))[0]
        for name in ("AS", "CPU", "FSIZE", "NPROC", "CORE")
    }
    status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    reading.close()

    assert environment == b""
    assert limits == {"AS": 700 * 1024 * 1024, "CPU": 50, "FSIZE": 0, "NPROC": 0, "CORE": 0}
    assert int(status[3]) == pid, "It shares its reader's session."
    assert int(status[16]) >= 10, "It is not nice."


@pytest.mark.spec("READ-18")
def test_the_child_imports_the_parser_and_nothing_else_of_the_service(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(files.pdf("text"))
    request = {
        "path": str(path),
        "content_type": files.PDF,
        "from_page": 1,
        "limits": {},
        "search": [place for place in sys.path if place.startswith("/")],
    }

    command = [sys.executable, "-I", "-S", "-c", MODULES, json.dumps(request)]
    told = subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL, env={})
    modules = set(json.loads(told.stdout))

    ours = {name for name in modules if name.startswith("backend")}
    assert ours == {
        "backend",
        "backend.documents",
        "backend.documents.reading",
        "backend.documents.reading.parsing",
        *(f"backend.documents.reading.parsing.{name}" for name in ("child", "limits", "pages", "pdf")),
    }
    assert not modules & {"fastapi", "sqlalchemy", "pydantic", "structlog", "docx", "openpyxl", "socket", "ssl"}


@pytest.mark.spec("READ-19")
def test_closing_the_reading_ends_the_child(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"word " * 100_000)
    before = set(children(os.getpid()))

    reading = read(path, files.TEXT)
    next(reading)
    assert set(children(os.getpid())) - before
    reading.close()

    assert set(children(os.getpid())) == before


@pytest.mark.spec("READ-19")
def test_the_child_ends_with_a_killed_service_even_inside_a_parser(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"<dd><dt>" * 1_000_000)  # The parser works on this for a minute without output.
    service = subprocess.Popen([sys.executable, "-c", READING, str(path), files.HTML], cwd=ROOT)

    try:
        (child,) = wait_until(lambda: children(service.pid), seconds=30)
        wait_until(lambda: b"selectolax" in _maps(child), seconds=30)
    finally:
        service.kill()
        service.wait()

    wait_until(lambda: not Path(f"/proc/{child}").exists() or b"selectolax" not in _maps(child), seconds=10)


def _maps(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/maps").read_bytes()
    except OSError:
        return b""


@pytest.mark.spec("READ-20")
@pytest.mark.parametrize(
    "says",
    [
        [],
        ["no JSON"],
        [[]],
        [{"end": 1}],
        [ABOUT],
        [ABOUT, {"end": 1}],
        [ABOUT, ABOUT],
        [{"about": {"pages": "1", "title": "", "has_pages": True}}],
        [ABOUT, {"page": {**PAGE, "number": 2}}],
        [ABOUT, {"page": {**PAGE, "text": None}}],
        [ABOUT, {"page": {**PAGE, "text": "x" * 1_000_001}}],
        [ABOUT, {"page": {**PAGE, "headings": [[5, 1, "beyond"]]}}],
        [ABOUT, {"page": {**PAGE, "headings": [[0, 1, "x"]] * 501}}],
        [ABOUT, {"page": PAGE}, {"page": PAGE}],
        [ABOUT, {"page": {**PAGE, "text": ""}}, {"end": 1}],
        [{"about": {"pages": 2, "title": "", "has_pages": True}}, {"page": PAGE}, {"end": 1}],
        [{"failed": "Send your password to the following address", "numbers": {}}],
        [{"failed": "too_many_pages", "numbers": {"limit": "a lie"}}],
        [{"failed": "too_many_pages", "numbers": {}}],
        [{"failed": "scanned", "numbers": {"pages": -1, "scanned": 1}}],
        [{"failed": ["x"], "numbers": []}],
        ["[" * 100_000],
    ],
)
def test_a_child_that_says_something_else_is_not_believed(tmp_path: Path, says: list[object]) -> None:
    lines = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in says)

    assert _sentence(tmp_path, f"import sys; sys.stdout.write({lines!r} + '\\n'); sys.stdout.flush()") == CRASHED


@pytest.mark.spec("READ-20")
@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("import os; os.abort()", CRASHED),
        ("raise SystemExit(3)", CRASHED),
        ("import sys; sys.stderr.write('x' * 1_000_000)", CRASHED),
        ("import sys\nwhile True: sys.stdout.write('x' * 100_000)", CRASHED),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "Reading the file took more than 2 seconds."),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "Reading the file needs more than 1,024 MB"),
        ("import time; time.sleep(60)", "Reading the file took more than 2 seconds."),
        ("import os, time; os.close(1); os.close(2); time.sleep(60)", CRASHED),
    ],
    ids=["abort", "exit", "stderr", "endless", "cpu", "killed", "silent", "closed"],
)
def test_a_child_that_dies_or_hangs_ends_in_a_sentence(tmp_path: Path, program: str, sentence: str) -> None:
    began = time.monotonic()

    assert _sentence(tmp_path, program).startswith(sentence)
    assert time.monotonic() - began < 50, "It waited for the child."


def _sentence(folder: Path, program: str) -> str:
    path, lying = folder / "file", folder / "child.py"
    path.write_bytes(b"text")
    lying.write_text(program)
    with pytest.raises(Unreadable) as failure:
        list(read(path, files.TEXT, limits=Limits(seconds=2), program=lying))
    return str(failure.value).partition(" It may be damaged.")[0]


@pytest.mark.slow
@pytest.mark.spec("READ-21")
def test_memory_does_not_grow_with_the_number_of_pages(tmp_path: Path) -> None:
    text = "\n".join(["The tide turns twice a day, and the harbor with it."] * 30)
    peaks = []
    for pages in (10, 1_000):
        path = tmp_path / f"{pages}"
        path.write_bytes(files.pdf(*(f"{number}\n{text}" for number in range(pages))))
        command = [sys.executable, "-c", MEASURED, str(path), files.PDF]
        told = subprocess.run(command, capture_output=True, check=True, cwd=ROOT, text=True)
        peaks.append([int(peak) for peak in told.stdout.split()])

    for few, many in zip(*peaks, strict=True):
        assert many - few < 10_000, "It took 10 MB more."


@pytest.mark.spec("READ-21")
def test_waiting_for_who_takes_the_pages_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"word " * 100_000)

    reading = read(path, files.TEXT, limits=Limits(seconds=1))
    assert isinstance(next(reading), About)
    resumes = time.monotonic() + 1.2
    wait_until(lambda: time.monotonic() > resumes)

    assert sum(isinstance(part, Page) for part in reading) == 63
