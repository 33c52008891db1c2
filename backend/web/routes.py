"""The routes for the chat page, its files and the API documentation page."""

from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import JSONResponse, Response

_ROOT = Path(__file__).parent
_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# A requested path is looked up in this mapping. No file path is ever built from a client's input.
_STATIC = {path.relative_to(_ROOT).as_posix(): path for path in _ROOT.rglob("*") if path.suffix in _CONTENT_TYPES}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def web_routes(*, name: str, version: str, docs: str, health: str, mcp: str) -> APIRouter:
    """Return the page's routes. The arguments are the values that `/` returns to a client that asks for JSON.

    The application's own `/docs` must be off, because this router serves `/docs` from vendored files.
    """
    router = APIRouter(include_in_schema=False)
    about = {"name": name, "version": version, "docs": docs, "health": health, "mcp": mcp}

    @router.api_route("/", methods=["GET", "HEAD"])
    def page(request: Request) -> Response:
        accept = request.headers.get("accept", "")
        if "application/json" in accept and "text/html" not in accept:
            return JSONResponse(about, headers=_HEADERS | {"Vary": "Accept"})
        return _file(request, _ROOT / "index.html", "text/html; charset=utf-8", {"Vary": "Accept"})

    @router.api_route("/docs", methods=["GET", "HEAD"])
    def documentation(request: Request) -> Response:
        return _file(request, _ROOT / "docs.html", "text/html; charset=utf-8")

    @router.api_route("/static/{path:path}", methods=["GET", "HEAD"])
    def static(request: Request, path: str) -> Response:
        file = _STATIC.get(path)
        if file is None:
            raise HTTPException(404, "There is no such file.", headers=_HEADERS)
        return _file(request, file, _CONTENT_TYPES[file.suffix])

    return router


def _file(request: Request, path: Path, content_type: str, extra: dict[str, str] | None = None) -> Response:
    content = path.read_bytes()
    # The tag depends on the content, not on the file's date, so that every replica returns the same tag.
    etag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = _HEADERS | {"ETag": etag} | (extra or {})
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if known & {etag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=content_type, headers=headers)
