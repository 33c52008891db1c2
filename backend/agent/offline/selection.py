"""Find the tasks that a person's words mean: by number, by words in a title, or all tasks of a kind.

No word is ignored: if a word is not understood, only tasks that contain it are selected.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from backend.agent.offline import dates
from backend.agent.offline import patterns as said

Task = dict[str, Any]

MOST_NUMBERS = 50
"""The most tasks in a range of numbers such as "3-7"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The tasks described by words such as "all high priority work tasks due tomorrow"."""

    filters: dict[str, str]
    """Arguments for list_tasks."""
    level: str = ""
    words: list[str] = field(default_factory=list)
    """Words that the title, the description or the tags must contain."""
    unclear: str = ""
    """Words that look like a date or a condition but are not understood."""

    @property
    def is_all(self) -> bool:
        """Whether all tasks are meant."""
        return self.filters == {"status": "all"} and not self.level and not self.words

    def rendered(self) -> str:
        """Return the selection in words, such as 'completed tasks tagged "home"'."""
        due = self.filters.get("due_before", "")
        parts = ["overdue" if due == "now" else self.filters["status"].replace("all", "")]
        parts += [f"{self.level}-priority" if self.level else "", "tasks"]
        if due not in {"", "now"}:
            parts.append(f"due {due}" if re.match("(?i)(?:in|within|at) ", due) else f"due by {due}")
        parts += [f'{words} "{self.filters[name]}"' for name, words in said.ASKED.items() if name in self.filters]
        parts += ["with " + ", ".join(f'"{word}"' for word in self.words)] if self.words else []
        return " ".join(filter(None, parts))

    def keeps(self, task: Task) -> bool:
        """Return whether a task has the wanted priority and words, which `filters` do not cover."""
        tags = task.get("tags")
        of_task = [*words_of(task.get("title")), *words_of(task.get("description"))]
        of_task += map(str, tags) if isinstance(tags, list) else []
        return self.level in ("", task.get("priority")) and all(_among(of_task, word) for word in self.words)


def wanted(text: str, *, is_question: bool = False) -> Wanted:
    """Parse a selection or a question. Words that are not understood become words that the tasks must contain."""
    rest, filters, level, unclear = f" {text.strip()} ", {"status": "all"}, "", ""
    if found := said.QUERY.search(rest):
        filters["query"] = found["query"].translate(said.SHOW).strip(" \"'")
        unclear = found["query"] if re.search(r"(?i)\bor\b", found["query"]) else ""
        rest = rest[: found.start()]
    if found := said.TAGGED.search(rest):
        filters["tag"] = found["tag"].lower()
        rest = _without(rest, found)
    rest, due, undated = _without_date(rest)
    unclear = unclear or undated
    if found := said.OF_RANK.search(rest):
        level = level_of(found[0])
        rest = _without(rest, found)
    to_do, done = said.TO_DO.search(rest), said.WAS_DONE.search(said.TO_DO.sub(" ", rest))
    if found := said.OVERDUE.search(rest):
        due = due or "now"
        unclear = unclear or (found[0] if done else "")
    rest = said.WAS_DONE.sub(" ", said.TO_DO.sub(" ", said.OVERDUE.sub(" ", rest)))
    if due and (to_do or not done):
        filters |= {"status": "pending", "due_before": due}
    elif due:
        unclear = unclear or due
    elif bool(to_do) != bool(done):
        filters["status"] = "pending" if to_do else "completed"
    known = said.FILLER | said.ASKING if is_question else said.FILLER
    words = [word for word in re.findall(r"[\w'-]+", rest.translate(said.SHOW).lower()) if word not in known]
    if condition := said.CONDITION.search(rest):
        unclear = unclear or condition[0]
    return Wanted(filters=filters, level=level, words=words, unclear=unclear)


def level_of(words: str) -> str:
    """Return the priority named by words such as "urgent" or "low priority"."""
    found = re.search(r"\b(?:medium|normal|low|lowest|no|none)\b", words.lower())
    return {"normal": "medium", "no": "none", "lowest": "low"}.get(found[0], found[0]) if found else "high"


def numbers_in(text: str) -> list[int]:
    """Return the task numbers in a text such as "tasks 3-5 and #7"; [] if the text names anything else.

    "Two tasks" and "2 tasks" have no task numbers.
    """
    if re.search(r"\d[,.' ]\d{3}(?!\d)", text):
        return []  # "1,000" is one number, and it is not a task's number.
    plain = re.sub(r"#\s?(?=\d)", "task ", re.sub(r"[,&()+]", " ", text.lower()))
    plain = re.sub(r"(\d)\s*(?:[-\u2013\u2014]|\bthrough\b|\bthru\b)\s*(?:task )?(\d)", r"\1..\2", plain)
    if re.search(r"\btasks\b", plain):
        plain = re.sub(r"(?:\bfrom )?\b(\d+) to (\d+)\b", r"\1..\2", plain)
    numbers: list[int] = []
    is_named = False
    for word in plain.split():
        if span := re.fullmatch(r"([0-9]{1,9})\.\.([0-9]{1,9})", word):
            first, last = int(span[1]), int(span[2])
            if not first < last < first + MOST_NUMBERS:
                return []
            numbers += range(first, last + 1)
        elif re.fullmatch(r"[0-9]{1,18}", word):
            numbers.append(int(word))
        elif word in said.NUMBERS and is_named:
            numbers.append(said.NUMBERS[word])
        elif word in said.NUMBERED:
            if numbers and not is_named:
                return []  # "2 tasks" is a count of tasks.
            is_named = True
        elif word not in {"the", "my", "and", "both", "also", "with"}:
            return []
    return list(dict.fromkeys(numbers))


def words_of(text: object) -> list[str]:
    """Return a text's words in lower case, without the words that do not help to identify a task."""
    return [word for word in re.findall(r"\w+", str(text or "").translate(said.SHOW).lower()) if word not in said.STOP]


