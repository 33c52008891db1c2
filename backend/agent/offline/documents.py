r"""The offline model's rules and plans for documents. It finds and quotes passages, and refuses what it cannot do.

`ruled` decides from the user's words alone which clauses are about documents. `Librarian` has the plans for such
clauses. Text from a document, a file name or a heading is only quoted and never treated as an instruction.
"""

import re
from collections.abc import Generator
from typing import Any

from backend.agent.offline import patterns as said
from backend.agent.offline import selection
from backend.agent.offline.plan import Call, Plan, Result, Rule
from backend.agent.offline.planner import Planner
from backend.agent.offline.quotes import content_of, quoted, quotes
from backend.runs.citations import Passage, passages_in

STRONG = 0.23
"""The lowest score, from 0 to 1, at which the best passage counts as an answer."""
BEGINNING = 400
"""How many characters are quoted from the beginning of a document that the user opens."""

NOTHING = (
    'I found nothing about that in your documents. Ask with words that the passage would have, or say "list my '
    'documents" to see what there is.'
)
WHY_NOTHING = {
    "no_documents": "You have no documents yet. Upload some on the page.",
    "still_indexing": "I found nothing about that yet: documents of yours are still being indexed. Ask again soon.",
    "no_text": "I found nothing about that: your documents have no text, as scanned pages have none.",
}
CITED = "This is what I found in your documents:"
OPENED = "I quote only the beginning. Ask me what you want to know, or look at the document on the page."
NO_SUMMARY = "I can't summarize: I am the offline rules model. But I can quote how it begins."
NO_DELETE = "I can't delete documents. On the page you can: press Delete below its name."
UPLOAD = "I can't take files here. Upload them on the page."
HAS_THEM = "Its {} on your list already"
NO_ACTIONS = 'I found no tasks in it. I look for lines such as "TODO: …" and for lists under a heading such as "To do".'
ASK_WHICH = 'Which document do you mean? Say its number, for example "open document 3".'
MORE_HELP = """
- "What does the contract say about the notice period?" or "Search my documents for warranty"
- "List my documents", "Open document 2" or "Create tasks from document 2\""""


