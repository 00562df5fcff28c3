"""Token statistics of a causal language model: the model, and how a conversation is written down for it.

Here belongs loading the model once, turning rows into token segments by a template, and handing out finished rows.
The arithmetic of the pass stands in `token_pass`; what its numbers mean (perplexity, IFD, ...) in `methods`.

Tokens: what stands before an assistant turn and the turn itself are tokenised each on its own, as they are when a
model is used (the prompt is there before the answer). So the border is exact, no text is ever searched for, and a
response has the same token ids with its prompt and alone. A turn ends with its last word: no end mark is scored.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import dagster as dg
import numpy as np
import polars as pl

from resources import batching, compute, models, token_pass
from resources.loaded import once
from resources.token_pass import EMPTY_RESPONSE, TEMPLATE_MISMATCH, Plan

Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all) after every finished frame."""

Segment = tuple[str, bool]
"""A piece of a conversation as text, and whether it is an assistant turn."""

HEADERS = {
    "system": "",
    "user": "### Instruction:\n",
    "tool_call": "### Call:\n",
    "tool": "### Result:\n",
    "assistant": "### Response:\n",
}
"""The plain template: each message is its header, its content and an empty line."""

CHAT_ROLES = {"tool_call": "assistant", "tool": "user"}
"""Roles that many chat templates refuse, and what they are written as; they keep the turns alternating."""


ANYTHING = {"role": "assistant", "content": "x"}
"""An answer that stands for any, where only what comes before it is wanted."""


class Loaded(NamedTuple):
    """A model in memory, and what the pass must know of it."""

    model: Any
    tokenizer: Any
    head: token_pass.Head
    limit: int
    """The longest context that it takes."""
    bos: list[int]
    """The mark that opens a text, if it has one."""
    remembers: bool
    """Whether it can go on from an opening (see `token_pass.remembers`)."""


