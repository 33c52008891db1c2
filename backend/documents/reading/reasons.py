"""Why a file could not be read, in a sentence for the person who uploaded it."""

from typing import Any

from backend.errors import DocuTalkError

MEND = "Check that it opens on your computer, save it anew, and upload it again."
SPLIT = "Split it and upload the parts."

SENTENCES = {
    "encrypted": "The file is protected by a password. Save it without one and upload it again.",
    "old_office": "The file is in an Office format from before 2007. Save it as DOCX, PPTX or XLSX and upload that.",
    "damaged": f"The file is damaged, not complete, or not what its name says. {MEND}",
    "damaged_page": f"Page {{page:,}} of {{pages:,}} cannot be read: the file is damaged or not complete. {MEND}",
    "empty": "The file is empty.",
    "not_text": f"The file is not text in any encoding that is known. {MEND}",
    "too_many_pages": f"The file has more than {{limit:,}} pages, which is the most that is read. {SPLIT}",
    "too_many_characters": f"The file has more than {{limit:,}} characters, which is the most that is read. {SPLIT}",
    "page_too_long": "Page {page:,} has more than {limit:,} characters, which is the most that is read of one page.",
    "bomb": "The file unpacks to far more than a document needs, as harmful files do. It is not read.",
    "entities": "The file declares XML entities, as harmful files do and documents do not. It is not read.",
    "too_deep": "The file's parts stand too deep in each other to be read.",
    "too_slow": f"Reading the file took more than {{limit:,}} seconds. {SPLIT}",
    "too_much_memory": f"Reading the file takes more than the {{limit:,}} MB of memory that it may. {SPLIT}",
    "crashed": f"The file made the program that reads it fail. It may be damaged. {MEND}",
}
RECOGNIZE = "scanned pages have no text that could be searched. Run text recognition (OCR) on it and upload the result."
MOST = 10**9


class Unreadable(DocuTalkError):
    """The file can never be read. The message tells the person what to do."""

    status = 422
    code = "unreadable_document"


def because(reason: Any, told: Any = None, **numbers: int) -> Unreadable:
    """Return the error for a reason; an unknown reason, or one without its numbers, counts as a crash of the parser."""
    given = {**told, **numbers} if isinstance(told, dict) else numbers
    if not all(isinstance(number, int) and 0 <= number <= MOST for number in given.values()):
        reason = "crashed"
    try:
        match reason:
            case "scanned":
                return Unreadable(_scanned(given["pages"], given["scanned"]))
            case "no_text":
                return Unreadable(_no_text(given["pages"]))
        return Unreadable(SENTENCES[reason].format(**given))
    except (KeyError, TypeError):
        return Unreadable(SENTENCES["crashed"])


def _scanned(pages: int, scanned: int) -> str:
    if pages == 1:
        return f"The file has one page, a picture: {RECOGNIZE}"
    which = "all" if scanned == pages else f"{scanned:,}"
    return f"The file has {pages:,} pages and no text, {which} of them pictures: {RECOGNIZE}"


def _no_text(pages: int) -> str:
    if pages <= 1:
        return "The file holds no text."
    return f"The file has {pages:,} pages and no text on any of them."
