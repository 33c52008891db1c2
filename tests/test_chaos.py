"""The chaos benchmark: its short form passes, and its checks find what they should find."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.chaos.checks import goals, takeovers, turns
from bench.chaos.delivery import Conversation, Message, Person
from bench.chaos.evidence import Clock, Evidence
from bench.chaos.following import Telling
from bench.chaos.script import Wish, answering, words
from bench.chaos.storm import Kill, Stop

ROOT = Path(__file__).parent.parent
ALICE = Person("alice", "token")


@pytest.mark.long
@pytest.mark.spec("CHAOS-1")
def test_a_minute_of_kills_and_crashes_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    command = [sys.executable, "-m", "bench.chaos", "--seed", "4", "--seconds", "60", "--cancels", "0.1"]

    chaos = subprocess.run(
        [*command, "--result", str(result)], cwd=ROOT, capture_output=True, text=True, timeout=540, check=False
    )

    assert chaos.returncode == 0, chaos.stdout + chaos.stderr
    told = json.loads(result.read_text())
    assert told["is_met"]
    assert len(told["goals"]) == 8
    assert not any(told["goals"].values())
    assert told["numbers"]["kills"] >= 5
    assert told["numbers"]["crashes"] >= 1
    assert told["numbers"]["stops"] >= 3, "One of them, beside those at the end, is under way."
    assert told["numbers"]["messages"] >= 20
    assert told["numbers"]["cancels"] >= 1
    assert told["numbers"]["drops"] >= 5
    assert told["numbers"]["takeovers"] >= 3


@pytest.mark.spec("CHAOS-2")
def test_the_checks_find_nothing_where_all_is_well() -> None:
    assert [goal for goal in goals(_evidence()) if goal.found] == []


def _forgets_an_answer(evidence: Evidence) -> None:
    del evidence.shown["alice", 1][1]


def _mixes_two_attempts(evidence: Evidence) -> None:
    answer = evidence.shown["alice", 1][1]
    answer["content"] = answer["content"][:20] + answer["content"]
    for telling in evidence.messages[0].tellings:
        telling.text = answer["content"]


def _leaves_a_run(evidence: Evidence) -> None:
    evidence.runs[0]["status"] = "running"


def _fails_without_a_word(evidence: Evidence) -> None:
    evidence.runs[0] |= {"status": "failed", "error": None}


def _forgets_a_task(evidence: Evidence) -> None:
    evidence.titles["alice"]["n1 2"] = 0


def _adds_a_task_again(evidence: Evidence) -> None:
    evidence.titles["alice"]["n1 2"] = 2


def _adds_what_nobody_wants(evidence: Evidence) -> None:
    evidence.titles["alice"]["n9 1"] = 1


def _accepts_a_copy_anew(evidence: Evidence) -> None:
    evidence.messages[0].run_ids.add("run-7")
    evidence.runs.append({**evidence.runs[0], "id": "run-7", "conversation_id": 2})
    evidence.events["run-7"] = evidence.events["run-1"]


def _records_a_call_twice(evidence: Evidence) -> None:
    evidence.calls.append(evidence.calls[0])


def _answers_the_second_first(evidence: Evidence) -> None:
    one, first, two, second = evidence.shown["alice", 1]
    evidence.shown["alice", 1] = [one, two, first, second]


def _executes_both_at_once(evidence: Evidence) -> None:
    evidence.runs[0]["ended_at"] = 1_000_006.0


def _swaps_two_messages(evidence: Evidence) -> None:
    evidence.runs[0]["message_id"], evidence.runs[1]["message_id"] = 3, 1


def _skips_an_event(evidence: Evidence) -> None:
    evidence.events["run-1"][1]["seq"] = 9


def _goes_on_after_done(evidence: Evidence) -> None:
    evidence.events["run-1"].append({**evidence.events["run-1"][1], "seq": 4})
    evidence.runs[0]["last_seq"] = 4


def _tells_one_client_something_else(evidence: Evidence) -> None:
    evidence.messages[0].tellings[0].text += "!"


def _tells_an_event_twice(evidence: Evidence) -> None:
    evidence.messages[0].tellings[0].take((3, "done", {}))
    evidence.messages[0].tellings[0].take((3, "done", {}))


def _bricks_the_conversation(evidence: Evidence) -> None:
    evidence.runs[1] |= {"status": "failed", "error": {"code": "model_failed", "detail": "No."}}
    evidence.events["run-2"][-1]["data"]["status"] = "failed"


def _takes_over_late(evidence: Evidence) -> None:
    evidence.kills.append(Kill("A", 1_000_000.5, frozenset({"run-1"})))
    evidence.runs[0]["ended_at"] = 1_000_009.0
    evidence.runs[1]["created_at"] = 1_000_020.0
    for event in evidence.events["run-2"]:
        event["at"] += 20


def _begins_the_next_late(evidence: Evidence) -> None:
    for event in evidence.events["run-2"]:
        event["at"] += 8
    evidence.runs[1]["ended_at"] += 8


def _goes_down_hard(evidence: Evidence) -> None:
    evidence.stops.append(Stop("A", 0, 2.0, 3, ("broken",)))


def _answers_with_500(evidence: Evidence) -> None:
    evidence.surprises.append("n1: 500 without sense")


@pytest.mark.spec("CHAOS-2")
@pytest.mark.parametrize(
    ("go_wrong", "missed"),
    [
        (_forgets_an_answer, {"0 lost", "0 gaps"}),
        (_mixes_two_attempts, {"0 lost"}),
        (_leaves_a_run, {"0 lost", "0 gaps"}),
        (_fails_without_a_word, {"0 lost", "0 gaps"}),
        (_forgets_a_task, {"0 lost"}),
        (_adds_a_task_again, {"0 done twice"}),
        (_adds_what_nobody_wants, {"0 done twice"}),
        (_accepts_a_copy_anew, {"0 done twice"}),
        (_records_a_call_twice, {"0 done twice"}),
        (_answers_the_second_first, {"0 out of order"}),
        (_executes_both_at_once, {"0 out of order"}),
        (_swaps_two_messages, {"0 out of order"}),
        (_skips_an_event, {"0 gaps"}),
        (_goes_on_after_done, {"0 gaps"}),
        (_tells_one_client_something_else, {"0 gaps"}),
        (_tells_an_event_twice, {"0 gaps"}),
        (_bricks_the_conversation, {"0 conversations that cannot go on"}),
        (_takes_over_late, {"every run claimed"}),
        (_begins_the_next_late, {"every run claimed"}),
        (_goes_down_hard, {"every stop"}),
        (_answers_with_500, {"0 surprises"}),
    ],
)
def test_the_checks_find_what_went_wrong(go_wrong: Callable[[Evidence], None], missed: set[str]) -> None:
    evidence = _evidence()

    go_wrong(evidence)

    found = {goal.name: goal.found for goal in goals(evidence) if goal.found}
    assert len(found) == len(missed), found
    assert all(any(name.startswith(start) for name in found) for start in missed), found


@pytest.mark.spec("CHAOS-2")
def test_a_takeover_is_measured_while_somebody_could_take_over() -> None:
    evidence = _evidence()
    evidence.kills.append(Kill("A", 1_000_000.5, frozenset({"run-1", "run-2"})))
    evidence.events["run-1"].insert(1, {"run_id": "run-1", "seq": 2, "kind": "run", "at": 1_000_003.5, "data": RUNNING})
    evidence.runs[0]["ended_at"] = 1_000_004.0
    evidence.clock = Clock([(1_000_000.0, 1_000_000.5), (1_000_002.0, 1_000_009.0)], [(1_000_002.5, 1_000_003.0)])

    waits = {wait.run_id: wait for wait in takeovers(evidence)}

    assert (waits["run-1"].seconds, waits["run-1"].able) == (3.0, 1.0)
    assert [wait.run_id for wait in turns(evidence)] == ["run-2"]


@pytest.mark.spec("CHAOS-3")
def test_the_model_is_a_function_of_the_request_but_for_its_words() -> None:
    wish, reply = Wish("n1", 3, 2, lists=True), answering(pace=0)
    said = [{"role": "user", "content": "n0: add 1 tasks, 1 at once."}, {"role": "user", "content": str(wish)}]
    tool = {"role": "tool", "content": "{}"}

    answers = [reply({"messages": [*said, *[tool] * done]}) for done in (0, 0, 2, 3, 4)]

    titles = [[call.arguments for call in answer.calls] for answer in answers]
    assert titles[0] == titles[1] == [{"title": "n1 1"}, {"title": "n1 2"}]
    assert titles[2:] == [[{"title": "n1 3"}], [{"query": "n1"}], []]
    assert answers[0].text != answers[1].text
    assert Wish.of(str(wish)) == wish
    assert wish.is_answered_by("\n\n".join(answer.text for answer in answers[1:]))
    assert not wish.is_answered_by("\n\n".join(answer.text for answer in answers[:4]))


RUNNING = {"status": "running"}


def _evidence() -> Evidence:
    """Two messages of one conversation, sent one after the other and answered correctly."""
    talk = Conversation(ALICE, id=1)
    evidence = Evidence(
        conversations=[talk],
        shown={("alice", 1): []},
        titles={"alice": Counter({"n1 1": 1, "n1 2": 1})},
        runs=[],
        events={},
        calls=[
            {"user_id": "alice", "run_id": "run-1", "call_id": f"c{n}", "tool": "add_task", "outcome": "ok"}
            for n in (1, 2)
        ],
        kills=[],
        crashes=[],
        stops=[Stop("A", 0, 1.0, 2, ())],
        clock=Clock([(1_000_000.0, float("inf"))], []),
        lease_seconds=2.0,
    )
    for number, wish in enumerate((Wish("n1", 2, 2), Wish("n2", 0, 1)), start=1):
        _ask(evidence, talk, wish, number)
    return evidence


def _ask(evidence: Evidence, talk: Conversation, wish: Wish, number: int) -> None:
    run_id, began = f"run-{number}", 1_000_000.0 + 4 * (number - 1)
    answer = "\n\n".join(words(wish, step, asked=step) for step in range(1, wish.responses + 1))
    calls = [
        {"name": "add_task", "arguments": {"title": title}, "result": {"title": title}, "is_error": False}
        for title in wish.titles
    ]
    evidence.runs.append(
        {
            "user_id": "alice",
            "id": run_id,
            "conversation_id": 1,
            "message_id": 2 * number - 1,
            "status": "completed",
            "attempt": 1,
            "idempotency_key": f"key of {wish.nonce}",
            "error": None,
            "last_seq": 3,
            "created_at": began,
            "ended_at": began + 2,
        }
    )
    evidence.events[run_id] = [
        {"run_id": run_id, "seq": seq, "kind": kind, "at": began + seq - 1, "data": data}
        for seq, kind, data in ((1, "run", RUNNING), (2, "text", None), (3, "done", {"status": "completed"}))
    ]
    evidence.shown["alice", 1] += [
        {"role": "user", "content": str(wish), "run_id": run_id, "tool_calls": []},
        {"role": "assistant", "content": answer, "run_id": run_id, "tool_calls": calls},
    ]
    message = Message(wish, talk, after=talk.messages[-1] if talk.messages else None)
    message.tellings = [Telling(run_id=run_id, text=answer, last_id=2, has_ended=True) for _ in range(3)]
    message.acknowledge(run_id, 1)
    talk.messages.append(message)
