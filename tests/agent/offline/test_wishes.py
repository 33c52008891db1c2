"""Only the right task is changed: what each message writes, and the resulting tasks."""

from copy import deepcopy
from typing import Any

import httpx
import pytest

from backend.agent.offline import documents, mind, patterns
from backend.agent.offline.dates import cut_due, cut_leading_due, doubts
from backend.agent.offline.selection import matching, numbers_in, wanted
from backend.documents.repository import DocumentNotFound
from backend.errors import DocuTalkError, InvalidInput, for_models
from backend.operations.perform import TaintedTurn
from backend.tasks.repository import TaskNotFound
from tests.agent.offline.sentences import Call, _add, _complete, _delete, _list
from tests.agent.offline.test_documents import DOCUMENT_TOOLS, TASK_TOOLS, Library, library
from tests.agent.offline.test_tasks import WRITES, Conversation, TaskList
from tests.agent.offline.wishes import FIELD, TITLES, VARIANTS, Wish
from tests.agent.talk import say


class Talk:
    """A conversation whose calls are one list for each message."""

    def __init__(self, tasks: TaskList) -> None:
        self.tasks = tasks
        self.conversation = Conversation(
            tasks, *(TASK_TOOLS + DOCUMENT_TOOLS if isinstance(tasks, Library) else TASK_TOOLS)
        )

    def say(self, words: str) -> tuple[list[Call], str]:
        """Return the calls that a message led to, in order, and the answer."""
        responses, answer = self.conversation.say(words)
        return [call for calls in responses for call in calls], answer


def writes(calls: list[Call]) -> list[Call]:
    """Return the calls that change something."""
    return [call for call in calls if call[0] in WRITES]


@pytest.mark.spec("OFFLINE-16")
@pytest.mark.parametrize("wish", FIELD + VARIANTS, ids=lambda wish: wish.said)
def test_a_message_makes_the_writes_of_its_row_and_no_others(wish: Wish) -> None:
    tasks, expected = TaskList(*TITLES), TaskList(*TITLES)
    for name, arguments in wish.writes:
        expected.call(name, deepcopy(arguments))

    calls, answer = Talk(tasks).say(wish.said)

    assert writes(calls) == wish.writes
    assert tasks.tasks == expected.tasks
    assert wish.answer in answer


@pytest.mark.spec("OFFLINE-16")
@pytest.mark.parametrize(
    ("said", "title", "is_meant"),
    [
        ("the grocery task", "Buy groceries", True),
        ("groceries", "Buy grocery", True),
        ("the planning task", "Plan the party", True),
        ("paying the bill", "Pay bills", True),
        ("the baked cake", "Bake a cake", True),
        ("the planet task", "Plan the party", False),
        ("the plan task", "Water the planet", False),
        ("the carpet task", "Wash car", False),
        ("the caring task", "Wash car", False),
        ("the business task", "Take the bus", False),
        ("the news task", "Buy new shoes", False),
        ("the needle task", "Need a break", False),
        ("the ärzte task", "Zum Ärzte gehen", True),
    ],
)
def test_only_the_ending_of_a_word_may_differ(said: str, title: str, is_meant: bool) -> None:
    found, _ = matching(said, [{"id": 1, "title": title}])

    assert bool(found) == is_meant


@pytest.mark.spec("OFFLINE-16")
@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        ("task 3", [3]),
        ("tasks 3-5", [3, 4, 5]),
        ("tasks 3 to 5 and 7", [3, 4, 5, 7]),
        ("#1, #2 & 4", [1, 2, 4]),
        ("tasks two and three", [2, 3]),
        ("number 5", [5]),
        ("two tasks", []),
        ("2 tasks", []),
        ("task 3 tomorrow", []),
        ("task 3 or 4", []),
        ("task 3.5", []),
        ("tasks 5-3", []),
        ("tasks 1-1000000", []),
        ("the first two", []),
        ("tasks 3 - 5", [3, 4, 5]),
        ("tasks 1 + 2", [1, 2]),
        ("task 1,000", []),
        ("task 1 000", []),
        ("tasks 1, 100", [1, 100]),
    ],
)
def test_numbers_name_tasks_only_where_nothing_else_is_said(said: str, numbers: list[int]) -> None:
    assert numbers_in(said) == numbers


@pytest.mark.spec("OFFLINE-16")
def test_a_title_that_only_ends_otherwise_is_deleted_after_a_yes() -> None:
    tasks = TaskList(*TITLES)
    talk = Talk(tasks)

    assert writes(talk.say("Delete the parties task")[0]) == []
    assert writes(talk.say("yes")[0]) == [_delete(1)]
    assert 1 not in tasks.tasks


@pytest.mark.spec("OFFLINE-17")
@pytest.mark.parametrize(
    ("said", "change"),
    [
        ("Set all tasks to high priority", {"priority": "high"}),
        ("Move all tasks to Friday", {"due": "Friday"}),
        ("Make every task urgent", {"priority": "high"}),
        ("Remove the due date from all tasks", {"due": ""}),
        ("Tag everything with home", {"tags": ["home"]}),
    ],
)
def test_all_means_all_after_a_yes(said: str, change: dict[str, Any]) -> None:
    tasks = TaskList(*(f"Errand {number}" for number in range(1, 61)))
    talk = Talk(tasks)

    asked, question = talk.say(said)
    made, _ = talk.say("yes")

    assert writes(asked) == []
    assert question.count("\n- Task ") == 60
    assert len(writes(made)) == 60
    assert all({name: task[name] for name in change} == change for task in tasks.tasks.values())


