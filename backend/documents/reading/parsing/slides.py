"""PPTX: each slide becomes a page with its title as heading, its tables, and the speaker's notes at the end."""

from collections.abc import Iterator
from typing import Any

import pptx
from pptx.enum.shapes import MSO_SHAPE_TYPE

from backend.documents.reading.parsing.limits import LONGEST_PAGE, Refused
from backend.documents.reading.parsing.pages import About, Heading, Page, one_line, tidied

DEEPEST = 50
"""The most levels of nested groups of shapes."""


def read(path: str) -> Iterator[About | Page]:
    """Yield one page for each slide, in order."""
    presentation = pptx.Presentation(path)
    slides = presentation.slides
    yield About(len(slides), one_line(presentation.core_properties.title or ""), has_pages=True)
    for number, slide in enumerate(slides, 1):
        yield _page(slide, number)


def _page(slide: Any, number: int) -> Page:
    title = slide.shapes.title
    heading = one_line(title.text_frame.text) if title is not None else ""
    texts = [heading] if heading else []
    title_id = title.shape_id if title is not None else None
    texts += [text for text in _texts(slide.shapes, title_id) if text]
    if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame) is not None:
        texts.append(notes.text)
    text = "\n\n".join(filter(None, (tidied(text).strip() for text in texts)))
    if len(text) > LONGEST_PAGE:
        raise Refused("page_too_long", page=number, limit=LONGEST_PAGE)
    headings = (Heading(0, 1, heading),) if heading else ()
    return Page(number, text, headings, is_scanned=not text and _shows_pictures(slide.shapes))


def _texts(shapes: Any, title_id: int | None, depth: int = 0) -> Iterator[str]:
    if depth > DEEPEST:
        raise Refused("too_deep")
    for shape in shapes:
        if shape.shape_type == MSO_SHAPE_TYPE.GROUP:
            yield from _texts(shape.shapes, title_id, depth + 1)
        elif shape.has_text_frame and shape.shape_id != title_id:
            yield shape.text_frame.text
        elif getattr(shape, "has_table", False):
            rows = (
                "\t".join(" ".join(cell.text_frame.text.split()) for cell in row.cells).rstrip()
                for row in shape.table.rows
            )
            yield "\n".join(filter(None, rows))


def _shows_pictures(shapes: Any) -> bool:
    return any(
        shape.shape_type == MSO_SHAPE_TYPE.PICTURE
        or (shape.shape_type == MSO_SHAPE_TYPE.GROUP and _shows_pictures(shape.shapes))
        for shape in shapes
    )
