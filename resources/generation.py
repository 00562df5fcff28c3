"""What a causal language model writes by itself: greedy answers to prompts, and continuations of token ids.

Here belongs decoding: which tokens a model reads, in which batches, and where its writing ends. How a conversation is
written down for a model stands in `causal_lm`; what is made of the answers, with the methods and assets that read them.

Decoding is greedy, so nothing is drawn and a text is the same on every run. In float32 it is also the same whatever
else is in the batch. In bfloat16 (the default of `CausalLM.dtype`) the sums of a batch are rounded differently from
those of a single row, and where two tokens are nearly as likely the other one may be written, and all that follows it:
use float32 where a text must not depend on its neighbours in the batch.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from resources import batching, models
from resources.causal_lm import ANYTHING, HEADERS, CausalLM, Loaded, Progress, messages_of, tokenised
from resources.token_pass import (
    EMPTY_RESPONSE,
    OK,
    OUT_OF_MEMORY,
    TEMPLATE_MISMATCH,
    TOO_LONG,
    TRUNCATED,
    Sequence_,
)

_ANSWERS: dict[str, Any] = {"row_id": pl.String, "response": pl.String, "status": pl.String, "n_tokens": pl.Int64}
ANSWERS_SCHEMA = pl.Schema(_ANSWERS)
"""One line a row: what the model wrote, without the mark that ends it; null unless the status is ``ok``. ``n_tokens``
is how many tokens it wrote, the end mark not counted."""

_CONTINUATIONS: dict[str, Any] = {
    "row_id": pl.String,
    "status": pl.String,
    "n_matched": pl.Int64,
    "n_scored": pl.Int64,
}
CONTINUATIONS_SCHEMA = pl.Schema(_CONTINUATIONS)
"""One line a row: in how many of ``n_scored`` places the model wrote the response's own token; null unless ``ok``."""

TOO_SHORT = "too_short"
_WIDER = 4
"""A step of decoding costs the reading of all weights, however many rows it is for: its batches are this much larger
than those of a pass that only reads."""
_AGAIN = f"\n\n{HEADERS['user'].rstrip()}"
"""With the plain template a base model writes no end mark: it goes on with the next instruction."""


# ---- answers to prompts --------------------------------------------------------------------------------------------


def generate(
    model: CausalLM, rows: pl.DataFrame, max_new_tokens: int = 128, on_progress: Progress | None = None
) -> Iterator[pl.DataFrame]:
    """`ANSWERS_SCHEMA` for all rows, one finished frame at a time: what the model answers to the rows' prompts.

    ``rows`` are as for `CausalLM.token_statistics`; the prompt is everything before the last assistant turn (the whole
    conversation where there is none). The answer ends at the tokenizer's or the template's end mark, with the plain
    template also where the model opens the next instruction, and after ``max_new_tokens`` tokens at the latest.

    Statuses: ``too_long`` (no room for the prompt, or behind it for the answer), ``out_of_memory``,
    ``template_mismatch``, ``empty_response`` (nothing but white space was written).
    """
    _check(max_new_tokens)
    conversations = [_asked(messages_of(row)) for row in rows.iter_rows(named=True)]
    row_ids = rows["row_id"].to_list()
    done = 0
    for group in _groups(model, [_length(messages) for messages in conversations], max_new_tokens):
        ids, asked = [row_ids[i] for i in group], [conversations[i] for i in group]
        yield _answered(model, ids, asked, max_new_tokens)
        done += len(group)
        if on_progress is not None:
            on_progress(done, len(row_ids))


def _check(tokens: int) -> None:
    if tokens < 1:
        raise ValueError(f"a model must write at least 1 token, got {tokens}")