@pytest.mark.spec("OFFLINE-17")
@pytest.mark.parametrize("said", ["Delete all tasks", "Complete everything", "Set all tasks to high priority"])
@pytest.mark.parametrize("count", [101, 600])
def test_more_than_a_hundred_are_refused_and_not_some_of_them_changed(said: str, count: int) -> None:
    tasks = TaskList(*(f"Errand {number}" for number in range(count)))
    before = deepcopy(tasks.tasks)
    talk = Talk(tasks)

    assert "too many tasks" in talk.say(said)[1]
    assert writes(talk.say("yes")[0]) == []
    assert tasks.tasks == before


@pytest.mark.spec("OFFLINE-17")
def test_a_kind_of_tasks_is_named_before_it_is_changed() -> None:
    tasks = TaskList("Write report", "Call client", "Buy milk")
    tasks.update_task(1, tags=["work"])
    talk = Talk(tasks)

    _, question = talk.say("Complete all work tasks")
    made, _ = talk.say("yes")

    assert question == 'Shall I complete this? Say "yes" to go on.\n- Task 1: "Write report", #work'
    assert writes(made) == [_complete(1)]


@pytest.mark.spec("OFFLINE-17")
@pytest.mark.parametrize(
    "reply",
    ["cancel", "clear", "no", "add them", "complete them", "only the first", "yes but not 2", "cancel them", "clear it",
     "delete", "delete it", "all", "all tasks", "them", "none", "neither", "yes, if they are done", "ok, show my tasks",
     "yes, and don't delete 2", "yes, delete milk", "yes?", "right?"],
)  # fmt: skip
def test_only_a_yes_to_the_question_is_a_yes(reply: str) -> None:
    tasks = TaskList("Call Ida", "Pay Bo")
    talk = Talk(tasks)
    talk.say("Delete all tasks")

    talk.say(reply)

    assert set(tasks.tasks) == {1, 2}


@pytest.mark.spec("OFFLINE-17")
@pytest.mark.parametrize(
    "reply",
    [
        "clear",
        "clear it",
        "remove",
        "delete",
        "please delete",
        "cancel it",
        "all tasks",
        "all",
        "it",
        "this",
        "delete all",
    ],
)
def test_a_bare_verb_or_a_bare_object_is_no_yes(reply: str) -> None:
    tasks = TaskList(*TITLES)
    talk = Talk(tasks)
    assert "Do you mean this task?" in talk.say("Delete the parties task")[1]

    talk.say(reply)

    assert len(tasks.tasks) == len(TITLES)


@pytest.mark.spec("OFFLINE-17")
@pytest.mark.parametrize("reply", ["change that", "move it", "change it", "set them", "both", "of them", "tasks"])
def test_a_change_of_all_tasks_needs_a_yes_to_all(reply: str) -> None:
    talk = Talk(TaskList(*TITLES))
    talk.say("Set all tasks to high priority")

    assert writes(talk.say(reply)[0]) == []


@pytest.mark.spec("OFFLINE-17")
@pytest.mark.parametrize(
    "reply",
    ["yes", "Yes, thanks", "yes I do", "yes, that one", "that's right", "of course", "absolutely", "sure, go ahead",
     "ok", "please do", "do it", "delete it", "remove that one, please", "yes, delete it",
     "yes please, delete the task"],
)  # fmt: skip
def test_words_of_agreement_are_a_yes(reply: str) -> None:
    talk = Talk(TaskList(*TITLES))
    talk.say("Delete the parties task")

    assert writes(talk.say(reply)[0]) == [_delete(1)]


@pytest.mark.spec("OFFLINE-3")
@pytest.mark.parametrize(
    ("reply", "deleted"),
    [("the first one please", [6]), ("yes, the second one", [7]), ("yes, both", [6, 7]), ("none", []), ("neither", [])],
)
def test_an_answer_chooses(reply: str, deleted: list[int]) -> None:
    talk = Talk(TaskList(*TITLES))
    talk.say("Delete the meetings")

    calls, answer = talk.say(reply)

    assert writes(calls) == [_delete(number) for number in deleted]
    assert deleted or answer == "All right. I changed nothing."


@pytest.mark.spec("OFFLINE-17")
@pytest.mark.parametrize(("reply", "count"), [("add", 0), ("add it", 0), ("add them to my list", 2), ("sure thing", 2)])
def test_two_tasks_are_added_after_a_yes_to_both(reply: str, count: int) -> None:
    talk = Talk(TaskList())
    _, question = talk.say("- call Bo\n- pay tax")

    calls, answer = talk.say(reply)

    assert len(writes(calls)) == count
    assert answer.endswith(question) == (count == 0)


@pytest.mark.spec("OFFLINE-3")
def test_a_yes_to_which_one_gets_the_question_again() -> None:
    talk = Talk(TaskList(*TITLES))
    _, question = talk.say("Delete the meetings")

    assert talk.say("yes")[1].endswith(question)
    assert writes(talk.say("the client one")[0]) == [_delete(7)]


