"""Split a message into clauses, and find the rule for each clause."""

import re
from itertools import dropwhile

from backend.agent.offline import dates, selection
from backend.agent.offline import patterns as said
from backend.agent.offline.details import details_of, has_date
from backend.agent.offline.plan import Rule


def hidden(line: str) -> str:
    """Return a line without its bullet, with straight quotes, and with quoted text hidden from every pattern."""
    words = said.on_one_line(said.BULLET.sub("", line, count=1).translate(said.STRAIGHT))
    return said.QUOTES.sub(lambda quoted: quoted[0].translate(said.HIDE), words)


def clauses_of(text: str) -> list[str]:
    """Split a message into clauses, one for each command.

    A new task's title is not split, nor are the words after "don't". "Extract the action items from a file and add them
    as tasks" stays one clause. A date stays with its words: "Tomorrow, remind me to call Ida" and "Add a task to buy
    tea and remind me tomorrow" are one clause each.
    """
    first, *rest = said.CUT.split(text)
    clauses = [first]
    for cut, piece in zip(rest[::2], rest[1::2], strict=True):
        if cut.strip() == "," and clauses[-1].strip() and dates.is_made_of_dates(clauses[-1]):
            clauses[-1] += cut + piece
            continue
        reminds = said.REMINDS.fullmatch(piece.rstrip(" .!?"))
        if reminds and dates.is_made_of_dates(details_of(reminds["when"])[0]) and rule_of(clauses[-1])[0] != "show":
            clauses[-1] += f" {reminds['when'].strip()}" if has_date(reminds["when"]) else cut + piece
            continue
        command = said.NO_VERB if ": " in clauses[-1] else said.COMMAND
        title = not command.match(piece) and rule_of(clauses[-1])[0] == "add"
        one_wish = said.EXTRACTS.match(clauses[-1]) and said.AS_TASKS.fullmatch(piece.rstrip(" .!?"))
        if one_wish or ((title or said.DONT.match(clauses[-1])) and cut.strip()[-1] not in ".!?;"):
            clauses[-1] += cut + piece
        else:
            clauses.append(piece)
    cleaned = [said.COURTESY.sub("", clause.strip(" ,;.!?")) for clause in clauses]
    return list(dict.fromkeys(clause for clause in cleaned if clause))


def rule_of(clause: str) -> Rule:
    """Return the rule that fits a clause: the first one in the table."""
    for words in (clause, said.POLITE.sub("", clause, count=1), _with_date_last(clause)):
        for plan, detail, pattern in said.RULES:
            if match := pattern.fullmatch(words):
                return plan, detail, match
    return "say", said.UNSURE, None


def asked(rule: Rule, clause: str, message: str) -> Rule:
    """Return the rule for a clause, or another rule if the clause is only a question about a change.

    "Task 3 is done" completes the task. "Task 3 is done?" only shows the task.
    """
    name, detail, match = rule
    is_question = re.search(rf"{re.escape(clause)}[\s.!]*\?", message) is not None
    if name in said.UNDOES and is_question and said.MAY_UNDO.match(clause):
        return "say", said.CAN_UNDO, None
    if name == "undo" and is_question and not said.ASKS_YOU.match(message):
        return "regret", "", match
    is_statement = detail in {"complete_task", "reopen_task"} and said.STATES.match(match[0])
    if not is_statement or not is_question:
        return rule
    is_kind = said.SEVERAL.match(match["t"]) and not selection.numbers_in(match["t"])
    return ("show", "", match) if is_kind else ("act", "get_task", match)


def without_oops(rules: list[tuple[str, Rule]]) -> list[tuple[str, Rule]]:
    """Drop clauses such as "oops" and "stop" before a clause that reopens or undoes: that clause says what to do."""
    rest = list(dropwhile(lambda each: said.OOPS.fullmatch(each[0]) or said.NO.fullmatch(each[0]), rules))
    return rest if rest and rest[0][1][0] in {"reopen", *said.UNDOES} else rules


def _with_date_last(clause: str) -> str:
    """Turn "tomorrow remind me to call Ida" into "remind me to call Ida tomorrow"."""
    cut = dates.cut_leading_due(clause)
    return " ".join(cut) if cut else clause