def _asked(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The messages before the last assistant turn, and an answer that stands for any."""
    turns = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    return [*(dict(m) for m in messages[: turns[-1] if turns else len(messages)]), ANYTHING]


def _length(messages: Sequence[Mapping[str, str]]) -> int:
    return sum(len(message["content"]) for message in messages)


def _groups(model: CausalLM, lengths: Sequence[int], new: int) -> list[list[int]]:
    """Rows that are finished together: about eight batches' worth."""
    worth = [min(length, 4 * model.max_tokens) + 4 * new for length in lengths]  # a token has about four characters
    return batching.groups(worth, 8 * 4 * _WIDER * (1024 if models.is_fake(model.model) else model.budget()))


def _answered(
    model: CausalLM, row_ids: Sequence[str], conversations: Sequence[list[dict[str, str]]], new: int
) -> pl.DataFrame:
    if models.is_fake(model.model):
        texts = [_stand_in(model, messages, new) for messages in conversations]
        return _answers(row_ids, texts, [OK] * len(texts), [len(text.split()) for text in texts])
    loaded = model.load()
    prompts = _prompts(model, loaded, conversations)
    limit = min(model.max_tokens, loaded.limit - new)
    status = [p if isinstance(p, str) else OK if len(p) <= limit else TOO_LONG for p in prompts]
    fitting = {at: p for at, p in enumerate(prompts) if not isinstance(p, str) and status[at] == OK}
    stop = _AGAIN if model.template == "plain" else ""
    ends = _ends(model, loaded)
    written = _write(model, loaded, list(fitting.values()), new, ends, stop)
    texts, counts = [""] * len(prompts), [0] * len(prompts)
    for at, tokens in zip(fitting, written, strict=True):
        if tokens is None:
            status[at] = OUT_OF_MEMORY
            continue
        texts[at] = _text(loaded.tokenizer, tokens, stop)
        counts[at] = len(tokens)
    return _answers(row_ids, texts, status, counts)


def _answers(
    row_ids: Sequence[str], texts: Sequence[str], status: Sequence[str], counts: Sequence[int]
) -> pl.DataFrame:
    frame = pl.DataFrame({"row_id": row_ids, "response": texts, "status": status, "n_tokens": counts}, ANSWERS_SCHEMA)
    empty = (pl.col("status") == OK) & (pl.col("response") == "")
    written = pl.col("status") == OK
    return frame.with_columns(status=pl.when(empty).then(pl.lit(EMPTY_RESPONSE)).otherwise("status")).with_columns(
        pl.when(written).then("response"), pl.when(pl.col("status").is_in([OK, EMPTY_RESPONSE])).then("n_tokens")
    )


def _prompts(model: CausalLM, loaded: Loaded, conversations: Sequence[list[dict[str, str]]]) -> list[list[int] | str]:
    """The tokens of each prompt, cut where `CausalLM` cuts it, or the status that says why there are none."""
    pieces = [model.segments(loaded.tokenizer, messages) for messages in conversations]
    before = [p if isinstance(p, str) else [text for text, _ in p[:-1]] for p in pieces]
    ids = tokenised(loaded.tokenizer, sorted({text for p in before if not isinstance(p, str) for text in p if text}))
    bos = loaded.bos if model.template == "plain" else []
    found: list[list[int] | str] = []
    for texts in before:
        if isinstance(texts, str):
            found.append(TEMPLATE_MISMATCH)  # there is an answer, so it is not an empty one
            continue
        tokens = [*bos, *(token for text in texts for token in ids.get(text, []))]
        found.append(tokens or TEMPLATE_MISMATCH)  # a model cannot answer nothing at all
    return found


def _text(tokenizer: Any, tokens: Sequence[int], stop: str) -> str:
    text = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return (text.split(stop)[0] if stop else text).strip()


def _ends(model: CausalLM, loaded: Loaded) -> list[int]:
    """The tokens that end an answer: the tokenizer's and the model's end marks, and the template's."""
    named = getattr(loaded.model.generation_config, "eos_token_id", None)
    ends = {loaded.tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])}
    if model.template == "chat":
        chat = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
        whole = loaded.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=False)
        behind = tokenised(loaded.tokenizer, [tail]).get(tail, []) if (tail := whole.rpartition("y")[2]) else []
        ends |= set(behind[:1]) & set(loaded.tokenizer.added_tokens_decoder)  # a word would not end an answer
    return sorted(token for token in ends if token is not None)


# ---- continuations -------------------------------------------------------------------------------------------------


