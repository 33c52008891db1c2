"""Uploads: stream a multipart request's files to disk, and check the limits on the way."""

import errno
import hashlib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import anyio
from anyio.to_thread import run_sync
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Receive, Scope

from backend.documents.quota import in_words
from backend.documents.repository import SLICE_BYTES
from backend.errors import DocuTalkError, InvalidInput, Unavailable

MOST_FILES = 20
"""The most files in one request."""
FIELD = "file"
FRAMING_BYTES = 1024 * 1024
"""Bytes that a request may have in addition to its files."""
STALL_SECONDS = 30.0
"""The most seconds for which a client may send nothing in the middle of an upload."""

_MOST_PARTS = 100
_BATCH_BYTES = 256 * 1024
_ESCAPED = (("%22", '"'), ("%0D", "\r"), ("%0A", "\n"))
"""How browsers escape these characters in a file name."""


class UploadTooLarge(DocuTalkError):
    """A file, or all files of a request together, exceeds the limit."""

    status = 413
    code = "content_too_large"

    def __init__(self, noun: str, *, limit: int, left: int | None) -> None:
        also = "" if left is None else f" You have {in_words(left)} of space left."
        super().__init__(f"{noun} larger than {in_words(limit)}, which is the limit.{also}")
        self.members["limit_bytes"] = limit
        if left is not None:
            self.members["bytes_left"] = left


class MalformedUpload(DocuTalkError):
    """The request is not a multipart form, or it ended early."""

    status = 400
    code = "malformed_upload"


class UploadStalled(DocuTalkError):
    """The client sent nothing for too long."""

    status = 408
    code = "upload_stalled"

    def __init__(self) -> None:
        super().__init__(f"The upload sent nothing for {STALL_SECONDS:.0f} seconds. Upload the file again.")


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How much one request may upload; 0 means no limit."""

    most_bytes: int = 26_214_400
    """Bytes of one file."""
    most_bytes_in_all: int = 0
    """Bytes of all files in one request."""
    room: Callable[[], int | None] = lambda: None
    """Returns how many more bytes the user may store. Called on a worker thread, and only when an upload is refused."""

    def within(self, most_bytes_of_a_user: int) -> "UploadLimits":
        """Return the limits for a user with this quota. A request may not contain more than the user may store."""
        known = [most for most in (MOST_FILES * self.most_bytes, most_bytes_of_a_user) if most]
        return replace(self, most_bytes_in_all=min(known, default=0))


@dataclass(slots=True)
class ReceivedFile:
    """A received file. Its bytes are on disk in an unnamed file that disappears when it is closed."""

    sent_name: str
    file: BinaryIO
    size: int = 0
    sha256: str = ""

    def slices(self) -> Iterator[bytes]:
        """Yield the bytes in slices of `SLICE_BYTES`. Each call starts at the file's beginning."""
        self.file.seek(0)
        while content := self.file.read(SLICE_BYTES):
            yield content


@asynccontextmanager
async def received(scope: Scope, receive: Receive, limits: UploadLimits) -> AsyncIterator[list[ReceivedFile]]:
    """Stream a request's files to disk, and keep the files on disk until the block ends.

    Raises:
        UploadTooLarge: A limit was exceeded. The rest of the request is not read.
        MalformedUpload: The request is not a multipart form, or it ended early.
        InvalidInput: There is no file, a file is empty, or there are too many files.
        UploadStalled: The client sent nothing for too long.
        Unavailable: The disk is full or too many files are open.
    """
    headers = dict(scope["headers"])
    with ExitStack() as open_files:
        form = _Form(headers.get(b"content-type", b""), limits, open_files)
        declared = headers.get(b"content-length", b"")
        if declared.isdigit():
            await run_sync(form.require_size, int(declared))
        try:
            async for batch in _batches(receive):
                await run_sync(form.write, batch)
            files = await run_sync(form.finish)
        except FormParserError as error:
            raise MalformedUpload(
                "The upload could not be read. Try again.", hint="Send it as multipart/form-data."
            ) from error
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise Unavailable("The server has too many files open. Try again soon.", retry_after=10) from error
            if error.errno != errno.ENOSPC:
                raise
            raise Unavailable("The server's disk is full. Try again later.", retry_after=60) from error
        yield files


