"""The pages that valid files give."""

from collections.abc import Callable
from pathlib import Path

import pytest

from backend.documents.reading.reader import About, Heading, Page, read
from tests.documents import files

PROSE = "The tide turns twice a day, and the harbor with it. "

Reader = Callable[..., tuple[About, list[Page]]]


@pytest.fixture
def pages_of(tmp_path: Path) -> Reader:
    """Reads bytes as a file of a given type."""

    def reader(content: bytes, content_type: str, *, from_page: int = 1) -> tuple[About, list[Page]]:
        path = tmp_path / "file"
        path.write_bytes(content)
        about, *pages = read(path, content_type, from_page=from_page)
        assert isinstance(about, About)
        return about, [page for page in pages if isinstance(page, Page)]

    return reader


@pytest.mark.spec("READ-1")
def test_a_pdf_gives_its_pages_with_whole_words_and_gaps(pages_of: Reader) -> None:
    text = "It was an exam-\nple of state-of-\nthe-art tides.\n\n\nAnother paragraph."

    about, pages = pages_of(files.pdf(text, "The second page.", title="Tides"), files.PDF)

    assert about == About(2, "Tides", has_pages=True)
    assert [page.number for page in pages] == [1, 2]
    assert pages[0].text == "It was an example of state-of-the-art tides.\n\nAnother paragraph."
    assert pages[1] == Page(2, "The second page.")


@pytest.mark.spec("READ-2")
def test_bookmarks_of_a_pdf_stand_where_their_words_stand(pages_of: Reader) -> None:
    page = "Some words before.\nThe Harbor\nIt is deep."
    bookmarks = [("The harbor", 0, 1), ("Ships", 1, 2)]

    _, pages = pages_of(files.pdf(page, "# Large\nNo such words.", bookmarks=bookmarks), files.PDF)

    assert pages[0].headings == (Heading(19, 1, "The harbor"),)
    assert pages[0].text[19:].startswith("The Harbor")
    assert pages[1].headings == (Heading(0, 2, "Ships"),)


@pytest.mark.spec("READ-2")
def test_without_bookmarks_the_large_lines_of_a_pdf_are_its_headings(pages_of: Reader) -> None:
    _, (page,) = pages_of(files.pdf(f"{PROSE}\n# The harbor\n{PROSE}\n{PROSE}"), files.PDF)

    (heading,) = page.headings
    assert heading.title == "The harbor"
    assert page.text[heading.start :].startswith("The harbor\n")


@pytest.mark.spec("READ-3")
def test_a_docx_gives_headings_paragraphs_and_tables(pages_of: Reader) -> None:
    made = files.word(("Harbors", 1), PROSE, ("Depths", 2), table=[["Place", "Depth"], ["Quay", "9 m"]], title="Sea")

    about, pages = pages_of(made, files.DOCX)

    assert about == About(None, "Sea", has_pages=False)
    text = f"Harbors\n\n{PROSE.strip()}\n\nDepths\n\nPlace\tDepth\nQuay\t9 m"
    assert pages == [Page(1, text, (Heading(0, 1, "Harbors"), Heading(text.index("Depths"), 2, "Depths")))]


@pytest.mark.spec("READ-3")
def test_a_long_docx_comes_in_pages_that_end_between_paragraphs(pages_of: Reader) -> None:
    paragraphs = [f"{number}: {PROSE * 10}".strip() for number in range(60)]

    _, pages = pages_of(files.word(*paragraphs), files.DOCX)

    assert [page.number for page in pages] == list(range(1, len(pages) + 1))
    assert all(7_000 < len(page.text) <= 8_000 for page in pages[:-1])
    assert "\n\n".join(page.text for page in pages).split("\n\n") == paragraphs


@pytest.mark.spec("READ-3")
def test_what_was_deleted_in_a_docx_is_not_read(pages_of: Reader) -> None:
    made = files.word("kept")
    source = files.part(made, "word/document.xml")
    deleted = b"<w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:ins><w:r><w:t>, new</w:t></w:r></w:ins></w:p>"
    made = files.changed(made, {"word/document.xml": source.replace(b"</w:p>", deleted, 1)})

    _, (page,) = pages_of(made, files.DOCX)

    assert page.text == "kept, new"


