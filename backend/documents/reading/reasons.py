"""Why a file could not be read, in a sentence for the person who uploaded the file."""

from typing import Any

from backend.errors import DocuTalkError

MEND = "Check that it opens on your computer, save it again, and upload it again."
SPLIT = "Split it and upload the parts."

SENTENCES = {
    "encrypted": "The file is protected by a password. Save it without a password and upload it again.",
    "old_office": "The file is in an Office format from before 2007. Save it as DOCX, PPTX or XLSX and upload that.",
    "damaged": f"The file is damaged or incomplete, or its content does not match its name. {MEND}",
    "damaged_page": f"Page {{page:,}} of {{pages:,}} cannot be read: the file is damaged or incomplete. {MEND}",
    "empty": "The file is empty.",
    "not_text": f"The file is not text in a known encoding. {MEND}",
    "too_many_pages": f"The file has more than {{limit:,}} pages, which is the limit. {SPLIT}",
    "too_many_characters": f"The file has more than {{limit:,}} characters, which is the limit. {SPLIT}",
    "page_too_long": "Page {page:,} has more than {limit:,} characters, which is the limit for one page.",
    "bomb": "The file unpacks to far more data than a document needs, as harmful files do. It was not read.",
    "entities": "The file declares XML entities, which harmful files do and documents do not. It was not read.",
    "too_deep": "The file's parts are nested too deeply to be read.",
    "too_slow": f"Reading the file took more than {{limit:,}} seconds. {SPLIT}",
    "too_much_memory": f"Reading the file needs more than {{limit:,}} MB of memory, which is the limit. {SPLIT}",
    "crashed": f"The file crashed the program that reads it. It may be damaged. {MEND}",
}
RECOGNIZE = "scanned pages have no text to search. Run text recognition (OCR) on it and upload the result."
MOST = 10**9


class Unreadable(DocuTalkError):
    """The file can never be read. The message tells the person what to do."""

    status = 422
    code = "unreadable_document"


def because(reason: Any, told: Any = None, **numbers: int) -> Unreadable:
    """Return the error for a reason. An unknown reason, or a reason without its numbers, counts as a parser crash."""
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
        return f"The file has one page, which is an image: {RECOGNIZE}"
    which = "all" if scanned == pages else f"{scanned:,}"
    return f"The file has {pages:,} pages and no text, {which} of them images: {RECOGNIZE}"


def _no_text(pages: int) -> str:
    if pages <= 1:
        return "The file contains no text."
    return f"The file has {pages:,} pages and no text on any of them."
