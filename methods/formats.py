"""The layouts: how a record of instruction data, already parsed, becomes conversations.

One function a layout, from a record to its conversations; `LAYOUTS` at the end lists them in the order in which they
are tried.  The layout is sniffed for every record anew, so that a file may mix them.  Files, bytes and JSON do not
belong here (`records`, `readers`), nor does what a message is (`dialogue`).

A record is read as a whole or not at all: if one of its conversations is bad, so is the record.  A prompt without any
key for an answer is refused (``no_response``); an answer that is there but empty is kept, for the filters to judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from methods.dialogue import kind_of, parse_list, read_messages, text_of
from methods.rows import BadRecord, Message

Record = Mapping[str, Any]
Paths = Literal["best", "all"]

DIALOGUES = ("messages", "conversations", "conversation", "dialogue", "dialog")
PROMPTS = ("prompt", "question", "query", "problem", "input")
INPUTS = ("input", "context")
ANSWERS = ("output", "response", "completion", "answer", "std_answer", "target", "solution", "canonical_solution")
CHOSEN = ("chosen", "chosen_response", "response_chosen")
SYSTEMS = ("system", "system_prompt", "system_message")
LONE_PROMPTS = ("instruction", *PROMPTS, "text", "turns")

RECORD_KEYS = frozenset(
    (*DIALOGUES, *PROMPTS, *INPUTS, *ANSWERS, *CHOSEN, *SYSTEMS, *LONE_PROMPTS, "instances", "rejected", "replies")
)
"""The keys by which a record is known, and told from an object that only wraps a list of records."""


_DIALOGUES, _ANSWERS, _CHOSEN, _ASKED = map(frozenset, (DIALOGUES, ANSWERS, CHOSEN, LONE_PROMPTS))


class Conversation(NamedTuple):
    """Messages, and the part of the first user message that the layout keeps apart as ``input``."""

    messages: list[Message]
    input: str = ""


@dataclass(frozen=True)
class Layout:
    """One way to write instruction data down."""

    name: str
    shape: str
    """What a record looks like, for a person."""
    fits: Callable[[Record], bool]
    read: Callable[[Record], list[Conversation]]
    read_all: Callable[[Record], list[Conversation]] | None = None
    """Only for trees: every path, where ``read`` takes the best one."""
    sniffed: bool = True


def read_record(record: Any, layout: str | None = None, paths: Paths = "best") -> tuple[str, list[Conversation]]:
    """Read a record: the layout's name, and at least one conversation.

    ``layout`` names the layout instead of sniffing it.  ``paths`` says which branches of a tree to take.  Keys that
    fit only in another case (``Instruction``) are taken too.  Raises `BadRecord`.
    """
    if not isinstance(record, dict):
        raise BadRecord("not_an_object", f"The record is {kind_of(record)}; every record must be an object with keys.")
    found, record = (_named(layout), record) if layout is not None else _sniff(record)
    if layout is not None and not found.fits(record) and found.fits(lowered := _lowered(record)):
        record = lowered
    read = found.read_all if paths == "all" and found.read_all else found.read
    conversations = read(record)
    if not conversations:
        raise BadRecord("no_conversation", f"The record holds no conversation; a {found.name} record is {found.shape}.")
    for conversation in conversations:
        _require(conversation.messages, answer=found.name != "prompts")
    return found.name, conversations


def alpaca(record: Record) -> list[Conversation]:
    """Read Alpaca: ``instruction``, perhaps ``input`` or ``context``, ``system``, ``history``, and an answer."""
    return _single(record, ("instruction",))


def prompt_response(record: Record) -> list[Conversation]:
    """Read a prompt and its answer under any of the usual names; either may be a list of messages."""
    return _single(record, PROMPTS)


def dialogue(record: Record) -> list[Conversation]:
    """Read a list of messages (``role``/``content``, ``from``/``value``) or of strings, user first, by turns."""
    key = _key(record, DIALOGUES)
    messages = read_messages(record[key], key)
    return [Conversation(_with_system(record, messages))]


def tool_calls(record: Record) -> list[Conversation]:
    """Read a dialogue with a ``tools`` column; the calls are messages, the tools' definitions stay in the record."""
    return dialogue(record)