@pytest.mark.spec("OFFLINE-3")
def test_a_yes_with_another_wish_does_both() -> None:
    talk = Talk(TaskList(*TITLES))
    talk.say("Delete the parties task")

    assert writes(talk.say("yes, and also delete the milk task")[0]) == [_delete(1), _delete(3)]


@pytest.mark.spec("OFFLINE-3")
def test_a_yes_that_is_not_clear_gets_the_question_again() -> None:
    talk = Talk(TaskList(*TITLES))
    _, question = talk.say("Delete the parties task")

    assert talk.say("yes, delete the milk task")[1].endswith(question)
    assert writes(talk.say("yes")[0]) == [_delete(1)]


@pytest.mark.spec("OFFLINE-4")
@pytest.mark.parametrize("said", ["delete the first task", "complete the last task", "delete the last one"])
def test_the_first_or_last_is_one_of_several_that_were_named(said: str) -> None:
    talk = Talk(TaskList(*TITLES))
    talk.say("Show task 3")

    assert talk.say(said) == ([], "Which task do you mean? Say its number or a word from its title.")
    talk.say("Show tasks 2 and 3")
    assert [arguments for _, arguments in talk.say(said)[0]] == [{"task_id": 2 if "first" in said else 3}]


@pytest.mark.spec("OFFLINE-16")
@pytest.mark.parametrize(
    "said", ["Delete all completed tasks from my work list", "Clear the completed tasks from my shopping list"]
)
def test_the_name_of_a_list_is_looked_for(said: str) -> None:
    tasks = TaskList(*TITLES)
    tasks.complete_task(3)

    assert "You have no completed tasks with" in Talk(tasks).say(said)[1]
    assert 3 in tasks.tasks


@pytest.mark.spec("OFFLINE-18")
@pytest.mark.parametrize(
    ("text", "rest", "due"),
    [
        ("pay rent by Friday", "pay rent", "Friday"),
        ("pay rent, due next Friday at 5pm", "pay rent", "next Friday at 5pm"),
        ("drop by on Friday", "drop by", "Friday"),
        ("book a table for 2 on Friday", "book a table for 2", "Friday"),
        ("call Bo at 5", "call Bo", "at 5"),
        ("call Bo at the end of January", "call Bo", "the end of January"),
        ("tomorrow", "", "tomorrow"),
    ],
)
def test_the_longest_date_at_the_end_is_cut(text: str, rest: str, due: str) -> None:
    assert cut_due(text) == (rest, due)
    assert doubts(rest) == []


@pytest.mark.spec("OFFLINE-18")
@pytest.mark.parametrize(
    "text",
    [
        "pay a week from Sunday",
        "pay the day after Friday",
        "pay tomorrow or Friday",
        "pay at five tomorrow",
        "pay 5 tomorrow",
        "pay not before Friday",
        "pay Friday week",
        "pay on Black Friday",
        "pay every Friday",
        "pay early next week",
    ],
)
def test_a_date_that_other_words_change_is_not_cut_but_doubted(text: str) -> None:
    assert cut_due(text) is None
    [doubt] = doubts(text)
    assert text.endswith(doubt.words)


@pytest.mark.spec("OFFLINE-18")
@pytest.mark.parametrize(
    "title",
    [
        "Sit in the sun",
        "March in place",
        "Join the march",
        "Upgrade to Python 3.12",
        "Buy 3 tickets",
        "Study for 2 hours",
        "Plan movie night",
        "Read chapter 5",
        "Email everyone",
        "Buy day cream",
        "Ask whether I may leave",
        "Pay overdue fines",
        "Read chapter 3.4",
        "Upgrade to 3.12",
        "Buy 2.5 kg flour",
    ],
)
def test_an_innocent_title_raises_no_doubt(title: str) -> None:
    assert cut_due(title) is None
    assert cut_leading_due(title) is None
    assert doubts(title) == []


@pytest.mark.spec("OFFLINE-18")
@pytest.mark.parametrize(
    ("said", "added"),
    [
        ("Add a task to pay a week from Sunday", _add("Pay a week from Sunday")),
        ("Add a task to call Ida tomorrow about the rent", _add("Call Ida about the rent", due="tomorrow")),
        ("Add a task to call Ida by Christmas, urgent", _add("Call Ida by Christmas", priority="high")),
    ],
)
def test_what_is_doubtful_is_added_after_a_yes_as_it_was_shown(said: str, added: Call) -> None:
    talk = Talk(TaskList())

    assert writes(talk.say(said)[0]) == []
    assert writes(talk.say("yes")[0]) == [added]
    assert writes(talk.say("yes")[0]) == []


@pytest.mark.spec("OFFLINE-18")
def test_a_day_in_a_name_is_part_of_the_title_and_the_answer_says_so() -> None:
    calls, answer = Talk(TaskList()).say("Add a task to prepare the Monday meeting by Friday")

    assert calls == [_add("Prepare the Monday meeting", due="Friday")]
    assert answer.endswith('I took "Monday" as part of the title, not as a date.')


@pytest.mark.spec("OFFLINE-18")
def test_the_date_outlives_the_question_for_the_title() -> None:
    talk = Talk(TaskList())
    talk.say("Add a task for tomorrow")

    assert talk.say("call Ida")[0] == [_add("Call Ida", due="tomorrow")]


