"""Creates files to upload: good ones of each kind, and bad ones."""

import io
import struct
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from random import randbytes

import docx
import openpyxl  # type: ignore[import-untyped]
import pptx
from docx.document import Document as Word
from pptx.util import Inches
from reportlab.lib.pagesizes import A4  # type: ignore[import-untyped]
from reportlab.lib.pdfencrypt import StandardEncryption  # type: ignore[import-untyped]
from reportlab.lib.utils import ImageReader  # type: ignore[import-untyped]
from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]

PDF = "application/pdf"
OFFICE = "application/vnd.openxmlformats-officedocument."
DOCX = f"{OFFICE}wordprocessingml.document"
PPTX = f"{OFFICE}presentationml.presentation"
XLSX = f"{OFFICE}spreadsheetml.sheet"
CSV = "text/csv"
HTML = "text/html"
MARKDOWN = "text/markdown"
TEXT = "text/plain"

PICTURE = "(a picture)"
"""A page with a picture and no text."""


def pdf(
    *pages: str,
    title: str = "",
    bookmarks: Sequence[tuple[str, int, int]] = (),
    password: str | None = None,
    is_packed: bool = True,
) -> bytes:
    """Create a PDF with one page for each text; a first line that begins with `# ` is set in large type.

    A bookmark is a title, a level from 0, and a page number.
    """
    made = io.BytesIO()
    encrypt = StandardEncryption(password, canPrint=0) if password is not None else None
    canvas = Canvas(made, pagesize=A4, pageCompression=int(is_packed), encrypt=encrypt)
    canvas.setTitle(title)
    for number, text in enumerate(pages, 1):
        canvas.bookmarkPage(str(number))
        for name, level, page in bookmarks:
            if page == number:
                canvas.addOutlineEntry(name, str(number), level)
        if text == PICTURE:
            canvas.drawImage(ImageReader(io.BytesIO(png())), 50, 50, 400, 600)
        else:
            _write(canvas, text)
        canvas.showPage()
    canvas.save()
    return made.getvalue()


def _write(canvas: Canvas, text: str) -> None:
    y = 800.0
    for line in text.split("\n"):
        size = 20 if line.startswith("# ") else 10
        y -= size * 1.3
        canvas.setFont("Helvetica", size)
        canvas.drawString(60, y, line.removeprefix("# "))


def png() -> bytes:
    """Create a picture of eight by eight pixels."""
    from PIL import Image

    made = io.BytesIO()
    Image.new("RGB", (8, 8), "gray").save(made, "PNG")
    return made.getvalue()


def word(*paragraphs: str | tuple[str, int], table: Sequence[Sequence[str]] = (), title: str = "") -> bytes:
    """Create a DOCX; a pair is a heading and its level, where level 0 is the title."""
    document = docx.Document()
    document.core_properties.title = title
    for paragraph in paragraphs:
        if isinstance(paragraph, str):
            document.add_paragraph(paragraph)
        else:
            document.add_heading(*paragraph)
    if table:
        _add_table(document, table)
    return _saved(document)


