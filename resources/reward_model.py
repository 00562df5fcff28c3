"""Rewards of question and answer: any model that `AutoModelForSequenceClassification` loads, as a Dagster resource.

Here belongs loading the model once, writing a question and an answer down the way it was trained, and one number a
pair. What a row's question is, and what the number means, stands in `methods.quality.reward`; the head that is trained
on embeddings is no model of this kind (`methods.quality.preference`), only its name is known here.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import dagster as dg
import numpy as np

from resources import batching, classifiers, compute, models
from resources.loaded import once
from resources.token_pass import EMPTY_RESPONSE, OK, OUT_OF_MEMORY, TEMPLATE_MISMATCH, TRUNCATED

PREFERENCE_HEAD = "preference_head"
"""The spec that asks for the head of ``tuned/preference_head`` instead of a model."""
STYLES = ("auto", "pair", "chat")
_NEEDS = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors", "pytorch_model*.bin")
_STAND_IN = "1"


class _Loaded(NamedTuple):
    model: Any
    tokenizer: Any
    limit: int
    style: str


class RewardModel(dg.ConfigurableResource):
    """A reward model. Nothing is loaded before the first pair; then once a process."""

    model: str = ""
    """A folder, a hub id (``owner/name``), ``fake:...`` (a stand-in), ``preference_head``, or nothing: none is set."""
    device: str = "auto"
    dtype: str = "auto"
    """``auto``: the precision in which the weights are stored; else ``float32``, ``bfloat16`` or ``float16``."""
    style: str = "auto"
    """``pair`` (question and answer as the two texts of the tokenizer), ``chat`` (its chat template), or ``auto``: chat
    if the tokenizer has a template."""
    max_tokens: int = 512
    """Longer pairs are cut, with the status ``truncated``."""
    batch_tokens: int | None = None
    """Padded tokens in a batch; by default 1,024 on a CPU and 32,768 on a GPU."""

    def identity(self) -> dict[str, Any]:
        """What the rewards depend on, for fingerprints; nothing where no model is set. Loads no model.

        The version of the trained head is not known here: whoever reads the head adds it.
        """
        if not self.model:
            return {}
        if self.model == PREFERENCE_HEAD:
            return {"model": PREFERENCE_HEAD}
        common = {"kind": "reward_model", "max_tokens": self.max_tokens, "style": self.style}
        if models.is_fake(self.model):
            return {"model": self.model, "content": _STAND_IN, **common}
        located = models.locate(self.model, _NEEDS)
        return {**models.identity(located), **common, "dtype": classifiers.stored_dtype(self.dtype, located)}

    def scores(self, pairs: Sequence[tuple[str, str]]) -> tuple[np.ndarray, list[str]]:
        """The raw reward of each (question, answer), float64, and a status a pair.

        A model with one output gives that logit; one with two, the second minus the first (the logit of the pair being
        good, as for the binary classifiers that are used this way). NaN where the status is ``empty_response``,
        ``template_mismatch`` or ``out_of_memory``; with ``truncated`` the reward of the beginning: a pair of texts
        loses the end of the longer one, token by token, a chat loses its end.
        """
        if self.style not in STYLES:
            raise ValueError(f"style={self.style!r} is not known: use one of {', '.join(STYLES)}.")
        if not self.model or self.model == PREFERENCE_HEAD:
            raise ValueError(f"model={self.model!r} names no reward model that can be loaded.")
        found, status = np.full(len(pairs), np.nan), [EMPTY_RESPONSE] * len(pairs)
        asked = [at for at, (_, answer) in enumerate(pairs) if answer.strip()]
        if models.is_fake(self.model):
            for at in asked:
                found[at], status[at] = stand_in(*pairs[at], self.max_tokens)
            return found, status
        if not asked:
            return found, status
        loaded = self._load()
        written: list[classifiers.Written] = []
        places: list[int] = []
        for at, (pair, cut) in zip(asked, self._written(loaded, [pairs[at] for at in asked]), strict=True):
            status[at] = TEMPLATE_MISMATCH if pair is None else TRUNCATED if cut else OK
            if pair is not None:
                written.append(pair)
                places.append(at)
        rewards = batching.score_all(partial(_forward, loaded.model), written, self._budget(loaded))
        for at, reward in zip(places, rewards, strict=True):
            if reward is None:
                status[at] = OUT_OF_MEMORY
            else:
                found[at] = reward
        return found, status

    def _written(self, loaded: _Loaded, pairs: list[tuple[str, str]]) -> list[tuple[classifiers.Written | None, bool]]:
        """Each pair as tokens (None where it cannot be written), and whether it had to be cut."""
        limit = min(self.max_tokens, loaded.limit)
        if loaded.style == "pair":
            return list(zip(*classifiers.fitted(loaded.tokenizer, pairs, limit), strict=True))
        written: list[tuple[classifiers.Written | None, bool]] = []
        for question, answer in pairs:
            ids = _chat(loaded.tokenizer, question, answer)
            written.append((None, False) if not ids else (classifiers.Written(ids[:limit]), len(ids) > limit))
        return written

    def _budget(self, loaded: _Loaded) -> int:
        """A model that reads its last token must know which are padding: without a mark for it there is none, and
        every pair is passed by itself."""
        if loaded.model.config.get_text_config().pad_token_id is None:
            return 1
        return self.batch_tokens or (1024 if compute.pick_device(self.device) == "cpu" else 32768)

    def _load(self) -> _Loaded:
        located = models.locate(self.model, _NEEDS)
        key = (self.model, self.device, classifiers.stored_dtype(self.dtype, located), self.style)
        return once(("reward_model", *key), lambda: _load(located, *key))


def _load(located: models.Located, spec: str, device: str, dtype: str, style: str) -> _Loaded:
    model, tokenizer = classifiers.load(
        located, spec, dtype, "reward model", "Give a model that was trained to score answers."
    )
    if model.config.num_labels not in (1, 2):
        raise models.ModelUnavailable(
            f"{spec!r} has {model.config.num_labels} outputs; a reward model has one, or two (bad and good)."
        )
    config, pad = model.config.get_text_config(), tokenizer.pad_token_id
    # A model that reads its last token looks for the last one that is not padding: a mark that may end a text won't do.
    if config.pad_token_id is None and pad not in (None, tokenizer.eos_token_id, tokenizer.bos_token_id):
        config.pad_token_id = pad
    if style == "chat" and not tokenizer.chat_template:
        raise models.ModelUnavailable(f"The tokenizer of {spec!r} has no chat template: set style='pair'.")
    chosen = style if style != "auto" else "chat" if tokenizer.chat_template else "pair"
    model = model.to(compute.pick_device(device)).eval()
    return _Loaded(model, tokenizer, classifiers.longest(model, tokenizer), chosen)


def _chat(tokenizer: Any, question: str, answer: str) -> list[int]:
    """The two turns by the chat template; nothing where it refuses them."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception:  # templates are programs of other people and raise what they like
        return []
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def _forward(model: Any, batch: Sequence[classifiers.Written]) -> list[float]:
    """One forward pass; a reward each. Padding stands on the right and is masked."""
    import torch

    width = max(len(one.tokens) for one in batch)
    ids = torch.full((len(batch), width), model.config.get_text_config().pad_token_id or 0, dtype=torch.long)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, one in enumerate(batch):
        ids[row, : len(one.tokens)] = torch.tensor(one.tokens)
        types[row, : len(one.types)] = torch.tensor(one.types, dtype=torch.long)
        mask[row, : len(one.tokens)] = 1
    given = {"input_ids": ids, "attention_mask": mask}
    if batch[0].types:
        given["token_type_ids"] = types
    with torch.inference_mode():
        logits = model(**{name: values.to(model.device) for name, values in given.items()}).logits.double().cpu()
    rewards = logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, 0]
    return rewards.tolist()


# ---- the stand-in ---------------------------------------------------------------------------------------------------

_WORD = re.compile(r"\w+|[^\w\s]")


def stand_in(question: str, answer: str, max_tokens: int = 512) -> tuple[float, str]:
    """A number that hangs on the words alone: hashed words of the answer, and how many of the question's it takes up.

    It means nothing. It is for tests and for trying a recipe before a model is there.
    """
    asked, said = ([word.lower() for word in _WORD.findall(text)] for text in (question, answer))
    seen = said[: max(0, max_tokens - len(asked))] or said[:1]
    luck = [int.from_bytes(hashlib.blake2b(w.encode("utf-8", "surrogatepass"), digest_size=4).digest()) for w in seen]
    taken_up = len(set(asked) & set(seen)) / max(1, len(set(asked)))
    reward = 4.0 * (float(np.mean(luck)) / 2**32 - 0.5 if luck else 0.0) + 2.0 * taken_up - 0.5
    return reward, TRUNCATED if len(seen) < len(said) else OK