def _re(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


# fmt: off
_DOCUMENTS = r"(?:documents|files|pdfs|uploads)"
_ONE = (r"(?!.*\b(?:tasks?|to-?dos?)$|.*\btasks? )(?P<d>(?:(?:the|my|this|that) )?(?:document\b.{0,120}"
        r"|(?:file|pdf)(?: (?:number )?#?\d+)?)|\S.{0,120}\.(?:pdf|docx|pptx|xlsx|csv|html?|md|txt))")
_FILE = (r"(?P<d>(?:(?:the|my|this|that) )?(?:document\b.{0,120}?|(?:file|pdf)(?: (?:number )?#?\d+)?)"
         r"|\S.{0,120}?\.(?:pdf|docx|pptx|xlsx|csv|html?|md|txt))")
_MAKE = r"(?:add|create|make|extract|get|pull|take|generate|collect|gather|identify|import|copy|write|build|draft"
_SOME = r"(?: (?:out|all|any|every|the|some|my|an?|new|open|of))*"
_ITEMS = r"(?:(?:task|to-?do|check) ?lists?|tasks?|to-?dos?|to-?do items|action (?:items?|points?)|actions|next steps)"
# The possible ends of a request to extract tasks: "… and add them as tasks", "… to my list".
_ADD_THEM = (r"(?:,? (?:and |then |and then )?(?:add|create|make|put|turn|save|write|note)\b.*"
             r"|,? (?:as|to|into|on|onto|in) (?:my |the |new )*(?:tasks?|to-?dos?|list|task list|to-?do list"
             r"|reminders?))?")
RULES = tuple((plan, detail, _re(pattern)) for plan, detail, pattern in (
    ("list_documents", "",
     rf"(?:(?:list|show|display|see|view|count)(?: me)? )?(?:all )?(?:of )?(?:my|the|our) (?:uploaded )?{_DOCUMENTS}"
     rf"(?: please)?|(?:list|show) {_DOCUMENTS}"
     rf"|(?:what|which|how many) {_DOCUMENTS} (?:(?:do|have|did) i (?:have|uploaded?|got)|are there)(?: here)?"),
    ("search", "",
     rf"(?:search|look|find|show|list|check)(?: me)?(?: in| through| inside)?(?: all)?(?: my| the)? {_DOCUMENTS}"
     r"(?: for| about| on| containing| mentioning| with)? (?P<q>.+)"),
    ("search", "",
     rf"(?:search|look|find)(?: for)? (?P<q>.+?) (?:in|inside|within|through) (?:all )?(?:my |the )?{_DOCUMENTS}"),
    ("make_tasks", "", rf"{_MAKE}|find|list|show|what are)(?: me)?{_SOME} {_ITEMS} (?:that are )?(?:out of|from|of"
                       rf"|in) {_FILE}{_ADD_THEM}"),
    ("make_tasks", "", rf"(?:what|which) {_ITEMS} (?:are|are there) in {_FILE}{_ADD_THEM}"),
    ("make_tasks", "", rf"{_MAKE})(?: me)?{_SOME} {_ITEMS} (?:out of|from) (?P<d>\S.{{0,120}}?){_ADD_THEM}"),
    ("make_tasks", "",
     rf"(?:read|open|go through|scan|process|look (?:at|through|into)|check|search"
     rf"|take) {_FILE},? (?:and )?(?:then )?{_MAKE}|list|put)"
     rf"\b.*\b(?:{_ITEMS}|list|them|it).*"),
    ("make_tasks", "", r"turn (?P<d>\S.{0,120}?) into (?:tasks|to-?dos|an? (?:task|to-?do) list)"),
    ("open", NO_SUMMARY,
     rf"(?:summari[sz]e|sum up|(?:give me |write )?an? (?:short |brief )?(?:summary|overview) (?:of|about)) {_ONE}"),
    ("say", NO_DELETE,
     rf"(?:delete|remove|erase|trash|get rid of) (?:{_ONE}|(?:all )?(?:of )?(?:my |the )?{_DOCUMENTS})"),
    ("say", UPLOAD,
     rf"(?:how (?:do|can|should) i )?(?:upload|attach|import)(?: an?| my| the| some| new)* "
     rf"(?:document|file|pdf|{_DOCUMENTS})(?: here)?"),
    ("open", "",
     r"(?:read|open|show|view|display|quote|see|get)(?: me)?(?: the)?(?: (?:beginning|start|text|content) of)?"
     rf"(?: page \d{{1,6}} (?:of|in|from))? {_ONE}"),
))
_ASKS = _re(r"(?:what|which|who|whom|whose|when|where|why|how|is|are|was|were|do|does|did|can|could|should|may|must|has"
            r"|have|had|will|would|in (?:what|which)|tell me|explain|describe|according to|give me|list|name)\b.*")
_OF_DOCUMENTS = _re(r".*\b(?:documents?|pdfs?|files?|according to|\w+\.(?:pdf|docx|pptx|xlsx|csv|html?|md|txt))\b")
_OF_TASKS = _re(r".*\b(?:tasks?|to-?dos?|remind(?:er)?s?|my list|docutalk|you|your)\b")
_NO_NAME = _re(r"\b(?<!\.)(?:the|my|this|that|document|file|pdf|called|named)\b(?!\.)")
# fmt: on


def ruled(message: str, clauses: list[str], rules: list[Rule], tools: set[str]) -> list[tuple[str, Rule]]:
    """Return each clause with its rule. If document tools are available, clauses about documents get a document rule.

    If every clause is a question for the documents, the whole message is treated as one question.
    """
    if "search_documents" not in tools:
        return list(zip(clauses, rules, strict=True))
    is_question = "?" in message
    found: list[tuple[str, Rule]] = []
    for clause, rule in zip(clauses, rules, strict=True):
        words = said.shown(clause)
        if (of_documents := _rule(words)) is not None:
            found.append((clause, of_documents))
        elif _asks(words, rule, is_question=is_question):
            found.append((clause, ("look_up", rule[1], words)))
        else:
            found.append((clause, ("say", said.HELP + MORE_HELP, None) if rule[1] == said.HELP else rule))
    if len(found) > 1 and all(rule[0] == "look_up" for _, rule in found):
        return [(message, ("look_up", found[0][1][1], said.shown(message)))]
    return found


def _rule(clause: str) -> Rule | None:
    for words in (clause, said.POLITE.sub("", clause, count=1)):
        for plan, detail, pattern in RULES:
            if match := pattern.fullmatch(words):
                return plan, detail, match
    return None


def _asks(words: str, rule: Rule, *, is_question: bool) -> bool:
    """Return whether a clause asks a question that documents may answer.

    `rule` is the task rule that the clause matched.
    """
    name, detail, _ = rule
    if not (is_question or _ASKS.fullmatch(words)) or (_OF_TASKS.match(words) and not _OF_DOCUMENTS.match(words)):
        return False
    if detail in (said.HELP, said.WHO):
        return len(content_of(words)) > 1
    if name == "say" and detail != said.NO_ORDER:
        return detail in (said.UNSURE, said.BEYOND, said.QUESTION)
    if name == "show" or detail == said.NO_ORDER:
        # "What is pending?" is about tasks. "What is the next step after a leak?" is not, because the task rules know
        # only one of its words.
        is_more = bool(selection.wanted(words, is_question=True).words)
        return bool(_OF_DOCUMENTS.match(words)) or (not said.SAYS_TASK.search(words) and is_more)
    return name == "add" and is_question and bool(re.match(r"(?i)(?:have|has|must|should|need|ought)\b", words))


class Librarian(Planner):
    """The plans for documents."""

    def look_up(self, question: str, otherwise: str) -> Plan:
        """Answer a question by quoting passages, or answer that no passage was found.

        If the user has no documents, the answer is `otherwise`, provided that it is not empty.
        """
        (result,) = yield [("search_documents", {"query": question})]
        if isinstance(result, str):
            return result
        reason = result.get("reason")
        if reason == "no_documents" and otherwise:
            return otherwise
        scores = {
            row.get("id"): row.get("score") for row in _rows(result, "passages") if isinstance(row.get("id"), int)
        }
        known = [(passage, scores.get(passage.id)) for passage in passages_in([result]).values()]
        found = [(passage, float(score)) for passage, score in known if isinstance(score, int | float)]
        if found and found[0][1] >= STRONG:
            return CITED + "".join(f"\n- {_named(passage)}: {quote}" for passage, quote in quotes(question, found))
        return WHY_NOTHING.get(str(reason), NOTHING)

    def search(self, match: re.Match[str], _: str) -> Plan:
        """Search the documents for the user's words."""
        return self.look_up(match["q"], "")

    def list_documents(self, _: re.Match[str], __: str) -> Plan:
        """List the documents."""
        (result,) = yield [("list_documents", {})]
        if isinstance(result, str):
            return result
        if not (documents := _rows(result, "documents")):
            return WHY_NOTHING["no_documents"]
        more = "\n\nThere are more on the page." if result.get("next_cursor") else ""
        count = f"{len(documents)} document" + "s" * (len(documents) != 1)
        return f"You have {'at least ' * bool(more)}{count}:" + "".join(map(_listed, documents)) + more

    def open(self, match: re.Match[str], apology: str) -> Plan:
        """Quote the beginning of a document or of a named page."""
        number = yield from self._number(match["d"])
        if isinstance(number, str):
            return number
        page = re.search(r"(?i)\bpage (\d{1,6})\b", match[0])
        (result,) = yield [("read_document", {"document_id": number, **({"page": int(page[1])} if page else {})})]
        if isinstance(result, str):
            return result
        passages = list(passages_in([result]).values())
        if not passages:
            return f"Document {number} has no text on this page."
        begins = quoted(passages[0].text[: BEGINNING + 1], most=BEGINNING)
        told = f"{_named(passages[0])}, begins: {begins} [p{passages[0].id}]"
        return "\n\n".join(filter(None, [apology, told, OPENED]))

    def make_tasks(self, match: re.Match[str], _: str) -> Plan:
        """List the tasks found in a document, and add these tasks if the user says yes."""
        number = yield from self._number(match["d"])
        if isinstance(number, str):
            return number
        (result,) = yield [("create_tasks_from_document", {"document_id": number, "dry_run": True})]
        if isinstance(result, str):
            return result
        if not (tasks := _rows(result, "tasks")):
            made = result.get("made_before")
            return (yield from self._had(number, made)) if isinstance(made, int) and made > 0 else NO_ACTIONS
        these = f"these {len(tasks)} tasks" if len(tasks) > 1 else "this task"
        yes = said.YES["add_task", len(tasks) == 1]
        return self._leave(
            f'Shall I add {these}? Say "yes" to go on.' + "".join(map(_task, tasks)),
            lambda words: self._made(number) if yes.fullmatch(words) else None,
        )

    def _made(self, number: int) -> Plan:
        """Add the tasks found in a document, and list the new tasks."""
        (result,) = yield [("create_tasks_from_document", {"document_id": number, "dry_run": False})]
        if isinstance(result, str):
            return result
        tasks = _rows(result, "tasks")
        return f"Added {len(tasks)} task{'s' * (len(tasks) != 1)}:" + "".join(map(_task, tasks))

    def _had(self, document_id: int, count: int) -> Plan:
        """Answer that a document's tasks are already on the list, with the tasks' numbers if all of them are found."""
        (result,) = yield [("list_tasks", {"status": "all"})]
        rows = _rows(result, "tasks") if isinstance(result, dict) else []
        numbers = [
            str(row["id"]) for row in rows if row.get("document_id") == document_id and isinstance(row.get("id"), int)
        ]
        sentence = HAS_THEM.format(f"{count} tasks are" if count != 1 else "one task is")
        return f"{sentence}: {', '.join(numbers)}." if len(numbers) == count else f"{sentence}."

    def _number(self, text: str) -> Generator[list[Call], list[Result], int | str]:
        """Return the number of the document that a text names, or a sentence for the user if the text is unclear."""
        named = re.fullmatch(r"(?i)\D*\b(?:document|file|pdf)(?: number| no\.?)? ?#?(\d{1,9})(?:,? page \d+)?", text)
        if named:
            return int(named[1])
        words = re.findall(r"[\w.-]*\w", _NO_NAME.sub("", text))
        (result,) = yield [("list_documents", {"query": " ".join(words)} if words else {})]
        if isinstance(result, str):
            return result
        found = [one["id"] for one in _rows(result, "documents") if isinstance(one.get("id"), int)]
        return found[0] if len(found) == 1 else ASK_WHICH


def _rows(result: dict[str, Any], name: str) -> list[dict[str, Any]]:
    rows = result.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _clean(text: object) -> str:
    """Return a name or title on one line, with its brackets replaced, so that it cannot imitate a citation mark."""
    return said.on_one_line(text).replace("[", "(").replace("]", ")")[:200]


def _named(passage: Passage) -> str:
    page = f", page {passage.page_number}" if passage.page_number is not None else ""
    return f"{_clean(passage.filename) or f'Document {passage.document_id}'}{page}"


def _listed(document: dict[str, Any]) -> str:
    pages, status = document.get("pages"), document.get("status")
    told = f"{pages} page{'s' * (pages != 1)}" if isinstance(pages, int) else ""
    state = {"ready": "", "failed": f"failed: {_clean(document.get('reason') or '')}"}.get(str(status), "being indexed")
    return f"\n- Document {document.get('id')}: " + ", ".join(
        filter(None, [_clean(document.get("filename")), told, state])
    )


def _task(task: dict[str, Any]) -> str:
    number = f"Task {task['task_id']}: " if isinstance(task.get("task_id"), int) else ""
    due = f", due {_clean(task['due_understood'])}" if task.get("due_understood") else ""
    page = f" (page {task['page_number']})" if isinstance(task.get("page_number"), int) else ""
    return f'\n- {number}"{_clean(task.get("title"))}"{due}{page}'
