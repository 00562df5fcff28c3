"""A list of messages in any of the usual dialects becomes messages of ours.

Here belong the names of roles, content that comes in parts, and tool calls.  Which key of a record holds the list is
the business of `formats`.  A message's extra fields (``name``, ``weight``, ids) stay in the original record only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from methods.rows import ROLES, BadRecord, Message

ROLE_NAMES: Mapping[str, str] = {
    **{role: role for role in ROLES},
    "developer": "system",
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "function_call": "tool_call",
    "observation": "tool",
    "function": "tool",
    "function_response": "tool",
    "ipython": "tool",
}
"""What others call the roles, in lower case."""

_KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


def kind_of(value: Any) -> str:
    """Say what a JSON value is, for a sentence."""
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)


def text_of(value: Any, key: str) -> str:
    """Return the value if it is text, else say what it is and where."""
    if isinstance(value, str):
        return value
    raise BadRecord("wrong_type", f"`{key}` is {kind_of(value)} where text is expected; write it as a string.")


def parse_list(value: Any) -> Any:
    """Parse a list that a table holds as JSON text (a cell of a CSV file); anything else is returned as it is."""
    if isinstance(value, str) and value.startswith(("[{", "[[", '["')) and value.rstrip().endswith("]"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def read_messages(value: Any, key: str) -> list[Message]:
    """Read a list of messages, or of strings that alternate between user and assistant."""
    value = parse_list(value)
    if not isinstance(value, list):
        raise BadRecord("wrong_type", f"`{key}` is {kind_of(value)} where a list of messages is expected.")
    if not value:
        raise BadRecord("empty_conversation", f"`{key}` is an empty list; a conversation needs messages.")
    if all(isinstance(item, str) for item in value):
        return [Message(role=("user", "assistant")[at % 2], content=item) for at, item in enumerate(value)]
    return [message for at, item in enumerate(value) for message in _message(item, f"{key}[{at}]")]


def _message(item: Any, where: str) -> list[Message]:
    if not isinstance(item, dict):
        raise BadRecord("wrong_type", f"`{where}` is {kind_of(item)} where a message is expected.")
    role = _role(item, where)
    calls = _calls(item, where)
    key = next((name for name in ("content", "value", "text") if name in item), None)
    content = item[key] if key else None
    if content is None and calls:
        return calls
    if key is None:
        raise BadRecord("missing_key", f"`{where}` has no `content` (or `value`, `text`).")
    if role == "tool_call" and isinstance(content, dict):
        content = _json(content)
    said = _content(content, role, f"{where}.{key}")
    return said + calls if not calls or any(message["content"] for message in said) else calls


def _role(item: Mapping[str, Any], where: str) -> str:
    name = next((item[key] for key in ("role", "from", "author") if key in item), None)
    role = ROLE_NAMES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        shown = repr(name)[:40]
        raise BadRecord("unknown_role", f"`{where}` is spoken by {shown}; known roles: {', '.join(ROLE_NAMES)}.")
    return role


def _content(content: Any, role: str, where: str) -> list[Message]:
    """Content is text or a list of parts; the parts' texts are joined by newlines, a call is a message by itself."""
    if not isinstance(content, list):
        return [Message(role=role, content=text_of(content, where))]
    texts: list[str] = []
    calls: list[Message] = []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        if not isinstance(part, dict | str) or kind not in ("text", "tool_call"):
            shown = repr(kind)[:40] if isinstance(part, dict) else kind_of(part)
            raise BadRecord("not_text", f"`{where}` has a part of the kind {shown}; only text can be read.")
        if isinstance(part, str):
            texts.append(part)
            continue
        value = next((part[key] for key in ("text", "value", "content") if key in part), None)
        if kind == "tool_call":
            calls.append(Message(role="tool_call", content=value if isinstance(value, str) else _json(value)))
        else:
            texts.append(text_of(value, where))
    said = [Message(role=role, content="\n".join(texts))] if texts or not calls else []
    return said + calls


def _calls(item: Mapping[str, Any], where: str) -> list[Message]:
    """OpenAI's ``tool_calls`` (and the older ``function_call``): each a message with the name and the arguments."""
    calls: Any = item.get("tool_calls") or []
    if not calls and item.get("function_call"):
        calls = [{"function": item["function_call"]}]
    if not isinstance(calls, Sequence) or isinstance(calls, str) or not all(isinstance(call, dict) for call in calls):
        raise BadRecord("wrong_type", f"`{where}.tool_calls` must be a list of calls.")
    functions = [call.get("function", call) for call in calls]
    if not all(isinstance(function, dict) and isinstance(function.get("name"), str) for function in functions):
        raise BadRecord("wrong_type", f"`{where}.tool_calls` has a call without a `name`.")
    kept = [{"name": function["name"], "arguments": function.get("arguments", {})} for function in functions]
    return [Message(role="tool_call", content=_json(call)) for call in kept]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