def kto(record: Record) -> list[Conversation]:
    """Read KTO: a conversation and a ``label``; one labelled false is the rejected side and is no training data."""
    label = record.get("label")
    if not isinstance(label, bool):
        raise BadRecord("wrong_type", f"`label` is {kind_of(label)}; KTO wants true (desirable) or false.")
    if not label:
        raise BadRecord("undesirable", "The record is labelled false: KTO's rejected side, which is not to be learnt.")
    return dialogue(record) if _has_any_dialogue(record) else prompt_response(record)


def preference(record: Record) -> list[Conversation]:
    """Read the chosen side of a preference pair: text, a message, messages, or a whole conversation."""
    chosen_key = _key(record, CHOSEN)
    chosen = record[chosen_key]
    if isinstance(chosen, str) and not _is_prompt(record):
        return [Conversation(_transcript(chosen, chosen_key))]
    answer = _answer(chosen, chosen_key)
    if any(message["role"] == "user" for message in answer):
        return [Conversation(_with_system(record, answer))]
    if _has_any_dialogue(record):
        prompt = dialogue(record)[0]
    else:
        prompt = _prompt(record, ("instruction", *PROMPTS), chosen_key)
    return [Conversation(prompt.messages + answer, prompt.input)]


def self_instruct(record: Record) -> list[Conversation]:
    """Read a self-instruct seed: one ``instruction``, one conversation for each of its ``instances``."""
    instruction = text_of(record.get("instruction"), "instruction")
    instances = parse_list(record.get("instances"))
    if not isinstance(instances, list) or not all(isinstance(instance, dict) for instance in instances):
        raise BadRecord("wrong_type", "`instances` must be a list of objects with `input` and `output`.")
    system = {key: record[key] for key in SYSTEMS if key in record}
    return [alpaca({**system, **instance, "instruction": instruction})[0] for instance in instances]


def openassistant(record: Record) -> list[Conversation]:
    """Read a tree's best path: at each level the reply of the lowest rank, then most reviewed, then first.

    Unranked replies come after ranked ones, deleted ones are passed over.  Questions at the end of the path that
    nobody answered are cut off.
    """
    node, path = _root(record), []
    while True:
        path.append(node)
        replies = sorted(_replies(node), key=_by_rank)
        if not replies:
            return [Conversation(read_messages(_answered(path), "replies"))]
        node = replies[0]


def openassistant_all(record: Record) -> list[Conversation]:
    """Read every path of a tree from the root to a last answer, best first; each becomes a row of its own."""
    found: dict[tuple[int, ...], list[Any]] = {}
    stack: list[list[Any]] = [[_root(record)]]
    while stack:
        path = stack.pop()
        replies = sorted(_replies(path[-1]), key=_by_rank)
        stack.extend([*path, reply] for reply in reversed(replies))
        if not replies:
            answered = _answered(path)
            found.setdefault(tuple(map(id, answered)), answered)
    # A path cut back to its last answer may be the beginning of another one, which then says it all.
    begun = {key[:length] for key in found for length in range(1, len(key))}
    return [Conversation(read_messages(path, "replies")) for key, path in found.items() if key not in begun]


def prompts(record: Record) -> list[Conversation]:
    """Read prompts alone, for target sets; never sniffed. ``turns`` is a list of questions asked one by one."""
    if isinstance(turns := parse_list(record.get("turns")), list):
        return [Conversation([Message(role="user", content=text_of(turn, "turns")) for turn in turns])]
    if _has_any_dialogue(record):
        return dialogue(record)
    return [_prompt(record, LONE_PROMPTS)]


# --- what the layouts share -----------------------------------------------------------------------------------------