@pytest.mark.spec("OFFLINE-19")
@pytest.mark.parametrize(
    ("said", "added"),
    [
        ("Remind me every Monday at 9 to water plants", _add("Water plants", due="Monday at 9")),
        ("Add a task to take pills daily at 8am", _add("Take pills", due="8am")),
        ("Add a task to call Ida on Fridays", _add("Call Ida", due="Friday")),
        ("Add a task to file taxes by April 15 every year", _add("File taxes", due="April 15")),
        ("Add a task to call Ida every other Friday", _add("Call Ida every other Friday")),
        ("Add a weekly grocery task", _add("A weekly grocery task")),
    ],
)
def test_a_repetition_is_reported_and_its_one_date_is_offered(said: str, added: Call) -> None:
    talk = Talk(TaskList())
    calls, answer = talk.say(said)

    assert calls == []
    assert "tasks do not repeat yet" in answer
    assert talk.say("yes")[0] == [added]


@pytest.mark.spec("OFFLINE-20")
@pytest.mark.parametrize(
    "title",
    [
        "Buy the Friday paper",
        "Call Ida every Monday",
        "a week from Sunday",
        "Add tag x to task 3",
        "by Christmas, urgent",
    ],
)
@pytest.mark.parametrize("form", ['Add a task "{}"', "Add a task '{}'", "Remind me to “{}”", 'Add "{}"'])
def test_a_quoted_title_is_taken_as_it_stands(title: str, form: str) -> None:
    assert Talk(TaskList()).say(form.format(title))[0] == [_add(title)]


@pytest.mark.spec("OFFLINE-21")
def test_a_tag_that_is_added_leaves_the_others() -> None:
    tasks = TaskList("Call Ida")
    tasks.update_task(1, tags=["home"])

    Talk(tasks).say("Add work and urgent tags to task 1")
    Talk(tasks).say("Update task 1 with tag phone")

    assert tasks.tasks[1]["tags"] == ["home", "work", "urgent", "phone"]


@pytest.mark.spec("OFFLINE-29")
@pytest.mark.parametrize(
    "said",
    [
        "Please reopen task 3",
        "Could you re-open #3 again?",
        "Un-complete task 3",
        "uncomplete task 3",
        "Uncheck milk",
        "Unmark task 3 as done",
        "I didn't finish task 3 yet",
        "I did not finish task 3",
        "I have not done task 3",
        "We haven't finished the milk task after all",
        "I'm not done with task 3 yet",
        "mark task 3 as not done",
        "Change task 3 to not done",
        "Change task 3's status to open",
        "Set the status of task 3 to pending",
        "Set task 3 back to pending",
        "Mark Buy milk as incomplete again",
        "Task 3 isn't done",
        "The milk is not finished yet",
        "Open task 3 again",
        "3 is not done",
        "task 3 isnt done",
        "i didnt finish task 3",
        "I still haven't finished task 3",
        "task 3 hasn't been done",
        "reopen the completed milk task",
        'Reopen "Buy milk"',
    ],
)
def test_a_task_that_was_completed_is_reopened_with_all_its_fields(said: str) -> None:
    tasks = TaskList(*TITLES)
    tasks.update_task(3, tags=["home"], due="tomorrow", priority="high", description="Two liters")
    before = deepcopy(tasks.tasks)
    tasks.complete_task(3)

    calls, answer = Talk(tasks).say(said)

    assert writes(calls) == [("reopen_task", {"task_id": 3})]
    assert answer == 'Reopened task 3: "Buy milk".'
    assert tasks.tasks == before


@pytest.mark.spec("OFFLINE-29")
@pytest.mark.parametrize(
    "said", ["reopen my last completed task", "Can you reopen tasks?", "I did not finish anything"]
)
def test_which_task_is_not_guessed(said: str) -> None:
    tasks = TaskList(*TITLES)
    talk = Talk(tasks)
    talk.say("Complete task 3")

    assert talk.say(said)[0] == []


@pytest.mark.spec("OFFLINE-29")
def test_a_title_that_says_finished_is_the_one_to_reopen() -> None:
    tasks = TaskList("The report", "The finished report")
    tasks.complete_task(1)
    tasks.complete_task(2)

    assert writes(Talk(tasks).say("Reopen the finished report")[0]) == [("reopen_task", {"task_id": 2})]


@pytest.mark.spec("OFFLINE-29")
def test_several_are_reopened_by_their_numbers() -> None:
    talk = Talk(three_completed())

    assert writes(talk.say("Tasks 3 and 4 are not done")[0]) == [("reopen_task", {"task_id": id_}) for id_ in (3, 4)]
    assert writes(talk.say("Tasks 3 and 4 are done?")[0]) == []
    assert writes(talk.say("Tasks 3 and 4 are done")[0]) == [_complete(3), _complete(4)]


@pytest.mark.spec("OFFLINE-29")
def test_which_task_to_reopen_is_asked_for_as_with_completing() -> None:
    tasks = TaskList(*TITLES)
    tasks.complete_task(6)
    tasks.complete_task(7)
    talk = Talk(tasks)

    assert "Which of these do you mean?" in talk.say("Reopen the meeting")[1]
    assert writes(talk.say("the client one")[0]) == [("reopen_task", {"task_id": 7})]
    assert talk.say("Reopen the lunch")[1] == 'No task of yours matches "the lunch".'
    assert talk.say("reopen")[1] == 'Task 7 is not completed: "Client meeting".'
    talk.say("Complete task 3")
    assert talk.say("I'm not done")[1] == 'Reopened task 3: "Buy milk".'


