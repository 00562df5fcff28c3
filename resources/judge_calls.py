"""One call to a judge: the request that a cell makes, and what its outcome means.

Here belongs the provider's protocol (any OpenAI-compatible chat endpoint, through the `openai` client). When to call,
how often, and what to keep is `judge_run`. No text of a row and no key is ever part of an error that is raised here,
nor of what the libraries below log.
"""

import asyncio
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from methods.judging.kinds import API_ERROR, OK, PARSE_ERROR, REFUSED, TRUNCATED, Answer, Cell
from resources.judge_limits import retry_after

PROVIDER = "https://api.openai.com/v1"
TOP = 20
"""Log-probabilities that an endpoint gives at most at a place."""
OURS = frozenset({"model", "messages", "n", "stream", "stop"})
"""Fields of a request that nobody may set from outside: answers would not be what they are read as."""
LENGTHS = ("max_tokens", "max_completion_tokens")
_OPTIONAL = ("response_format", "logprobs", "max_tokens", "seed")
"""Fields that an endpoint may not know, in the order in which they are done without (``max_tokens``: under its newer
name)."""
_TOO_LONG = frozenset({"context_length_exceeded", "string_above_max_length"})
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
"""The transport's errors before anything was sent, by name: the client brings the library that they are of."""
_MOST_TOKENS = 10**9
_KEY_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_KEPT = "what was bought is kept"