async def _batches(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the body in pieces large enough to be worth a thread switch and small enough for memory."""
    batch = bytearray()
    is_more = True
    while is_more:
        try:
            with anyio.fail_after(STALL_SECONDS):
                message = await receive()
        except TimeoutError as error:
            raise UploadStalled from error
        if message["type"] == "http.disconnect":
            raise MalformedUpload("The upload ended before it was complete.")
        batch += message.get("body", b"")
        is_more = message.get("more_body", False)
        if len(batch) >= _BATCH_BYTES or not is_more:
            yield bytes(batch)
            batch.clear()


class _Form:
    """Parses a multipart form as it arrives, with only one piece of the form in memory."""

    def __init__(self, content_type: bytes, limits: UploadLimits, open_files: ExitStack) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise InvalidInput("No file was sent.", hint=f"Send it as multipart/form-data, in the field `{FIELD}`.")
        if not options.get(b"boundary"):
            raise MalformedUpload(
                "The upload could not be read. Try again.",
                hint="The Content-Type has no boundary; HTTP clients write one.",
            )
        self._limits = limits
        self._open_files = open_files
        self._received = 0
        self._files: list[ReceivedFile] = []
        self._current: ReceivedFile | None = None
        self._hash = hashlib.sha256()
        self._parts = 0
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._is_whole = False
        callbacks: Any = {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_content,
            "on_part_data": self._take,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(options[b"boundary"], callbacks)
        except FormParserError as error:
            raise MalformedUpload(
                "The upload could not be read. Try again.", hint="The boundary of the form is too long."
            ) from error

    def require_size(self, size: int) -> None:
        """Raise UploadTooLarge if a request of this size cannot be within the limits."""
        most = self._limits.most_bytes_in_all
        if most and size > most + FRAMING_BYTES:
            raise UploadTooLarge("The request is", limit=most, left=self._limits.room())

    def write(self, piece: bytes) -> None:
        """Process the next piece of the body."""
        self._received += len(piece)
        self.require_size(self._received)
        if not self._is_whole:
            self._parser.write(piece)

    def finish(self) -> list[ReceivedFile]:
        """Return the files, once the body has ended."""
        if not self._is_whole:
            raise MalformedUpload("The upload ended early. Try again.", hint="The form ended before its last boundary.")
        if not self._files:
            raise InvalidInput("No file was sent.", hint=f"Send it in the field `{FIELD}`.")
        return self._files

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise MalformedUpload(f"The form has more than {_MOST_PARTS} fields.")
        self._disposition = b""
        self._header = (bytearray(), bytearray())

    def _end_header(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = (bytearray(), bytearray())

    def _begin_content(self) -> None:
        kind, options = parse_options_header(self._disposition)
        name = options.get(b"filename")
        if kind != b"form-data" or options.get(b"name") != FIELD.encode() or name is None:
            return
        if len(self._files) == MOST_FILES:
            raise InvalidInput(f"There are more than {MOST_FILES} files. Upload them in several requests.")
        # The file has no name on disk, so nothing is left behind if this process dies.
        file = self._open_files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  (The stack closes it.)
        self._current = ReceivedFile(_decoded(name), file)
        self._hash = hashlib.sha256()

    def _take(self, data: bytes, start: int, end: int) -> None:
        if (current := self._current) is None:
            return
        current.size += end - start
        if 0 < self._limits.most_bytes < current.size:
            raise UploadTooLarge("The file is", limit=self._limits.most_bytes, left=self._limits.room())
        content = memoryview(data)[start:end]
        self._hash.update(content)
        current.file.write(content)

    def _end_part(self) -> None:
        current, self._current = self._current, None
        # A browser sends an empty file field as a file without name or content.
        if current is None or not (current.size or current.sent_name):
            return
        if not current.size:
            raise InvalidInput("The file is empty. Upload a file with content.")
        current.file.flush()
        current.sha256 = self._hash.hexdigest()
        self._files.append(current)

    def _end(self) -> None:
        self._is_whole = True


def _decoded(name: bytes) -> str:
    try:
        decoded = name.decode()
    except UnicodeDecodeError:
        decoded = name.decode("latin-1")
    for escaped, meant in _ESCAPED:
        decoded = decoded.replace(escaped, meant)
    return decoded
