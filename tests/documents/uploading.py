"""Uploads in the form that clients send them."""

import socket
from pathlib import Path
from typing import Any

import httpx

BOUNDARY = b"cut-here"


def sent(reader: httpx.Client, *files: tuple[str, bytes], **headers: str) -> httpx.Response:
    """Upload files."""
    return reader.post("/api/documents", files=[("file", file) for file in files], headers=headers)


def kept(reader: httpx.Client, name: str = "notes.txt", content: bytes = b"Some notes.") -> dict[str, Any]:
    """Upload one file and return its document."""
    answer = sent(reader, (name, content))
    assert answer.status_code == 202, answer.text
    document: dict[str, Any] = answer.json()
    return document


def told(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Assert that an answer is a problem with a sentence, and return it."""
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json()["detail"].endswith(".")
    problem: dict[str, Any] = answer.json()
    return problem


def listed(reader: httpx.Client) -> list[int]:
    return [document["id"] for document in reader.get("/api/documents").json()["documents"]]


def form(*parts: tuple[bytes, bytes], end: bytes = b"--") -> bytes:
    """Write a multipart body by hand, from the headers and content of each part."""
    written = b"".join(
        b"--" + BOUNDARY + b"\r\n" + headers + b"\r\n\r\n" + content + b"\r\n" for headers, content in parts
    )
    return written + b"--" + BOUNDARY + end


def posted(
    reader: httpx.Client, body: bytes, content_type: bytes = b"multipart/form-data; boundary=" + BOUNDARY
) -> Any:
    return reader.post("/api/documents", content=body, headers={"Content-Type": content_type.decode()})


def by_hand(reader: httpx.Client, header: str, body: bytes, *, hang_up: bool = False) -> bytes:
    """Send a request over a bare socket and return the beginning of the answer, or hang up halfway through."""
    url = reader.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=10) as connection:
        connection.sendall(
            f"POST /api/documents HTTP/1.1\r\nHost: {url.host}\r\n"
            f"Authorization: {reader.headers['Authorization']}\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n{header}\r\n\r\n".encode()
            + body
        )
        answer = b""
        while not hang_up and b"}" not in answer and (piece := connection.recv(65536)):
            answer += piece
        return answer


def open_in(directory: Path) -> list[Path]:
    """Return the files in a directory that this process has open, including unnamed ones."""
    found: list[Path] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = descriptor.readlink()
        except OSError:
            continue
        if target.is_relative_to(directory):
            found.append(target)
    return found