@pytest.mark.spec("OFFLINE-29")
def test_all_completed_tasks_are_reopened_after_a_yes() -> None:
    tasks = TaskList(*TITLES)
    talk = Talk(tasks)
    assert talk.say("Reopen all tasks")[1] == "You have no completed tasks."
    tasks.complete_task(2)
    tasks.complete_task(3)

    calls, answer = talk.say("Reopen all tasks")
    assert writes(calls) == []
    assert answer.startswith("Shall I reopen all of these?")
    assert "Wash car" in answer
    assert "Ring Bo" not in answer
    assert writes(talk.say("yes, reopen them")[0]) == [("reopen_task", {"task_id": number}) for number in (2, 3)]


@pytest.mark.spec("OFFLINE-29")
@pytest.mark.parametrize(
    "said",
    [
        "I did not double-check the milk",
        "I have not downloaded milk",
        "Add a task to reopen the shop",
        "Rename task 3 to Not done",
        "Reopen task 3 if it is done",
        "Reopen everything except task 3",
    ],
)
def test_what_only_looks_like_reopening_reopens_nothing(said: str) -> None:
    tasks = TaskList(*TITLES)
    tasks.complete_task(3)

    Talk(tasks).say(said)

    assert tasks.tasks[3]["completed"]


def three_completed() -> TaskList:
    """Return the tasks of `TITLES`, with 3, 4 and 5 completed."""
    tasks = TaskList(*TITLES)
    for number in (3, 4, 5):
        tasks.complete_task(number)
    return tasks


@pytest.mark.spec("OFFLINE-29")
@pytest.mark.parametrize(
    "said",
    [
        "undo that and reopen task 3",
        "reopen task 3, what is the weather?",
        "reopen task 3 and show tasks sorted by title",
        "I did not finish task 3. Tell me a joke",
        "oops, what is the weather? Reopen task 3",
        "Add high priority to task 3. Tell me a joke",
    ],
)
def test_nothing_is_reopened_or_given_a_field_when_another_clause_is_lost(said: str) -> None:
    calls, answer = Talk(three_completed()).say(said)

    assert calls == []
    assert "so I changed nothing" in answer


@pytest.mark.spec("OFFLINE-29")
@pytest.mark.parametrize(
    "said",
    [
        "oops, reopen task 3",
        "Whoops! Reopen task 3",
        "Oops, sorry, reopen task 3",
        "That was a mistake. Mark task 3 as not done",
        "No, reopen task 3",
        "Oops, I did not finish task 3",
    ],
)
def test_regret_before_a_wish_to_reopen_is_courtesy(said: str) -> None:
    calls, answer = Talk(three_completed()).say(said)

    assert writes(calls) == [("reopen_task", {"task_id": 3})]
    assert answer == 'Reopened task 3: "Buy milk".'


@pytest.mark.spec("OFFLINE-29")
@pytest.mark.parametrize(
    ("said", "added"),
    [
        ("Remind me to drain the pool and reopen it on Friday", _add("Drain the pool and reopen it", due="Friday")),
        ("Add a task to close the account and reopen it in May", _add("Close the account and reopen it", due="in May")),
        ("Add a task to close the window and reopen it", _add("Close the window and reopen it")),
        ("Add a task to check the form and unmark it", _add("Check the form and unmark it")),
        ("Add a task to close the tabs, then reopen them", _add("Close the tabs, then reopen them")),
    ],
)
def test_a_new_task_keeps_the_reopening_in_its_title(said: str, added: Call) -> None:
    assert Talk(three_completed()).say(said)[0] == [added]


@pytest.mark.spec("OFFLINE-30")
@pytest.mark.parametrize(
    "said",
    [
        "my tasks that are not done",
        "the tasks that are not done",
        "my tasks not done",
        "the tasks not yet completed",
        "the ones not finished yet",
        "make a list of tasks that are not done",
        "Give the tasks that are open",
        "give us all tasks that are pending",
        "the tasks that aren't done",
        "My tasks are not done",
    ],
)
def test_words_that_ask_for_open_tasks_list_them(said: str) -> None:
    calls, answer = Talk(three_completed()).say(said)

    assert calls == [_list("pending")]
    assert answer.startswith("You have 4 pending tasks:")


@pytest.mark.spec("OFFLINE-30")
def test_a_condition_on_what_to_flag_offers_to_reopen_nothing() -> None:
    calls, answer = Talk(three_completed()).say("flag the tasks that are not done")

    assert calls == []
    assert "reopen" not in answer


@pytest.mark.spec("OFFLINE-30")
@pytest.mark.parametrize(
    ("said", "task"),
    [
        ("Task 3 is not done?", 3),
        ("The milk is not done yet?", 3),
        ("I did not finish task 3?", 3),
        ("is task 3 not done?", 3),
        ("isn't task 3 done?", 3),
        ("Task 1 is done?", 1),
        ("I finished task 1?", 1),
        ("I'm done with task 1 ?", 1),
    ],
)
def test_a_sentence_with_a_question_mark_shows_the_task(said: str, task: int) -> None:
    calls, answer = Talk(three_completed()).say(said)

    assert writes(calls) == []
    assert answer.startswith(f"This is task {task}:")