class CausalLM(dg.ConfigurableResource):
    """A causal language model. Nothing is loaded before the first row; then once a process."""

    model: str = "embedded:smollm2"
    """``embedded:smollm2``, a folder or ``.gguf`` file, a hub id (``owner/name``), or ``fake:...`` (see `fakes`)."""
    device: str = "auto"
    dtype: str = "auto"
    """``auto`` is bfloat16: twice as fast and the same ranking; ``float32`` where single values must be exact."""
    max_tokens: int = 1024
    """Conversations are cut after this many tokens, with the status ``truncated``."""
    batch_tokens: int | None = None
    """Padded tokens in a batch; by default 1,024 on a CPU and 32,768 on a GPU."""
    template: str = "plain"
    """``plain`` (`HEADERS`, the Alpaca style of the IFD papers) or ``chat`` (the tokenizer's own chat template)."""

    def identity(self) -> dict[str, Any]:
        """What the numbers depend on, for fingerprints. Loads no model and imports no torch."""
        if models.is_fake(self.model):
            return self._fake().identity()
        return {
            **models.identity(models.locate(self.model)),
            "kind": "causal_lm",
            "dtype": compute.dtype_name(self.dtype),
            "max_tokens": self.max_tokens,
            "template": self.template,
        }

    def with_model(self, model: str) -> "CausalLM":
        """The same settings with another model."""
        return self.model_copy(update={"model": model})

    def token_statistics(
        self, rows: pl.DataFrame, on_progress: Progress | None = None, alone: bool = True
    ) -> Iterator[pl.DataFrame]:
        """`token_pass.TOKEN_STATISTICS_SCHEMA` for all rows, one finished frame at a time, longest rows first.

        Without ``alone`` the responses are passed behind their prompts and nothing else is scored: ``logp_alone`` and
        ``logp_prompt`` are null.

        ``rows`` has ``row_id`` and ``messages``, or instead of the latter ``instruction``, ``input``, ``response``.
        Each frame is complete for its rows, so that the caller can store it before asking for the next.
        """
        if models.is_fake(self.model):
            yield from self._fake().token_statistics(rows, on_progress, alone)
            return
        if self.template not in ("plain", "chat"):
            raise ValueError(f"template={self.template!r} is not known: use plain or chat.")
        conversations = [messages_of(row) for row in rows.iter_rows(named=True)]
        lengths = [sum(len(m["content"]) for m in messages) for messages in conversations]
        row_ids = rows["row_id"].to_list()
        done = 0
        for group in self._groups(lengths):
            yield self._finished([row_ids[i] for i in group], [conversations[i] for i in group], alone)
            done += len(group)
            if on_progress is not None:
                on_progress(done, len(row_ids))

    def next_token(
        self, prompts: Sequence[str], words: Sequence[str], raw: bool = False
    ) -> tuple[np.ndarray, list[str]]:
        """ln p of each word as the first token of an answer to each prompt: (prompts, words) float64, and a status a
        prompt (``ok``, ``too_long``, ``out_of_memory``).

        NaN where a word is not a single token of the vocabulary, and for a prompt that is not ``ok``. The prompts are
        written as a user's message, by the template, or ``raw``, just as they are; nothing is generated.
        """
        if models.is_fake(self.model):
            return self._fake().next_token(prompts, words, raw)
        loaded = self.load()
        found, status = np.full((len(prompts), len(words)), np.nan), [token_pass.TOO_LONG] * len(prompts)
        if raw:  # what is sought is the token that reads so: other tokenizers put a blank's token before a lone word
            vocabulary = loaded.tokenizer.get_vocab()
            ids = {word: [vocabulary[word]] for word in words if word in vocabulary}
            asked = loaded.tokenizer(list(prompts), verbose=False)["input_ids"] if len(prompts) else []
        else:
            ids = tokenised(loaded.tokenizer, words)
            asked = [self._asked(loaded, prompt) for prompt in prompts]
        known = [at for at, word in enumerate(words) if len(ids.get(word, [])) == 1]
        fitting = [at for at, tokens in enumerate(asked) if len(tokens) <= min(self.max_tokens, loaded.limit)]

        def score(batch: list[Any]) -> list[Any]:
            return token_pass.next_batch(loaded.model, loaded.head, batch, [ids[words[at]][0] for at in known])

        sequences = [token_pass.Sequence_(asked[at], []) for at in fitting]
        for at, numbers in zip(
            fitting, batching.score_all(score, sequences, self.budget(), self._workers()), strict=True
        ):
            status[at] = token_pass.OUT_OF_MEMORY if numbers is None else token_pass.OK
            if numbers is not None:
                found[at, known] = numbers
        return found, status

    def _asked(self, loaded: Loaded, prompt: str) -> list[int]:
        """The tokens of a user's message and of what opens the answer to it."""
        segments = self.segments(loaded.tokenizer, [{"role": "user", "content": prompt}, ANYTHING])
        if isinstance(segments, str):
            raise ValueError(
                f"This tokenizer's chat template cannot open an answer ({segments}): set template='plain'."
            )
        ids = tokenised(loaded.tokenizer, [segments[0][0]])[segments[0][0]]
        return [*(loaded.bos if self.template == "plain" else []), *ids]

    def _fake(self) -> "CausalLM":
        from resources.fakes import FakeCausalLM  # it is built on this class

        return FakeCausalLM(model=self.model, max_tokens=self.max_tokens)

    def budget(self) -> int:
        """Padded tokens in a batch."""
        return self.batch_tokens or (1024 if compute.pick_device(self.device) == "cpu" else 32768)

    def _groups(self, lengths: Sequence[int]) -> list[list[int]]:
        """Rows that are finished together: some 16 batches of conversations and as many of turns alone."""
        worth = [min(length, 4 * self.max_tokens) + 64 for length in lengths]  # characters; a token has about four
        return batching.groups(worth, 16 * 4 * self.budget())

    def _finished(
        self, row_ids: list[str], conversations: list[list[dict[str, str]]], alone: bool = True
    ) -> pl.DataFrame:
        plans = self.plans(row_ids, conversations)
        if not alone:
            plans = [plan.conditional_only() for plan in plans]
        if not any(plan.conditional for plan in plans):
            return token_pass.frame_of(plans, [[] for _ in plans])
        loaded = self.load()
        conditional = self._opened([plan.conditional for plan in plans if plan.conditional], loaded)
        turns = self._opened([turn for plan in plans for turn in plan.alone], loaded)

        def score(batch: list[token_pass.Sequence_]) -> list[np.ndarray]:
            return token_pass.score_batch(loaded.model, loaded.head, batch, batch[0].opening)

        run = [*conditional, *turns]
        found = batching.score_all(score, run, self.budget(), self._workers(), lambda s: id(s.opening))
        first, rest = iter(found[: len(conditional)]), iter(found[len(conditional) :])
        results = [[next(first), *(next(rest) for _ in plan.alone)] if plan.conditional else [] for plan in plans]
        return token_pass.frame_of(plans, results)

    def _opened(self, sequences: list[token_pass.Sequence_], loaded: "Loaded") -> list[token_pass.Sequence_]:
        """The same sequences, with what all of them begin with passed once."""
        opening = token_pass.opening_of(loaded.model, loaded.head, sequences) if loaded.remembers else None
        return [replace(sequence, opening=opening) for sequence in sequences]

    def _workers(self) -> int:
        """Batches at a time: one a core, or one on a GPU."""
        return compute.cores() if compute.pick_device(self.device) == "cpu" else 1

    def plans(self, row_ids: list[str], conversations: list[list[dict[str, str]]]) -> list[Plan]:
        """What to compute for each row; one call of the tokenizer for all."""
        loaded = self.load()
        written: list[list[Segment] | str] = [self.segments(loaded.tokenizer, m) for m in conversations]
        texts = {text for segments in written if not isinstance(segments, str) for text, _ in segments if text}
        ids = tokenised(loaded.tokenizer, sorted(texts))
        limit = min(self.max_tokens, loaded.limit)
        header = self._header(loaded)
        plans = []
        for row_id, segments in zip(row_ids, written, strict=True):
            if isinstance(segments, str):
                plans.append(Plan(row_id, segments))
                continue
            pieces = [(ids.get(text, []), scored) for text, scored in segments]
            if self.template == "plain":
                pieces.insert(0, (loaded.bos, False))
            plans.append(token_pass.plan_row(row_id, pieces, header, limit))
        return plans

    def segments(self, tokenizer: Any, messages: list[dict[str, str]]) -> list[Segment] | str:
        """The conversation up to its last assistant turn, in pieces, or the status that says why not."""
        if not any(m["role"] == "assistant" and m["content"].strip() for m in messages):
            return EMPTY_RESPONSE
        if self.template == "plain":
            return plain_segments(messages)
        return chat_segments(tokenizer, messages) or TEMPLATE_MISMATCH

    def _header(self, loaded: Loaded) -> list[int]:
        """What a turn alone stands after: the assistant's header (as in the IFD paper), never nothing."""
        text = HEADERS["assistant"] if self.template == "plain" else chat_header(loaded.tokenizer)
        bos = loaded.bos if self.template == "plain" or not text else []
        ids = [*bos, *tokenised(loaded.tokenizer, [text]).get(text, [])]
        if ids:
            return ids
        mark = loaded.tokenizer.bos_token_id
        return [loaded.tokenizer.eos_token_id if mark is None else mark]

    def load(self) -> Loaded:
        """The model in memory; loaded by the first call in a process."""
        key = (self.model, self.device, compute.dtype_name(self.dtype))
        return once(("causal_lm", *key), lambda: load(*key))


