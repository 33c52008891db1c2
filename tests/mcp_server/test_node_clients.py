"""The TypeScript SDK's client, and the bridge that many clients use, against the running service."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.process import TOOLS
from tests.mcp_server.sessions import COMMAND

PACKAGES = ("@modelcontextprotocol/sdk@1.32.2", "mcp-remote@0.15.1")
ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.node, pytest.mark.slow]


@pytest.fixture(scope="module")
def node_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the pinned packages and our script."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js with npm is not installed: the TypeScript clients of MCP were not tried.")
    directory = tmp_path_factory.mktemp("node")
    (directory / "package.json").write_text('{"private": true, "type": "module"}')
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", *PACKAGES],
        cwd=directory,
        check=True,
        timeout=300,
    )
    shutil.copy(Path(__file__).with_name("client.mjs"), directory)
    return directory


def run(directory: Path, connection: dict[str, Any]) -> dict[str, Any]:
    """Run our script against a connection and return what it printed."""
    ran = subprocess.run(
        ["node", "client.mjs", json.dumps(connection)],
        cwd=directory,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    printed: dict[str, Any] = json.loads(ran.stdout)
    return printed


def check(told: dict[str, Any]) -> None:
    """Check what a client was told."""
    assert told["tools"] == [tool.name for tool in TOOLS]
    assert told["added"]["structuredContent"]["title"] == "Milk 🥛"
    assert [task["title"] for task in told["listed"]["structuredContent"]["tasks"]] == ["Milk 🥛"]
    assert told["refused"]["isError"] is True


@pytest.mark.spec("MCP-50")
def test_the_typescript_client_works_over_http(
    node_directory: Path, service: str, new_token: Callable[[], str]
) -> None:
    check(run(node_directory, {"url": f"{service}/mcp", "token": new_token()}))


@pytest.mark.spec("MCP-50")
def test_the_typescript_client_works_over_stdio(
    node_directory: Path, local_environment: Callable[[str], dict[str, str]], new_token: Callable[[], str]
) -> None:
    env = local_environment(new_token())

    check(run(node_directory, {"command": sys.executable, "args": list(COMMAND), "env": env, "cwd": str(ROOT)}))


@pytest.mark.spec("MCP-50")
def test_the_bridge_mcp_remote_works_with_a_token(
    node_directory: Path, service: str, new_token: Callable[[], str]
) -> None:
    bridge = str(node_directory / "node_modules" / ".bin" / "mcp-remote")
    header = f"Authorization:Bearer {new_token()}"
    env = {"MCP_REMOTE_CONFIG_DIR": str(node_directory / "mcp-remote")}

    check(run(node_directory, {"command": bridge, "args": [f"{service}/mcp", "--header", header], "env": env}))
