"""The result as a table for people, as Markdown to keep, and as JSON to compute with."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.chaos.checks import Goal, cancels, failures, last_steps, median_and_most, takeovers, turns
from bench.chaos.delivery import Network
from bench.chaos.evidence import Evidence

MOST_SHOWN = 5
"""The most violations shown for each goal. The JSON report has all violations."""


@dataclass(frozen=True)
class Report:
    """What was done, and the results."""

    facts: dict[str, str]
    """Where, when and how the benchmark ran."""
    counts: dict[str, str]
    """What happened, and how long it took."""
    numbers: dict[str, int]
    """The counts as numbers."""
    goals: Sequence[Goal]

    @property
    def is_met(self) -> bool:
        """Whether every goal was met."""
        return not any(goal.found for goal in self.goals)

    def as_text(self) -> str:
        """Return the result as a table."""
        pairs = {**self.facts, **self.counts}
        wide = max(len(name) for name in (*pairs, *(goal.name for goal in self.goals)))
        lines = [f"{name:{wide}}  {told}" for name, told in pairs.items()]
        lines += ["", *(f"{goal.name:{wide}}  {_verdict(goal)}" for goal in self.goals)]
        for goal in self.goals:
            lines += _shown(goal, "  ")
        return "\n".join(lines)

    def as_markdown(self) -> str:
        """Return the result as Markdown."""
        lines = ["# Chaos", "", "| | |", "|---|---|"]
        lines += [f"| {name} | {told} |" for name, told in {**self.facts, **self.counts}.items()]
        lines += ["", "| goal | found against it |", "|---|---|"]
        lines += [f"| {goal.name} | {_verdict(goal)} |" for goal in self.goals]
        for goal in self.goals:
            lines += _shown(goal, "- ")
        return "\n".join(lines) + "\n"

    def as_json(self) -> str:
        """Return the complete result as JSON."""
        told: dict[str, Any] = {
            "facts": self.facts,
            "counts": self.counts,
            "numbers": self.numbers,
            "goals": {goal.name: goal.found for goal in self.goals},
            "is_met": self.is_met,
        }
        return json.dumps(told, indent=2) + "\n"

    def write(self, path: Path) -> None:
        """Write a file in the format of its extension."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.as_json() if path.suffix == ".json" else self.as_markdown())


def counts_of(evidence: Evidence, network: Network) -> dict[str, str]:
    """Return what happened, as counted by the clients and stored in the rows."""
    counts = network.counts
    starts = [seconds for service in network.services for seconds in service.starts]
    statuses = [run["status"] for run in evidence.runs]
    resumes = sum(telling.resumes for message in evidence.messages for telling in message.tellings)
    stops = [stop.seconds for stop in evidence.stops]
    failed = ", ".join(f"{code} {count}" for code, count in failures(evidence).items())
    per_service = ", ".join(
        f"{sum(kill.service == name for kill in evidence.kills)} of {name}"
        for name in sorted({kill.service for kill in evidence.kills})
    )
    down = [crash.back_at - crash.at for crash in evidence.crashes]
    return {
        "messages, each sent three times": f"{counts['messages']}, of which {len(evidence.messages)} accepted",
        "conversations": str(len(evidence.shown)),
        "runs": ", ".join(f"{statuses.count(status)} {status}" for status in sorted(set(statuses))),
        "failed runs by reason": failed or "none",
        "attempts at one run, at most": str(max((run["attempt"] for run in evidence.runs), default=0)),
        "kills in mid-turn": f"{len(evidence.kills)} ({per_service})" if evidence.kills else "0",
        "last steps of the runs they interrupted": ", ".join(
            f"{kind} {count}" for kind, count in sorted(last_steps(evidence).items())
        ),
        "crashes of the database": f"{len(down)}, back after at most {max(down):.1f} s" if down else "0",
        "starts until ready": f"{len(starts)}: median {statistics.median(starts):.1f} s, max {max(starts):.1f} s",
        "orderly stops": f"{len(stops)}, at most {max(stops):.1f} s" if stops else "0",
        "streams dropped by clients": str(counts["drops"]),
        "streams resumed": str(resumes),
        "cancels": str(counts["cancels"]),
        "interrupted runs claimed again": median_and_most(takeovers(evidence)),
        "waiting runs claimed in their turn": median_and_most(turns(evidence)),
        "cancelled runs ended": median_and_most(cancels(evidence)),
    }


def numbers_of(evidence: Evidence, network: Network) -> dict[str, int]:
    """Return how much happened."""
    return {
        "messages": len(evidence.messages),
        "kills": len(evidence.kills),
        "crashes": len(evidence.crashes),
        "stops": len(evidence.stops),
        "drops": network.counts["drops"],
        "cancels": network.counts["cancels"],
        "takeovers": len(takeovers(evidence)),
        "failed": sum(failures(evidence).values()),
    }


def machine() -> str:
    """Describe this machine."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def _verdict(goal: Goal) -> str:
    return f"MISSED, {len(goal.found)}" if goal.found else "nothing"


def _shown(goal: Goal, mark: str) -> list[str]:
    if not goal.found:
        return []
    more = [f"{mark}… and {len(goal.found) - MOST_SHOWN} more"] if len(goal.found) > MOST_SHOWN else []
    return ["", f"{goal.name}:", *(f"{mark}{found}" for found in goal.found[:MOST_SHOWN]), *more]
