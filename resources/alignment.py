"""CTC's aligners: how far each word of one text is carried by another, as a Dagster resource.

Here belong the two aligners and how pieces of words become words. ``embedding``: the largest cosine of a piece to any
piece of the context, by the last hidden states of an encoder; the embedded one will do. ``discriminative``: an encoder
that reads both texts and tells of each word whether it is carried; its checkpoint must be named. What a word is, and
what is made of the alignments, stands in `methods.quality.alignment`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import numpy as np
import polars as pl

from methods.quality.alignment import (
    ALIGNMENT_SCHEMA,
    EMPTY_RESPONSE,
    UNALIGNED,
    contexts_of,
    is_stop_word,
    word_spans,
)
from resources import batching, compute, models
from resources.loaded import once
from resources.token_pass import OK, OUT_OF_MEMORY

Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all) after every finished frame."""

STYLES = ("auto", "embedding", "discriminative")
WEIGHTS = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors", "pytorch_model*.bin", "*.ckpt")
"""What an aligner on the hub consists of; ``.ckpt`` is how CTC's own were published."""

Pair = tuple[str, str]
"""A text whose words are scored, and the context that they are held against."""


class Alignment(NamedTuple):
    """What came of a pair."""

    values: np.ndarray | None
    """(words,) float64 in [0, 1], one for each word that was seen; None unless the status is ``ok``."""
    status: str
    """``ok``, ``unaligned`` or ``out_of_memory``."""
    truncated: bool
    """Only the beginning of one of the two was seen."""


@dataclass(frozen=True)
class _Encoded:
    """Token ids of a text or a pair, and where the words of the scored text are among them."""

    tokens: list[int]
    types: list[int]
    pieces: list[int]
    """Places of the scored text: no special tokens, no context."""
    words: list[list[int]] | None
    """Places of each word; None where some word has no piece."""
    truncated: bool


class _Loaded(NamedTuple):
    model: Any
    tokenizer: Any
    limit: int
    pool: str


class Aligner(dg.ConfigurableResource):
    """An aligner. Nothing is loaded before the first row; then once a process."""

    model: str = "embedded:minilm"
    """``embedded:minilm``, a folder, a hub id, or ``fake:...`` for a stand-in. A token classifier with two classes
    (RoBERTa, ALBERT, BERT) is a discriminative aligner; so is a folder with the base model's configuration and
    tokenizer and one of CTC's ``.ckpt`` files."""
    style: str = "auto"
    """``embedding``, ``discriminative``, or what the model's folder says it is."""
    device: str = "auto"
    dtype: str = "float32"
    max_tokens: int = 512
    """Tokens that are read at once, if the model can: of a text (embedding), of text and context (discriminative)."""
    lower: bool = True
    """The discriminative aligner reads lower case and straight quotation marks, as CTC's were trained to."""
    pool: str = "auto"
    """How a word's pieces become a word for the discriminative aligner: ``mean``, or ``sum`` as in the reference's
    code; ``auto`` is ``sum`` for CTC's own files and ``mean`` for others."""
    batch_tokens: int | None = None
    """Padded tokens in a batch; by default 1,024 on a CPU and 32,768 on a GPU."""

    def identity(self) -> dict[str, Any]:
        """What the alignments depend on, for fingerprints. Loads no model and imports no torch."""
        if models.is_fake(self.model):
            return {"model": self.model, "content": "1", "kind": "aligner"}
        located = models.locate(self.model, WEIGHTS)
        style = style_of(located.path, self.style)
        how = {"style": style, "dtype": compute.dtype_name(self.dtype), "max_tokens": self.max_tokens}
        found = {**models.identity(located), "kind": "aligner", **how}
        if style == "discriminative":
            found |= {"lower": self.lower, "pool": self.pool}
            if checkpoint := _checkpoint(located.path):
                found["checkpoint"] = models.content_hash(checkpoint)
        return found

    def align(self, rows: pl.DataFrame, on_progress: Progress | None = None) -> Iterator[pl.DataFrame]:
        """`ALIGNMENT_SCHEMA` for rows with ``row_id, instruction, input, response``: finished frames, longest first."""
        lines = rows.select("row_id", "instruction", "input", "response").to_dicts()
        most, done = 4 * self.max_tokens, 0  # characters; a token has about four
        texts = [(line["response"] or "", *contexts_of(line).values()) for line in lines]
        worth = [64 + sum(min(len(text), most) for text in row) for row in texts]
        for group in batching.groups(worth, 16 * 4 * self._budget()):
            yield self._finished([lines[at] for at in group])
            done += len(group)
            if on_progress is not None:
                on_progress(done, len(lines))

    def alignments(self, pairs: Sequence[Pair]) -> list[Alignment]:
        """The alignment of each pair of texts that are not blank."""
        if models.is_fake(self.model):
            return [_pretended(*pair) for pair in pairs]
        if not pairs:
            return []
        if style_of(models.locate(self.model, WEIGHTS).path, self.style) == "embedding":
            return self._embedded(pairs)
        return self._discriminated(pairs)

    def _finished(self, lines: Sequence[dict[str, Any]]) -> pl.DataFrame:
        responses = [(line["response"] or "").strip() for line in lines]
        contexts = [contexts_of(line) if said else {} for line, said in zip(lines, responses, strict=True)]
        both = zip(responses, contexts, strict=True)
        pairs = {pair: None for said, found in both for text in found.values() for pair in ((said, text), (text, said))}
        known = dict(zip(pairs, self.alignments(list(pairs)), strict=True))
        each = zip(lines, responses, contexts, strict=True)
        finished = [_line(line["row_id"], said, found, known) for line, said, found in each]
        return pl.DataFrame(finished, schema=dict(ALIGNMENT_SCHEMA))

    # ---- the two aligners -------------------------------------------------------------------------------------------

    def _embedded(self, pairs: Sequence[Pair]) -> list[Alignment]:
        loaded = self._load("embedding")
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        read = dict(zip(texts, _read_texts(loaded, texts), strict=True))
        vectors = batching.score_all(partial(_unit_vectors, loaded), list(read.values()), self._budget())
        found = dict(zip(texts, vectors, strict=True))
        return [_cosines(read[text], read[other], found[text], found[other]) for text, other in pairs]

    def _discriminated(self, pairs: Sequence[Pair]) -> list[Alignment]:
        loaded = self._load("discriminative")
        read = _read_pairs(loaded, [(cleaned(a), cleaned(b)) for a, b in pairs] if self.lower else pairs)
        whole = [at for at, one in enumerate(read) if one.words is not None]
        scored = batching.score_all(partial(_carried, loaded), [read[at] for at in whole], self._budget())
        said = [Alignment(None, UNALIGNED, one.truncated) for one in read]
        for at, values in zip(whole, scored, strict=True):
            said[at] = Alignment(values, OUT_OF_MEMORY if values is None else OK, read[at].truncated)
        return said

    def _budget(self) -> int:
        return self.batch_tokens or (1024 if compute.pick_device(self.device) == "cpu" else 32768)

    def _load(self, style: str) -> _Loaded:
        key = (self.model, style, self.device, compute.dtype_name(self.dtype), str(self.max_tokens), self.pool)
        return once(("aligner", *key), lambda: _load(self, style))


