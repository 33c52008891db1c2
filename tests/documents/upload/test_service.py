"""Uploads through the whole service, and the memory they take."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import signed_in_guest
from tests.documents.uploading import BOUNDARY, told
from tests.process import running

MEBI = 1024 * 1024


@pytest.mark.spec("DOC-26")
def test_only_uploads_may_be_larger_than_other_bodies(guest: httpx.Client) -> None:
    content = b"%PDF-1.7\n" + b"x" * 2 * 1024 * 1024

    for path in ("/api/documents", "/api/documents/upload", "/api/documents/"):
        answer = guest.post(path, files={"file": ("a.pdf", content)})
        assert (answer.status_code, answer.json().get("file_size")) == (202, len(content)), answer.text

    for path in ("/api/search", "/api/tasks", "/api/documents/1"):
        told(guest.post(path, content=b"x" * len(content)), 413, "content_too_large")


@pytest.mark.slow
@pytest.mark.spec("DOC-25")
def test_memory_stays_flat_while_a_large_file_comes_and_goes(tmp_path: Path) -> None:
    with running(tmp_path, MAX_CONCURRENT_INGESTIONS=0) as service, signed_in_guest(service.url) as guest:
        pid = service.popen.pid
        upload(guest, MEBI // 2)
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        before = peak(pid)

        document = upload(guest, 25 * MEBI)
        after_upload = peak(pid)
        with guest.stream("GET", f"/api/documents/{document}/content") as answer:
            size = sum(len(piece) for piece in answer.iter_bytes(65536))
        after_download = peak(pid)

    assert size == 25 * MEBI
    assert after_upload - before < 16 * MEBI
    assert after_download - before < 20 * MEBI


def upload(guest: httpx.Client, size: int) -> int:
    """Upload a file of this size, without holding it in memory here, and return its number."""
    lead = b"--%b\r\n" % BOUNDARY + b'Content-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n%PDF-'
    end = b"\r\n--%b--\r\n" % BOUNDARY

    def body() -> Iterator[bytes]:
        yield lead
        left = size - 5
        while left:
            piece = os.urandom(min(left, 65536))
            left -= len(piece)
            yield piece
        yield end

    headers = {
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}",
        "Content-Length": str(len(lead) - 5 + size + len(end)),
    }
    answer = guest.post("/api/documents", content=body(), headers=headers)
    assert answer.status_code == 202, answer.text
    number: int = answer.json()["id"]
    return number


def peak(pid: int) -> int:
    """Return the most memory, in bytes, that a process has used since the mark was reset."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