@pytest.mark.spec("READ-3")
def test_the_items_of_a_docx_s_lists_begin_with_a_mark(pages_of: Reader) -> None:
    made = files.word("Bring:", "rope", "Then:", "anchor", "Not this", ("Heading", 2))
    source = files.part(made, "word/document.xml").decode()
    bullets = '<w:p><w:pPr><w:pStyle w:val="ListBullet"/></w:pPr>'
    by_hand = '<w:p><w:pPr><w:numPr><w:ilvl w:val="0"/><w:numId w:val="3"/></w:numPr></w:pPr>'
    left = '<w:p><w:pPr><w:pStyle w:val="ListBullet2"/><w:numPr><w:numId w:val="0"/></w:numPr></w:pPr>'
    for words, beginning in (("rope", bullets), ("anchor", by_hand), ("Not this", left)):
        assert f"<w:p><w:r><w:t>{words}" in source
        source = source.replace(f"<w:p><w:r><w:t>{words}", f"{beginning}<w:r><w:t>{words}")

    _, (page,) = pages_of(files.changed(made, {"word/document.xml": source.encode()}), files.DOCX)

    assert page.text.split("\n\n") == ["Bring:", "- rope", "Then:", "- anchor", "Not this", "Heading"]


@pytest.mark.spec("READ-4")
def test_a_pptx_gives_its_slides_with_titles_and_notes(pages_of: Reader) -> None:
    about, pages = pages_of(files.slides(("Tides", "They turn.", "Say it slowly."), ("End", "", "")), files.PPTX)

    assert about == About(2, about.title, has_pages=True)
    assert pages[0] == Page(1, "Tides\n\nThey turn.\n\nSay it slowly.", (Heading(0, 1, "Tides"),))
    assert pages[1] == Page(2, "End", (Heading(0, 1, "End"),))


@pytest.mark.spec("READ-5")
def test_an_xlsx_gives_its_sheets_with_name_and_header_on_every_page(pages_of: Reader) -> None:
    rows: list[list[object]] = [["Place", "Depth"], *([f"Quay {number}", number / 4] for number in range(900))]

    about, pages = pages_of(files.sheets(Harbor=rows, Ships=[["Name"], ["Ada"], [], [True]]), files.XLSX)

    assert about.has_pages
    assert len(pages) == 3
    assert all(page.text.startswith("Harbor\nPlace\tDepth\nQuay ") for page in pages[:2])
    assert "Quay 899\t224.75" in pages[1].text
    assert pages[0].headings == (Heading(0, 1, "Harbor"),)
    assert pages[2] == Page(3, "Ships\nName\nAda\nTRUE", (Heading(0, 1, "Ships"),))


@pytest.mark.spec("READ-5")
def test_formulas_are_read_as_what_they_came_to(pages_of: Reader) -> None:
    made = files.sheets(Sum=[["Total"], [1]])
    name = "xl/worksheets/sheet1.xml"
    source = files.part(made, name).replace(b"<v>1</v>", b"<f>SUM(41,1)</f><v>42</v>")

    _, (page,) = pages_of(files.changed(made, {name: source}), files.XLSX)

    assert page.text == "Sum\nTotal\n42"


@pytest.mark.spec("READ-6")
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_csv_of_any_delimiter_repeats_its_header_on_every_page(pages_of: Reader, delimiter: str) -> None:
    rows = [["Place", "What it is like"], *([str(number), f'"{PROSE}, and so on"'] for number in range(300))]
    content = "\n".join(delimiter.join(row) for row in rows).encode()

    about, pages = pages_of(content, files.CSV)

    assert not about.has_pages
    assert len(pages) > 2
    assert all(page.text.startswith("Place\tWhat it is like\n") for page in pages)
    assert f"\n299\t{PROSE}, and so on" in pages[-1].text


