"""Determine a file's type from its name and content together, and choose the name to show for the file."""

import codecs
import lzma
import mmap
import re
import struct
import unicodedata
import zipfile
import zlib
from typing import BinaryIO, NamedTuple

from backend.documents.reading.parsing.plain import BYTE_ORDER_MARKS
from backend.errors import DocuTalkError

LONGEST_NAME = 200
"""Characters of the name that is shown."""

_OFFICE = "application/vnd.openxmlformats-officedocument."
PDF = "application/pdf"
DOCX = f"{_OFFICE}wordprocessingml.document"
PPTX = f"{_OFFICE}presentationml.presentation"
XLSX = f"{_OFFICE}spreadsheetml.sheet"
CONTENT_TYPES = {
    "pdf": PDF,
    "docx": DOCX,
    "pptx": PPTX,
    "xlsx": XLSX,
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "html": "text/html",
    "htm": "text/html",
    "md": "text/markdown",
    "markdown": "text/markdown",
    "txt": "text/plain",
}
"""Content types by file extension."""

KNOWN = "PDF, DOCX, PPTX, XLSX, CSV, TSV, HTML, Markdown (.md) and text (.txt)"
_ZIP = "a ZIP archive"
_DAMAGED_ZIP = "a damaged ZIP archive"
_LOCKED_OFFICE = "an Office file with a password"
_TEXT = "text"
_SEEN_AS = {PDF: "a PDF", DOCX: "a Word document (DOCX)", PPTX: "a presentation (PPTX)", XLSX: "a workbook (XLSX)"}
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"\x1f\x8b", "an archive"),
    (b"7z\xbc\xaf\x27\x1c", "an archive"),
    (b"Rar!", "an archive"),
    (b"MZ", "a program"),
    (b"\x7fELF", "a program"),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_MAIN_PART = {
    b"wordprocessingml.document.main+xml": DOCX,
    b"presentationml.presentation.main+xml": PPTX,
    b"spreadsheetml.sheet.main+xml": XLSX,
}
_TYPES_PART = "[Content_Types].xml"
_END_OF_ZIP = b"PK\x05\x06"
_BROKEN_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    OSError,
    ValueError,
    OverflowError,
    EOFError,
    RuntimeError,  # Raised also for password-protected archives and unknown compression methods.
)
"""The exceptions that the library raises for an archive that is cut off or altered."""
_MOST_ZIP_DIRECTORY = 1024 * 1024
_MOST_TYPES_PART = 1024 * 1024
_HEAD = 64 * 1024
_MOST_CONTROLS = 0.02
"""The share of control characters that a text may have; many text files have a NUL or an escape somewhere."""

_HIDDEN = re.compile("[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]")
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


class UnknownType(DocuTalkError):
    """The file's type cannot be read, or the content does not match the file's name."""

    status = 415
    code = "unsupported_type"


class FileKind(NamedTuple):
    """A file's type, and the name to show for it."""

    filename: str
    """The name to show: one line, no path, and no characters that hide or reverse what follows."""
    content_type: str


def kind_of(sent_name: str, file: BinaryIO) -> FileKind:
    """Determine the type of a file on disk from its sent name and a small part of its content.

    Raises:
        UnknownType: The type cannot be read. The message lists the readable types, and what the file seems to be.
    """
    name = _plain_name(sent_name)
    stem, _, ending = name.rpartition(".")
    extension = ending.lower()
    content = _content(file, is_called_pdf=extension == "pdf")
    if extension not in CONTENT_TYPES:
        extension = next((known for known, kind in CONTENT_TYPES.items() if kind == content), "")
        if not extension or _has_extension(name):
            raise UnknownType(f"The file {_called(name)} is not a supported type. Supported types: {KNOWN}.")
        stem, ending = name, extension
    content_type = CONTENT_TYPES[extension]
    if not _fits(content, content_type):
        raise UnknownType(
            f"The file {_called(name)} does not match its name: it looks like {_SEEN_AS.get(content, content)}. "
            f"Supported types, each with its own extension: {KNOWN}."
        )
    return FileKind(_shown(stem, ending), content_type)


