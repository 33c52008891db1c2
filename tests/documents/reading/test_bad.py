"""What happens to damaged and malicious files."""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import pytest

from backend.documents.reading.reader import About, Limits, Page, Unreadable, read
from tests.documents import files

# Each test starts its own process, and some are meant to take seconds.
pytestmark = pytest.mark.slow

NO_TEXT = "scanned pages have no text to search. Run text recognition (OCR) on it and upload the result."
DAMAGED = "The file is damaged or incomplete, or its content does not match its name."
NOISE = Random(1).randbytes(20_000)
BODY = "word/document.xml"
SHEET = "xl/worksheets/sheet1.xml"
PROSE = "\n".join(["The tide turns twice a day, and the harbor with it."] * 40)

Content = Callable[[], bytes]
"""Makes a file when a test runs, so that not every process that imports this module makes it."""


@cache
def word() -> bytes:
    return files.word("It is a text.")


@cache
def sheets() -> bytes:
    return files.sheets(Place=[["It is a text."], [1]])


@cache
def slides() -> bytes:
    return files.slides(("Title", "It is a text.", ""))


def outcome(path: Path, content: bytes, content_type: str, limits: Limits | None = None) -> str:
    """Return the text that was read, or the error message."""
    path.write_bytes(content)
    try:
        pages = [part for part in read(path, content_type, limits=limits or Limits()) if isinstance(part, Page)]
    except Unreadable as error:
        return str(error)
    return "\n".join(page.text for page in pages)


