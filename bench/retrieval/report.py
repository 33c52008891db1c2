"""The result: the goals, what was measured, and where."""

import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from bench.retrieval.costs import PASSES, Costs
from bench.retrieval.quality import Quality
from bench.retrieval.reading import Reading
from bench.retrieval.scale import Scale

PACKAGES = ("onnxruntime", "numpy", "sqlalchemy", "psycopg2-binary")
LEAST = {
    ("cranfield", False): 0.40,
    ("xquad-en", False): 0.95,
    ("xquad-de", False): 0.91,
    ("xquad-de", True): 0.96,
}
"""The nDCG@10 to reach, by set and by whether the model is the multilingual one."""


@dataclass(frozen=True)
class Row:
    """A goal, and whether it was reached."""

    goal: str
    measured: str
    is_met: bool


@dataclass
class Report:
    """Everything that was measured. A part that was not measured is empty."""

    facts: dict[str, str]
    qualities: list[tuple[str, Quality]] = field(default_factory=list)
    """Pairs of the embedding model's name and its quality."""
    costs: Costs | None = None
    scale: Scale | None = None
    readings: list[Reading] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """The goals in order."""
        return [*self._of_quality(), *self._of_scale(), *self._of_costs(), *self._of_reading()]

    @property
    def is_met(self) -> bool:
        """Whether all goals that were measured are met."""
        return all(row.is_met for row in self.rows)

    def _of_quality(self) -> Iterator[Row]:
        for model, found in self.qualities:
            least = LEAST.get((found.name, "multilingual" in model))
            if least is None:
                continue
            name = f"nDCG@10, {found.name}, {model}: hybrid ≥ {least:.2f}"
            halves = f"{found.hybrid:.3f} (words alone {found.words:.3f}, vectors alone {found.vectors:.3f})"
            is_above = found.hybrid > max(found.words, found.vectors)
            if found.name == "cranfield":
                name += " and above both halves alone"
            yield Row(name, halves, found.hybrid >= least and (is_above or found.name != "cranfield"))

    def _of_scale(self) -> Iterator[Row]:
        if self.costs:
            yield Row("recall@10, 10,000 passages: 1.000", f"{self.costs.recall:.4f}", self.costs.recall >= 0.9995)
        if found := self.scale:
            goal = f"recall@10, {found.passages:,} passages beside {found.others:,} of others: ≥ 0.95"
            yield Row(goal, f"{found.recall:.4f}", found.recall >= 0.95)
            goal = "recall@10, 1,000 passages beside them all: 1.000"
            yield Row(goal, f"{found.small_recall:.4f}", found.small_recall >= 0.9995)
            yield Row("never fewer than asked for (100)", f"{found.fewest} at least", found.fewest == 100)

    def _of_costs(self) -> Iterator[Row]:
        if (found := self.costs) is None:
            return
        medians = f"{statistics.median(found.search):.1f} ms against {statistics.median(found.halves):.1f} ms"
        yield Row(
            "search, median: ≤ 2.5 times the plain SQL of its two halves",
            f"{found.ratio:.2f} times ({medians})",
            found.ratio <= 2.5,
        )
        parts = (
            f"{found.cpu.total:.1f} ms: embedding {found.cpu.embedding:.1f}, process {found.cpu.process:.1f}, "
            f"database {found.cpu.database:.1f}"
        )
        yield Row(
            f"CPU of a search of 10,000 passages, the median of {PASSES} passes: ≤ 25 ms",
            parts,
            found.cpu.total <= 25,
        )
        yield Row(
            "of which embedding the question: ≤ 15 ms", f"{found.cpu.embedding:.1f} ms", found.cpu.embedding <= 15
        )

    def _of_reading(self) -> Iterator[Row]:
        if not self.readings:
            return
        first, last = self.readings[0], self.readings[-1]
        yield Row(
            "ingestion: ≥ 8 passages of 900 characters for a second of CPU",
            f"{last.per_second:.1f} ({last.passages:,} passages, {last.status})",
            last.per_second >= 8 and last.status == "ready",
        )
        yield Row("all but embedding: ≤ 15 % of the CPU", f"{last.rest_share:.1%}", last.rest_share <= 0.15)
        grown = last.megabytes / first.megabytes
        yield Row(
            f"memory from {first.pages} to {last.pages:,} pages: flat (at most a tenth more)",
            f"{first.megabytes:.0f} → {last.megabytes:.0f} MB",
            grown <= 1.1,
        )

    def as_markdown(self) -> str:
        """Return the whole report."""
        lines = ["# Retrieval", "", "`make bench-retrieval` wrote this; [what it does](README.md#retrieval).", ""]
        lines += ["| | |", "|---|---|", *(f"| {name} | {told} |" for name, told in self.facts.items()), ""]
        lines += ["| goal | measured | met |", "|---|---|---|"]
        lines += [f"| {row.goal} | {row.measured} | {'yes' if row.is_met else '**no**'} |" for row in self.rows]
        lines += [f"\nLeft out: {', '.join(self.left_out)}."] if self.left_out else []
        lines += ["", *self._plot(), "", *self._more()]
        return "\n".join(lines).rstrip() + "\n"

    def _plot(self) -> Iterator[str]:
        """Yield nDCG@10 as a chart: bars for hybrid, lines for words alone and vectors alone."""
        if not self.qualities:
            return
        names = ", ".join(f'"{found.name}{_short(model)}"' for model, found in self.qualities)
        yield "nDCG@10: the bars are the hybrid, the first line is words alone, the second is vectors alone."
        yield ""
        yield from ("```mermaid", "xychart-beta", '    title "nDCG@10"', f"    x-axis [{names}]", "    y-axis 0 --> 1")
        yield f"    bar [{_numbers([found.hybrid for _, found in self.qualities])}]"
        yield f"    line [{_numbers([found.words for _, found in self.qualities])}]"
        yield f"    line [{_numbers([found.vectors for _, found in self.qualities])}]"
        yield "```"

    def _more(self) -> Iterator[str]:
        if self.qualities:
            yield "| set | model | documents | passages | questions | hybrid | words | vectors |"
            yield "|---|---|---|---|---|---|---|---|"
        for model, one in self.qualities:
            counts = f"{one.documents:,} | {one.passages:,} | {one.questions:,}"
            yield f"| {one.name} | {model} | {counts} | {one.hybrid:.4f} | {one.words:.4f} | {one.vectors:.4f} |"
        if found := self.scale:
            yield ""
            yield (
                f"The approximate index of {found.passages + found.others:,} passages took {found.building:.0f} s to "
                f"make and {found.megabytes:.0f} MB. The nearest 100 of the large user come in {found.approximate:.1f} "
                f"ms by it and in {found.exact:.1f} ms by comparing all (medians of {found.questions} questions)."
            )


def machine() -> str:
    """Describe this machine."""
    return f"{os.cpu_count()} cores, {platform.machine()}, {_processor()}"


def versions() -> str:
    """Describe the versions of the software used."""
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)])


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123  # A kernel interface, not a file.
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _short(model: str) -> str:
    return ", multilingual" if "multilingual" in model else ""
