"""Rules of the project that no linter checks."""

import ast
import re
from fnmatch import fnmatch
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from backend.process import TOOLS

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "backend").rglob("*.py"))
KNOWN = frozenset(SOURCES)
PACKAGES = sorted({path.parent for path in SOURCES})
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("specs/**/*.md"), *ROOT.glob("bench/*.md")])
FLOORS = (
    {"cli"},
    {"app"},
    {"process", "doctor"},
    {"wiring", "forgetting"},
    {"agent", "wire", "workspace"},
    {"tasks", "documents", "runs", "mcp_server"},
    {"operations", "conversations", "edge"},
    {"identity", "limits"},
    {"jobs"},
    {"postgres"},
    {"api_router", "idempotency"},
    {"settings", "errors", "log", "plain_text", "redaction", "retry_after", "signals", "web"},
)
"""The rooms from top to bottom. A room may import from the floors below its own, and from its own package."""
STATEMENTS = {
    "backend/*/repository.py": "The rows of one user.",
    "backend/*/models.py": "Defaults of columns and conditions of indexes, as the migrations have them.",
    "backend/documents/embedding/build.py": "The owner's command, over everybody's passages.",
    "backend/documents/embedding/current.py": "Which model is in use, a row that belongs to no user.",
    "backend/documents/ingestion/attempt.py": "Steps of an attempt at a document, fenced by its lease.",
    "backend/documents/ingestion/ingestor.py": "The end of an attempt at a document.",
    "backend/documents/ingestion/index_pages.py": "What an attempt reads of the pages that it cuts.",
    "backend/documents/ingestion/read_pages.py": "What an attempt reads of a file, and the pages that it stores.",
    "backend/documents/purge.py": "Finding whose documents are to be purged.",
    "backend/documents/search/*.py": "Search is its statements: they decide what is found, and how fast.",
    "backend/identity/accounts.py": "Users, sessions and tokens, which are looked up before the user is known.",
    "backend/identity/guest_budget.py": "What all guests together have used, a row that belongs to no user.",
    "backend/jobs/housekeeping.py": "When a chore is due, and removing everybody's old rows.",
    "backend/jobs/leases.py": "Leases on the rows of several tables.",
    "backend/operations/ledger.py": "The rows of the ledger.",
    "backend/operations/row_changes.py": "Forgetting a document's text, in a table that the app's role may not change.",
    "backend/postgres/database.py": "Role, tenant and timeouts of a transaction, and the guard.",
    "backend/postgres/embedded.py": "Making the embedded server's database.",
    "backend/postgres/notifications.py": "LISTEN and NOTIFY.",
    "backend/postgres/schema.py": "What a migration needs before the tables: roles and the extension.",
}
"""The modules that may contain statements, and for which tables."""
DATABASE_LIBRARIES = {"sqlalchemy", "sqlmodel", "psycopg2"}
MAKERS = {"text", "select", "insert", "update", "delete", "values", "union", "union_all", "exists", "literal_column"}
SENDERS = {"execute", "executemany", "exec", "exec_driver_sql", "execute_values", "scalars"}


@pytest.mark.spec("HOUSE-1")
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_imports_upward_or_sideways(path: Path) -> None:
    room = _room(path)
    if room == "__init__":
        return

    for imported in {_room(module) for module in _imported(path)} - {room, "__init__"}:
        assert _floor(imported) > _floor(room), f"{path.name} in {room} imports {imported}, which is not below it."


@pytest.mark.spec("HOUSE-1")
@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_parts_of_a_package_need_each_other_in_a_circle(package: Path) -> None:
    needed: dict[str, set[str]] = {}
    for path in package.rglob("*.py"):
        part = _part_of(package, path)
        inside = {module for module in _imported(path) if module.is_relative_to(package)}
        needed.setdefault(part, set()).update({_part_of(package, module) for module in inside} - {part, "__init__"})

    TopologicalSorter(needed).prepare()  # Raises CycleError, which names the circle.


@pytest.mark.spec("HOUSE-2", "OPER-8")
@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (r"\bcreate_engine\(", {"backend/postgres/database.py"}),
        (r"(?<!Login)\bSession\(", {"backend/postgres/database.py"}),
        (r"\.commit\(", {"backend/postgres/database.py"}),
        (
            r"import .*\bSettings\b",
            {"backend/app.py", "backend/process.py", "backend/wiring.py", "backend/cli.py", "backend/doctor.py"},
        ),
        (r"\bset_config\(", {"backend/postgres/database.py"}),
        (r"\bprint\(", {"backend/cli.py"}),
        # An argument can be followed. Only the caller has to be passed around the MCP SDK.
        (r"\bContextVar\b", {"backend/identity/caller.py"}),
        # Without the limit on a user's concurrent calls; the upload takes a slot itself.
        (r"\.perform[(,]", {"backend/operations/perform.py", "backend/documents/upload/accept.py"}),
    ],
)
def test_each_thing_is_said_in_its_own_room_only(words: str, allowed: set[str]) -> None:
    said = {path.relative_to(ROOT).as_posix() for path in SOURCES if re.search(words, path.read_text())}

    assert said <= allowed


