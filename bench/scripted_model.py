"""A model server that answers by a script, over real HTTP, in the format of OpenAI's chat completions.

It answers with or without streaming, and can fail in the ways that real providers fail. It runs on its own event loop
in a thread, so that its callers may block.
"""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Queue
from typing import Any, Literal

Request = dict[str, Any]
"""The body of a request: model, messages, tools, stream."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that the model asks for."""

    name: str
    arguments: dict[str, Any] | str = field(default_factory=dict)
    """The arguments as an object, or as text that is sent unchanged."""
    id: str | None = "call_1"
    """The id of the call. With None, the call is sent without an id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The model's answer: words, calls, both, or neither."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    finish: str | None = None
    """The finish reason; None means the usual one for this answer."""
    ends: Literal["whole", "cut", "unmarked"] = "whole"
    """`cut` breaks the connection in the middle; `unmarked` ends it properly but without a finish reason."""
    pieces: int = 3
    """The number of pieces after which an incomplete answer ends."""
    wait: float = 0.0
    """Seconds before each piece."""
    input_tokens: int = 100
    output_tokens: int = 10


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP error instead of an answer."""

    status: int
    message: str = "No."
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer for some seconds, after which the connection breaks."""

    seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Wire:
    """A provider's raw answer with status 200, in any format, valid or not."""

    body: str | bytes
    kind: str = "text/event-stream"


Reply = Answer | Refusal | Silence | Wire
Script = Sequence[Reply] | Callable[[Request], Reply]


def says(text: str, **more: Any) -> Answer:
    """Return an answer in words."""
    return Answer(text=text, **more)


def calls(*wanted: ToolCall, **more: Any) -> Answer:
    """Return an answer that calls tools."""
    return Answer(calls=wanted, **more)


class ScriptedModel:
    """The server. A script is a function of the request, or a list of replies whose last one is repeated."""

    def __init__(self, script: Script) -> None:
        self.requests: list[Request] = []
        """The bodies of the requests so far."""
        self.keys: list[str] = []
        """The Authorization headers of the requests so far."""
        self.url = ""
        """The value for OPENAI_BASE_URL."""
        self._script = script

    def follow(self, script: Script) -> None:
        """Switch to another script, and forget the requests so far."""
        self._script = script
        self.requests.clear()
        self.keys.clear()

    async def serve(self, port: int = 0) -> asyncio.Server:
        """Start serving on 127.0.0.1."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", port, limit=2**24)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        return server

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                request: Request = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
                self.keys.append(headers.get("authorization", ""))
                if not await self._answered(writer, request):
                    break
        writer.transport.abort()

    async def _answered(self, writer: asyncio.StreamWriter, request: Request) -> bool:
        """Answer a request, and return whether the connection stays open."""
        self.requests.append(request)
        reply = self._reply_to(request)
        match reply:
            case Silence():
                await asyncio.sleep(reply.seconds)
                return False
            case Refusal():
                more = {"Retry-After": reply.retry_after} if reply.retry_after is not None else {}
                error = {"message": reply.message, "type": "scripted", "code": str(reply.status)}
                await _send(writer, {"error": error}, status=reply.status, headers=more)
                return True
            case Wire():
                body = reply.body.encode() if isinstance(reply.body, str) else reply.body
                await _send(writer, body, headers={"Content-Type": reply.kind})
                return True
            case Answer() if request.get("stream"):
                return await self._streamed(writer, reply)
            case Answer():
                await asyncio.sleep(reply.wait)
                if reply.ends == "cut":
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{")
                    await writer.drain()
                    return False
                await _send(writer, _completion(reply))
                return True

    def _reply_to(self, request: Request) -> Reply:
        if callable(self._script):
            return self._script(request)
        return self._script[min(len(self.requests), len(self._script)) - 1]

    async def _streamed(self, writer: asyncio.StreamWriter, answer: Answer) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        async for event in _events(answer):
            line = f"data: {event}\n\n".encode()
            writer.write(b"%x\r\n%s\r\n" % (len(line), line))
            await writer.drain()
        if answer.ends == "cut":
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


@contextmanager
def scripted_model(script: Script) -> Iterator[ScriptedModel]:
    """Serve a scripted model in a thread until the block ends."""
    model = ScriptedModel(script)
    started: Queue[Callable[[], object]] = Queue()

    async def serve() -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await model.serve()
        started.put(lambda: loop.call_soon_threadsafe(stopped.set))
        await stopped.wait()
        # Not `async with`, which waits for connections that clients keep alive. They end with the loop's tasks.
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="scripted model", daemon=True)
    thread.start()
    stop = started.get(timeout=5)
    try:
        yield model
    finally:
        stop()
        thread.join(5)


async def _send(
    writer: asyncio.StreamWriter,
    body: dict[str, Any] | bytes,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"HTTP/1.1 {status} Scripted\r\n{head}\r\n".encode() + data)
    await writer.drain()


def _completion(answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.calls:
        message["tool_calls"] = [_call(call) for call in answer.calls]
    choice = {"index": 0, "message": message, "finish_reason": _finish(answer)}
    return {**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _usage(answer)}


async def _events(answer: Answer) -> AsyncIterator[str]:
    """Yield the data of the stream's events: pieces of words, pieces of calls, the end, the usage."""
    deltas: list[dict[str, Any]] = [{"content": piece} for piece in re.findall(r"\S+\s*|\s+", answer.text)]
    for place, call in enumerate(answer.calls):
        whole = _call(call)
        arguments = whole["function"]["arguments"]
        half = len(arguments) // 2
        whole["function"]["arguments"] = ""
        parts = [{"function": {"arguments": part}} for part in (arguments[:half], arguments[half:])]
        deltas += [{"tool_calls": [{"index": place, **part}]} for part in (whole, *parts)]
    yield _chunk({"role": "assistant", "content": ""})
    for delta in deltas if answer.ends == "whole" else deltas[: answer.pieces]:
        if answer.wait:
            await asyncio.sleep(answer.wait)
        yield _chunk(delta)
    if answer.ends == "whole":
        yield _chunk({}, finish=_finish(answer))
        yield json.dumps({**_HEAD, "object": "chat.completion.chunk", "choices": [], "usage": _usage(answer)})
        yield "[DONE]"


def _chunk(delta: dict[str, Any], *, finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps({**_HEAD, "object": "chat.completion.chunk", "choices": [choice]})


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
    told = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return told if call.id is None else {"id": call.id, **told}


def _finish(answer: Answer) -> str:
    return answer.finish or ("tool_calls" if answer.calls else "stop")


def _usage(answer: Answer) -> dict[str, int]:
    total = answer.input_tokens + answer.output_tokens
    return {"prompt_tokens": answer.input_tokens, "completion_tokens": answer.output_tokens, "total_tokens": total}


_HEAD = {"id": "scripted-1", "created": 1_700_000_000, "model": "any"}
