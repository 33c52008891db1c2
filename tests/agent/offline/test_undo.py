"""Undo in the offline model, with the real tools on a real database."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.agent.offline.mind import respond
from backend.errors import DocuTalkError, for_models
from backend.identity.authenticator import Authenticator
from backend.identity.caller import Caller
from backend.operations.perform import Operations
from backend.postgres.database import Database
from backend.tasks.tools import (
    add_task,
    complete_task,
    delete_task,
    get_task,
    list_tasks,
    reopen_task,
    update_task,
)
from backend.workspace.undo import undo
from tests.agent.offline.test_tasks import JSON, Conversation, TaskList
from tests.agent.talk import say
from tests.documents.filed import file

TOOLS = {
    tool.name: tool
    for tool in (add_task, complete_task, delete_task, get_task, list_tasks, reopen_task, update_task, undo)
}


class RealTasks(TaskList):
    """The real tools, called for one user."""

    def __init__(self, operations: Operations, caller: Caller) -> None:
        self.operations, self.caller = operations, caller

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        try:
            return json.dumps(self.operations.perform(TOOLS[name], arguments, self.caller).result)
        except DocuTalkError as error:
            return for_models(error.result)

    def tools(self, *names: str) -> list[Any]:
        return [self._tool(name) for name in names or TOOLS]


class Chat:
    """A conversation with the rules, whose calls the real tools answer."""

    def __init__(self, tasks: RealTasks) -> None:
        self.tasks = tasks
        self.conversation = Conversation(tasks)

    def say(self, words: str) -> str:
        """Return the answer."""
        return self.conversation.say(words)[1]

    def titles(self) -> list[str]:
        """Return the titles of the user's tasks."""
        return [task["title"] for task in json.loads(self.tasks.call("list_tasks", {}))["tasks"]]


@pytest.fixture
def tasks(operations: Operations, alice: Caller) -> RealTasks:
    return RealTasks(operations, alice)


@pytest.fixture
def chat(tasks: RealTasks) -> Chat:
    return Chat(tasks)


@pytest.mark.spec("OFFLINE-22", "OFFLINE-32")
def test_undo_goes_back_turn_by_turn_and_redo_comes_forward(guest: httpx.Client) -> None:
    conversation: int | None = None

    def answer_to(words: str) -> str:
        nonlocal conversation
        answer = say(guest, words, conversation).json()
        conversation = answer["conversation_id"]
        return str(answer["response"])

    def titles() -> list[str]:
        return [task["title"] for task in guest.get("/api/tasks").json()["tasks"]]

    answer_to("Add a task to buy milk and a task to buy bread")
    answer_to("Delete the milk task")
    assert titles() == ["Buy bread"]

    assert answer_to("Undo that") == "Undone: task 1 “Buy milk” is back."
    assert sorted(titles()) == ["Buy bread", "Buy milk"]
    assert answer_to("Undo that") == "Undone: task 2 “Buy bread” is removed.\nUndone: task 1 “Buy milk” is removed."
    assert titles() == []
    assert answer_to("Redo") == "Done again: task 1 “Buy milk” is back.\nDone again: task 2 “Buy bread” is back."
    assert answer_to("Redo") == "Done again: task 1 “Buy milk” is removed."
    assert titles() == ["Buy bread"]
    assert answer_to("Undo that") == "Undone: task 1 “Buy milk” is back."


@pytest.mark.spec("OFFLINE-22")
def test_tasks_that_were_created_from_a_document_are_removed_together(
    guest: httpx.Client, authenticator: Authenticator, database: Database
) -> None:
    caller = authenticator.caller(guest.headers["Authorization"].removeprefix("Bearer "))
    document = file(database, caller, "TODO: call Anna\n\nTODO: pay the plumber", filename="notes.md")
    asked = say(guest, f"Create tasks from document {document.id}").json()
    made = say(guest, "yes", asked["conversation_id"]).json()
    assert made["response"].startswith("Added 2 tasks")

    undone = say(guest, "Undo that", asked["conversation_id"]).json()["response"]

    assert undone.count("is removed.") == 2
    assert guest.get("/api/tasks").json()["tasks"] == []