def _sniff(record: dict[str, Any]) -> tuple[Layout, dict[str, Any]]:
    lowered = _lowered(record)
    for candidate in (record,) if lowered is record else (record, lowered):
        for layout in LAYOUTS.values():
            if layout.sniffed and layout.fits(candidate):
                return layout, candidate
    keys = ", ".join(f"`{key}`" for key in list(record)[:12]) or "none"
    if any(key in lowered for key in LONE_PROMPTS):
        answers = ", ".join(ANSWERS)
        raise BadRecord(
            "no_response",
            f"The record has a prompt but no key for an answer (its keys: {keys}; looked for {answers}). "
            "Add the answer, or read the file with the layout `prompts` if it is a list of questions.",
        )
    known = "; ".join(f"{layout.name} ({layout.shape})" for layout in LAYOUTS.values())
    raise BadRecord("unknown_layout", f"No layout fits a record with the keys {keys}. Known layouts: {known}.")


def _named(name: str) -> Layout:
    if name not in LAYOUTS:
        raise ValueError(f"unknown layout {name!r}; choose one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def _lowered(record: dict[str, Any]) -> dict[str, Any]:
    if all(key.islower() for key in record):
        return record
    lowered = {key.lower(): value for key, value in record.items()}
    return lowered if len(lowered) == len(record) else record


def _require(messages: Sequence[Message], answer: bool) -> None:
    roles = {message["role"] for message in messages}
    if not roles & {"assistant", "tool_call"} and answer:
        raise BadRecord("no_response", "Nobody answers in the conversation; add the assistant's message.")
    if "user" not in roles:
        raise BadRecord("no_prompt", "The conversation has no user message; add the question that is answered.")


def _key(record: Record, names: Sequence[str]) -> str:
    for name in names:
        if name in record:
            return name
    keys = ", ".join(f"`{key}`" for key in list(record)[:12]) or "none"
    raise BadRecord("missing_key", f"The record has none of the keys {', '.join(names)}; it has {keys}.")


def _single(record: Record, names: Sequence[str]) -> list[Conversation]:
    prompt_key = _key(record, names)
    answer_key = _key(record, [name for name in ANSWERS if name != prompt_key])
    prompt = _prompt(record, names, answer_key)
    return [Conversation(prompt.messages + _answer(record[answer_key], answer_key), prompt.input)]


def _prompt(record: Record, names: Sequence[str], answer_key: str = "") -> Conversation:
    """Everything before the answer. An instruction that is empty gives its place to the input."""
    key = _key(record, [name for name in names if name != answer_key])
    value = record[key]
    if _are_messages(value):
        return Conversation(_with_system(record, read_messages(value, key)))
    prompt, extra = text_of(value, key), ""
    for name in INPUTS:
        if name not in (key, answer_key) and record.get(name) is not None:
            extra = text_of(record[name], name)
            break
    if not prompt:
        prompt, extra = extra, ""
    history = list(_history(record))
    user = Message(role="user", content=f"{prompt}\n{extra}" if extra else prompt)
    return Conversation(_with_system(record, [*history, user]), "" if history else extra)


def _answer(value: Any, key: str) -> list[Message]:
    if isinstance(value, dict):
        value = [value]
    if _are_messages(value):
        return read_messages(value, key)
    return [Message(role="assistant", content=text_of(value, key))]


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _history(record: Record) -> Iterator[Message]:
    for pair in parse_list(record.get("history")) or ():
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadRecord("wrong_type", "`history` must be a list of pairs [question, answer].")
        yield Message(role="user", content=text_of(pair[0], "history"))
        yield Message(role="assistant", content=text_of(pair[1], "history"))


def _with_system(record: Record, messages: list[Message]) -> list[Message]:
    if not any(message["role"] == "system" for message in messages):
        for key in SYSTEMS:
            if record.get(key):
                return [Message(role="system", content=text_of(record[key], key)), *messages]
    return messages


_SPEAKER = re.compile(r"\n\n(Human|Assistant): ?")


def _transcript(text: str, key: str) -> list[Message]:
    """A dialogue in one text: ``\\n\\nHuman: ...\\n\\nAssistant: ...``."""
    start, *parts = _SPEAKER.split("\n\n" + text.lstrip("\n"))
    if start or not parts:
        raise BadRecord("missing_key", f"`{key}` has no prompt beside it and is no Human/Assistant transcript itself.")
    role = {"Human": "user", "Assistant": "assistant"}
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [Message(role=role[who], content=said) for who, said in pairs]


def _root(record: Record) -> Any:
    root = record.get("prompt") if isinstance(record.get("prompt"), dict) else record
    if not isinstance(root, dict) or "text" not in root:
        raise BadRecord("missing_key", "An OpenAssistant tree needs a root with `text`, `role` and `replies`.")
    return root


def _replies(node: Any) -> list[Any]:
    replies = node.get("replies") or []
    if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
        raise BadRecord("wrong_type", "`replies` must be a list of messages.")
    return [reply for reply in replies if not reply.get("deleted")]


def _by_rank(reply: Record) -> tuple[float, float]:
    rank, reviews = (value if isinstance(value := reply.get(key), int) else None for key in ("rank", "review_count"))
    return (float("inf") if rank is None else rank, -(reviews or 0))


def _answered(path: list[Any]) -> list[Any]:
    last = max((at for at, node in enumerate(path) if node.get("role") != "prompter"), default=0)
    return path[: last + 1]


def _has_dialogue(record: Record, mark: str) -> bool:
    """Whether there is a list (perhaps as JSON text) whose first message has the key, or an empty one."""
    value = next((record[key] for key in DIALOGUES if key in record), None)
    if isinstance(value, list):
        return not value or (isinstance(value[0], dict) and mark in value[0])
    return isinstance(value, str) and f'"{mark}"' in value


def _is_kto(record: Record) -> bool:
    if not isinstance(record.get("label"), bool):
        return False
    return ("prompt" in record and "completion" in record) or _has_any_dialogue(record)


def _is_tree(record: Record) -> bool:
    return isinstance(record.get("prompt"), dict) or ("replies" in record and "text" in record)


def _is_pair(record: Record) -> bool:
    key = next((name for name in PROMPTS if name in record), None)
    return key is not None and _has(record, _ANSWERS - {key})


def _has(record: Record, names: frozenset[str]) -> bool:
    return not names.isdisjoint(record)


def _has_any_dialogue(record: Record) -> bool:
    return _has(record, _DIALOGUES)


def _has_tools(record: Record) -> bool:
    return bool(record.get("tools")) and _has_any_dialogue(record)


def _is_prompt(record: Record) -> bool:
    return _has(record, _ASKED) or _has(record, _DIALOGUES)


def _is_seed(record: Record) -> bool:
    return "instruction" in record and "instances" in record


def _is_alpaca(record: Record) -> bool:
    return "instruction" in record and _has(record, _ANSWERS)


def _is_preference(record: Record) -> bool:
    return _has(record, _CHOSEN)


LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("openassistant", "a tree of prompt and replies", _is_tree, openassistant, openassistant_all),
        Layout("kto", "messages or prompt and completion, with label", _is_kto, kto),
        Layout("preference", "prompt, chosen, rejected", _is_preference, preference),
        Layout("self_instruct", "instruction, instances", _is_seed, self_instruct),
        Layout("tool_calls", "conversations or messages, tools", _has_tools, tool_calls),
        Layout("messages", "messages of role and content", lambda r: _has_dialogue(r, "role"), dialogue),
        Layout("sharegpt", "conversations of from and value, or of texts by turns", _has_any_dialogue, dialogue),
        Layout("alpaca", "instruction, input, output", _is_alpaca, alpaca),
        Layout("prompt_response", "prompt and response, question and answer, and the like", _is_pair, prompt_response),
        Layout("prompts", "a prompt alone; only when asked for", _is_prompt, prompts, sniffed=False),
    )
}
"""Every layout, in the order in which they are tried."""
