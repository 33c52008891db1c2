import re
import signal
import socket
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from backend import VERSION
from backend.cli import main
from backend.doctor import examine_url
from backend.errors import NewerSchema
from backend.postgres.embedded import EmbeddedPostgres
from backend.postgres.schema import head
from tests.conftest import LOGIN, query, wait_until
from tests.own_database import own_database
from tests.process import answers, docutalk, running, started


@pytest.fixture(autouse=True)
def no_settings_but_these(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))


@pytest.mark.spec("CLI-1")
def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"docutalk {VERSION}\n"


@pytest.mark.spec("CLI-2")
def test_settings_that_cannot_be_used_are_told_a_line_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "abc")
    monkeypatch.setenv("CORS_ORIGINS", "*")
    monkeypatch.setenv("BETTER_AUTH_SECRET", "too-short")

    assert main(["serve"]) == 1

    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert [line.split(":")[0] for line in sorted(lines)] == ["BETTER_AUTH_SECRET", "CORS_ORIGINS", "PORT"]
    assert "too-short" not in told.err
    assert told.out == ""


@pytest.mark.spec("CLI-3")
@pytest.mark.parametrize("variable", ["PORT", "MCP_PORT"])
def test_a_port_in_use_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setenv("PORT", "0")
        monkeypatch.setenv(variable, str(port))
        assert main(["serve"]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{variable}: 127.0.0.1:{port} cannot be used: Address already in use.")
    assert line.endswith(f"set another {variable}.")


@pytest.mark.spec("CLI-4")
@pytest.mark.parametrize(
    "arguments", [["mcp"], pytest.param(["mcp", "--url", "http://127.0.0.1:9"], marks=pytest.mark.slow)]
)
def test_mcp_without_a_token_says_where_to_get_one(tmp_path: Path, arguments: list[str]) -> None:
    ended = docutalk(tmp_path, *arguments)

    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert "docutalk token create" in ended.stderr


@pytest.mark.spec("CLI-5")
def test_a_command_that_is_none_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["nonsense"], ["token", "create", "--days", "-1"], ["token", "create", "--days", "x"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert "usage: docutalk" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.spec("CLI-6")
def test_a_token_is_made_for_the_owner_and_works(tmp_path: Path, database_url: str, service: str) -> None:
    def token(*options: str) -> str:
        ended = docutalk(tmp_path, "token", "create", *options, DATABASE_URL=database_url)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count("\n") == 1
        return ended.stdout.strip()

    writes = token("--name", "laptop")
    reads = token("--scope", "read", "--days", "0")
    with httpx.Client(base_url=service) as client:
        client.headers["Authorization"] = f"Bearer {writes}"
        me = client.get("/api/me").json()
        assert client.post("/api/tasks", json={"title": "milk"}).status_code == 201
        client.headers["Authorization"] = f"Bearer {reads}"
        assert client.get("/api/me").json() == me
        assert client.post("/api/tasks", json={"title": "tea"}).status_code == 403

    unknown = docutalk(tmp_path, "token", "create", "--user", "nobody", DATABASE_URL=database_url)
    assert unknown.returncode == 1
    assert unknown.stderr == "There is no user nobody.\n"
    assert unknown.stdout == ""


@pytest.mark.slow
@pytest.mark.spec("CLI-7")
def test_migrating_twice_changes_nothing_and_says_where_the_schema_is(
    tmp_path: Path, database_url: str, superuser_url: str
) -> None:
    owner = superuser_url if LOGIN == "plain" else database_url
    ended = docutalk(tmp_path, "migrate", DATABASE_URL=database_url, MIGRATION_DATABASE_URL=owner)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"The schema is at revision {head()}.\n"
    assert query(superuser_url, "select version_num from alembic_version") == [(head(),)]


@pytest.mark.slow
@pytest.mark.spec("CLI-7")
def test_migrating_a_database_that_is_away_is_told_in_one_sentence(tmp_path: Path) -> None:
    ended = docutalk(tmp_path, "migrate", DATABASE_URL="postgresql://nobody:hunter2@127.0.0.1:1/none")

    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "hunter2" not in ended.stderr + ended.stdout


@pytest.mark.spec("CLI-13")
def test_a_database_of_a_newer_version_is_told_in_one_sentence_by_every_command(
    cluster: EmbeddedPostgres,
    template: str,
    worker_id: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with own_database(cluster, template, f"newer_{worker_id}") as own:
        own.query("update alembic_version set version_num = '9999'")
        monkeypatch.setenv("DATABASE_URL", own.url)
        monkeypatch.setenv("MIGRATION_DATABASE_URL", own.superuser_url if LOGIN == "plain" else own.url)

        for command in ("migrate", "worker", "token create", "embeddings build"):
            assert main(command.split()) == 1
            assert capsys.readouterr() == ("", f"{NewerSchema()}\n"), command
        assert main(["doctor"]) == 1
        told = capsys.readouterr()

        assert f"FIX   database: DATABASE_URL: {NewerSchema()}\n" in told.out
        assert "docutalk migrate" not in told.out
        assert told.err == ""
        assert own.query("select version_num from alembic_version") == [("9999",)]


@pytest.mark.slow
@pytest.mark.spec("CLI-8")
def test_serve_says_where_to_go_which_model_and_which_database(tmp_path: Path, database_url: str) -> None:
    with running(tmp_path, DATABASE_URL=database_url, MCP_PORT=0) as service:
        banner = service.err
        listening = _listening_ports(service.popen.pid)
        mcp = [httpx.post(f"http://127.0.0.1:{port}/mcp", json={}).status_code for port in listening]

    assert re.search(r"Page +http://localhost:\d+\n", banner)
    assert re.search(r"MCP +http://localhost:\d+/mcp\n", banner)
    assert "offline-rules-1" in banner
    assert "your PostgreSQL (DATABASE_URL)" in banner
    assert database_url not in banner
    assert mcp == [401, 401]


@pytest.mark.slow
@pytest.mark.spec("CLI-9", "DOCTOR-3")
def test_a_service_whose_database_is_away_lives_and_says_why_it_is_not_ready(tmp_path: Path) -> None:
    with started(tmp_path, DATABASE_URL="postgresql://nobody:hunter2@127.0.0.1:1/none") as service:
        found = wait_until(lambda: re.search(r"API +(http://\S+)/docs", service.err), seconds=60)
        url = found[1].replace("localhost", "127.0.0.1")
        wait_until(lambda: answers(f"{url}/health"), seconds=60)
        wait_until(lambda: any(event["event"] == "not_ready" for event in service.events), seconds=20)
        ready = httpx.get(f"{url}/ready")
        to_mend = {finding.name: finding.says for finding in examine_url(url) if finding.is_bad}
        status = service.stop(signal.SIGTERM)

    assert ready.status_code == 503
    assert ready.json()["code"] == "not_ready"
    assert status == 0
    assert {"ready", "database"} == to_mend.keys()
    assert "DATABASE_URL" in to_mend["database"]
    assert "hunter2" not in service.out + service.err + ready.text + str(to_mend)


def _listening_ports(pid: int) -> list[int]:
    """Return the TCP ports that a process listens on."""
    inodes = set()
    for link in Path("/proc", str(pid), "fd").iterdir():
        with suppress(FileNotFoundError):  # The connection was closed meanwhile.
            inodes.add(link.readlink().name)
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]
