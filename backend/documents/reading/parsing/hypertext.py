"""HTML, parsed by lexbor into the text that a reader would see, with its headings."""

import re
from collections.abc import Iterator
from pathlib import Path

from selectolax.lexbor import LexborHTMLParser, LexborNode

from backend.documents.reading.parsing.limits import Refused
from backend.documents.reading.parsing.pages import INDENT, About, Block, Page, bulleted, one_line, paged, tidied
from backend.documents.reading.parsing.plain import BYTE_ORDER_MARKS, encoding_of

DEEPEST = 2_000
"""The most levels of nested elements. The time that lexbor takes grows with the square of the depth."""


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


UNSEEN = _names(
    "script style template noscript head title meta link svg math iframe object embed canvas audio video select"
)
BLOCKS = _names(
    "address article aside blockquote body center dd details dialog div dl dt fieldset figcaption figure footer form "
    "header hr html legend li main nav ol optgroup option p pre section summary table tbody tfoot thead tr ul"
)
PARAGRAPHS = _names("p blockquote pre table ul ol dl article section")
LEAVES = _names("area base br col embed hr img input link meta param source track wbr")
IMPLIED = _names("p li dt dd tr td th thead tbody tfoot option optgroup colgroup body html head rp rt")
"""Elements that end without a closing tag."""

HEADINGS = {f"h{level}": level for level in range(1, 7)}

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w-]{1,40})", re.IGNORECASE)
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_BLANKS = re.compile(r"\s+")
_AROUND_TABS = re.compile(r" *\t *")


def read(path: str) -> Iterator[About | Page]:
    """Yield the pages of the text that a reader of the HTML would see."""
    source = _decoded(Path(path))
    if _depth(source) > DEEPEST:
        raise Refused("too_deep")
    tree = LexborHTMLParser(source)
    title = tree.css_first("title")
    yield About(None, one_line(title.text() or "") if title else "", has_pages=False)
    if tree.root is not None:
        yield from paged(_Reader().blocks(tree.root))


class _Reader:
    """Collects a tree's text block by block. It walks the tree without recursion, so depth does not matter."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._is_spaced = True
        self._level = 0
        self._preformatted = 0
        self._items = 0
        self._begins_item = False

    def blocks(self, root: LexborNode) -> Iterator[Block]:
        node: LexborNode | None = root
        while node is not None:
            child = None if self._is_unseen(node) else node.child
            if child is not None or not self._is_unseen(node):
                yield from self._enter(node)
            if child is not None:
                node = child
                continue
            while node is not None:
                yield from self._leave(node)
                if node.mem_id == root.mem_id:
                    node = None
                elif node.next is not None:
                    node = node.next
                    break
                else:
                    node = node.parent
        yield from self._ended()

    @staticmethod
    def _is_unseen(node: LexborNode) -> bool:
        if node.tag in UNSEEN or node.tag == "_comment":
            return True
        if not node.is_element_node:
            return False
        attributes = node.attributes
        return "hidden" in attributes or bool(_HIDDEN.search(attributes.get("style") or ""))

    def _enter(self, node: LexborNode) -> Iterator[Block]:
        tag = node.tag or ""
        if tag == "-text":
            self._add(node.text_content or "")
        elif tag == "br":
            self._pieces.append("\n")
            self._is_spaced = True
        elif tag in HEADINGS or tag in BLOCKS:
            yield from self._ended()
            self._level = HEADINGS.get(tag, 0)
            self._preformatted += tag == "pre"
            if tag == "li":
                self._items += 1
                self._begins_item = True
        elif tag in ("td", "th") and self._pieces:
            self._pieces.append("\t")
            self._is_spaced = True

    def _leave(self, node: LexborNode) -> Iterator[Block]:
        tag = node.tag or ""
        if (tag in HEADINGS or tag in BLOCKS) and not self._is_unseen(node):
            yield from self._ended(is_paragraph=tag in PARAGRAPHS or tag in HEADINGS)
            self._preformatted -= tag == "pre"
            if tag == "li":
                self._items -= 1
                self._begins_item = False

    def _add(self, text: str) -> None:
        if self._preformatted:
            self._pieces.append(text)
            return
        text = _BLANKS.sub(" ", text)
        if self._is_spaced:
            text = text.removeprefix(" ")
        if text:
            self._pieces.append(text)
            self._is_spaced = text.endswith(" ")

    def _ended(self, *, is_paragraph: bool = False) -> Iterator[Block]:
        text = tidied("".join(self._pieces))
        text = text if self._preformatted else _AROUND_TABS.sub("\t", text).strip()
        if text:
            yield Block(self._as_item(text), self._level, "\n\n" if is_paragraph and not self._items else "\n")
        self._pieces, self._level, self._is_spaced = [], 0, True

    def _as_item(self, text: str) -> str:
        """Return a block's text, with its list item's bullet or indent if the block is in a list and is no heading."""
        if self._level or not self._items:
            return text
        if self._begins_item:
            self._begins_item = False
            return bulleted(text)
        return INDENT + text.replace("\n", f"\n{INDENT}")


def _depth(source: str) -> int:
    """Estimate how deep the elements are nested, without building the tree."""
    depth = deepest = 0
    for tag in _TAG.finditer(source):
        name = tag[2].lower()
        if name not in LEAVES and name not in IMPLIED:
            depth = max(depth - 1, 0) if tag[1] else depth + 1
            deepest = max(deepest, depth)
    return deepest


def _decoded(path: Path) -> str:
    source = path.read_bytes()
    named = _CHARSET.search(source[:4096])
    if named and not source.startswith(tuple(mark for mark, _ in BYTE_ORDER_MARKS)):
        try:
            return source.decode(named[1].decode("ascii"), "strict")
        except (LookupError, UnicodeDecodeError, UnicodeError):
            pass  # The declared encoding is wrong, so the encoding is detected as for any other text.
    encoding = encoding_of(path)
    text = source.decode(encoding, "surrogatepass" if encoding == "utf-8" else "replace")
    return text.encode("utf-8", "replace").decode()
