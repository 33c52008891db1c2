"""Well-behaved clients: they send everything several times at once, hang up, return, and retry patiently."""

import asyncio
import random
import time
from collections.abc import Coroutine
from dataclasses import dataclass

from bench.chaos.delivery import AWAY, PATIENCE_SECONDS, Conversation, Copy, Message, Network, Person
from bench.chaos.following import Telling
from bench.chaos.script import Wish

COPIES = 3
"""How many copies of each message are sent at once."""
LAST_MESSAGES_AT_ONCE = 8


@dataclass(frozen=True)
class Habits:
    """How often clients do unusual things, as shares of all messages or streams."""

    cancels: float = 0.03
    drops: float = 0.35
    json: float = 0.5
    """The share of third copies that request JSON. The first two copies always request streams, one from each
    process."""
    bursts: float = 0.35
    """The share of messages that start a burst: another message follows before they are answered."""
    simultaneous: float = 0.3
    """The share of bursts in which both messages are sent at the same moment."""


class Clients:
    """All users and their conversations. The text of the messages depends only on the seed."""

    def __init__(self, network: Network, *, seed: int, habits: Habits) -> None:
        self.conversations: list[Conversation] = []
        self._network = network
        self._seed = seed
        self._habits = habits
        self._closing = asyncio.Event()
        self._cancels: set[asyncio.Task[None]] = set()

    async def talk(self, *, users: int, at_once: int) -> None:
        """Keep users talking until `close`, each in `at_once` conversations at a time; return after the last answer."""
        async with asyncio.TaskGroup() as group:
            for user in range(users):
                person = await self._sign_in()
                for place in range(at_once):
                    rng = random.Random(f"{self._seed} {user} {place}")
                    group.create_task(self._keep_talking(person, rng))
        if self._cancels:
            await asyncio.wait(self._cancels, timeout=PATIENCE_SECONDS)

    def close(self) -> None:
        """Send no further messages."""
        self._closing.set()

    async def go_on_everywhere(self) -> None:
        """Send one more message in each conversation."""
        rng = random.Random(f"{self._seed} once more")
        slots = asyncio.Semaphore(LAST_MESSAGES_AT_ONCE)

        async def once_more(conversation: Conversation) -> None:
            async with slots:
                await self._send(conversation, Wish(_nonce(rng), 1, 1), rng, may_cancel=False)

        async with asyncio.TaskGroup() as group:
            for conversation in [one for one in self.conversations if one.id is not None]:
                group.create_task(once_more(conversation))

    async def _sign_in(self) -> Person:
        url = f"{self._network.service(0).url}/api/auth/guest"
        told = (await self._network.http.post(url, json={"time_zone": "UTC"})).raise_for_status().json()
        return Person(told["user"]["id"], told["token"])

    async def _keep_talking(self, person: Person, rng: random.Random) -> None:
        while not self._closing.is_set():
            conversation = Conversation(person)
            self.conversations.append(conversation)
            await self._send(conversation, _wish(rng), rng)
            for _ in range(rng.randint(1, 10)):
                if self._closing.is_set() or conversation.id is None:
                    break
                await self._burst(conversation, rng)

    async def _burst(self, conversation: Conversation, rng: random.Random) -> None:
        """Send a message, or several before the first is answered; return when all are answered."""
        async with asyncio.TaskGroup() as group:
            while True:
                sending = group.create_task(self._send(conversation, _wish(rng), rng))
                # Once the task has begun, its message is the conversation's last.
                await asyncio.sleep(0)
                last = conversation.messages[-1]
                if rng.random() >= self._habits.bursts:
                    break
                if rng.random() >= self._habits.simultaneous:
                    accepted = asyncio.create_task(last.accepted.wait())
                    await asyncio.wait((sending, accepted), return_when=asyncio.FIRST_COMPLETED)
                    accepted.cancel()

    async def _send(
        self, conversation: Conversation, wish: Wish, rng: random.Random, *, may_cancel: bool = True
    ) -> None:
        """Send a message several times at once, to both processes, and follow it to its end."""
        before = [message for message in conversation.messages if message.accepted.is_set()]
        message = Message(wish, conversation, before[-1] if before else None)
        conversation.messages.append(message)
        self._network.counts["messages"] += 1
        first, cancels = rng.randrange(COPIES), may_cancel and rng.random() < self._habits.cancels
        if cancels:
            self._later(self._cancel(message, rng.uniform(0, 3), rng.randrange(COPIES)))
        async with asyncio.TaskGroup() as group:
            for place in range(COPIES):
                streamed = place < len(self._network.services) or rng.random() >= self._habits.json
                drop_after = rng.randint(2, 25) if rng.random() < self._habits.drops else None
                telling = Telling(streamed=streamed)
                message.tellings.append(telling)
                copy = Copy(self._network, message, telling, place=first + place, drop_after=drop_after)
                group.create_task(copy.deliver())

    async def _cancel(self, message: Message, seconds: float, place: int) -> None:
        """Cancel a message's run some time after it was accepted, at either process."""
        await message.accepted.wait()
        await asyncio.sleep(seconds)
        run_id = min(message.run_ids)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            service = self._network.service(place)
            place += 1
            with self._network.tolerating(service, f"cancel of run {run_id}"):
                url, headers = f"{service.url}/api/runs/{run_id}/cancel", message.conversation.person.headers
                answer = await self._network.http.post(url, headers=headers)
                if answer.status_code == 200:
                    message.cancelled_at = time.time()
                    self._network.counts["cancels"] += 1
                    return
                if answer.status_code not in AWAY:
                    told = f"run {run_id}: a cancel was answered with {answer.status_code}: {answer.text[:500]}"
                    self._network.surprises.append(told)
                    return
            await asyncio.sleep(0.3)

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)


def _wish(rng: random.Random) -> Wish:
    tasks = rng.choice((0, 1, 1, 2, 3, 4, 6))
    return Wish(_nonce(rng), tasks, rng.randint(1, max(tasks, 1)), lists=rng.random() < 0.2)


def _nonce(rng: random.Random) -> str:
    return f"n{rng.getrandbits(40):010x}"
