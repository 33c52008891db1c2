"""The index: passages, their embeddings, and the postings. Postings record which passages have which words."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from unicodedata import normalize

from sqlalchemy import text

from backend.documents.models import Chunk
from backend.postgres.repository import UserRepository

LONGEST_LEXEME = 200
"""Bytes. Nobody types longer lexemes, so they are not indexed. A B-tree key has room for only about 2,700 bytes."""
MOST_AT_ONCE = 64
"""Passages that share one row of postings for each word."""
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
"""Soft hyphens, zero-width spaces and direction marks. They neither belong to a word nor end one."""


@dataclass(frozen=True, slots=True)
class IndexedPassage:
    """A passage as it is stored."""

    page_number: int | None
    chunk_index: int
    """The passage's number in the order of the document, from 0."""
    start: int
    end: int
    content: str
    headings: str
    vector: list[float]
    """The embedding, of unit length."""
    page: int = 1
    """The number of the stored page, from 1. `page_number` is the number that people use, or None without such a
    number."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """How many passages and words a batch added to its document."""

    chunks: int
    words: int


class Index(UserRepository[Chunk]):
    """Writes the user's index. Deleting a document's row deletes all its index rows."""

    model = Chunk

    def add(self, document_id: int, *, language: str, model_id: int, passages: Sequence[IndexedPassage]) -> Indexed:
        """Store a batch of a document's passages with their embeddings and postings, and return the added counts.

        `language` is the text search configuration that stems the passages. It must be the same for a whole document.
        Up to `MOST_AT_ONCE` passages share one row of postings for each word, so small batches take more room.
        """
        parts = [passages[first : first + MOST_AT_ONCE] for first in range(0, len(passages), MOST_AT_ONCE)]
        words = sum(self._add(document_id, language, model_id, part) for part in parts)
        self._written("indexed", document_id=document_id, chunks=len(passages), words=words)
        return Indexed(len(passages), words)

    def _add(self, document_id: int, language: str, model_id: int, passages: Sequence[IndexedPassage]) -> int:
        last = self._counted(_NUMBERS, many=len(passages))
        ids = list(range(last - len(passages) + 1, last + 1))
        mine = {"user_id": self._scope.user_id, "document_id": document_id, "ids": ids}
        columns = {
            "contents": [passage.content for passage in passages],
            "headings": [passage.headings for passage in passages],
            "numbers": [passage.page_number for passage in passages],
            "pages": [passage.page_number or passage.page for passage in passages],
            "indexes": [passage.chunk_index for passage in passages],
            "starts": [passage.start for passage in passages],
            "ends": [passage.end for passage in passages],
        }
        self._session.execute(_CHUNKS, mine | columns)
        vectors = {"vectors": [literal(passage.vector) for passage in passages], "model_id": model_id}
        self._session.execute(_VECTORS, mine | vectors)
        texts = [spelled(f"{passage.headings}\n{passage.content}") for passage in passages]
        options = {"texts": texts, "language": language, "first": ids[0], "longest": LONGEST_LEXEME}
        return int(self._session.execute(_POSTINGS, mine | options).scalar_one())


def spelled(text: str) -> str:
    """Normalize a text's letters for indexing and searching, so that different encodings of a letter match."""
    # Most texts are already normalized. Python handles these texts quickly, while the database does not.
    return normalize("NFKC", _INVISIBLE.sub("", text))


def literal(vector: Iterable[float]) -> str:
    """Return a vector as a Postgres literal with the precision of a 16-bit float."""
    values = tuple(vector)
    # One format string for the whole vector is fast, and every search formats its question's vector.
    return f"[{','.join(['%.5g'] * len(values))}]" % values


_NUMBERS = """
insert into counters (user_id, noun, last) values (:user_id, 'chunk', :many)
on conflict (user_id, noun) do update set last = counters.last + :many returning last
"""

_CHUNKS = text(
    """
    insert into chunks (user_id, id, document_id, content, page_number, page, chunk_index, start, "end", headings)
    select :user_id, p.id, :document_id, p.content, p.number, p.page, p.index, p.first, p.last, p.headings
    from unnest(
        cast(:ids as integer[]), cast(:contents as text[]), cast(:numbers as integer[]),
        cast(:pages as integer[]), cast(:indexes as integer[]),
        cast(:starts as integer[]), cast(:ends as integer[]), cast(:headings as text[])
    ) as p (id, content, number, page, index, first, last, headings)
    """
)

_VECTORS = text(
    """
    insert into chunk_vectors (user_id, model_id, chunk_id, document_id, embedding)
    select :user_id, :model_id, v.id, :document_id, cast(v.vector as halfvec)
    from unnest(cast(:ids as integer[]), cast(:vectors as text[])) as v (id, vector)
    """
)

_POSTINGS = text(
    """
    with lexemes as materialized (
        select p.id, w.lexeme, cardinality(w.positions) as count,
               sum(cardinality(w.positions)) over (partition by p.id) as length
        from unnest(cast(:ids as integer[]), cast(:texts as text[])) as p (id, text),
             unnest(to_tsvector(cast(:language as regconfig), p.text)) as w
        where octet_length(w.lexeme) <= :longest
    ), written as (
        insert into postings (user_id, language, lexeme, document_id, first_chunk, entries)
        select :user_id, :language, lexeme, :document_id, :first, string_agg(
            int4send(id) || int2send(cast(least(count, 32767) as smallint))
                || int2send(cast(least(length, 32767) as smallint)),
            cast('' as bytea) order by id
        )
        from lexemes group by lexeme
    )
    select coalesce(sum(count), 0) from lexemes
    """
)