@pytest.mark.spec("READ-7")
def test_html_gives_what_a_reader_sees(pages_of: Reader) -> None:
    source = """<!doctype html><title>Sea &amp; land</title><style>p {}</style><script>alert("no")</script>
        <h1>The   <b>harbor</b></h1><p>It is<br>deep.<p hidden>no</p><div style="display: none">no</div>
        <template>no</template><noscript>no</noscript><h3>Ships</h3><table><tr><td>Ada<td> 9 m</table><pre>a  b</pre>"""

    about, (page,) = pages_of(source.encode(), files.HTML)

    assert about == About(None, "Sea & land", has_pages=False)
    assert page.text == "The harbor\n\nIt is\ndeep.\n\nShips\n\nAda\t9 m\na  b"
    assert page.headings == (Heading(0, 1, "The harbor"), Heading(page.text.index("Ships"), 3, "Ships"))


@pytest.mark.spec("READ-7")
def test_the_items_of_html_s_lists_begin_with_a_mark(pages_of: Reader) -> None:
    source = """<p>Bring:<ul><li>rope<li><p>an <b>anchor</b></p><p>of iron</p></li><li></li></ul>
        <ol><li>sail<ul><li>home</ul></li><li><h2>Rest</h2>well</ol><p>Go."""

    _, (page,) = pages_of(source.encode(), files.HTML)

    assert page.text.replace("\n\n", "\n").split("\n") == [
        *("Bring:", "- rope", "- an anchor", "  of iron", "- sail", "- home", "Rest", "- well", "Go."),
    ]
    assert page.headings == (Heading(page.text.index("Rest"), 2, "Rest"),)


@pytest.mark.spec("READ-8")
def test_markdown_keeps_its_marks_and_knows_its_headings(pages_of: Reader) -> None:
    code = "```\n# no heading\n```"
    source = f"---\nkind: note\n---\n# Tides #\n\n{code}\nShips\n-----\n\n    # nor this\n\n- item\n---\n#tag\n"

    about, (page,) = pages_of(source.encode(), files.MARKDOWN)

    assert about == About(None, "Tides", has_pages=False)
    assert [(heading.level, heading.title) for heading in page.headings] == [(1, "Tides"), (2, "Ships")]
    assert [page.text[heading.start :].split("\n")[0] for heading in page.headings] == ["# Tides #", "Ships"]
    assert code in page.text


@pytest.mark.spec("READ-9")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_a_text_is_read_in_its_encoding(pages_of: Reader, encoding: str) -> None:
    text = "Über den Häfen kreisen Möwen, und die Flut läuft größer auf als sonst. " * 5

    about, pages = pages_of(text.encode(encoding), files.TEXT)

    assert about == About(None, "", has_pages=False)
    assert [page.text for page in pages] == [text.strip()]


@pytest.mark.spec("READ-9")
def test_html_is_read_in_the_encoding_that_it_names(pages_of: Reader) -> None:
    _, (page,) = pages_of('<meta charset="windows-1251"><p>Привет'.encode("cp1251"), files.HTML)

    assert page.text == "Привет"


@pytest.mark.spec("READ-10")
@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        (files.PDF, files.pdf(*(f"# Part {number}\n{PROSE}\n{PROSE}" for number in range(6)))),
        (files.DOCX, files.word(*(f"{number} {PROSE * 50}" for number in range(20)))),
        (files.XLSX, files.sheets(A=[["a", "b"], *([PROSE, number] for number in range(900))])),
        (files.MARKDOWN, "\n".join(f"# {number}\n{PROSE * 50}\n" for number in range(20)).encode()),
    ],
    ids=["pdf", "docx", "xlsx", "markdown"],
)
def test_reading_on_gives_the_same_pages(pages_of: Reader, content_type: str, content: bytes) -> None:
    about, pages = pages_of(content, content_type)

    assert len(pages) > 3
    for number in (2, len(pages), len(pages) + 1):
        assert pages_of(content, content_type, from_page=number) == (about, pages[number - 1 :])


@pytest.mark.spec("READ-11")
def test_a_page_of_pictures_beside_text_is_named_as_scanned(pages_of: Reader) -> None:
    _, pages = pages_of(files.pdf("Text.", files.PICTURE, ""), files.PDF)

    assert [(page.text, page.is_scanned) for page in pages] == [("Text.", False), ("", True), ("", False)]