def _line(row_id: str, response: str, contexts: dict[str, str], known: dict[Pair, Alignment]) -> dict[str, Any]:
    """A row's line of the table."""
    line: dict[str, Any] = {"row_id": row_id, "status": OK, "truncated": False}
    if not response:
        return {**line, "status": EMPTY_RESPONSE}
    to = {name: known[response, text] for name, text in contexts.items()}
    of = {name: known[text, response] for name, text in contexts.items()}
    if any(one.status == OUT_OF_MEMORY for one in (*to.values(), *of.values())):
        return {**line, "status": OUT_OF_MEMORY}
    if any(one.values is None for one in to.values()):
        return {**line, "status": UNALIGNED}
    line["truncated"] = any(one.truncated for one in (*to.values(), *of.values()))
    for name in contexts:
        line[f"to_{name}"], line[f"of_{name}"] = to[name].values, of[name].values
    seen = len(next(iter(to.values())).values) if to else 0  # type: ignore[arg-type]
    line["stop"] = [is_stop_word(response[a:b]) for a, b in word_spans(response)[:seen]]
    return line


# ---- pieces and words ----------------------------------------------------------------------------------------------
def words_of_pieces(
    spans: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]], cut: bool = False
) -> list[list[int]] | None:
    """For each word the pieces that lie over it, by the characters that both stand on; None if a word has none.

    Words and pieces are in order. A piece over several words counts for each. Of a text that was ``cut``, words that
    begin behind its last piece are left out.
    """
    if cut:
        end = max((stop for _, stop in offsets), default=0)
        spans = [span for span in spans if span[0] < end]
    found: list[list[int]] = [[] for _ in spans]
    first = 0
    for piece, (start, stop) in enumerate(offsets):
        while first < len(spans) and spans[first][1] <= start:
            first += 1
        word = first
        while word < len(spans) and spans[word][0] < stop:
            if start < stop:
                found[word].append(piece)
            word += 1
    return found if found and all(found) else None


def cleaned(text: str) -> str:
    """A text as CTC's aligners were trained on it: lower case, straight quotation marks, single blanks."""
    text = re.sub("[“”]", '"', re.sub("[‘’]", "'", text)).lower()
    return re.sub(r"[^\S\n]+", " ", text).strip()