@pytest.mark.spec("OFFLINE-30")
def test_a_command_with_a_question_mark_stays_a_command() -> None:
    assert writes(Talk(three_completed()).say("Complete task 1?")[0]) == [_complete(1)]
    assert writes(Talk(three_completed()).say("Reopen task 3?")[0]) == [("reopen_task", {"task_id": 3})]
    assert Talk(three_completed()).say("my tasks are done?")[0] == [_list("completed")]


@pytest.mark.spec("OFFLINE-29")
@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("Reopen all pending tasks", "Those tasks are open already, so I changed nothing."),
        ("Reopen all open tasks", "Those tasks are open already, so I changed nothing."),
        ("mark all pending tasks as not done", "Those tasks are open already, so I changed nothing."),
        ("Complete all completed tasks", "Those tasks are completed already, so I changed nothing."),
    ],
)
def test_tasks_that_have_the_status_already_are_not_changed(said: str, answer: str) -> None:
    assert Talk(three_completed()).say(said) == ([], answer)


@pytest.mark.spec("OFFLINE-31")
@pytest.mark.parametrize(
    ("said", "end"),
    [
        ("Show task 1, complete it and reopen it", 'Reopened task 1: "Plan the party".'),
        ("add tag home to task 1, complete task 1 and reopen task 1", 'Reopened task 1: "Plan the party".'),
        ("Show task 1, delete it and show task 1", 'There is no task 1. Say "show my tasks" to see them.'),
        ("add tag home to task 1 and add tag work to task 1", 'Updated task 1: "Plan the party", #home, #work.'),
        (
            "Show completed tasks, reopen task 3 and list completed tasks",
            'You have 2 completed tasks:\n- Task 4: "Call the bank", completed\n- Task 5: "Ring Bo", completed',
        ),
        ("Delete the milk task and show the milk task", 'No task of yours matches "the milk task".'),
        ("reopen the milk task and reopen the bank task", 'Reopened task 4: "Call the bank".'),
    ],
)
def test_what_a_clause_changed_is_read_again(said: str, end: str) -> None:
    tasks = three_completed()

    calls, answer = Talk(tasks).say(said)

    assert answer.endswith(end)
    assert len(calls) <= 6


@pytest.mark.spec("OFFLINE-23")
@pytest.mark.parametrize(
    ("said", "titles"),
    [
        ("Add these tasks:\n- delete task files\n- show slides\n- buy fish and chips",
         ["Delete task files", "Show slides", "Buy fish and chips"]),
        ("Add tasks: milk, bread and eggs", ["Milk", "Bread", "Eggs"]),
        ("Add tasks: call Ida, mac and cheese, and pay Bo", ["Call Ida", "Mac and cheese", "Pay Bo"]),
        ("Add tasks: call Ida on December 1, 2027, pay Bo", ["Call Ida", "Pay Bo"]),
        ("Add tasks: buy mac and cheese and pay rent", []),
        ("Add tasks: call Ida, buy mac and cheese", []),
    ],
)  # fmt: skip
def test_a_line_is_a_task_and_an_unclear_list_is_not_cut(said: str, titles: list[str]) -> None:
    tasks = TaskList()

    Talk(tasks).say(said)

    assert [task["title"] for task in tasks.tasks.values()] == titles


@pytest.mark.spec("OFFLINE-24")
@pytest.mark.parametrize(
    "said",
    [
        "Extract action items from notes.md and add them as tasks",
        "Please extract the action items from notes.md, then add them to my list.",
        "Find the to-dos in notes.md and put them on my list",
        "Pull the action items out of document 2 and create tasks from them",
        "Read notes.md and create tasks for me",
        "Turn the notes into tasks",
        "create tasks from notes",
        "add tasks from the notes",
        "Add the action items from notes.md to my task list",
        "Make tasks out of notes.md please",
        "Make a to-do list from notes.md",
        "Create a task list out of document 2",
        "Which tasks are in document 2?",
        "Import the tasks from notes.md",
    ],
)
def test_to_extract_and_to_add_is_one_wish(said: str) -> None:
    shelf = library()
    talk = Talk(shelf)
    before = len(shelf.tasks)

    asked, answer = talk.say(said)
    made = [call for call in asked if call[0] != "list_documents"]

    assert made == [("create_tasks_from_document", {"document_id": 2, "dry_run": True})]
    assert answer.startswith("Shall I add these 2 tasks?")
    assert len(shelf.tasks) == before
    assert talk.say("add them")[0] == [("create_tasks_from_document", {"document_id": 2, "dry_run": False})]
    assert len(shelf.tasks) == before + 2


@pytest.mark.spec("OFFLINE-24")
@pytest.mark.parametrize(
    "said",
    ["create tasks from handbook", "add tasks from the minutes", "Create a task from the letter", "add them as tasks"],
)
def test_where_the_document_is_not_clear_nothing_is_added(said: str) -> None:
    shelf = library()
    before = deepcopy(shelf.tasks)

    _, answer = Talk(shelf).say(said)

    assert shelf.tasks == before
    assert "document" in answer