class JudgeUnavailable(RuntimeError):
    """No call to this judge can succeed: wrong address, key, model or quota. The message says what to set."""


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask."""

    url: str
    model: str
    key_name: str
    timeout_s: float
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """Its name for messages, without anything secret that an address may hold."""
        return urlsplit(self.url or PROVIDER).hostname or "?"


@dataclass(frozen=True)
class Failed:
    """A call without an answer."""

    outcome: str
    """A word for the log of calls: ``timeout``, ``connection``, ``unreachable``, ``malformed``, ``empty``,
    ``http_429`` ..."""
    wait_s: float | None = None
    """What the server asked to wait; it concerns all calls."""
    put_off: bool = False
    """The server has too much to do: nothing is wrong with this call."""
    without: frozenset[str] = frozenset()
    """Fields that the endpoint may not know: the same call is worth making without them."""
    final: str = ""
    """The status that the cell has by this; the same call again would end the same way."""


class Remote:
    """An endpoint that is asked over the network."""

    def __init__(self, endpoint: Endpoint, structured: bool = True) -> None:
        key = _key(endpoint)
        _check(endpoint)
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        # A server on this machine is never behind the proxy of the environment.
        http = DefaultAsyncHttpxClient(trust_env=not is_local(endpoint.url))
        self._openai: Any = AsyncOpenAI(
            api_key=key or "none",
            max_retries=0,
            timeout=endpoint.timeout_s,
            http_client=http,
            base_url=endpoint.url or PROVIDER,
        )
        self._endpoint, self._structured = endpoint, structured
        self._unknown = frozenset[str]()
        """Fields that the endpoint does not take: a call without them succeeded after one with them did not."""

    async def ask(self, cell: Cell, without: frozenset[str] = frozenset()) -> Answer | Failed:
        """Make one call, without some fields. What can never succeed raises `JudgeUnavailable`."""
        body = request(cell, self._endpoint, self._structured, without | self._unknown)
        got = await call(self._openai, body, cell.choices, self._endpoint.timeout_s)
        if isinstance(got, Answer):
            self._unknown |= without
        return got

    async def close(self) -> None:
        """Let its connections go."""
        await self._openai.close()


def _key(endpoint: Endpoint) -> str:
    """The key, read from the environment at this moment and kept nowhere but in the client."""
    if not _KEY_NAME.fullmatch(endpoint.key_name):  # not repeated: it may be the key itself
        raise JudgeUnavailable(
            "the judge's key_name must be the name of an environment variable, such as OPENAI_API_KEY"
        )
    key = os.environ.get(endpoint.key_name, "").strip()
    if not key and not is_local(endpoint.url):
        raise JudgeUnavailable(f"the judge at {endpoint.host} needs a key: set {endpoint.key_name}")
    if not re.fullmatch(r"[!-~]*", key):
        raise JudgeUnavailable(f"the value of {endpoint.key_name} is not a key: it holds spaces or other signs")
    return key


def _check(endpoint: Endpoint) -> None:
    parts = urlsplit(endpoint.url or PROVIDER)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise JudgeUnavailable("the judge's url must be an address such as http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query:
        raise JudgeUnavailable(
            f"the judge's url for {endpoint.host} must hold no key: set {endpoint.key_name} to it instead"
        )
    if taken := sorted(OURS & set(endpoint.extra)):
        raise JudgeUnavailable(f"the judge's extra fields may not set {', '.join(taken)}")


def is_local(url: str) -> bool:
    """Whether an address is on this machine."""
    return (urlsplit(url).hostname or "") in {"127.0.0.1", "localhost", "::1"}


def request(
    cell: Cell, endpoint: Endpoint, structured: bool = True, without: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """The body of the request, as plain data; ``without`` some fields that an endpoint does not know."""
    length = LENGTHS["max_tokens" in without]
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": [{"role": role, "content": content} for role, content in cell.messages],
        length: cell.max_tokens,
        "temperature": cell.temperature,
    }
    if cell.temperature > 0 and "seed" not in without:
        body["seed"] = cell.repeat  # samples differ, and are the same again where an endpoint honours seeds
    if cell.schema is not None and structured and "response_format" not in without:
        schema = {"name": "answer", "strict": True, "schema": dict(cell.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if cell.choices and "logprobs" not in without:
        body |= {"logprobs": True, "top_logprobs": TOP}
    if set(LENGTHS) & set(endpoint.extra):
        del body[length]
    return body | endpoint.extra


async def call(openai: Any, body: dict[str, Any], choices: tuple[str, ...], timeout_s: float) -> Answer | Failed:
    """Make one call. What can never succeed raises `JudgeUnavailable`."""
    import openai as library

    named = {name: body[name] for name in ("model", "messages")}
    rest = {name: value for name, value in body.items() if name not in named}
    try:
        # The client's own limit holds for each piece that arrives; this one for the whole call.
        async with asyncio.timeout(timeout_s):
            # Raw: the text is read below, so that what is malformed is an outcome and not an exception of the library.
            got = await openai.chat.completions.with_raw_response.create(**named, extra_body=rest)
            content = got.content
    except library.APIConnectionError as error:
        if type(error.__cause__).__name__ in _NEVER_SENT:
            return Failed("unreachable")
        return Failed("timeout" if isinstance(error, library.APITimeoutError) else "connection")
    except TimeoutError:
        return Failed("timeout")
    except library.APIStatusError as error:
        status, headers, said = error.status_code, dict(error.response.headers), error.body
    except library.APIError:
        return Failed("malformed")
    else:
        return read(content, choices)
    # Outside of the handler: the library's error, which repeats the provider's message, is no context of ours.
    return declined(status, headers, said if isinstance(said, dict) else {}, body)


def declined(status: int, headers: Mapping[str, str], said: Mapping[str, Any], body: Mapping[str, Any]) -> Failed:
    """What an error of the provider means. Only its codes are read, never its message."""
    code = str(said.get("code") or said.get("type") or "")
    if code == "insufficient_quota" or status == 402:
        raise JudgeUnavailable(f"the provider says that the quota is used up; {_KEPT}")
    if status in (401, 403):
        raise JudgeUnavailable(f"the provider refuses the key (HTTP {status}); {_KEPT}")
    if status in (404, 405, 410):
        raise JudgeUnavailable(f"there is no model {body['model']!r} at this address (HTTP {status}); {_KEPT}")
    if ("content" in code and "filter" in code) or "content_policy" in code:
        return Failed("declined", final=REFUSED)
    outcome = f"http_{status}"
    if status in (400, 413, 422):
        if code not in _TOO_LONG and (left_out := _left_out(said.get("param"), body)):
            return Failed(outcome, without=frozenset({left_out}))
        # The request itself is not taken, and the same again would not be either.
        return Failed("too_long" if code in _TOO_LONG else outcome, final=API_ERROR)
    wait = retry_after(headers)
    return Failed(outcome, wait, put_off=wait is not None or status in (429, 503, 529))


def _left_out(blamed: Any, body: Mapping[str, Any]) -> str:
    """The field to do without after a request was not taken: the one that the provider blames, else the first that not
    all endpoints know."""
    there = [name for name in _OPTIONAL if name in body]
    if isinstance(blamed, str) and blamed:
        named = "logprobs" if blamed == "top_logprobs" else blamed.split(".")[0]
        return named if named in there else ""
    return next((name for name in there if name != "max_tokens"), "")


def read(content: bytes, choices: tuple[str, ...] = ()) -> Answer | Failed:
    """The answer in the body of a response. What was charged for is an answer, be it empty."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return Failed("malformed")
    if not isinstance(data, dict) or not isinstance(data.get("choices"), list):
        return Failed("malformed")
    used = _used(data.get("usage"))
    choice = data["choices"][0] if data["choices"] and isinstance(data["choices"][0], dict) else {}
    message = choice["message"] if isinstance(choice.get("message"), dict) else {}
    text, refusal, end = _text(message.get("content")), _text(message.get("refusal")), choice.get("finish_reason")
    if refusal or end == "content_filter":
        return Answer(REFUSED, refusal or text, {}, *used)
    if end == "length":
        return Answer(TRUNCATED, text, _logprobs(choice, choices) if text else {}, *used)
    if not text.strip():
        return Answer(PARSE_ERROR, text, {}, *used) if any(used) else Failed("empty")
    return Answer(OK, text, _logprobs(choice, choices), *used)


def _text(content: Any) -> str:
    """A message's text, also where it comes in parts; signs that are no characters are replaced."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    return content.encode("utf-8", "replace").decode() if isinstance(content, str) else ""


def _used(usage: Any) -> tuple[int, int]:
    """Tokens of prompt and answer as the provider counted them; 0 where it did not."""
    said = usage if isinstance(usage, dict) else {}
    counts = [said.get(name) for name in ("prompt_tokens", "completion_tokens")]
    read, written = (n if type(n) is int and 0 <= n <= _MOST_TOKENS else 0 for n in counts)
    return read, written


def _logprobs(choice: dict[str, Any], choices: tuple[str, ...]) -> dict[str, float]:
    """ln p of each choice at the first token: the largest of the tokens that spell it, white space aside."""
    found: dict[str, float] = {}
    try:
        for token in choice["logprobs"]["content"][0]["top_logprobs"]:
            word, value = str(token["token"]).strip(), float(token["logprob"])
            if word in choices and value <= 0:  # not NaN, and a probability
                found[word] = max(found.get(word, value), value)
    except (TypeError, KeyError, IndexError, ValueError, OverflowError):
        return {}
    return found