@pytest.mark.spec("HOUSE-2")
def test_statements_stand_in_the_modules_whose_job_they_are() -> None:
    makers = {path.relative_to(ROOT).as_posix() for path in SOURCES if _has_statements(path.read_text())}

    assert {maker for maker in makers if not any(fnmatch(maker, place) for place in STATEMENTS)} == set()
    assert {place for place in STATEMENTS if not any(fnmatch(maker, place) for maker in makers)} == set()


@pytest.mark.spec("HOUSE-2")
def test_models_name_defaults_and_send_no_statement() -> None:
    assert not [path for path in SOURCES if path.name == "models.py" and _sends(ast.parse(path.read_text()))]


@pytest.mark.spec("HOUSE-2")
@pytest.mark.parametrize(
    ("source", "has_statements"),
    [
        ("from sqlalchemy import text\nstatement = text('select 1')", True),
        ("from sqlmodel import col, select", True),
        ("import sqlalchemy as sa", True),
        ("import psycopg2", True),
        ("def read(session, statement):\n    return session.execute(statement)", True),
        ("def read(self):\n    return self._session.exec(self._mine())", True),
        ("from sqlmodel import Session\nfrom sqlalchemy.exc import DBAPIError", False),
        ("from backend.tasks.repository import TaskRepository\ntext = 'select 1'", False),
    ],
)
def test_a_statement_is_noticed_whichever_way_it_is_made(source: str, has_statements: bool) -> None:
    assert _has_statements(source) is has_statements


@pytest.mark.spec("HOUSE-3")
def test_no_tool_takes_a_user() -> None:
    assert TOOLS
    for tool in TOOLS:
        assert not {"user_id", "user", "tenant", "token"} & set(tool.input_schema["properties"])


@pytest.mark.spec("HOUSE-4")
def test_every_package_says_what_it_is_and_nothing_else() -> None:
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{path} does not say what it is."
        if path.name == "__init__.py" and path.parent.name != "backend":
            assert len(tree.body) == 1, f"{path} holds more than its docstring."


@pytest.mark.spec("HOUSE-5")
def test_no_room_is_named_for_nothing() -> None:
    names = {part.removesuffix(".py") for path in SOURCES for part in path.relative_to(ROOT).parts}

    assert not names & {"utils", "util", "helpers", "common", "core", "manager", "base", "misc"}


@pytest.mark.spec("HOUSE-6")
def test_the_map_shows_every_room_on_its_floor() -> None:
    rows = re.findall(r"^\| \d+ \| ([^|]+) \|", (ROOT / "docs" / "map.md").read_text(), re.MULTILINE)

    assert [set(re.findall(r"`(\w+)`", row)) for row in rows] == list(FLOORS)
    assert {_room(path) for path in SOURCES} - {"__init__"} == set().union(*FLOORS)


@pytest.mark.spec("HOUSE-6")
def test_every_link_between_files_leads_to_one() -> None:
    for page in PAGES:
        without_code = re.sub(r"`[^`]*`", "", page.read_text())
        links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", without_code)
        gone = [link for link in links if "://" not in link and not (page.parent / link).exists()]
        assert not gone, f"{page.relative_to(ROOT)} links to {gone}."


def _has_statements(source: str) -> bool:
    """Return whether a module creates statements, with SQLAlchemy or as text, or sends statements of another module."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in DATABASE_LIBRARIES:
            if MAKERS & {name.name for name in node.names}:
                return True
        elif isinstance(node, ast.Import) and DATABASE_LIBRARIES & {name.name.split(".")[0] for name in node.names}:
            return True
    return _sends(tree)


def _sends(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr in SENDERS for node in ast.walk(tree))


def _part_of(package: Path, path: Path) -> str:
    return path.relative_to(package).parts[0].removesuffix(".py")


def _room(path: Path) -> str:
    return _part_of(ROOT / "backend", path)


def _floor(room: str) -> int:
    return next(place for place, rooms in enumerate(FLOORS) if room in rooms)


@cache
def _imported(path: Path) -> set[Path]:
    """Return our modules that a module imports, including late imports and imports for types only."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            # A name imported from a package may be a module.
            names |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
    places = {ROOT.joinpath(*name.split(".")) for name in names}
    return {
        known for place in places for known in (place.with_suffix(".py"), place / "__init__.py") if known in SOURCES
    }
