"""Stand-ins for the models: deterministic, instant, without files or torch.

Here belong an encoder and a language model that behave like models as far as the pipeline can see (similar texts get
similar vectors, likelier tokens get higher probabilities, a known prompt helps) and mean nothing. They are for tests,
demonstrations and trying a recipe before paying for the real pass. Their identity says that they are fakes, so that
what they computed is never taken for the real thing.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from resources.causal_lm import CausalLM, Progress, messages_of
from resources.encoder import EMPTY_TEXT, OK, EncodedBlock, Encoder
from resources.encoder import Progress as TextProgress
from resources.token_pass import EMPTY_RESPONSE, TOKEN_STATISTICS_SCHEMA, TOO_LONG, TRUNCATED

_WORD = re.compile(r"\w+|[^\w\s]")
_VERSION = "1"


def _number(text: str, salt: str) -> int:
    """The same 64 bits for the same text on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b(f"{salt}\0{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _tokens(text: str) -> list[str]:
    """Words, and every other visible character by itself."""
    return _WORD.findall(text)


class FakeEncoder(Encoder):
    """Unit vectors from hashed words: each word has a fixed random direction, a text is the sum of its words'."""

    model: str = "fake:words"
    width: int = 64

    def identity(self) -> dict[str, Any]:
        """As the real one's, with the name of the fake."""
        return {
            "model": self.model,
            "content": _VERSION,
            "kind": "encoder",
            "width": self.width,
            "max_tokens": self.max_tokens,
        }

    def dimension(self) -> int:
        """The length of a vector."""
        return self.width

    def encode(
        self, texts: Sequence[str], on_progress: TextProgress | None = None, block: int = 2048
    ) -> Iterator[EncodedBlock]:
        """As the real one: longest texts first, in finished blocks."""
        lengths = np.fromiter((len(text.strip()) for text in texts), dtype=np.int64, count=len(texts))
        order = np.argsort(-lengths, kind="stable").astype(np.int64)
        for start in range(0, len(order), block):
            indices = order[start : start + block]
            words = [[w.lower() for w in _tokens(texts[i])] for i in indices]
            limit = self.max_tokens
            pairs = zip(words, lengths[indices], strict=True)
            yield EncodedBlock(
                indices=indices,
                vectors=np.stack([self._vector(w[:limit], length > 0) for w, length in pairs]),
                n_tokens=np.array([len(w[:limit]) for w in words], dtype=np.int64),
                truncated=np.array([limit is not None and len(w) > limit for w in words], dtype=np.bool_),
                status=[OK if lengths[i] else EMPTY_TEXT for i in indices],
            )
            if on_progress is not None:
                on_progress(start + len(indices), len(order))

    def _vector(self, words: list[str], filled: bool) -> np.ndarray:
        if not filled:
            return np.full(self.width, np.nan, dtype=np.float32)
        total = np.zeros(self.width)
        for word, count in Counter(words).items():
            total += math.sqrt(count) * np.random.default_rng(_number(word, "encoder")).standard_normal(self.width)
        length = float(np.linalg.norm(total))
        if length == 0:  # a text of characters that are neither words nor visible marks
            total[0] = length = 1.0
        return (total / length).astype(np.float32)


class FakeCausalLM(CausalLM):
    """Token statistics from hashed word pairs: each pair has a fixed probability, and a word of the prompt is likelier.

    The distribution behind a position is ``(top1, top2, many small ones)``; the numbers agree with one another
    (``p_label <= top1``, ``hit`` exactly where they are equal, ``top1^2 <= sum_p2 <= top1``, entropy below that of the
    whole vocabulary of 1,000).
    """

    model: str = "fake:bigrams"

    def identity(self) -> dict[str, Any]:
        """As the real one's, with the name of the fake."""
        return {"model": self.model, "content": _VERSION, "kind": "causal_lm", "max_tokens": self.max_tokens}

    def token_statistics(
        self, rows: pl.DataFrame, on_progress: Progress | None = None, alone: bool = True
    ) -> Iterator[pl.DataFrame]:
        """As the real one: finished frames, every row once, here in the order of the rows and 256 at a time."""
        for start in range(0, rows.height, 256):
            part = rows.slice(start, 256)
            lines = [self._line(row["row_id"], messages_of(row)) for row in part.iter_rows(named=True)]
            frame = pl.DataFrame(lines, schema=TOKEN_STATISTICS_SCHEMA)
            nothing = pl.lit(None, pl.List(pl.Float32))
            yield frame if alone else frame.with_columns(logp_alone=nothing, logp_prompt=nothing)
            if on_progress is not None:
                on_progress(start + part.height, rows.height)

    def next_token(
        self, prompts: Sequence[str], words: Sequence[str], raw: bool = False
    ) -> tuple[np.ndarray, list[str]]:
        """ln p of each word behind each prompt: hashed, and likelier where the prompt holds the word."""
        held = [set(prompt.lower().split()) for prompt in prompts]
        found = [[_position("", word, word.strip().lower() in prompt)[0] for word in words] for prompt in held]
        return np.array(found).reshape(len(prompts), len(words)), [OK] * len(prompts)

    def _line(self, row_id: str, messages: list[dict[str, str]]) -> dict[str, Any]:
        if not any(m["role"] == "assistant" and m["content"].strip() for m in messages):
            return {"row_id": row_id, "status": EMPTY_RESPONSE, "truncated": False}
        seen: list[str] = []
        scored: list[tuple[float, float, dict[str, Any]]] = []
        rest: list[float] = []
        left = 0
        for message in messages:
            words = _tokens(message["content"])
            room = max(0, self.max_tokens - len(seen))
            if message["role"] == "assistant":
                left += len(words[room:])
                known = {w.lower() for w in seen}
                pairs = zip(["", *words], words[:room], strict=False)
                scored += [_position(before, word, word.lower() in known) for before, word in pairs]
            else:
                rest += [_position(*pair, False)[1] for pair in pairwise([*seen[-1:], *words[:room]])]
            seen += words[:room]
        if not scored:
            return {"row_id": row_id, "status": TOO_LONG, "truncated": True}
        line = {name: [numbers[name] for _, _, numbers in scored] for name in scored[0][2]}
        return {
            **line,
            "row_id": row_id,
            "status": TRUNCATED if left else OK,
            "truncated": left > 0,
            "n_prompt_tokens": len(seen) - len(scored),
            "n_response_tokens": len(scored),
            "logp_conditional": [conditional for conditional, _, _ in scored],
            "logp_alone": [alone for _, alone, _ in scored],
            "logp_prompt": rest,
        }


def _position(before: str, word: str, in_prompt: bool) -> tuple[float, float, dict[str, Any]]:
    """ln p with and without the prompt, and the rest of a position's numbers."""
    share = _number(f"{before} {word}", "causal_lm") / 2**64
    alone = 0.02 + 0.6 * share**2
    label = min(0.97, alone * (1.5 if in_prompt else 1.05))
    hit = share > 0.5
    top1 = label if hit else min(0.97, label + 0.02 + 0.3 * (1 - label) * share)
    top2 = min(top1, 1 - top1) * 0.5 if hit else min(label, 1 - top1)
    rest = max(0.0, 1 - top1 - top2)
    others = 998
    entropy = -sum(p * math.log(p) for p in (top1, top2) if p > 0)
    entropy -= rest * math.log(rest / others) if rest > 0 else 0.0
    numbers = {
        "entropy": entropy,
        "sum_p2": top1**2 + top2**2 + rest**2 / others,
        "top1": top1,
        "top2": top2,
        "hit": hit,
    }
    return math.log(label), math.log(alone), numbers
