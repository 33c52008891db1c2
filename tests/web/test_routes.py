"""The page's files and their headers."""

import re
import tomllib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from backend.app import create_app
from backend.settings import Settings
from backend.web import routes

WEB = Path(routes.__file__).parent
VENDOR = WEB / "vendor"


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI(docs_url=None, redoc_url=None)
    app.include_router(
        routes.web_routes(name="DocuTalk", version="1.2.3", docs="/docs", health="/health", mcp="https://x.test/mcp")
    )
    with TestClient(app) as client:
        yield client


@pytest.mark.spec("WEB-2")
def test_the_root_tells_a_program_where_things_are(client: TestClient) -> None:
    answer = client.get("/", headers={"Accept": "application/json"})

    assert answer.json() == {
        "name": "DocuTalk",
        "version": "1.2.3",
        "docs": "/docs",
        "health": "/health",
        "mcp": "https://x.test/mcp",
    }
    assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.spec("WEB-3")
@pytest.mark.parametrize("path", ["/", "/docs", "/static/app.js", "/static/favicon.svg", "/static/none"])
def test_every_answer_carries_the_strict_policy(client: TestClient, path: str) -> None:
    headers = client.get(path).headers

    assert "unsafe" not in headers["content-security-policy"]
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.spec("WEB-4")
def test_a_known_file_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/static/app.js")
    again = client.get("/static/app.js", headers={"If-None-Match": f"W/{first.headers['etag']}"})

    assert first.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])


@pytest.mark.spec("WEB-5")
@pytest.mark.parametrize(
    "path", ["routes.py", "../routes.py", "%2e%2e/routes.py", "index.html", "schemas.d.ts", "a%00b", ""]
)
def test_nothing_but_the_pages_own_assets_is_served(client: TestClient, path: str) -> None:
    assert client.get(f"/static/{path}").status_code == 404


@pytest.mark.spec("WEB-6")
def test_the_pages_name_no_other_host_and_no_inline_code() -> None:
    for page in WEB.glob("*.html"):
        assert not re.search(r"https?://|<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page.read_text())
    for script in WEB.glob("*.js"):
        assert not re.search(r"https?://|\beval\(|\bFunction\(|await import\(", script.read_text()), script.name


@pytest.mark.spec("WEB-6")
def test_markup_becomes_elements_in_one_place_only_and_sanitized() -> None:
    risky = (
        r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|DOMParser|parseFromString|srcdoc"
        r"|createContextualFragment|\.cssText|setAttributeNS"
    )
    scripts = {script.name: script.read_text() for script in WEB.glob("*.js")}
    for name, text in scripts.items():
        assert not re.search(risky, text), name

    vendored = {name for name, text in scripts.items() if re.search(r'from "[^"]*vendor/', text)}
    assert vendored == {"markdown.js"}
    # What Markdown makes of a text can go nowhere but into the sanitizer, which returns elements.
    assert re.findall(r"\bmarked\.(\w+)\(", scripts["markdown.js"]) == ["lexer", "parser"]
    assert re.findall(r"\bDOMPurify\.\w+\(.*\)", scripts["markdown.js"]) == ["DOMPurify.sanitize(markup, ALLOWED)"]
    assert "RETURN_DOM_FRAGMENT: " in scripts["markdown.js"]


@pytest.mark.spec("WEB-54")
def test_the_vendored_files_are_those_that_are_recorded() -> None:
    libraries = tomllib.loads((VENDOR / "vendored.toml").read_text())

    recorded = {f"{name}/{file}": of["sha256"] for name, one in libraries.items() for file, of in one["files"].items()}
    assert recorded == {
        path.relative_to(VENDOR).as_posix(): sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*/*")
    }
    for name, one in libraries.items():
        assert one.keys() == {"package", "version", "license", "files"}
        assert "LICENSE" in one["files"], name


@pytest.mark.spec("WEB-62")
def test_the_types_of_the_page_are_those_that_the_api_describes() -> None:
    unused = Settings(environment="test", log_level="WARNING", database_url="postgresql://nobody@127.0.0.1:1/none")
    described = create_app(unused).openapi()["components"]["schemas"]
    types, _, _ = (WEB / "schemas.d.ts").read_text().partition("// What the API's description leaves open.")

    declared = re.findall(r"^export interface (\w+)(?: extends \w+)? \{\n(.*?)^\}", types, re.MULTILINE | re.DOTALL)
    assert len(declared) == types.count("interface ")
    for name, body in declared:
        for field, type_ in re.findall(r"^  (\w+): (.+);$", body, re.MULTILINE):
            property_ = described[name]["properties"][field]
            may_be_null = {"type": "null"} in property_.get("anyOf", [])
            # An empty schema is any value.
            assert ("null" in type_) == may_be_null or property_.keys() <= {"title"}, f"{name}.{field}"
