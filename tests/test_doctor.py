import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from backend.cli import main
from backend.doctor import Finding, examine_here, examine_url
from backend.postgres.embedded import EmbeddedPostgres
from backend.settings import Settings
from tests.conftest import LOGIN, login_url, query
from tests.own_database import own_database


@pytest.fixture
def in_order(cluster: EmbeddedPostgres, template: str, worker_id: str) -> Iterator[str]:
    """The URL of a database without leftovers of other tests."""
    with own_database(cluster, template, f"in_order_{worker_id}") as own:
        yield own.url


def bad(findings: Iterator[Finding]) -> dict[str, str]:
    return {finding.name: finding.says for finding in findings if finding.is_bad}


@pytest.mark.spec("DOCTOR-1")
def test_an_installation_in_order_has_nothing_to_mend(make_settings: Callable[..., Settings], in_order: str) -> None:
    findings = list(examine_here(make_settings(port=8000, database_url=in_order)))

    assert bad(iter(findings)) == {}
    assert {finding.name for finding in findings} >= {"version", "model", "database", "address"}
    assert "offline-rules-1" in next(str(finding) for finding in findings if finding.name == "model")


@pytest.mark.spec("DOCTOR-1")
def test_a_database_without_our_schema_is_to_be_migrated(
    cluster: EmbeddedPostgres, make_settings: Callable[..., Settings]
) -> None:
    query(cluster.url, "drop database if exists empty")
    query(cluster.url, "create database empty" + (" owner hosted_owner" if LOGIN == "owner" else ""))

    told = bad(examine_here(make_settings(database_url=login_url(cluster, "empty"))))

    assert "docutalk migrate" in told["database"]


@pytest.mark.spec("DOCTOR-1")
def test_a_stale_schema_is_to_be_migrated(
    cluster: EmbeddedPostgres, template: str, make_settings: Callable[..., Settings]
) -> None:
    query(cluster.url, "drop database if exists stale")
    query(
        cluster.url, f"create database stale template {template}" + (" owner hosted_owner" if LOGIN == "owner" else "")
    )
    stale = make_url(cluster.url).set(database="stale").render_as_string(hide_password=False)
    query(stale, "update alembic_version set version_num = '0001'")

    told = bad(examine_here(make_settings(database_url=login_url(cluster, "stale"))))

    assert "0001" in told["database"]
    assert "docutalk migrate" in told["database"]


@pytest.mark.spec("DOCTOR-1")
@pytest.mark.parametrize(
    "url", ["postgresql://me:hunter2@127.0.0.1:1/none", "mysql://me:hunter2@host/db", "postgresql://me:hunter2@h:x/db"]
)
def test_a_database_that_cannot_be_reached_is_told_without_its_password(
    make_settings: Callable[..., Settings], url: str
) -> None:
    told = bad(examine_here(make_settings(database_url=url)))

    assert "database" in told
    assert "hunter2" not in told["database"]


@pytest.mark.spec("DOCTOR-4")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            "at most 500 answers a day from openai/any, in at most 6,000 requests if none has to be repeated; after",
        ),
        (
            {"guest_model_turns_per_day": 3, "max_steps": 2},
            "at most 3 answers a day from openai/any, in at most 6 requ",
        ),
        (
            {},
            "; at most 100 new guests an hour from one address; at most 256 MiB of documents together, at most 32 MiB",
        ),
        ({"guests_per_hour": 0}, "; any number of new guests an hour from one address;"),
        ({"max_bytes_of_guests": 0}, "any amount of documents together, at most 32 MiB each"),
        ({"guests": "offline"}, "all answers from the offline model; at most 100"),
        ({"model": "offline", "guest_model_turns_per_day": 0}, "all answers from the offline model; at most 100"),
        ({"guests": "off"}, "no new guests are allowed"),
        ({"embedding_model": "openai/small"}, "32 MiB each; what they upload and search is also sent to openai/small"),
        (
            {"guest_model_turns_per_day": 0},
            "any number of answers a day from openai/any; to limit the cost, set GUEST_MODEL_TURNS_PER_DAY",
        ),
    ],
)
def test_the_most_that_guests_can_use_is_said(
    make_settings: Callable[..., Settings], changes: dict[str, Any], said: str
) -> None:
    limits = {"guests_per_hour": 100, "guest_model_turns_per_day": 500, "max_bytes_of_guests": None}
    elsewhere = {"model": "openai/any", "openai_api_key": "key", "database_url": "postgresql://127.0.0.1:1/none"}

    finding = guests_of(make_settings(**(limits | elsewhere | changes)))

    assert said in finding.says
    assert not finding.is_bad