@pytest.mark.spec("OFFLINE-24")
def test_tasks_that_were_made_before_are_named_with_their_dates() -> None:
    class Made(Library):
        def create_tasks_from_document(self, document_id: int, dry_run: bool) -> dict[str, Any]:
            del dry_run
            rows = [{"title": "Pay", "due_understood": "Friday, December 4, 2026", "page_number": 5}] * self.new
            return {"document_id": document_id, "filename": "notes.md", "tasks": rows, "made_before": 2, "left_out": 0}

        new = 1

    shelf = Made(TaskList("Call Anna", "Buy milk", "Pay the plumber"))
    for number in (1, 3):
        shelf.update_task(number, document_id=2)

    assert Talk(shelf).say("Create tasks from document 2")[1].endswith('"Pay", due Friday, December 4, 2026 (page 5)')
    shelf.new = 0
    assert Talk(shelf).say("Create tasks from document 2")[1] == "Its 2 tasks are on your list already: 1, 3."


@pytest.mark.spec("OFFLINE-26")
@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (TaskNotFound(3), "There is no task 3."),
        (
            TaintedTurn(),
            "Nothing was changed: a document was read for this message. Say what to change in a message of",
        ),
        (DocumentNotFound(9), "Document 9 does not exist."),
        (InvalidInput("The title may not be empty.", hint="title: Empty. add_task takes: title."), "The title may not"),
    ],
)
def test_a_hint_for_models_does_not_reach_a_person(error: DocuTalkError, answer: str) -> None:
    class Failing(TaskList):
        def update_task(self, task_id: int, **fields: Any) -> Any:
            return for_models(error.result) if fields else super().update_task(task_id)

    heard = Talk(Failing("Call Ida")).say("Make task 3 urgent")[1]

    assert heard.startswith(answer)
    assert error.hint not in heard


@pytest.mark.spec("OFFLINE-27")
@pytest.mark.parametrize(
    ("said", "added"),
    [
        ("Buy milk tomorrow", [_add("Buy milk", due="tomorrow")]),
        ("dentist tomorrow at 3", [_add("Dentist", due="tomorrow at 3")]),
        ("- call Bo\n- pay tax\n- buy fish and chips", [_add("Call Bo"), _add("Pay tax"), _add("Buy fish and chips")]),
        ("Finish the thing with task 3 by Friday", []),
        ("What is that on Friday?", []),
    ],
)
def test_words_with_a_date_and_lists_are_offered_as_tasks(said: str, added: list[Call]) -> None:
    talk = Talk(TaskList("Call Ida"))

    assert writes(talk.say(said)[0]) == []
    assert writes(talk.say("yes")[0]) == added


@pytest.mark.spec("OFFLINE-28")
@pytest.mark.parametrize(
    ("said", "filters", "level", "words"),
    [
        ("Show high priority work tasks", {"status": "all"}, "high", ["work"]),
        ("Show home tasks", {"status": "all"}, "", ["home"]),
        ("List tasks that have client in them", {"status": "all", "query": "client"}, "", []),
        ("How many high priority work tasks do I have?", {"status": "all"}, "high", ["work"]),
        ("Find all tasks with client", {"status": "all"}, "", ["client"]),
        ("What is due on December 8?", {"status": "pending", "due_before": "December 8"}, "", []),
        ("What do I have on Tuesday?", {"status": "pending", "due_before": "Tuesday"}, "", []),
        ("What's on my plate tomorrow?", {"status": "pending", "due_before": "tomorrow"}, "", []),
        ("What should I work on today?", {"status": "pending", "due_before": "today"}, "", []),
        ("What do I have to finish by Thursday?", {"status": "pending", "due_before": "Thursday"}, "", []),
        ("What should I do first?", {"status": "pending"}, "", []),
        ("show completed and pending tasks", {"status": "all"}, "", []),
        ("Show today's tasks", {"status": "pending", "due_before": "today"}, "", []),
        ("Show my Friday tasks", {"status": "pending", "due_before": "Friday"}, "", []),
        ("Show the Friday report tasks", {"status": "all"}, "", ["friday", "report"]),
        ("list my open urgent tasks tagged #home", {"status": "pending", "tag": "home"}, "high", []),
    ],
)
def test_a_question_is_understood_to_its_last_word(
    said: str, filters: dict[str, str], level: str, words: list[str]
) -> None:
    read = wanted(said.strip("?"), is_question=True)

    assert (read.filters, read.level, read.words, read.unclear) == (filters, level, words, "")


@pytest.mark.spec("OFFLINE-28")
@pytest.mark.parametrize(
    "said",
    [
        "What is due on December 8?",
        "What do I have on Tuesday?",
        "What's on my plate tomorrow?",
        "What should I work on today?",
        "What do I have to finish by Thursday?",
        "What should I do first?",
    ],
)
def test_a_question_about_tasks_does_not_go_to_the_documents(said: str) -> None:
    assert {name for name, _ in Talk(library()).say(said)[0]} == {"list_tasks"}


