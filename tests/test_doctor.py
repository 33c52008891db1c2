import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import make_url

from backend.doctor import Finding, examine_here, examine_url
from backend.embedded_postgres import EmbeddedPostgres
from backend.settings import Settings
from tests.conftest import LOGIN, login_url, query
from tests.own_database import own_database
from tests.process import docutalk


@pytest.fixture
def in_order(cluster: EmbeddedPostgres, template: str, worker_id: str) -> Iterator[str]:
    """The URL of a database in which no test has left half of something."""
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


@pytest.mark.spec("DOCTOR-2")
@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 0), ("::", 1)])
def test_the_exit_status_tells_whether_there_is_something_to_mend(
    tmp_path: Path, in_order: str, host: str, status: int
) -> None:
    ended = docutalk(tmp_path, "doctor", DATABASE_URL=in_order, HOST=host)

    assert ended.returncode == status, ended.stderr
    assert ("MEND  address: " in ended.stdout) == bool(status)
    assert all(line[:4] in ("ok  ", "MEND") for line in ended.stdout.splitlines())


@pytest.mark.spec("DOCTOR-3")
def test_a_public_installation_in_order_has_nothing_to_mend(service: str) -> None:
    findings = list(examine_url(f"{service}/"))

    assert bad(iter(findings)) == {}
    assert {finding.name for finding in findings} >= {"health", "ready", "database", "mcp", "page"}


@contextmanager
def something_else(status: int, body: bytes) -> Iterator[str]:
    """A server that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
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
        assert "no DocuTalk" in bad(examine_url(url))["health"]


@pytest.mark.spec("DOCTOR-3")
@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "example", "http://[bad", "ftp://127.0.0.1"])
def test_an_address_where_nothing_answers_is_told_so(url: str) -> None:
    assert "does not answer" in bad(examine_url(url))["address"]
