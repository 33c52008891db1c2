"""A file's type, and the name shown for it."""

import io
import os
import random
import tempfile
import tracemalloc
import unicodedata
import zipfile
from collections.abc import Callable

import docx
import openpyxl  # type: ignore[import-untyped]
import pptx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backend.documents.upload.file_types import DOCX, LONGEST_NAME, PDF, PPTX, XLSX, FileKind, UnknownType, kind_of

A_PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4096)
PASSWORD = OLE + "EncryptedPackage".encode("utf-16-le") + bytes(200)


def kind(name: str, content: bytes) -> FileKind:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return kind_of(name, file)


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def zipped(**files: bytes) -> bytes:
    def write(file: io.BytesIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name.replace("__", "/"), content)

    return saved(write)


A_DOCX = saved(docx.Document().save)
A_PPTX = saved(pptx.Presentation().save)
AN_XLSX = saved(openpyxl.Workbook().save)


@pytest.mark.spec("DOC-11")
@pytest.mark.parametrize(
    ("name", "content", "content_type"),
    [
        ("a.pdf", A_PDF, PDF),
        ("A.PDF", b"\n junk before it\n" + A_PDF, PDF),
        ("a.docx", A_DOCX, DOCX),
        ("a.pptx", A_PPTX, PPTX),
        ("a.xlsx", AN_XLSX, XLSX),
        ("a.csv", b"a;b\n1;2\n", "text/csv"),
        ("a.tsv", b"a\tb\n", "text/tab-separated-values"),
        ("a.html", b"<p>Hi", "text/html"),
        ("a.HTM", b"<p>Hi", "text/html"),
        ("a.md", b"# Hi", "text/markdown"),
        ("a.markdown", b"A text about %PDF-1.7 files.", "text/markdown"),
        ("a.txt", b"Hi", "text/plain"),
        ("a.txt", "Grüße".encode("utf-8-sig"), "text/plain"),
        ("a.txt", "Grüße".encode("utf-16"), "text/plain"),
        ("a.txt", "Grüße".encode("utf-32"), "text/plain"),
        ("a.txt", "Grüße aus Köln, schöne Straße über Düsseldorf. ".encode("latin-1") * 9, "text/plain"),
        ("a.txt", "日本語のテキスト、これは文章です。".encode("shift_jis") * 20, "text/plain"),
        ("a.txt", b"A NUL \x00 in a longer text that is otherwise fine.", "text/plain"),
        ("a.txt", "x" * 65_535 + "é" * 9, "text/plain"),
        ("a", A_PDF, PDF),
        ("", A_DOCX, DOCX),
    ],
)
def test_a_type_is_known_by_name_and_content(name: str, content: bytes | str, content_type: str) -> None:
    assert kind(name, content if isinstance(content, bytes) else content.encode()).content_type == content_type


@pytest.mark.spec("DOC-12")
@pytest.mark.parametrize(
    ("name", "content", "seems"),
    [
        ("a.pdf", A_DOCX, "a Word document (DOCX)"),
        ("a.docx", A_PDF, "a PDF"),
        ("a.docx", AN_XLSX, "a workbook (XLSX)"),
        ("a.xlsx", A_PPTX, "a presentation (PPTX)"),
        ("a.docx", zipped(a=b"A"), "a ZIP archive"),
        ("a.docx", OLE, "an older Office"),
        ("a.txt", A_PDF, "a PDF"),
        ("a.txt", A_DOCX, "a Word document"),
        ("a.md", b"\x89PNG\r\n\x1a\n" + bytes(99), "a picture"),
        ("a.csv", b"MZ" + bytes(99), "a program"),
        ("a.pdf", b"Some text.", "text"),
        ("a.pdf", random.Random(7).randbytes(5000), "something other than text"),
        ("a.txt", random.Random(8).randbytes(5000), "something other than text"),
        ("a.txt", bytes(5000), "something other than text"),
        ("a.txt", b"\xff\xfe" + random.Random(9).randbytes(5000), "something other than text"),
    ],
)
def test_what_is_not_what_its_name_says_is_told_as_what_it_seems(name: str, content: bytes, seems: str) -> None:
    with pytest.raises(UnknownType) as refused:
        kind(name, content)

    assert f"it looks like {seems}" in str(refused.value) or seems in str(refused.value)
    assert name in str(refused.value)
    assert "XLSX" in str(refused.value)