def continue_tokens(model: CausalLM, sequences: Sequence[Sequence[int]], n: int) -> list[list[int] | None]:
    """Exactly ``n`` tokens with which the model goes on behind each sequence of token ids.

    End marks are never written, so that a continuation has its length. None: the sequence is empty, does not fit into
    the model's window, or into memory. A stand-in's tokens are hashes of those before them.
    """
    _check(n)
    if models.is_fake(model.model):
        return [_hashed(model.model, sequence, n) if sequence else None for sequence in sequences]
    loaded = model.load()
    found: list[list[int] | None] = [None] * len(sequences)
    fitting = [at for at, tokens in enumerate(sequences) if 0 < len(tokens) <= loaded.limit - n]
    written = _write(model, loaded, [list(sequences[at]) for at in fitting], n, _ends(model, loaded), least=n)
    for at, tokens in zip(fitting, written, strict=True):
        found[at] = tokens
    return found


def continuations(
    model: CausalLM,
    rows: pl.DataFrame,
    shown: int = 32,
    window: int = 32,
    on_progress: Progress | None = None,
) -> Iterator[pl.DataFrame]:
    """`CONTINUATIONS_SCHEMA` for all rows, one finished frame at a time: does the model go on as the response does?

    The model reads the prompt and the first ``shown`` tokens of the response and writes ``window`` more by itself; each
    is held against the response's token in its place. Of a conversation, the first assistant turn that is long enough
    is taken, behind all that was said before it.

    Statuses: ``too_short`` (no assistant turn has ``shown + window`` tokens), ``truncated`` (none has, because the
    conversation was cut after `CausalLM.max_tokens`), ``out_of_memory``, and those of `CausalLM.token_statistics`.
    """
    if shown < 0:
        raise ValueError(f"the model cannot be shown {shown} tokens")
    _check(window)
    if models.is_fake(model.model):
        for frame in model.token_statistics(rows, on_progress, alone=False):
            yield _stand_in_matches(frame, shown, window)
        return
    conversations = [messages_of(row) for row in rows.iter_rows(named=True)]
    row_ids = rows["row_id"].to_list()
    done = 0
    for group in _groups(model, [_length(messages) for messages in conversations], window):
        yield _continued(model, [row_ids[i] for i in group], [conversations[i] for i in group], shown, window)
        done += len(group)
        if on_progress is not None:
            on_progress(done, len(row_ids))


def _continued(
    model: CausalLM, row_ids: list[str], conversations: list[list[dict[str, str]]], shown: int, window: int
) -> pl.DataFrame:
    lines: list[dict[str, Any]] = []
    asked: list[tuple[dict[str, Any], list[int], list[int]]] = []
    for plan in model.plans(row_ids, conversations):
        line: dict[str, Any] = {"row_id": plan.row_id, "status": plan.status, "n_matched": None, "n_scored": None}
        lines.append(line)
        if plan.conditional is None:
            continue
        tokens, spans = plan.conditional.tokens, plan.conditional.spans
        start = next((a for a, b in spans if b - a >= shown + window), None)
        if start is None:
            line["status"] = TRUNCATED if plan.status == TRUNCATED else TOO_SHORT
            continue
        border = start + shown
        asked.append((line, tokens[:border], tokens[border : border + window]))
    written = continue_tokens(model, [before for _, before, _ in asked], window)
    for (line, _, true), mine in zip(asked, written, strict=True):
        if mine is None:
            line["status"] = OUT_OF_MEMORY
        else:
            hits = sum(own == its for own, its in zip(mine, true, strict=True))
            line |= {"status": OK, "n_matched": hits, "n_scored": window}
    return pl.DataFrame(lines, CONTINUATIONS_SCHEMA)


# ---- decoding ------------------------------------------------------------------------------------------------------


def _write(
    model: CausalLM,
    loaded: Loaded,
    prompts: Sequence[list[int]],
    new: int,
    ends: list[int],
    stop: str = "",
    least: int = 0,
) -> list[list[int] | None]:
    """What is written behind each prompt, without end marks; None where a prompt does not fit into memory alone."""

    def score(batch: list[Sequence_]) -> list[np.ndarray]:
        return _batch(loaded, [s.tokens[: s.spans[0][0]] for s in batch], new, ends, stop, least)

    # The span is the room that the answer takes: batches are made for the length that a sequence will have.
    room = [Sequence_(p + [0] * new, [(len(p), len(p) + new)]) for p in prompts]
    found = batching.score_all(score, room, _WIDER * model.budget())
    return [None if tokens is None else [int(token) for token in tokens] for tokens in found]