@pytest.mark.spec("OFFLINE-22")
@pytest.mark.parametrize(
    "said",
    [
        "undo",
        "Undo that.",
        "Oops, undo",
        "Please undo the last change",
        "Can you undo that?",
        "I didn't mean that, undo it",
        "Take that back",
        "I take it all back",
        "Undo everything you just did",
        "undo it again",
        "undo what you did",
        "Revert the last change please",
        "Roll that back",
        "roll back",
        "reverse that",
        "Un-do this now",
        "scratch that",
        "undo all of it",
        "undo your last action",
        "undo the last thing you did",
        "undo previous action",
        "undo my last request",
        "undo whatever I just asked for",
        "Undo that step",
        "cancel that change",
        "go back one step",
        "Ctrl+Z",
        "change it back",
        "put everything back the way it was",
        "oh no, wrong task! undo that",
        "I deleted the wrong task, undo it",
        "undo that, I changed my mind",
        "Undo that; it was a mistake",
        "nope, undo that",
        "stop, undo that",
        "Undo that 🙏",
        "undo :(",
        "Undo that…",
        "that's the wrong one, undo",
        "Not that one! Undo that",
        "You deleted the wrong task. Undo that",
        "I deleted milk by accident, undo it",
        "undo everything you did in your last message",
        "undo the delete of milk",
        "undo your changes",
        "revert it to how it was before",
        "put things back the way they were",
        "hmm, no. take that back",
        "thanks, but undo that",
        "I'd like to undo that",
        "hey docutalk, undo my last change",
        "UNDO!!",
        "Undo that and show my tasks",
        "undo the deletion",
        "undo the last deletion",
        "undo task 1",
        "undo deleting milk",
    ],
)
def test_a_wish_to_undo_undoes_what_the_last_turn_changed(chat: Chat, said: str) -> None:
    chat.say("Add tasks: milk and bread")
    chat.say("Delete task 1")
    chat.say("Show my tasks")

    answer = chat.say(said)

    assert answer.startswith("Undone: task 1 “Milk” is back.")
    assert sorted(chat.titles()) == ["Bread", "Milk"]


@pytest.mark.spec("OFFLINE-22")
def test_a_change_and_a_completion_get_their_former_values(chat: Chat) -> None:
    chat.say("Add a task to buy oats on Friday")
    chat.say("Rename task 1 to Buy rye, and complete task 1")

    assert chat.say("undo both") == "Undone: task 1 “Buy rye” has its former values.\n" + (
        "Undone: task 1 “Buy oats” has its former values."
    )
    assert chat.titles() == ["Buy oats"]
    assert chat.say("Complete it").startswith('Completed task 1: "Buy oats"')


@pytest.mark.spec("OFFLINE-22")
def test_what_has_changed_since_is_not_undone_and_the_answer_says_so(chat: Chat, tasks: RealTasks) -> None:
    chat.say("Add a task to buy milk")
    tasks.call("update_task", {"task_id": 1, "title": "Buy oat milk"})

    answer = chat.say("Undo that")

    assert answer.startswith("Task 1 has changed since, so nothing was undone.")
    assert chat.titles() == ["Buy oat milk"]


@pytest.mark.spec("OFFLINE-22")
def test_a_change_made_elsewhere_is_undone_only_as_the_last_change(chat: Chat, tasks: RealTasks) -> None:
    tasks.call("add_task", {"title": "Buy milk"})

    for said in ("undo", "undo that", "take that back", "undo everything you just did"):
        assert "Nothing was changed in this conversation" in chat.say(said)
    assert chat.titles() == ["Buy milk"]

    assert chat.say("Undo the last change") == "Undone: task 1 “Buy milk” is removed."
    assert chat.say("redo") == "Done again: task 1 “Buy milk” is back."
    chat.say("undo that")
    assert chat.say("Undo the last change") == "There is nothing to undo."


@pytest.mark.spec("OFFLINE-22")
def test_a_caller_who_may_only_read_undoes_nothing(tasks: RealTasks) -> None:
    tasks.call("add_task", {"title": "Buy milk"})

    _, answer = Conversation(tasks, "list_tasks", "get_task").say("Undo the last change")

    assert answer == "This access may read tasks but not change them, so I changed nothing."


