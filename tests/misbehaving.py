"""A judge's endpoint on loopback that misbehaves on purpose: it counts every call, and charges tokens.

Here belongs the server alone, with nothing but the standard library. It runs in a thread of a test (`served`), or in a
process of its own (`started`), which ends when its standard input does, and after five minutes in any case.

What it does to a call is said by ``faults``, in one of three forms: ``{"http_500": 0.2, ...}``, chances, drawn anew for
each call from the seed, the prompt and the how-manieth time it is asked; ``["http_500", "ok", ...]``, one call after
the other, the last for all that follow; ``{"prompt": ["http_500", "ok"]}`` (lists), the same for each prompt.
"""

import asyncio
import hashlib
import json
import random
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

LIFE_S = 300.0
_REASONS = {200: "OK", 400: "Bad Request", 429: "Too Many Requests", 500: "Internal Server Error"}
_PIECES = re.compile(r"[^\W\d_]{1,5}|\d|[^\w\s]|_|\s{2,}")
WHOLE = frozenset({"ok", "wrong_id", "no_id", "no_usage", "refusal", "filter", "length", "parts", "odd_usage"})
"""What is a whole answer, good or bad."""


def tokens(text: str) -> int:
    """Tokens as this server counts them: pieces of five letters, and more for letters beyond ASCII."""
    return sum(1 if piece.isascii() else len(piece) for piece in _PIECES.findall(text))


@dataclass
class Counted:
    calls: int = 0
    answered: int = 0
    """Calls answered whole, as far as the server can tell: written to the end to a client that was there."""
    faults: Counter = field(default_factory=Counter)
    asked: Counter = field(default_factory=Counter)
    """Calls by prompt."""
    whole: Counter = field(default_factory=Counter)
    """Whole answers by prompt."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Of whole answers."""
    most_at_once: int = 0
    fields: Counter = field(default_factory=Counter)
    """Names of fields of the requests."""


