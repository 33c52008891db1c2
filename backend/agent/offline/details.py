"""Extract a task's details from the user's words: title, due date, priority, tags, and the task to change."""

import re

from backend.agent.offline import dates, selection
from backend.agent.offline import patterns as said
from backend.agent.offline.plan import Fields


def parts_of(text: str) -> list[str]:
    """Split a text into the tasks that it lists; return [] if it is unclear where one task ends."""
    if ";" in text:
        return text.split(";")
    parts = re.split(r",(?! *\d{4}\b) *", text)
    if len(parts) > 1 and parts[-1].startswith("and "):
        return [*parts[:-1], parts[-1].removeprefix("and ")]
    first, *more = parts[-1].split(" and ", maxsplit=1)
    if not more:
        return parts
    listed = [*parts[:-1], first, *more]
    lengths = [len(part.split()) for part in listed]
    # "Buy mac and cheese" may be one task, so one part with several words and one with a single word are unclear. "milk
    # and eggs" are clearly two tasks.
    are_clear = min(lengths[-2:]) > 1 or max(lengths) == 1
    return listed if are_clear and (len(parts) > 1 or " and " not in more[0]) else []


def details_of(text: str) -> tuple[str, Fields]:
    """Split the due date, the priority and the tags off the ends of a text; return the rest and these fields."""
    fields: Fields = {}
    while True:
        if match := next((match for tail in said.TAILS if (match := tail.search(text))), None):
            text, name = text[: match.start()].rstrip(" ,;-\u2013\u2014"), str(match.lastgroup)
            if name == "tags":
                fields["tags"] = [*tags_of(match[name]), *fields.get("tags", [])]
            else:
                fields.setdefault("priority", selection.level_of(match["priority"]))
        elif "due" not in fields and (cut := dates.cut_due(text)):
            text, fields["due"] = cut
        else:
            break
    if "due" not in fields and (cut := dates.cut_leading_due(text)):
        text, fields["due"] = cut
    return text, fields


def tags_of(words: str) -> list[str]:
    """Return the tags in a text, without their hash signs."""
    return [word.strip("#") for word in re.split(r"[\s,&]+|\band\b", words) if word.strip("#")]


def has_date(text: str) -> bool:
    """Return whether a text has a due date, or words that may be a date."""
    rest, fields = details_of(text)
    return "due" in fields or bool(dates.doubts(rest))


def new_task(text: str) -> tuple[Fields, list[dates.Doubt]]:
    """Return the most likely arguments for add_task, and the doubtful dates in the text."""
    rest, fields = details_of(text)
    rest = said.LINK.sub("", said.ON_LIST.sub("", rest), count=1)
    found = dates.doubts(rest, says_due="due" not in fields)
    unsure = [doubt for doubt in found if not doubt.is_name]
    if len(unsure) == 1 and unsure[0].due and "due" not in fields:
        rest = f"{rest[: unsure[0].start].rstrip(' ,;:(')} {rest[unsure[0].end :].lstrip(' ,;:)')}"
        fields["due"] = unsure[0].due
        rest = said.LINK.sub("", rest, count=1)
    return {"title": title_of(rest), **fields}, found


def why(doubt: dates.Doubt) -> str:
    """Return the sentence that explains to the user what is doubtful."""
    sentence = said.REPEATED if doubt.repeats else said.PERHAPS_DUE if doubt.due else said.DOUBTFUL
    return sentence.format(said.shown(doubt.words))


def title_of(text: str, *, capital: bool = True) -> str:
    """Return a title. Quoted text stays unchanged. Other text gets a capital first letter if `capital` is True."""
    text = text.strip(" ,.;:!?-")
    if quoted := said.VERBATIM.fullmatch(text):
        return said.shown(quoted[2]).strip()
    return said.shown(text[:1].upper() + text[1:] if capital else text)


def target_of(text: str, *, numbered: bool) -> tuple[str, str, str]:
    """Return the task to change, the field to change and the new value, such as "task 1", "title" and "Buy tea"."""
    of = said.FIELD_OF.match(text)
    rest = text[of.end() :] if of else text
    split = said.VALUE.fullmatch(rest) or (said.NUMBER_VALUE.fullmatch(rest) if numbered else None)
    target, value = (split[1], split[2]) if split else (rest, "")
    its = None if of else said.ITS_FIELD.search(target)
    return target[: its.start()] if its else target, _field_of(of or its), value


def _field_of(found: re.Match[str] | None) -> str:
    """Return the name of the field in a match, or ""."""
    name = found["field"].lower() if found else ""
    return "tags" if name.startswith("tag") else said.FIELDS.get(name, name)