@pytest.mark.spec("DOCTOR-4")
@pytest.mark.parametrize("where", [{"public_url": "https://docutalk.example.com"}, {"host": "::"}])
def test_a_model_without_a_limit_is_to_be_mended_where_strangers_come(
    make_settings: Callable[..., Settings], where: dict[str, str]
) -> None:
    elsewhere = {"openai_api_key": "key", "database_url": "postgresql://127.0.0.1:1/none", **where}

    unlimited, limited, offline = (
        guests_of(make_settings(**elsewhere, **changes))
        for changes in (
            {"guest_model_turns_per_day": 0},
            {"guest_model_turns_per_day": 1},
            {"guest_model_turns_per_day": 0, "guests": "offline"},
        )
    )

    assert (unlimited.is_bad, limited.is_bad, offline.is_bad) == (True, False, False)
    assert "set GUEST_MODEL_TURNS_PER_DAY" in unlimited.says


def guests_of(settings: Settings) -> Finding:
    return next(finding for finding in examine_here(settings) if finding.name == "guests")


@pytest.mark.spec("DOCTOR-2")
@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 0), ("::", 1)])
def test_the_exit_status_tells_whether_there_is_something_to_mend(
    tmp_path: Path,
    in_order: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    host: str,
    status: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"DATA_DIR": str(tmp_path), "DATABASE_URL": in_order, "HOST": host, "PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GUEST_MODEL_TURNS_PER_DAY", "0")
    # The command redirects the process's log to this test's stderr.
    monkeypatch.setattr(logging.getLogger(), "handlers", logging.getLogger().handlers[:])

    ended = main(["doctor"])

    said = capsys.readouterr().out.splitlines()
    assert ended == status, said
    assert any(line.startswith("FIX   address: ") for line in said) == bool(status)
    assert {line[:4] for line in said} <= {"ok  ", "FIX "}


@pytest.mark.spec("DOCTOR-3")
def test_a_public_installation_in_order_has_nothing_to_mend(service: str) -> None:
    findings = list(examine_url(f"{service}/"))

    assert bad(iter(findings)) == {}
    assert {finding.name for finding in findings} >= {"health", "ready", "database", "mcp", "page"}


@contextmanager
def something_else(status: int, body: bytes) -> Iterator[str]:
    """A server that gives the same answer to every request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.spec("DOCTOR-3")
@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>version model</html>"), (200, b"[]"), (200, b'{"version": "1"}'), (404, b""), (502, b"Bad gateway")],
)
def test_what_is_no_docutalk_is_told_so(status: int, body: bytes) -> None:
    with something_else(status, body) as url:
        assert "not DocuTalk" in bad(examine_url(url))["health"]


@pytest.mark.spec("DOCTOR-3")
@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "example", "http://[bad", "ftp://127.0.0.1"])
def test_an_address_where_nothing_answers_is_told_so(url: str) -> None:
    assert "does not answer" in bad(examine_url(url))["address"]


@pytest.mark.spec("AGENT-59", "DOCTOR-1")
@pytest.mark.parametrize(
    ("model", "instead"),
    [
        ("gigachat/any", "OPENAI_BASE_URL"),
        ("bedrock/agent/any/any", "choose another model"),
        ("vertex_ai/meta/any", "OPENAI_BASE_URL"),
        ("bedrock/converse/any", None),
        ("groq/any", None),
        ("gpt-5-mini", None),
        ("hosted_vllm/any", "MODEL"),
        ("no-such-model", "MODEL"),
    ],
)
def test_a_provider_that_does_not_report_how_a_response_ended_is_to_be_changed(
    model: str, instead: str | None, make_settings: Callable[..., Settings], in_order: str
) -> None:
    told = bad(examine_here(make_settings(port=8000, database_url=in_order, model=model)))

    assert ("provider" in told) == (instead is not None)
    assert instead is None or (instead in told["provider"] and model in told["provider"])
