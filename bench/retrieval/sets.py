"""Judged questions, with the documents that answer them, and measures for the quality of a result list."""

import gzip
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CARRIED = Path(__file__).parents[1] / "data"
"""The directory of the sets that come with the project."""
DEPTH = 10
"""How many documents at the start of a result list are scored."""


@dataclass(frozen=True)
class Judged:
    """A set of documents, questions and grades."""

    name: str
    documents: list[tuple[str, str, str]]
    """Id, title (may be empty) and text."""
    questions: list[tuple[str, str]]
    """Id and text of the questions that some document answers."""
    grades: dict[str, dict[str, int]]
    """Grades of documents, by question; a document without a grade is not an answer."""

    def some(self, most: int) -> list[str]:
        """Return the texts of at most `most` questions, spread evenly over the set."""
        return [text for _, text in self.questions[:: -(-len(self.questions) // most)]]


def load(directory: Path) -> Judged:
    """Read a set: `corpus.jsonl.gz`, `queries.jsonl`, and `qrels.tsv` with a heading."""
    with gzip.open(directory / "corpus.jsonl.gz", "rt") as lines:
        documents = [(row["_id"], row["title"], row["text"]) for row in map(json.loads, lines)]
    grades: dict[str, dict[str, int]] = defaultdict(dict)
    for line in (directory / "qrels.tsv").read_text().splitlines()[1:]:
        question, document, grade = line.split("\t")
        if int(grade) > 0:
            grades[question][document] = int(grade)
    rows = [json.loads(line) for line in (directory / "queries.jsonl").read_text().splitlines()]
    questions = [(row["_id"], row["text"]) for row in rows if row["_id"] in grades]
    return Judged(directory.name, documents, questions, dict(grades))


def ndcg(found: Sequence[str], grades: Mapping[str, int], depth: int = DEPTH) -> float:
    """Return the normalized discounted cumulative gain of a list, as trec_eval computes it.

    The gain of a document is its grade, divided by the binary logarithm of its rank plus one. The sum is divided by the
    best sum that any list could have (Järvelin and Kekäläinen, 2002).
    """
    best = _gain(sorted(grades.values(), reverse=True)[:depth])
    return _gain([grades.get(document, 0) for document in found[:depth]]) / best


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(place + 1) for place, grade in enumerate(grades, 1))


def recall(found: Sequence[int], nearest: Sequence[int]) -> float:
    """Return the share of the truly nearest passages that were found."""
    return len(set(found) & set(nearest)) / len(nearest)