def _batch(
    loaded: Loaded, prompts: Sequence[list[int]], new: int, ends: list[int], stop: str, least: int
) -> list[np.ndarray]:
    """Greedy decoding of prompts that stand side by side, padded on the left, so that all go on at the same place."""
    import torch
    from transformers import GenerationConfig

    width = max(len(tokens) for tokens in prompts)
    ids = torch.zeros((len(prompts), width), dtype=torch.long)
    seen = torch.zeros_like(ids)
    for row, tokens in enumerate(prompts):
        ids[row, width - len(tokens) :] = torch.tensor(tokens)
        seen[row, width - len(tokens) :] = 1
    wanted = GenerationConfig(
        do_sample=False,
        num_beams=1,
        use_cache=True,
        max_new_tokens=new,
        min_new_tokens=least or None,
        eos_token_id=ends or None,
        pad_token_id=ends[0] if ends else 0,
    )
    device = loaded.model.device
    habits = loaded.model.generation_config
    loaded.model.generation_config = GenerationConfig()  # a model's own temperature or penalties are not greedy
    try:
        with torch.inference_mode():
            out = loaded.model.generate(
                ids.to(device),
                attention_mask=seen.to(device),
                generation_config=wanted,
                stopping_criteria=_stopping(loaded.tokenizer, width, stop),
            )
    finally:
        loaded.model.generation_config = habits
    return [_before_end(row, ends) for row in out[:, width:].cpu().numpy()]


def _before_end(tokens: np.ndarray, ends: Sequence[int]) -> np.ndarray:
    """What stands before the first end mark. Rows that stopped at a text are padded with an end mark, too."""
    at = np.flatnonzero(np.isin(tokens, list(ends)))
    return tokens[: at[0]] if len(at) else tokens


def _stopping(tokenizer: Any, width: int, stop: str) -> Any:
    """Ends a row as soon as its text holds ``stop``; None where there is nothing to stop at."""
    if not stop:
        return None
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    class Written(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            # A token has a character at least, so the last ones hold all of the stop; a few more for bytes of one.
            last = input_ids[:, max(width, input_ids.shape[1] - len(stop) - 4) :]
            told = [stop in text for text in tokenizer.batch_decode(last)]
            return torch.tensor(told, device=input_ids.device)

    return StoppingCriteriaList([Written()])


# ---- stand-ins -----------------------------------------------------------------------------------------------------


def _number(*parts: Any) -> int:
    """The same 64 bits on every machine."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _stand_in(model: CausalLM, messages: Sequence[Mapping[str, str]], new: int) -> str:
    """Words of the prompt, picked by hash: another text for another prompt and for another stand-in."""
    prompt = "\n".join(message["content"] for message in messages[:-1])
    words = prompt.split() or ["nothing"]
    count = min(new, 4 + _number(model.model, prompt) % 12)
    return " ".join(words[_number(model.model, prompt, at) % len(words)] for at in range(count))


def _hashed(name: str, sequence: Sequence[int], n: int) -> list[int]:
    tokens = list(sequence)
    for _ in range(n):
        tokens.append(_number(name, *tokens[-2:]) % 1000)
    return tokens[len(sequence) :]


def _stand_in_matches(frame: pl.DataFrame, shown: int, window: int) -> pl.DataFrame:
    """A stand-in goes on as the response does until its first miss, and never finds back."""
    there = pl.col("hit").list.len().fill_null(0) >= shown + window
    read = pl.col("status").is_in([OK, TRUNCATED])
    asked = pl.col("hit").list.slice(shown, window)
    first_miss = asked.list.eval((~pl.element()).arg_max()).list.first().cast(pl.Int64)
    matched = pl.when(asked.list.all()).then(window).otherwise(first_miss)
    status = (
        pl.when(~read)
        .then("status")
        .when(there)
        .then(pl.lit(OK))
        .when(pl.col("status") == TRUNCATED)
        .then(pl.lit(TRUNCATED))
        .otherwise(pl.lit(TOO_SHORT))
    )
    return frame.select(
        "row_id",
        status=status,
        n_matched=pl.when(read & there).then(matched),
        n_scored=pl.when(read & there).then(pl.lit(window)),
    ).cast(CONTINUATIONS_SCHEMA)