@pytest.mark.spec("READ-12")
@pytest.mark.parametrize(
    ("content", "content_type", "says"),
    [
        (lambda: b"", files.PDF, "The file is empty."),
        (lambda: b" \n\n \n", files.TEXT, "The file contains no text."),
        (lambda: b"<script>x</script>", files.HTML, "The file contains no text."),
        (lambda: b",,\n,,\n", files.CSV, "The file contains no text."),
        (lambda: NOISE, files.PDF, DAMAGED),
        (lambda: NOISE, files.DOCX, DAMAGED),
        (lambda: NOISE, files.XLSX, DAMAGED),
        (lambda: NOISE, files.PPTX, DAMAGED),
        (lambda: NOISE, files.TEXT, "The file is not text in a known encoding."),
        (lambda: NOISE, files.CSV, "The file is not text in a known encoding."),
        (lambda: NOISE, files.HTML, "The file is not text in a known encoding."),
        (word, files.PDF, DAMAGED),
        (word, files.XLSX, DAMAGED),
        (lambda: word()[: len(word()) // 2], files.DOCX, DAMAGED),
        (lambda: files.changed(word(), {BODY: b"<no xml"}), files.DOCX, DAMAGED),
        (lambda: files.changed(sheets(), {SHEET: b"<no xml"}), files.XLSX, DAMAGED),
        (lambda: files.changed(slides(), {"ppt/slides/slide1.xml": b"<no xml"}), files.PPTX, DAMAGED),
        (lambda: files.pdf("It is a secret.", password="tide"), files.PDF, "The file is protected by a password."),
        (lambda: files.compound(is_encrypted=True), files.DOCX, "The file is protected by a password."),
        (lambda: files.compound(is_encrypted=False), files.DOCX, "The file is in an Office format from before 2007."),
        (lambda: files.pdf("", "", ""), files.PDF, "The file has 3 pages and no text on any of them."),
        (
            lambda: files.pdf(*[files.PICTURE] * 12),
            files.PDF,
            f"The file has 12 pages and no text, all of them images: {NO_TEXT}",
        ),
        (
            lambda: files.pdf("", files.PICTURE),
            files.PDF,
            f"The file has 2 pages and no text, 1 of them images: {NO_TEXT}",
        ),
        (
            lambda: files.slides(("", "", ""), has_picture=True),
            files.PPTX,
            f"The file has one page, which is an image: {NO_TEXT}",
        ),
        (lambda: files.claiming_pdf(3), files.PDF, "Page 2 of 3 cannot be read: the file is damaged or incomplete."),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, content: Content, content_type: str, says: str) -> None:
    assert outcome(tmp_path / "file", content(), content_type).startswith(says)


@pytest.mark.spec("READ-12")
def test_a_file_of_pictures_is_known_as_one_wherever_reading_begins(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(files.pdf(*[files.PICTURE] * 3))

    with pytest.raises(Unreadable, match="all of them images"):
        list(read(path, files.PDF, from_page=3))


@pytest.mark.spec("READ-12")
def test_a_pdf_that_anybody_may_open_is_not_protected(tmp_path: Path) -> None:
    assert outcome(tmp_path / "file", files.pdf("Open.", password=""), files.PDF) == "Open."


@pytest.mark.spec("READ-13")
@pytest.mark.parametrize("tenths", [1, 5, 8, 9])
def test_a_pdf_that_was_cut_off_fails(tmp_path: Path, tenths: int) -> None:
    whole = files.pdf(*[PROSE] * 8)

    assert "damaged" in outcome(tmp_path / "file", whole[: len(whole) * tenths // 10], files.PDF)


@pytest.mark.spec("READ-13")
def test_a_pdf_whose_last_pages_were_cut_off_behind_its_directory_fails(tmp_path: Path) -> None:
    # A PDF saved in this way has its catalog first, so the beginning opens and claims to have all pages.
    whole = files.pdf("It is a text.", PROSE, is_packed=False)
    cut = whole[: whole.rindex(b"stream", 0, whole.rindex(b"endstream"))]

    assert "damaged" in outcome(tmp_path / "file", cut, files.PDF)


@pytest.mark.spec("READ-13")
@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(8, 80))])
def test_a_pdf_with_flipped_bits_gives_text_or_an_error(tmp_path: Path, seed: int) -> None:
    chance = Random(seed)
    broken = bytearray(files.pdf(*[PROSE] * 4))
    for _ in range(chance.choice([1, 10, 100])):
        broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)

    assert outcome(tmp_path / "file", bytes(broken), files.PDF).strip()


@pytest.mark.spec("READ-14")
@pytest.mark.parametrize(
    ("content", "content_type", "says"),
    [
        (lambda: files.laughing(word(), BODY, "It is a text."), files.DOCX, "The file declares XML entities"),
        (
            lambda: files.laughing(slides(), "ppt/slides/slide1.xml", "It is a text."),
            files.PPTX,
            "The file declares XML entities",
        ),
        (lambda: files.laughing(sheets(), SHEET, "It is a text."), files.XLSX, "The file declares XML entities"),
        (lambda: files.bomb(word(), "word/media/image1.png", megabytes=30), files.DOCX, "The file unpacks to far more"),
        (lambda: files.understated(files.bomb(word(), "word/x.xml", megabytes=30), "word/x.xml"), files.DOCX, DAMAGED),
        (lambda: files.understated(word(), BODY), files.DOCX, DAMAGED),
        (
            lambda: files.changed(word(), {f"{n}.xml": b"" for n in range(10_001)}),
            files.DOCX,
            "The file unpacks to far more",
        ),
    ],
    ids=["docx", "pptx", "xlsx", "zeros", "lie", "lie-of-text", "parts"],
)
def test_a_bomb_is_not_unpacked(tmp_path: Path, content: Content, content_type: str, says: str) -> None:
    made, began = content(), time.monotonic()

    assert outcome(tmp_path / "file", made, content_type, Limits(memory_mb=512)).startswith(says)
    assert time.monotonic() - began < 60


@pytest.mark.spec("READ-15")
@pytest.mark.parametrize(
    ("content", "content_type", "limits", "says"),
    [
        (lambda: files.pdf(*"abc"), files.PDF, Limits(pages=2), "The file has more than 2 pages"),
        (lambda: files.claiming_pdf(10_000), files.PDF, Limits(), "The file has more than 5,000 pages"),
        (lambda: files.claiming_pdf(4_000_000_000), files.PDF, Limits(), ""),
        (lambda: b"word " * 5_000, files.TEXT, Limits(pages=2), "The file has more than 2 pages"),
        (lambda: b"word " * 5_000, files.TEXT, Limits(characters=9_000), "The file has more than 9,000 characters"),
        (
            lambda: files.pdf(PROSE, PROSE),
            files.PDF,
            Limits(characters=3_000),
            "The file has more than 3,000 characters",
        ),
        (lambda: b"<dd><dt>" * 400_000, files.HTML, Limits(seconds=1), "Reading the file took more than 1 seconds."),
        (
            lambda: files.long_word(100_000),
            files.DOCX,
            Limits(memory_mb=60),
            "Reading the file needs more than 60 MB",
        ),
        (
            lambda: files.long_word(100_000),
            files.DOCX,
            Limits(memory_mb=80),
            "Reading the file needs more than 80 MB",
        ),
    ],
    ids=[
        "pages",
        "10000-pages",
        "4e9-pages",
        "pages-of-text",
        "characters",
        "characters-of-pdf",
        "time",
        "memory",
        "tree",
    ],
)
def test_what_passes_a_limit_ends_there(
    tmp_path: Path, content: Content, content_type: str, limits: Limits, says: str
) -> None:
    assert outcome(tmp_path / "file", content(), content_type, limits).startswith(says or "The file")


@pytest.mark.spec("READ-16")
@pytest.mark.parametrize(
    ("content", "content_type", "says"),
    [
        (files.looping_pdf, files.PDF, DAMAGED),
        (lambda: b"<div>" * 100_000 + b"x", files.HTML, "The file's parts are nested too deeply"),
        (lambda: b"<b><p>" * 100_000 + b"x", files.HTML, "The file's parts are nested too deeply"),
        (lambda: b"<font>" * 1_500 + b"It is read.", files.HTML, "It is read."),
        (
            lambda: files.changed(
                sheets(),
                {
                    SHEET: files.part(sheets(), SHEET).replace(
                        b"<sheetData>", b'<dimension ref="A1:XFD1048576"/><sheetData>'
                    )
                },
            ),
            files.XLSX,
            "Place\nIt is a text.\n1",
        ),
        (lambda: b"word " * 1_000_000, files.TEXT, "word word"),
        (lambda: b"#" * 1_000_000, files.MARKDOWN, "###"),
        (lambda: b"x" + b" " * 1_000_000 + b"y", files.MARKDOWN, "x"),
        (lambda: b"<pre>x" + b" " * 1_000_000 + b"y", files.HTML, "x"),
        (lambda: b'a,b\n"' + b"x,y\n" * 400_000, files.CSV, DAMAGED),
        (lambda: b"word " * 4_000_000, files.TEXT, "word word"),
        (lambda: b"<p>" + b"word " * 4_000_000, files.HTML, "word word"),
        (
            lambda: files.changed(sheets(), {SHEET: files.part(sheets(), SHEET).replace(b'r="2"', b'r="2000000000"')}),
            files.XLSX,
            DAMAGED,
        ),
    ],
    ids=[
        *("page-tree", "deep", "deep-paragraphs", "less-deep", "dimension", "line", "marks", "blanks", "pre", "quote"),
        *("20-MB-line", "20-MB-paragraph", "row"),
    ],
)
def test_a_file_made_to_take_forever_does_not(tmp_path: Path, content: Content, content_type: str, says: str) -> None:
    made, began = content(), time.monotonic()

    assert outcome(tmp_path / "file", made, content_type).startswith(says)
    assert time.monotonic() - began < 90


@pytest.mark.long
@pytest.mark.spec("READ-16")
def test_a_docx_of_a_million_paragraphs_ends_in_a_clear_state(tmp_path: Path) -> None:
    text = outcome(tmp_path / "file", files.long_word(1_000_000), files.DOCX)

    assert text.startswith(("It is ", "The file has more than 20,000,000 characters", "Reading the file took"))


@pytest.mark.spec("READ-17")
@pytest.mark.parametrize(
    ("content", "content_type", "text"),
    [
        (b"a\0b \xed\xa0\x80 c\x1b\xc2\x85d", files.TEXT, "a\ufffdb \ufffd c\ufffd\nd"),
        (b"# a\0b\n\n\xed\xbf\xbf", files.MARKDOWN, "# a\ufffdb\n\n\ufffd"),
        (b"<p>a&#0;b &#xD800; c&#1;", files.HTML, "a\ufffdb \ufffd c\ufffd"),
        (b"a\0b,\xed\xa0\x80\n1,2", files.CSV, "a\ufffdb\t\ufffd\n1\t2"),
    ],
    ids=["text", "markdown", "html", "csv"],
)
def test_what_cannot_be_stored_is_replaced(tmp_path: Path, content: bytes, content_type: str, text: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)

    about, page = read(path, content_type)

    assert isinstance(about, About)
    assert isinstance(page, Page)
    assert page.text == text
    assert all("\0" not in heading.title for heading in page.headings)
