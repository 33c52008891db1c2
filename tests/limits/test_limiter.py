"""The limiter alone. The tests check order and counts, never time."""

import asyncio

import pytest
from anyio import wait_all_tasks_blocked

from backend.limits.limiter import Limiter, TooBusy

SENTENCE = "You have two requests at work already. Try again in a few seconds."


class Crowd:
    """People who each hold a slot until they are released, and who are added to `served` when they get one."""

    def __init__(self, limiter: Limiter, tasks: asyncio.TaskGroup) -> None:
        self._limiter = limiter
        self._tasks = tasks
        self._gates: dict[str, asyncio.Event] = {}
        self.served: list[str] = []

    async def come(self, names: str, *, key: str = "anna") -> list[asyncio.Task[None]]:
        tasks = [self._tasks.create_task(self._work(name, key)) for name in names]
        await wait_all_tasks_blocked()
        return tasks

    async def let_go(self, names: str) -> None:
        for name in names:
            self._gates[name].set()
            await wait_all_tasks_blocked()

    async def _work(self, name: str, key: str) -> None:
        self._gates[name] = asyncio.Event()
        async with self._limiter.slot(key):
            self.served.append(name)
            await self._gates[name].wait()


@pytest.mark.spec("LIMIT-1")
def test_a_key_has_so_many_slots_and_the_others_wait_in_order() -> None:
    limiter = Limiter(2, sentence=SENTENCE)

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            crowd = Crowd(limiter, tasks)
            await crowd.come("abcde")
            await crowd.come("x", key="ben")
            assert crowd.served == ["a", "b", "x"]

            await crowd.let_go("abcdex")
            assert crowd.served == ["a", "b", "x", "c", "d", "e"]

    asyncio.run(run())

    assert limiter.keys_in_use == 0


@pytest.mark.spec("LIMIT-2")
@pytest.mark.parametrize("wait", [0, 0.01])
def test_who_gets_no_slot_in_time_is_refused(wait: float) -> None:
    limiter = Limiter(2, sentence=SENTENCE)

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            crowd = Crowd(limiter, tasks)
            await crowd.come("ab")
            with pytest.raises(TooBusy) as refused:
                async with limiter.slot("anna", wait=wait):
                    pytest.fail("There was no slot.")
            assert (refused.value.status, refused.value.code, str(refused.value)) == (429, "too_busy", SENTENCE)
            assert refused.value.retry_after

            await crowd.let_go("a")
            async with limiter.slot("anna", wait=wait):
                await crowd.let_go("b")

    asyncio.run(run())

    assert limiter.keys_in_use == 0


@pytest.mark.spec("LIMIT-2")
def test_who_comes_when_too_many_wait_is_refused_at_once() -> None:
    limiter = Limiter(2, sentence=SENTENCE, most_waiting=3)

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            crowd = Crowd(limiter, tasks)
            await crowd.come("abcde")
            with pytest.raises(TooBusy):
                async with limiter.slot("anna", wait=60):
                    pytest.fail("There was no slot.")
            async with limiter.slot("ben", wait=60):
                pass
            # Without a limit to its wait, it waits.
            await crowd.come("f")

            await crowd.let_go("abcdef")
            assert crowd.served == ["a", "b", "c", "d", "e", "f"]

    asyncio.run(run())

    assert limiter.keys_in_use == 0


@pytest.mark.spec("LIMIT-3")
def test_who_gives_up_or_fails_leaves_the_slot_to_the_next() -> None:
    limiter = Limiter(2, sentence=SENTENCE)

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            crowd = Crowd(limiter, tasks)
            async with limiter.slot("anna"):
                [working] = await crowd.come("a")
                waiting, given, _ = await crowd.come("bcd")
                assert crowd.served == ["a"]
                waiting.cancel()
            # By now the slot belongs to c, who has not noticed yet.
            given.cancel()
            await wait_all_tasks_blocked()
            assert crowd.served == ["a", "d"]

            working.cancel()
            await crowd.come("e")
            assert crowd.served == ["a", "d", "e"]
            await crowd.let_go("de")
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                async with limiter.slot("anna", wait=0):
                    _ = 1 / 0

    asyncio.run(run())

    assert limiter.keys_in_use == 0