class Misbehaving:
    def __init__(self, faults=None, seed=0, delay_s=0.0, dear=1, hang_s=30.0, completion=0, score=None) -> None:
        self.faults, self.seed, self.delay_s, self.dear, self.hang_s = faults or ["ok"], seed, delay_s, dear, hang_s
        self.completion, self.score = completion, score
        self.counted = Counted()
        self._now = 0
        self._server: asyncio.Server | None = None

    # ---- HTTP ----------------------------------------------------------------------------------------------------

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                path = line.decode().split()[1]
                headers = {}
                while (head := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = head.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if path == "/counted":
                    await self._send(writer, 200, json.dumps(vars(self.counted)))
                elif not await self._answer(writer, json.loads(body), headers):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client is gone, or the server ends
        finally:
            writer.close()

    async def _send(self, writer, status: int, body: str, headers: dict[str, str] | None = None, cut: int = 0) -> None:
        content = body.encode("utf-8", "surrogatepass")
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(content)}", *(f"{k}: {v}" for k, v in (headers or {}).items())]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (content[: len(content) // cut] if cut else content))
        await writer.drain()

    # ---- misbehaving ---------------------------------------------------------------------------------------------

    def _fault(self, prompt: str) -> str:
        times, faults = self.counted.asked[prompt], self.faults
        if isinstance(faults, list):
            return faults[min(self.counted.calls, len(faults)) - 1]
        if "prompt" in faults:
            return faults["prompt"][min(times, len(faults["prompt"])) - 1]
        name = hashlib.blake2b(f"{self.seed} {times} {prompt}".encode()).hexdigest()
        drawn = random.Random(name).random()
        for fault, chance in faults.items():
            drawn -= chance
            if drawn < 0:
                return fault
        return "ok"

    async def _answer(self, writer: asyncio.StreamWriter, body: dict, headers: dict[str, str]) -> bool:
        counted = self.counted
        prompt = body["messages"][-1]["content"]
        counted.calls += 1
        counted.asked[prompt] += 1
        counted.fields.update(list(body))
        fault = self._fault(prompt)
        counted.faults[fault] += 1
        self._now += 1
        counted.most_at_once = max(counted.most_at_once, self._now)
        try:
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            return await self._misbehave(writer, body, prompt, fault, headers.get("authorization", ""))
        finally:
            self._now -= 1

    async def _misbehave(self, writer, body: dict, prompt: str, fault: str, key: str) -> bool:
        said = f"You sent {prompt!r} with {key!r}"  # what a careless client would repeat
        if fault == "no_schema":
            fault = "http_400" if "response_format" in body else "ok"
        if fault == "no_logprobs":
            fault = "http_400" if "logprobs" in body else "ok"
        if fault == "new_names":
            blamed = {"code": "unsupported_parameter", "param": "max_tokens", "message": said}
            if "max_tokens" in body:
                await self._send(writer, 400, json.dumps({"error": blamed}))
                return True
            fault = "ok"
        if fault.startswith("http_") or fault in ("quota", "filter_400", "too_long"):
            codes = {
                "quota": "insufficient_quota",
                "filter_400": "content_filter",
                "too_long": "context_length_exceeded",
            }
            status = {"quota": 429, "filter_400": 400, "too_long": 400}.get(fault) or int(fault[5:8])
            wait = {"_s": {"Retry-After": "1"}, "_ms": {"retry-after-ms": "20"}, "_0": {"Retry-After": "0"}}
            wait["_date"] = {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)}
            error = {"message": said, "code": codes.get(fault), "type": "error"}
            await self._send(writer, status, json.dumps({"error": error}), wait.get(fault[8:]))
            return True
        if fault == "hang":
            await asyncio.sleep(self.hang_s)
            return False
        if fault == "gone":
            return False
        answer, used = self._said(body, prompt, fault)
        if fault == "drip":  # a byte now and then: never silent for long, never done
            for sign in "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + " " * 1000:
                writer.write(sign.encode())
                await writer.drain()
                await asyncio.sleep(0.02)
            return False
        if fault == "cut":
            await self._send(writer, 200, answer, cut=2)
            return False
        if fault in WHOLE:
            if writer.is_closing() or writer.transport.is_closing():
                return False
            self.counted.answered += 1
            self.counted.whole[prompt] += 1
            self.counted.prompt_tokens += used[0]
            self.counted.completion_tokens += used[1]
        await self._send(writer, 200, answer)
        return True

    def _said(self, body: dict, prompt: str, fault: str) -> tuple[str, tuple[int, int]]:
        text = self.score or says(prompt)
        words = self.completion and " ".join(["word"] * (self.completion + len(prompt) % 7))
        text = f"{text}\n{words}" if words else text
        read = self.dear * (3 + sum(4 + tokens(message["content"]) for message in body["messages"]))
        used = (read, min(self.dear * tokens(text), body.get("max_tokens", 10**6)))
        message, end = {"role": "assistant", "content": text}, "stop"
        if fault == "refusal":
            message = {"role": "assistant", "content": None, "refusal": "No."}
        if fault in ("null", "null_charged"):
            message["content"] = None
        if fault == "parts":
            message["content"] = [{"type": "text", "text": text}]
        end = {"filter": "content_filter", "length": "length"}.get(fault, end)
        data = {
            "id": "x" if fault == "wrong_id" else f"chat-{self.counted.calls}",
            "object": "chat.completion",
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": end}],
            "usage": {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)},
        }
        if fault == "odd_usage":
            data["usage"] = {"prompt_tokens": "many", "completion_tokens": -1}
        if fault in ("null", "no_usage", "empty_choices"):
            del data["usage"]
        if fault == "no_id":
            del data["id"]
        if fault in ("no_usage", "odd_usage"):
            used = (0, 0)
        if fault in ("empty_choices", "empty_charged"):
            data["choices"] = []
        said = json.dumps(data)
        return {"malformed": said[: len(said) // 2], "html": "<html>busy</html>"}.get(fault, said), used


def says(prompt: str) -> str:
    """What a good answer to a prompt is."""
    return f"Score: {1 + len(prompt) % 5}\n{hashlib.blake2b(prompt.encode(), digest_size=4).hexdigest()}"


# ---- ways to run it ------------------------------------------------------------------------------------------------


@dataclass
class Here:
    """A server in a thread of this process."""

    url: str
    counted: Counted


@contextmanager
def served(**how) -> Iterator[Here]:
    """A server in a thread, as long as the block lasts."""
    server, ready, ends = Misbehaving(**how), threading.Event(), threading.Event()
    port: list[int] = []

    async def run() -> None:
        port.append(await server.start())
        ready.set()
        until = time.monotonic() + LIFE_S
        while not ends.is_set() and time.monotonic() < until:
            await asyncio.sleep(0.01)

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield Here(f"http://127.0.0.1:{port[0]}/v1", server.counted)
    finally:
        ends.set()
        thread.join(10)


@dataclass
class There:
    """A server in a process of its own."""

    url: str

    @property
    def counted(self) -> Counted:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(self.url[:-3] + "/counted") as got:
            said = json.loads(got.read())
        counters = {name: Counter(value) for name, value in said.items() if isinstance(value, dict)}
        return Counted(**{**said, **counters})


@contextmanager
def started(**how) -> Iterator[There]:
    """A server in a process of its own, as long as the block lasts."""
    words = [sys.executable, __file__, json.dumps(how)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    try:
        yield There(f"http://127.0.0.1:{int(process.stdout.readline())}/v1")
    finally:
        process.stdin.close()  # which ends it
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


async def _alone(how: dict) -> None:
    server = Misbehaving(**how)
    print(await server.start(), flush=True)
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.wait({ended}, timeout=LIFE_S)


if __name__ == "__main__":
    asyncio.run(_alone(json.loads(sys.argv[1])))
