"""Office documents: zip archives that are inspected before a library unpacks them."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from backend.documents.reading.parsing.limits import HIGHEST_RATIO, MOST_PARTS, MOST_UNPACKED, Refused
from backend.documents.reading.parsing.pages import About, Page

COMPOUND = bytes.fromhex("d0cf11e0a1b11ae1")
"""The first bytes of an encrypted document, or of a document in a format from before 2007."""

ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
SMALL = 10_000_000
"""Archives that unpack to at most this many bytes are accepted at any compression ratio."""

LIBXML_NO_MEMORY = 2
"""lxml's error code for running out of memory. The error's message is just "unknown error"."""

_ENTITIES = re.compile(rb"<!(?:DOCTYPE|ENTITY)")


def read(path: str, kind: str) -> Iterator[About | Page]:
    """Yield facts about the document, then its pages; raise Refused before anything too large is unpacked."""
    inspect(path)
    match kind.split(".")[0]:
        case "wordprocessingml":
            from backend.documents.reading.parsing import word

            parts = word.read(path)
        case "presentationml":
            from backend.documents.reading.parsing import slides

            parts = slides.read(path)
        case _:
            from backend.documents.reading.parsing import sheets

            parts = sheets.read(path)
    try:
        yield from parts
    except (MemoryError, RecursionError, Refused):
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        raise Refused("damaged") from None
    except Exception as error:
        # The libraries for DOCX, PPTX and XLSX raise any kind of exception when a part is missing or malformed.
        if type(error).__module__.startswith("defusedxml"):
            raise Refused("entities") from None
        if getattr(error, "code", None) == LIBXML_NO_MEMORY:
            raise MemoryError from None
        raise Refused("damaged") from error


def inspect(path: str) -> None:
    """Raise Refused if the file is not a valid archive, is encrypted, or would unpack to too much.

    Declared sizes can be relied on, because Python's zipfile reads no more of a part than its declared size.
    """
    with Path(path).open("rb") as file:
        if file.read(len(COMPOUND)) == COMPOUND:
            raise Refused("encrypted" if ENCRYPTED in file.read() else "old_office")
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            unpacked = sum(part.file_size for part in parts)
            packed = Path(path).stat().st_size
            if len(parts) > MOST_PARTS or unpacked > MOST_UNPACKED:
                raise Refused("bomb")
            if unpacked > max(SMALL, HIGHEST_RATIO * packed):
                raise Refused("bomb")
            if any(part.flag_bits & 1 for part in parts):
                raise Refused("encrypted")
            _refuse_entities(archive, parts)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError):
        raise Refused("damaged") from None


def _refuse_entities(archive: zipfile.ZipFile, parts: list[zipfile.ZipInfo]) -> None:
    # Entities are declared at the start of a part, so only the start is read. No office document declares entities.
    for part in parts:
        if part.filename.endswith((".xml", ".rels")):
            with archive.open(part) as file:
                if _ENTITIES.search(file.read(2048)):
                    raise Refused("entities")