@pytest.mark.spec("OFFLINE-32")
def test_undo_leaves_out_what_changed_nothing_and_what_was_undone_elsewhere(chat: Chat, tasks: RealTasks) -> None:
    chat.say("Add a task to buy milk")
    chat.say("Complete task 1")
    chat.say("Complete task 1")
    assert chat.say("Undo that") == "Undone: task 1 “Buy milk” has its former values."

    tasks.call("undo", {})
    assert chat.say("Undo that") == "That was undone before."
    assert "Nothing was changed in this conversation" in chat.say("Undo that")
    assert chat.titles() == []


@pytest.mark.spec("OFFLINE-32")
@pytest.mark.parametrize("said", ["redo", "Redo that", "undo the undo", "revert your last undo", "take the undo back"])
def test_an_undo_is_taken_back(chat: Chat, said: str) -> None:
    chat.say("Add a task to buy milk")
    chat.say("Undo that")

    assert chat.say(said) == "Done again: task 1 “Buy milk” is back."
    assert chat.say(said) == "There is no undo in this conversation that I could take back, so I changed nothing."
    assert chat.say("undo the redo") == "Undone: task 1 “Buy milk” is removed."


@pytest.mark.spec("OFFLINE-32")
def test_redo_after_another_change_is_refused(chat: Chat) -> None:
    chat.say("Add a task to buy milk")
    chat.say("Undo that")
    chat.say("Add a task to buy bread")

    assert chat.say("Redo").startswith("Something else was changed after that undo")
    assert chat.titles() == ["Buy bread"]
    assert chat.say("Undo the undo") == "Done again: task 1 “Buy milk” is back."
    assert chat.say("Undo that") == "Undone: task 1 “Buy milk” is removed."


@pytest.mark.spec("OFFLINE-32")
def test_undo_that_after_a_task_was_brought_back_is_asked(chat: Chat) -> None:
    chat.say("Add a task to buy milk")
    chat.say("Delete task 1")
    chat.say("Bring it back")

    assert chat.say("Undo that").startswith('Do you mean the undo? Say "redo" to take it back')
    assert chat.say("Undo the last change") == "Undone: task 1 “Buy milk” is removed."


@pytest.mark.spec("OFFLINE-32")
@pytest.mark.parametrize(
    "said", ["undo everything", "undo all my changes", "undo the last two changes", "undo that three times"]
)
def test_several_turns_are_not_undone_at_once(chat: Chat, said: str) -> None:
    chat.say("Add a task to buy milk")
    chat.say("Add a task to buy bread")

    assert chat.say(said).startswith("I undo one message at a time")
    assert len(chat.titles()) == 2


@pytest.mark.spec("OFFLINE-32")
def test_forty_deletions_are_undone_in_one_turn(chat: Chat, tasks: RealTasks) -> None:
    for number in range(40):
        tasks.call("add_task", {"title": f"Errand {number}"})
    chat.say("Delete all my tasks")
    chat.say("yes")
    assert chat.titles() == []

    assert chat.say("Undo that").count("is back.") == 40
    assert len(chat.titles()) == 40


@pytest.mark.spec("OFFLINE-33")
@pytest.mark.parametrize(
    "said",
    [
        "bring it back",
        "Bring that back, please",
        "bring back task 1",
        "bring back #1",
        "bring back the milk task",
        "Could you restore the milk task for me?",
        "restore it",
        "restore the deleted task",
        "restore my deleted tasks",
        "restore what I just deleted",
        "recover the task I deleted",
        "bring back everything I deleted",
        "undelete milk",
        'restore "Milk"',
        "Put the milk task back on my list",
        "Add the milk task back to my list",
        "I want the milk task back",
        "give me back the milk task",
        "get the deleted task back",
        "retrieve the deleted task",
        "I changed my mind, bring it back",
        "undo the deletion of task 1",
        "undelete the last one",
        "bring the milk back on my list please",
        "restore task one",
        "bring back the task called milk",
        "I'd like the milk task back",
    ],
)
def test_a_deleted_task_is_brought_back(chat: Chat, said: str) -> None:
    chat.say("Add tasks: milk and bread")
    chat.say("Delete the milk task")
    chat.say("Thanks")

    assert chat.say(said) == "Undone: task 1 “Milk” is back."
    assert chat.say("Complete it").startswith('Completed task 1: "Milk"')