def _encoded(found: Any, text: str, cut: bool) -> _Encoded:
    """A text, or a pair of which it is the first."""
    pieces = [place for place, of in enumerate(found.sequence_ids) if of == 0]
    words = words_of_pieces(word_spans(text), [found.offsets[place] for place in pieces], cut)
    placed = None if words is None else [[pieces[piece] for piece in word] for word in words]
    return _Encoded(found.ids, found.type_ids, pieces, placed, cut or bool(found.overflowing))


def _read_texts(loaded: _Loaded, texts: Sequence[str]) -> list[_Encoded]:
    read = loaded.tokenizer(list(texts), truncation=True, max_length=loaded.limit, verbose=False).encodings
    return [_encoded(found, text, bool(found.overflowing)) for found, text in zip(read, texts, strict=True)]


def _read_pairs(loaded: _Loaded, pairs: Sequence[Pair]) -> list[_Encoded]:
    """Each text with its context behind it: the text cut at half of what the model reads, the context at the rest."""
    most = loaded.limit // 2 - 1
    texts = list(dict.fromkeys(text for text, _ in pairs))
    alone = loaded.tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False).encodings
    short = {
        text: text if len(found.ids) <= most else text[: found.offsets[most - 1][1]]
        for text, found in zip(texts, alone, strict=True)
    }
    first, second = [short[text] for text, _ in pairs], [context for _, context in pairs]
    read = loaded.tokenizer(first, second, truncation="only_second", max_length=loaded.limit, verbose=False).encodings
    found = [_encoded(one, text, False) for one, text in zip(read, first, strict=True)]
    cut = [short[text] != text for text, _ in pairs]
    return [replace(one, truncated=one.truncated or less) for one, less in zip(found, cut, strict=True)]


# ---- passes --------------------------------------------------------------------------------------------------------
def _hidden(loaded: _Loaded, batch: Sequence[_Encoded]) -> Any:
    """Last hidden states (batch, length, width)."""
    import torch

    width = max(len(one.tokens) for one in batch)
    ids = torch.full((len(batch), width), int(loaded.tokenizer.pad_token_id or 0), dtype=torch.long)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, one in enumerate(batch):
        ids[row, : len(one.tokens)] = torch.tensor(one.tokens)
        types[row, : len(one.tokens)] = torch.tensor(one.types)
        mask[row, : len(one.tokens)] = 1
    inputs = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in loaded.tokenizer.model_input_names:
        inputs["token_type_ids"] = types
    device = loaded.model.device
    return loaded.model.base_model(**{name: table.to(device) for name, table in inputs.items()}).last_hidden_state


def _unit_vectors(loaded: _Loaded, batch: Sequence[_Encoded]) -> list[np.ndarray]:
    """For each text the vectors of its tokens, of unit length."""
    import torch

    with torch.inference_mode():
        found = torch.nn.functional.normalize(_hidden(loaded, batch).float(), dim=-1).cpu().numpy()
    return [vectors[: len(one.tokens)].copy() for vectors, one in zip(found, batch, strict=True)]


def _cosines(text: _Encoded, context: _Encoded, ours: np.ndarray | None, theirs: np.ndarray | None) -> Alignment:
    """The mean over a word's pieces of the largest cosine to any piece of the context, no less than 0."""
    cut = text.truncated or context.truncated
    if ours is None or theirs is None:
        return Alignment(None, OUT_OF_MEMORY, cut)
    if text.words is None or not context.pieces:
        return Alignment(None, UNALIGNED, cut)
    best = (ours @ theirs[context.pieces].T).max(axis=1).astype(np.float64).clip(0.0, 1.0)
    sizes = np.array([len(word) for word in text.words])
    of = np.repeat(np.arange(len(sizes)), sizes)
    places = np.array([place for word in text.words for place in word])
    return Alignment(np.bincount(of, weights=best[places]) / sizes, OK, cut)


def _carried(loaded: _Loaded, batch: Sequence[_Encoded]) -> list[np.ndarray]:
    """For each word of each text the probability that it is carried (class 0)."""
    import torch

    found = []
    with torch.inference_mode():
        hidden = _hidden(loaded, batch)
        for row, one in enumerate(batch):
            words = one.words or []
            sizes = torch.tensor([len(word) for word in words], device=hidden.device)
            of = torch.repeat_interleave(sizes)
            places = torch.tensor([place for word in words for place in word], device=hidden.device)
            pooled = hidden.new_zeros((len(words), hidden.shape[-1])).index_add_(0, of, hidden[row, places])
            if loaded.pool == "mean":
                pooled = pooled / sizes[:, None]
            found.append(loaded.model.classifier(pooled).double().softmax(dim=-1)[:, 0].cpu().numpy())
    return found