@pytest.mark.spec("OFFLINE-28")
def test_a_list_has_only_the_tasks_that_have_every_word() -> None:
    tasks = TaskList(*(f"Errand {number}" for number in range(60)), "Write report", "Call the client")
    tasks.update_task(61, tags=["work"], priority="high")
    tasks.update_task(62, priority="high")
    tasks.update_task(1, tags=["work"])

    calls, answer = Talk(tasks).say("Show high priority work tasks")

    assert answer == 'You have 1 high-priority task with "work":\n- Task 61: "Write report", high priority, #work'
    assert calls == [_list("all"), ("list_tasks", {"status": "all", "limit": 100, "cursor": "50"})]
    assert Talk(tasks).say("Show purple tasks")[1] == 'You have no tasks with "purple".'
    assert "a week from Sunday" in Talk(tasks).say("Show tasks due a week from Sunday")[1]
    assert "this week" in Talk(tasks).say("What have I completed this week?")[1]
    assert '"or"' in Talk(tasks).say("Show tasks tagged home or work")[1]


@pytest.mark.spec("OFFLINE-10")
def test_every_row_of_the_table_names_a_plan_or_has_its_sentence() -> None:
    for plan, detail, pattern in (*patterns.RULES, *documents.RULES):
        assert detail.endswith((".", "?", '"')) if plan == "say" else callable(getattr(mind.Mind, plan))
        assert pattern.fullmatch("") is None


IN_THE_DATABASE = [
    ("Delete the planet task", {}),
    ("Set all tasks to high priority", {}),
    ("Move all tasks to Friday", {}),
    ("Delete all but 2", {}),
    ("Mark 1 and 2 done and delete 3", {"completed": 1, "deleted": 1}),
    ("Add a task to pay a week from Sunday", {}),
    ("Add a task to call Ida tomorrow or Friday", {}),
    ("Add a task to call the bank on Sat at 5pm", {"added": "Call the bank"}),
    ("Remind me every Monday at 9 to water plants", {}),
    ("Reopen task 1", {"reopened": 1}),
    ("Put task 3 back on my list", {}),
    ("Add a reminder to task 1 for Friday", {}),
    ("Add work and urgent tags to task 2", {"tags": ["home", "work", "urgent"]}),
    ("Rename task 2 to Plan for Friday", {"title": "Plan for Friday"}),
    ("create tasks from handbook", {}),
]  # fmt: skip


@pytest.mark.spec("OFFLINE-16")
@pytest.mark.parametrize(("said", "change"), IN_THE_DATABASE, ids=[said for said, _ in IN_THE_DATABASE])
def test_the_tasks_of_the_database_change_as_said(guest: httpx.Client, said: str, change: dict[str, Any]) -> None:
    for body in ({"title": "Plan the party"}, {"title": "Wash car", "tags": ["home"]}, {"title": "Buy milk"}):
        guest.post("/api/tasks", json=body).raise_for_status()
    guest.patch("/api/tasks/1", json={"completed": True}).raise_for_status()
    before = {task["id"]: task for task in guest.get("/api/tasks").json()["tasks"]}

    say(guest, said).raise_for_status()

    after = {task["id"]: task for task in guest.get("/api/tasks").json()["tasks"]}
    if change.get("deleted"):
        del before[3]
        assert after.pop(2)["completed"]
        del before[2]
    elif added := change.get("added"):
        assert after.pop(4)["title"] == added
    elif change.get("reopened"):
        task, old = after.pop(1), before.pop(1)
        assert task == old | {"completed": False, "completed_at": None} | {
            name: task[name] for name in ("version", "updated_at")
        }
    elif change:
        task = after.pop(2)
        assert {name: task[name] for name in change} == change
        assert task["due"] == before.pop(2)["due"]
    assert after == before


@pytest.mark.spec("OFFLINE-26")
@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (f"Add a task to read {'x' * 300}", "The title may have at most 200 characters; this one has 305."),
        ("Make task 7 urgent", 'There is no task 7. Say "show my tasks" to see them.'),
        ("Reopen task 2147483648", 'There is no task 2147483648. Say "show my tasks" to see them.'),
        ("Complete task 0", 'There is no task 0. Say "show my tasks" to see them.'),
        ("Move task 1 to February 30", '"February 30" as a date'),
    ],
)
def test_an_error_of_the_service_is_in_words_for_people(guest: httpx.Client, words: str, answer: str) -> None:
    guest.post("/api/tasks", json={"title": "Meet Bo"}).raise_for_status()

    reply = say(guest, words).raise_for_status().json()["response"]

    assert answer in reply
    assert "takes:" not in reply
    assert "list_tasks" not in reply


@pytest.mark.spec("TASK-30")
def test_a_time_alone_in_a_message_keeps_the_day(guest: httpx.Client) -> None:
    guest.post("/api/tasks", json={"title": "Meet Bo", "due": "2031-03-04 15:00"}).raise_for_status()

    reply = say(guest, "Move task 1 to 2 PM").raise_for_status().json()

    assert "March 4, 2031 at 2:00 PM" in reply["response"]
    assert guest.get("/api/tasks/1").json()["due"] == "2031-03-04T14:00:00+01:00"


@pytest.mark.spec("OFFLINE-9")
@pytest.mark.parametrize("reply", ["", " ", "...", "\n"])
def test_a_reply_without_words_gets_an_answer_and_changes_nothing(reply: str) -> None:
    talk = Talk(TaskList(*TITLES))
    assert "yes" in talk.say("Buy milk tomorrow")[1]

    calls, answer = talk.say(reply)

    assert writes(calls) == []
    assert answer