@pytest.mark.spec("OFFLINE-33")
def test_a_deletion_is_undone_after_other_changes(chat: Chat) -> None:
    chat.say("Add tasks: milk and bread")
    chat.say("Delete task 1")
    chat.say("Complete task 2")

    assert chat.say("Bring back the milk") == "Undone: task 1 “Milk” is back."
    assert len(chat.titles()) == 2


@pytest.mark.spec("OFFLINE-33")
@pytest.mark.parametrize(
    ("reply", "back"),
    [("the first one", ["Milk"]), ("bread", ["Bread"]), ("2", ["Bread"]), ("both", ["Bread", "Milk"])],
)
def test_which_deleted_task_is_asked(chat: Chat, reply: str, back: list[str]) -> None:
    chat.say("Add tasks: milk, bread, oats")
    chat.say("Delete tasks 1 and 2")

    question = chat.say("Bring it back")
    chat.say(reply)

    assert question == 'Which of these do you mean?\n- Task 1: "Milk"\n- Task 2: "Bread"'
    assert sorted(chat.titles()) == sorted([*back, "Oats"])


@pytest.mark.spec("OFFLINE-33")
def test_all_deleted_tasks_of_several_turns_come_back_after_a_yes(chat: Chat) -> None:
    chat.say("Add tasks: milk, bread, oats")
    chat.say("Delete task 1")
    chat.say("Delete task 2")

    assert chat.say("Bring everything back").startswith("Shall I bring back all of these?")
    assert chat.titles() == ["Oats"]
    assert chat.say("yes") == "Undone: task 2 “Bread” is back.\nUndone: task 1 “Milk” is back."


@pytest.mark.spec("OFFLINE-33")
@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("bring it back", 'Task 1 was completed, not deleted. Say "Reopen task 1" to open it again.'),
        ("bring back task 1", 'Task 1 was completed, not deleted. Say "Reopen task 1" to open it again.'),
        ("restore the milk task", 'Task 1 was completed, not deleted. Say "Reopen task 1" to open it again.'),
        ("bring back task 9", "This conversation shows no deletion of task 9, so I changed nothing."),
        ("bring back the library books", 'This conversation shows no deletion of "the library books"'),
        ("restore tasks 1 and 7", 'This conversation shows no deletion of "tasks 1 and 7"'),
        ("undo the deletion", "This conversation shows no change of that kind"),
        ("undo the change to task 9", "This conversation shows no change of task 9"),
    ],
)
def test_a_deletion_that_the_conversation_does_not_show_is_not_guessed(chat: Chat, said: str, answer: str) -> None:
    chat.say("Add a task to buy milk")
    chat.say("Complete task 1")

    calls, heard = chat.conversation.say(said)

    assert calls == []
    assert heard.startswith(answer)


@pytest.mark.spec("OFFLINE-33")
def test_the_change_of_one_task_is_undone(chat: Chat) -> None:
    chat.say("Add tasks: milk and bread")
    chat.say("Rename task 1 to Oat milk")
    chat.say("Rename task 2 to Rye bread")

    assert chat.say("Undo the change to task 1") == "Undone: task 1 “Milk” has its former values."
    assert chat.say("Revert the rye bread task") == "Undone: task 2 “Bread” has its former values."


@pytest.mark.spec("OFFLINE-34")
@pytest.mark.parametrize(
    ("said", "title"),
    [
        ('Add a task "undo the dishes"', "undo the dishes"),
        ("Add a task to bring back the library books", "Bring back the library books"),
        ("Remind me to undo the settings", "Undo the settings"),
        ("Remind me to take that back", "Take that back"),
        ("I need to bring back the books", "Bring back the books"),
        ("I have to get the car back", "Get the car back"),
        ("todo: undo the braid", "Undo the braid"),
        ("Add a task to call Ida back", "Call Ida back"),
        ("Add a task to restore the old chair and undo that", "Restore the old chair and undo that"),
        ("Rename task 1 to undo that", "Undo that"),
        ("Change task 1 to 'bring it back'", "bring it back"),
    ],
)
def test_a_title_that_says_undo_stays_a_title(chat: Chat, said: str, title: str) -> None:
    chat.say("Add a task to buy milk")

    calls, _ = chat.conversation.say(said)

    assert [name for names in calls for name, _ in names] in (["add_task"], ["update_task"])
    assert title in chat.titles()


