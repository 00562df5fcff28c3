"""The files of a batch: a line for each request, and a line for each answer.

Here belongs their form alone. When a batch is handed in and what becomes of it stands in `judge_batch`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from methods.judging.kinds import API_ERROR, REFUSED, Answer, Cell
from resources import judge_calls
from resources.judge_calls import Endpoint


def request_line(key: str, cell: Cell, endpoint: Endpoint, structured: bool) -> bytes:
    """What is asked, under the cell's key."""
    request = judge_calls.request(cell, endpoint, structured)
    said = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": request}
    return json.dumps(said, ensure_ascii=False).encode() + b"\n"


def chunks(body: Mapping[str, bytes], most: int, most_bytes: int, keys: Iterable[str]) -> Iterator[list[str]]:
    """Keys in their order, cut so that no part has too many requests or bytes."""
    part: list[str] = []
    size = 0
    for key in keys:
        if part and (len(part) >= most or size + len(body[key]) > most_bytes):
            yield part
            part, size = [], 0
        part.append(key)
        size += len(body[key])
    if part:
        yield part


def read_line(line: str, choices_of: Callable[[str], tuple[str, ...]]) -> tuple[str, Answer, bool]:
    """A line of a provider's file: the cell's key (empty where it names none), the answer, and whether the provider
    never came to it."""
    try:
        data = json.loads(line)
        key = data["custom_id"]
    except (ValueError, TypeError, KeyError):
        return "", Answer(API_ERROR), False
    if not isinstance(key, str):
        return "", Answer(API_ERROR), False
    code = _code(data.get("error"))
    if code in ("batch_expired", "batch_cancelled"):
        return key, Answer(API_ERROR), True
    response = data.get("response")
    response = response if isinstance(response, dict) else {}
    if response.get("status_code") == 200:
        found = judge_calls.read(json.dumps(response.get("body")).encode(), choices_of(key))
        return key, found if isinstance(found, Answer) else Answer(found.final or API_ERROR), False
    body = response.get("body")
    code = code or _code(body.get("error") if isinstance(body, dict) else None)
    refused = ("content" in code and "filter" in code) or "policy" in code
    return key, Answer(REFUSED if refused else API_ERROR), False


def _code(error: Any) -> str:
    return str(error.get("code") or error.get("type") or "") if isinstance(error, dict) else ""