def _pretended(text: str, context: str) -> Alignment:
    """A stand-in: a word that stands in the context is carried, another one by a number hashed from it."""
    held = {context[a:b].lower() for a, b in word_spans(context)}
    values = []
    for a, b in word_spans(text):
        word = text[a:b].lower()
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        values.append(1.0 if word in held else 0.5 * int.from_bytes(digest) / 2**64)
    return Alignment(np.array(values), OK, False)


# ---- loading -------------------------------------------------------------------------------------------------------
def _checkpoint(folder: Path) -> Path | None:
    """The ``.ckpt`` file in a folder, if there is one."""
    return next(iter(sorted(folder.glob("*.ckpt"))), None) if folder.is_dir() else None


def style_of(folder: Path, style: str) -> str:
    """``embedding`` or ``discriminative``: as asked, else as the folder's files say."""
    if style not in STYLES:
        raise ValueError(f"style={style!r} is not known: use {', '.join(STYLES)}.")
    if style != "auto":
        return style
    config = folder / "config.json"
    named = json.loads(config.read_text(encoding="utf-8")).get("architectures") or [] if config.is_file() else []
    classifies = any(str(name).endswith("ForTokenClassification") for name in named)
    return "discriminative" if classifies or _checkpoint(folder) else "embedding"


def _load(aligner: Aligner, style: str) -> _Loaded:
    if aligner.pool not in ("auto", "mean", "sum"):
        raise ValueError(f"pool={aligner.pool!r} is not known: use auto, mean or sum.")
    folder = models.locate(aligner.model, WEIGHTS).path
    compute.prepare_torch()
    with compute.quiet():
        import torch
        from transformers import AutoModel, AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        if not tokenizer.is_fast:
            raise models.ModelUnavailable(f"{aligner.model!r} has no fast tokenizer: words could not be found again.")
        dtype = getattr(torch, compute.dtype_name(aligner.dtype))
        model: Any
        if style == "embedding":
            model = AutoModel.from_pretrained(str(folder), dtype=dtype, local_files_only=True)
        else:
            model = _classifier(aligner.model, folder, dtype)
        model = model.to(compute.pick_device(aligner.device)).eval()
    limit = min(aligner.max_tokens, _positions(model), int(tokenizer.model_max_length))
    pool = aligner.pool if aligner.pool != "auto" else "sum" if _checkpoint(folder) else "mean"
    return _Loaded(model, tokenizer, limit, pool)


def _positions(model: Any) -> int:
    """How many tokens a model has places for; RoBERTa's count from behind its padding index."""
    for name, table in model.named_modules():
        if name.endswith("position_embeddings") and hasattr(table, "num_embeddings"):
            skipped = 0 if table.padding_idx is None else table.padding_idx + 1
            return int(table.num_embeddings) - skipped
    return 1 << 30


def _classifier(spec: str, folder: Path, dtype: Any) -> Any:
    """A token classifier with two classes and a linear head."""
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification

    checkpoint, missing = _checkpoint(folder), []
    model: Any
    if checkpoint:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, num_labels=2)
        model = AutoModelForTokenClassification.from_config(config).to(dtype)
        missing = _fill(model, checkpoint)
    else:
        model, said = AutoModelForTokenClassification.from_pretrained(
            str(folder), dtype=dtype, local_files_only=True, output_loading_info=True
        )
        missing = list(said["missing_keys"])
    head = getattr(model, "classifier", None)
    if missing or not isinstance(head, torch.nn.Linear) or head.out_features != 2 or hasattr(model, "head"):
        lacks = f"; it lacks {', '.join(sorted(missing)[:3])}" if missing else ""
        raise models.ModelUnavailable(
            f"{spec!r} is no aligner: expected a token classifier of two classes with a linear head{lacks}."
        )
    return model


def _fill(model: Any, checkpoint: Path) -> list[str]:
    """Put CTC's own weights into a classifier; what of the classifier they leave out.

    They are named ``_roberta.*`` (or ``_model.*``) and ``_classifier.*``, plain or under ``state_dict``.
    """
    import torch

    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file that is no checkpoint makes of it
        raise models.ModelUnavailable(
            f"{checkpoint} cannot be read as weights alone ({type(error).__name__}). Where it was made, load it with "
            "the program that wrote it and save its state_dict by torch.save."
        ) from error
    base = model.base_model_prefix
    named = {}
    for name, value in state.get("state_dict", state).items():
        own = re.sub(r"^_(?:roberta|model)\.", f"{base}.", name).removeprefix("_")
        if not re.search(r"\.pooler\.|\.position_ids$", own):
            named[own] = value
    missing, strange = model.load_state_dict(named, strict=False)
    if strange:
        raise models.ModelUnavailable(f"{checkpoint} is no CTC aligner of this model: it holds {sorted(strange)[0]}.")
    return list(missing)