def plain_segments(messages: Sequence[Mapping[str, str]]) -> list[Segment]:
    """The plain template's pieces. Assistant turns without content have a header and nothing to score."""
    segments: list[Segment] = []
    before = ""
    for message in messages:
        before += HEADERS[message["role"]]
        if message["role"] == "assistant" and message["content"].strip():
            segments += [(before, False), (message["content"], True)]
            before = "\n\n"
        else:
            before += message["content"] + "\n\n"
    return segments


def chat_segments(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> list[Segment] | None:
    """The chat template's pieces: what it adds between two turns is the difference of two renderings.

    None where that does not hold (a template that refuses the roles, or rewrites what went before).
    """

    def rendered(upto: int, prompt: bool) -> str:
        return tokenizer.apply_chat_template(chat[:upto], tokenize=False, add_generation_prompt=prompt)

    chat = [{"role": CHAT_ROLES.get(m["role"], m["role"]), "content": m["content"]} for m in messages]
    segments: list[Segment] = []
    so_far = ""
    try:
        for k, message in enumerate(messages):
            if message["role"] != "assistant" or not message["content"].strip():
                continue
            before, after = rendered(k, True), rendered(k + 1, False)
            content = message["content"]
            if not after.startswith(before + content):
                content = content.strip()  # some templates trim what they are given
            if not after.startswith(before + content) or not before.startswith(so_far):
                return None
            segments += [(before[len(so_far) :], False), (content, True)]
            so_far = before + content
    except Exception:  # templates are programs of other people and raise what they like
        return None
    return segments


def chat_header(tokenizer: Any) -> str:
    """What the chat template writes before an answer, e.g. ``<|im_start|>assistant`` and a line break."""
    chat = [{"role": "user", "content": "x"}]
    try:
        closed = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=False)
        opened = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    except Exception as error:
        raise ValueError("This tokenizer has no chat template that can be used: set template='plain'.") from error
    return opened[len(closed) :] if opened.startswith(closed) else ""


def messages_of(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row's messages, or those of its instruction, input and response."""
    if row.get("messages"):
        return [{"role": m["role"], "content": m["content"] or ""} for m in row["messages"]]
    prompt = "\n".join(part for part in (row.get("instruction"), row.get("input")) if part)
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": row.get("response") or ""}]


def tokenised(tokenizer: Any, texts: Sequence[str]) -> dict[str, list[int]]:
    """The token ids of each text that is not empty; one call of the tokenizer for all."""
    filled = [text for text in texts if text]
    if not filled:
        return {}
    found = tokenizer(filled, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    return dict(zip(filled, found, strict=True))


def load(spec: str, device: str, dtype: str) -> Loaded:
    """Load a copy of its own of the model that a spec names."""
    folder = str(models.as_safetensors(models.locate(spec)))
    compute.prepare_torch()
    with compute.quiet():
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), local_files_only=True)
        model = model.to(compute.pick_device(device)).eval()
        head = token_pass.head_of(model)
    limit = int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)
    # Some tokenizers open every text with a mark; the plain template keeps that habit once a conversation.
    marked = tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id]
    bos = [tokenizer.bos_token_id] if marked else []
    return Loaded(model, tokenizer, head, limit, bos, token_pass.remembers(model))