@pytest.mark.spec("DOC-12")
@pytest.mark.parametrize("name", ["a.exe", "a.docm", "a.doc", "a.pdf.zip", "a.json", "README", "", "\u202efdp.exe"])
def test_an_unknown_extension_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownType, match=r"Supported types: PDF, DOCX.*\(\.txt\)\.$"):
        kind(name, b"Some text.")


@pytest.mark.spec("DOC-13")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pdf", A_PDF[:20]),
        ("a.docx", A_DOCX[: len(A_DOCX) // 2]),
        ("a.docx", PASSWORD),
        ("a.xlsx", PASSWORD),
        ("a.docx", A_DOCX[:300] + bytes(300) + A_DOCX[600:]),
    ],
)
def test_what_is_damaged_or_locked_is_left_to_the_reading(name: str, content: bytes) -> None:
    assert kind(name, content).filename == name


@pytest.mark.spec("DOC-13")
def test_a_bomb_is_not_unpacked_to_tell_its_type() -> None:
    many = zipped(**{f"{number:0200}": b"" for number in range(5_000)}, **{"[Content_Types].xml": b"x"})
    large = zipped(**{"[Content_Types].xml": b" " * 30_000_000})

    tracemalloc.start()
    try:
        told = kind("a.docx", many)
        with pytest.raises(UnknownType):
            kind("a.docx", large)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert told.content_type == DOCX
    assert most < 5_000_000


@pytest.mark.spec("DOC-13")
def test_any_change_of_an_archive_ends_in_a_clear_state() -> None:
    chance = random.Random(11)
    ends: set[str] = set()
    for _ in range(300):
        changed = bytearray(A_DOCX)
        for _ in range(chance.choice([1, 5, 50])):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        try:
            ends.add(kind("a.docx", bytes(changed)).content_type)
        except UnknownType as refused:
            ends.add(refused.code)

    assert ends == {DOCX, "unsupported_type"}


@pytest.mark.spec("DOC-14")
@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd.pdf", "passwd.pdf"),
        ("C:\\Users\\me\\report.pdf", "report.pdf"),
        ("a/b\\c.pdf", "c.pdf"),
        ("re\x00port.pdf", "report.pdf"),
        ("two\r\nlines \u2028 and\ta tab.pdf", "two lines and a tab.pdf"),
        ("in\u202evoice\u202c\u200f.pdf", "invoice.pdf"),
        (".pdf", "document.pdf"),
        ("..pdf", "document.pdf"),
        ("../.pdf", "document.pdf"),
        ("\u202e.pdf", "document.pdf"),
        ("x/", "document.pdf"),
        ("", "document.pdf"),
        ("..", "document.pdf"),
        ("report", "report.pdf"),
        ("report.pdf . ", "report.pdf"),
        ("n" * 300 + ".pdf", "n" * 196 + ".pdf"),
        ("😀" * 300 + ".PDF", "😀" * 196 + ".PDF"),
        ("Angebot für Müller & Söhne (2).pdf", "Angebot für Müller & Söhne (2).pdf"),
        ("Mu\u0308ller.pdf", "Müller.pdf"),
        ("تقرير.pdf", "تقرير.pdf"),
        ("a\ud800b.pdf", "ab.pdf"),
    ],
)
def test_a_name_is_shown_on_one_line_without_its_path(sent: str, shown: str) -> None:
    assert kind(sent, A_PDF).filename == shown


@pytest.mark.spec("DOC-14")
@given(stem=st.text(max_size=400), extension=st.sampled_from(["pdf", "PDF", "pDf"]))
@example(stem="\u202e" * 10, extension="pdf")
@example(stem=os.sep * 3, extension="pdf")
def test_any_name_can_be_shown(stem: str, extension: str) -> None:
    shown = kind(f"{stem}.{extension}", A_PDF).filename

    assert 5 <= len(shown) <= LONGEST_NAME
    assert shown.endswith(f".{extension}")
    assert shown == shown.strip()
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in shown)
    assert not set(shown) & set("/\\\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
    assert kind(shown, A_PDF).filename == shown