def _add_table(document: Word, rows: Sequence[Sequence[str]]) -> None:
    table = document.add_table(len(rows), len(rows[0]))
    for row, cells in zip(table.rows, rows, strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text


def slides(*texts: tuple[str, str, str], has_picture: bool = False) -> bytes:
    """Create a PPTX; each slide has a title, a text and notes."""
    presentation = pptx.Presentation()
    for title, text, notes in texts:
        slide = presentation.slides.add_slide(presentation.slide_layouts[1 if title or text else 6])
        if title or text:
            slide.shapes.title.text = title
            slide.placeholders[1].text = text
        if notes:
            slide.notes_slide.notes_text_frame.text = notes
        if has_picture:
            slide.shapes.add_picture(io.BytesIO(png()), Inches(1), Inches(1))
    return _saved(presentation)


def sheets(**rows: Iterable[Sequence[object]]) -> bytes:
    """Create an XLSX with these sheets."""
    workbook = openpyxl.Workbook(write_only=True)
    for name, content in rows.items():
        sheet = workbook.create_sheet(name)
        for row in content:
            sheet.append(row)
    return _saved(workbook)


def _saved(document: object) -> bytes:
    made = io.BytesIO()
    document.save(made)  # type: ignore[attr-defined]
    return made.getvalue()


def changed(archive: bytes, parts: Mapping[str, bytes]) -> bytes:
    """Return the archive with some of its parts replaced, or added."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for name in dict.fromkeys([*old.namelist(), *parts]):
            new.writestr(name, parts[name] if name in parts else old.read(name))
    return made.getvalue()


def part(archive: bytes, name: str) -> bytes:
    """Return a part of an archive."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return opened.read(name)


def laughing(archive: bytes, name: str, text: str) -> bytes:
    """Return an office document with a billion-laughs attack in the place of a text."""
    source = part(archive, name).decode()
    laughs = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{level} "{f"&a{level - 1};" * 10}">' for level in range(1, 11))
    start = source.index("?>") + 2 if source.startswith("<?xml") else 0
    source = f"{source[:start]}<!DOCTYPE x [{laughs}]>{source[start:].replace(text, '&a10;')}"
    return changed(archive, {name: source.encode()})


def bomb(archive: bytes, name: str, *, megabytes: int) -> bytes:
    """Return an archive with an added part of zeros, which compress to a thousandth."""
    made = io.BytesIO(archive)
    with zipfile.ZipFile(made, "a", zipfile.ZIP_DEFLATED) as opened, opened.open(name, "w", force_zip64=True) as file:
        for _ in range(megabytes):
            file.write(bytes(1_000_000))
    return made.getvalue()


def understated(archive: bytes, name: str) -> bytes:
    """Return an archive that declares a size of ten bytes for a longer part."""
    data = bytearray(archive)
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        entry = opened.getinfo(name)
        directory = opened.start_dir
    at = data.index(name.encode(), directory) - 46
    for place in (at + 24, entry.header_offset + 22):
        struct.pack_into("<I", data, place, 10)
    return bytes(data)


def looping_pdf() -> bytes:
    """Create a PDF whose page tree contains itself."""
    return _raw_pdf(b"<</Type/Pages/Kids[2 0 R 3 0 R]/Parent 2 0 R>>", b"<</Type/Pages/Kids[2 0 R]/Parent 2 0 R>>")


def claiming_pdf(pages: int) -> bytes:
    """Create a PDF with one page that claims to have many."""
    tree = f"<</Type/Pages/Kids[3 0 R]/Count {pages}>>".encode()
    return _raw_pdf(tree, b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>")


def _raw_pdf(*objects: bytes) -> bytes:
    made = bytearray(b"%PDF-1.4\n")
    places = []
    for number, content in enumerate((b"<</Type/Catalog/Pages 2 0 R>>", *objects), 1):
        places.append(len(made))
        made += f"{number} 0 obj".encode() + content + b"endobj\n"
    table = len(made)
    made += f"xref\n0 {len(places) + 1}\n0000000000 65535 f \n".encode()
    made += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    made += f"trailer<</Size {len(places) + 1}/Root 1 0 R>>\nstartxref\n{table}\n%%EOF\n".encode()
    return bytes(made)


def long_word(paragraphs: int) -> bytes:
    """Create a DOCX with many short paragraphs, quickly."""
    document = word("x")
    name = "word/document.xml"
    source = part(document, name)
    start, end = source.index(b"<w:p>"), source.index(b"</w:p>") + 6
    texts = (randbytes(6).hex() for _ in range(paragraphs))
    many = "".join(f"<w:p><w:r><w:t>It is {text}.</w:t></w:r></w:p>" for text in texts).encode()
    return changed(document, {name: source[:start] + many + source[end:]})


def compound(*, is_encrypted: bool) -> bytes:
    """Create the beginning of an Office file with a password, or from before 2007."""
    stream = "EncryptedPackage" if is_encrypted else "WordDocument"
    return bytes.fromhex("d0cf11e0a1b11ae1") + bytes(1016) + stream.encode("utf-16-le") + bytes(512)