def _plain_name(sent: str) -> str:
    """Return the last component of a path on one line, without invisible characters."""
    last = re.split(r"[/\\]", sent)[-1]
    seen = "".join(
        character
        for character in unicodedata.normalize("NFC", _HIDDEN.sub("", " ".join(last.split())))
        if unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
    )
    return " ".join(seen.split()).rstrip(" .")


def _shown(stem: str, ending: str) -> str:
    room = LONGEST_NAME - len(ending) - 1
    stem = stem[:room].rstrip()
    return f"{stem if stem.strip(' .') else 'document'}.{ending}"


def _called(name: str) -> str:
    return f'"{name[:80]}"' if name else "without a name"


def _has_extension(name: str) -> bool:
    return re.search(r"\.[^.\s]{1,10}$", name) is not None


def _fits(content: str, content_type: str) -> bool:
    if content_type == PDF:
        return content == PDF
    if content_type in _SEEN_AS:
        # A damaged or locked file cannot be recognized here; reading it will report the problem.
        return content in (content_type, _DAMAGED_ZIP, _LOCKED_OFFICE)
    return content == _TEXT


def _content(file: BinaryIO, *, is_called_pdf: bool) -> str:
    """Return the content type that the bytes indicate, or a description of what they seem to be."""
    file.seek(0)
    head = file.read(_HEAD)
    # PDF readers accept bytes before the header. A text may mention "%PDF-", though, and an archive may contain a PDF.
    if head.lstrip().startswith(b"%PDF-") or (is_called_pdf and b"%PDF-" in head[:1024]):
        return PDF
    if head.startswith((b"PK\x03\x04", _END_OF_ZIP)):
        return _in_zip(file)
    if head.startswith(_OLE):
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            is_locked = whole.find("EncryptedPackage".encode("utf-16-le")) >= 0
        return _LOCKED_OFFICE if is_locked else "a file of an older Office"
    if seen_as := next((seen_as for signature, seen_as in _SIGNATURES if head.startswith(signature)), None):
        return seen_as
    return _TEXT if _is_text(head) else "something other than text"


def _in_zip(file: BinaryIO) -> str:
    """Return the content type of a ZIP archive, reading only its directory and its list of types."""
    if not _has_small_directory(file):
        return _DAMAGED_ZIP
    try:
        with zipfile.ZipFile(file) as archive, archive.open(_TYPES_PART) as part:
            types = part.read(_MOST_TYPES_PART)
    except KeyError:
        return _ZIP
    except _BROKEN_ZIP:
        return _DAMAGED_ZIP
    return next((content_type for main, content_type in _MAIN_PART.items() if main in types), _ZIP)


def _has_small_directory(file: BinaryIO) -> bool:
    """Return whether an archive's directory can be found and is small. The library reads the whole directory."""
    size = file.seek(0, 2)
    file.seek(max(size - 66_000, 0))
    tail = file.read()
    end = tail.rfind(_END_OF_ZIP)
    return 0 <= end <= len(tail) - 22 and int.from_bytes(tail[end + 12 : end + 16], "little") <= _MOST_ZIP_DIRECTORY


def _is_text(head: bytes) -> bool:
    """Return whether the beginning of a file is text in an encoding that can be detected."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            told = codecs.getincrementaldecoder(encoding)("replace").decode(head)
            return told.count("\ufffd") <= len(told) * _MOST_CONTROLS
    if len(_CONTROLS.findall(head)) > max(len(head) * _MOST_CONTROLS, 2):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        # Imported only where needed, because nearly all text is UTF-8.
        from charset_normalizer import from_bytes

        return from_bytes(head).best() is not None
    return True