@pytest.mark.spec("OFFLINE-34")
@pytest.mark.parametrize(
    "said",
    [
        "don't undo that",
        "Please do not undo that",
        "Never bring that back",
        "I don't want to undo that",
        "There is no need to undo that",
        '"undo that"',
        'say "undo that"',
        "Should I undo that?",
        "Can I undo that?",
        "Did you undo that?",
        "How do I undo something?",
        "Is there an undo?",
        "What can be undone?",
        "Undo that if it was wrong",
        "If the bread is done, undo that",
        "Undo everything except the milk",
        "Undo that and add a task to buy tea",
        "Add a task to buy tea. Undo that.",
        "Delete task 2. Undo that.",
        "Undo that and bring back the milk task. Undo the undo",
        "Undo that. What is the weather?",
        "Undo that?",
        "oops",
        "That was a mistake",
        "I did not mean to delete that",
    ],
)
def test_words_about_undoing_undo_nothing(chat: Chat, said: str) -> None:
    chat.say("Add tasks: milk and bread")
    chat.say("Delete task 1")

    calls, answer = chat.conversation.say(said)

    assert {name for names in calls for name, _ in names} <= {"list_tasks", "get_task"}
    assert answer
    assert chat.titles() == ["Bread"]


@pytest.mark.spec("OFFLINE-34")
@pytest.mark.parametrize("regret", ["Oops", "That was a mistake", "I didn't mean that", "Undo that?"])
def test_regret_alone_is_asked_about(chat: Chat, regret: str) -> None:
    chat.say("Add a task to buy milk")
    chat.say("Delete task 1")

    assert chat.say(regret) == 'Shall I undo that? Say "yes" to go on.\n- Deleted task 1: "Buy milk"'
    assert chat.say("yes please") == "Undone: task 1 “Buy milk” is back."
    assert chat.say("oops").startswith("Do you mean the undo?")


@pytest.mark.spec("OFFLINE-34")
@pytest.mark.parametrize("reply", ["not that one", "oops, wrong task", "that's wrong"])
def test_regret_after_a_question_is_a_no(chat: Chat, reply: str) -> None:
    chat.say("Add tasks: milk, bread")
    assert chat.say("Delete all my tasks").startswith("Shall I delete all of these?")

    assert chat.say(reply) == "All right. I changed nothing."
    chat.say("yes")
    assert len(chat.titles()) == 2


@pytest.mark.spec("OFFLINE-32")
@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["undo that", "redo", "bring it back", "bring back the milk task", "undo the last change", "oops"]),
    st.sampled_from(["undo", "delete_task", "add_task"]),
    st.dictionaries(st.sampled_from(["operation_id", "undone", "rows", "status", "task_id", "title"]), JSON),
    JSON,
)
def test_whatever_the_tools_returned_undo_gets_an_answer(words: str, tool: str, output: Any, later: Any) -> None:
    def call(name: str, arguments: Any, result: Any, number: str) -> list[Any]:
        made = {"call_id": number, "name": name, "arguments": json.dumps(arguments)}
        given = {"call_id": number, "output": json.dumps(result)}
        return [{"type": "function_call"} | made, {"type": "function_call_output"} | given]

    items: list[Any] = [{"role": "user", "content": "x"}, *call(tool, {"operation_id": 1}, output, "1")]
    items += [{"role": "user", "content": "y"}, *call("delete_task", {"task_id": 1}, {"operation_id": 1}, "2")]
    items += [{"role": "user", "content": words}]
    for number in range(5):
        answer = respond(items, {*TOOLS})
        if isinstance(answer, str):
            return
        for place, (name, arguments) in enumerate(answer):
            items += call(name, arguments, later, f"{number}-{place}")
    pytest.fail("The turn did not end.")
