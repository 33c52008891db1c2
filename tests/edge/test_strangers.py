"""Requests from unknown senders: each address runs only a few at once, and does not delay others."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import Any

import httpx
import psycopg2
import pytest
from sqlalchemy import make_url
from starlette.types import Scope

from backend.edge import strangers
from backend.edge.connections import TooManyConnections
from backend.edge.proxies import Proxies
from backend.edge.strangers import AT_ONCE, Strangers, Visitors
from backend.limits.limiter import TooBusy
from tests.conftest import query, wait_until
from tests.problem import refused

WAITING = "select count(*) from pg_locks where relation = 'sessions'::regclass and not granted"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the wait for a slot."""
    monkeypatch.setattr(strangers, "WAIT_SECONDS", 0.2)


@pytest.fixture
def at(service: str) -> Iterator[Callable[[str], httpx.Client]]:
    """Makes clients that come from a given address."""
    with ExitStack() as opened:

        def make(address: str) -> httpx.Client:
            transport = httpx.HTTPTransport(local_address=address)
            return opened.enter_context(httpx.Client(base_url=service, transport=transport, timeout=30))

        yield make


@contextmanager
def sessions_locked(superuser_url: str) -> Iterator[None]:
    """Make every lookup of a session's token wait until the block ends."""
    url = make_url(superuser_url)
    connection = psycopg2.connect(
        dbname=url.database, user=url.username, host=url.query["host"], port=url.query["port"]
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute("lock table sessions in access exclusive mode")
        yield
    finally:
        connection.close()


@pytest.mark.spec("LIMIT-9", "LIMIT-10", "LIMIT-11")
@pytest.mark.usefixtures("hasty")
def test_refused_tokens_of_an_address_hold_up_neither_others_nor_who_is_signed_in(
    guest: httpx.Client, at: Callable[[str], httpx.Client], superuser_url: str
) -> None:
    secret = guest.post("/api/tokens", json={"name": "Laptop"}).json()["token"]
    known = {"Authorization": f"Bearer {secret}"}
    here, elsewhere = at("127.0.0.1"), at("127.0.0.2")
    assert here.get("/api/me", headers=known).status_code == 200

    with ThreadPoolExecutor() as flood:
        with sessions_locked(superuser_url):
            tried = [
                flood.submit(here.get, "/api/me", headers={"Authorization": f"Bearer dts_{number}"})
                for number in range(AT_ONCE + 2)
            ]
            wait_until(lambda: query(superuser_url, WAITING) == [(AT_ONCE,)])

            for path in ("/health/db", "/static/app.js", "/api/me", "/nothing"):
                answer = here.get(path)
                assert "network" in refused(answer, 429, "too_busy")["detail"]
                assert int(answer.headers["retry-after"]) > 0
                assert elsewhere.get(path).status_code in (200, 401, 404)
            refused(here.post("/api/auth/guest"), 429, "too_busy")
            assert [here.get(path).status_code for path in ("/health", "/ready")] == [200, 200]
            assert here.get("/api/me", headers=known).status_code == 200
            assert here.get("/api/tasks", headers=known).status_code == 200
        statuses = sorted(answer.result().status_code for answer in tried)

    assert statuses == [401] * AT_ONCE + [429] * 2
    assert here.get("/static/app.js").status_code == 200


@pytest.mark.spec("LIMIT-9")
def test_a_page_load_of_a_whole_room_is_served(at: Callable[[str], httpx.Client]) -> None:
    here = at("127.0.0.1")
    with ThreadPoolExecutor(30) as room:
        statuses = list(room.map(lambda _: here.get("/static/app.js").status_code, range(60)))

    assert set(statuses) == {200}


@pytest.mark.spec("LIMIT-9")
@pytest.mark.usefixtures("hasty")
def test_slow_senders_and_slow_readers_hold_no_slot(service: str, at: Callable[[str], httpx.Client]) -> None:
    host, _, port = service.removeprefix("http://").partition(":")
    half = b"POST /api/auth/guest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
    unread = b"GET /static/vendor/swagger-ui/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20
    with ExitStack() as opened:
        for sent in (half, unread):
            for _ in range(AT_ONCE + 2):
                connection = opened.enter_context(socket.create_connection((host, int(port)), timeout=30))
                connection.sendall(sent)

        here = at("127.0.0.1")
        for _ in range(AT_ONCE):
            assert here.get("/static/app.js").status_code == 200


@pytest.mark.spec("LIMIT-10")
@pytest.mark.usefixtures("hasty")
def test_a_credential_has_slots_of_its_own_from_when_it_was_valid_until_it_is_refused() -> None:
    doors = Strangers(Proxies([]))

    def request(token: str) -> Scope:
        return {"client": ("192.0.2.1", 1), "headers": [(b"authorization", f"Bearer {token}".encode())]}

    async def is_admitted(scope: Scope) -> bool:
        try:
            async with doors.slot(scope):
                return True
        except TooBusy:
            return False

    async def run() -> None:
        scope = request("good")
        async with doors.slot(scope):
            await strangers.recognize(scope)
        async with AsyncExitStack() as flood:
            for number in range(AT_ONCE):
                await flood.enter_async_context(doors.slot(request(str(number))))
            assert await is_admitted(request("good"))
            assert not await is_admitted(request("never seen"))

            async with doors.slot(request("good")) as slot:
                await slot.answer(401)
            assert not await is_admitted(request("good"))

    asyncio.run(run())


@pytest.mark.spec("LIMIT-6")
def test_behind_a_trusted_proxy_each_client_has_a_limit_of_requests() -> None:
    visitors = Visitors(Proxies(["10.0.0.1"]), 2)

    def scope(client: str, peer: str = "10.0.0.1") -> Any:
        return {"client": (peer, 1), "headers": [(b"x-forwarded-for", client.encode())]}

    with ExitStack() as under_way:
        for _ in range(2):
            under_way.enter_context(visitors.counted(scope("203.0.113.7")))
        with pytest.raises(TooManyConnections), visitors.counted(scope("203.0.113.7")):
            pass
        for other in (scope("203.0.113.8"), scope("203.0.113.7", peer="192.0.2.1")):
            with visitors.counted(other):
                pass
    with visitors.counted(scope("203.0.113.7")):
        pass