def matching(text: str, tasks: Iterable[Task]) -> tuple[list[Task], bool]:
    """Return the tasks whose title is this text or, if there are none, the tasks whose title has all its words.

    Also return whether the words match exactly. In an inexact match, only the endings of words differ: "groceries"
    matches "grocery", but "planet" does not match "plan".
    """
    words = words_of(text)
    titles = [(task, words_of(task.get("title"))) for task in tasks]
    exact = [task for task, title in titles if title == words]
    same = exact or [task for task, title in titles if all(word in title for word in words)]
    if same or not words:
        return (same, True) if words else ([], True)
    return [task for task, title in titles if all(_among(title, word) for word in words)], False


def without_dates(text: str) -> str:
    """Return a text without the words that give a time, such as "morning" in "my morning meetings"."""
    return " ".join(word for word in text.split() if not said.SAYS_WHEN.fullmatch(word.strip(",.;:'\"")))


def _among(words: Iterable[str], word: str) -> bool:
    bases = _bases(word)
    return any(bases & _bases(each) for each in words)


def _bases(word: str) -> set[str]:
    """Return the possible base forms of a word: the word itself, and the word without its ending."""
    found = {word, word.removesuffix("'s")}
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is", "news")):
        found |= {word[:-1]}
        if word.endswith("ies"):
            found |= {f"{word[:-3]}y"}
        elif word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
            found |= {word[:-2]}
    for ending in ("ing", "ed"):
        stem = word.removesuffix(ending)
        if stem == word or not re.search("[aeiouy]", stem) or len(stem) < 3:
            continue
        if re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", stem):
            # After one short vowel, a final consonant is doubled before an ending: "car" would become "carring". So
            # "caring" comes from "care".
            found |= {f"{stem}e"}
        elif re.search(r"([^aeiouy])\1$", stem):
            found |= {stem, stem[:-1]}
        else:
            found |= {stem, f"{stem}e"} | ({f"{stem[:-1]}y"} if stem.endswith("i") else set())
    return found


def _without(text: str, found: re.Match[str]) -> str:
    return f"{text[: found.start()]} {text[found.end() :]}"


def _is_date(doubt: dates.Doubt, text: str) -> bool:
    """Return whether doubtful words in a selection mean a date.

    The words mean a date in "my Friday tasks", but not in "every task" and "the Friday report".
    """
    if doubt.words.lower() in {"every", "each"}:
        return False
    return not doubt.is_name or re.match(r"(?i) (?:tasks|to-?dos|items|list)\b", text[doubt.end :]) is not None


def _without_date(text: str) -> tuple[str, str, str]:
    """Return the text without its date, the date, and words that look like a date but are not understood."""
    text = re.sub(r"(?i)\b((?:to|mon|tues|wednes|thurs|fri|satur|sun)day|tomorrow|tonight)'s\b", r"\1", text)
    spans = [doubt for doubt in dates.doubts(text, says_due=False) if _is_date(doubt, text)]
    if not spans:
        return text, "", ""
    first = spans[0]
    if len(spans) > 1 or first.repeats or not first.due:
        return text[: first.start], "", first.words
    return f"{text[: first.start]} {text[first.end :]}", first.due, ""
