"""Short trainings of a causal language model: what comes out is a folder that every loader of models reads.

Here belongs the folder: what decides it, when it is there already, and that it appears complete or not at all. What
rows are as tokens, and the loss, stand in `training_rows`; the steps and their checkpoints in `training_loop`.

The folder holds the weights in float32, the tokenizer, ``card.json`` (what was trained on what, no times, so that the
same training gives the same folder) and ``steps.jsonl``. While it is made, ``<folder>.part`` holds the last checkpoint
(about three times the size of the weights for a full training) and the steps so far.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from resources import causal_lm, compute, models, training_loop
from resources.causal_lm import CausalLM, Progress
from resources.fingerprint import fingerprint
from resources.lake import locked
from resources.training_loop import Tuning
from resources.training_rows import Conversation, content_hash, conversations, has_response, steps_of, training_rows

STEPS_SCHEMA = pl.Schema({"step": pl.Int64, "loss": pl.Float64, "learning_rate": pl.Float64, "tokens": pl.Int64})
"""One line a step: the mean loss of its batch before the step, the rate of the step, the tokens that were learned."""

_VERSION = "1"  # raised when the same rows and settings train another model than before


@dataclass(frozen=True)
class Tuned:
    """A trained model."""

    model: str
    """What `CausalLM` takes as its model: the folder, or ``fake:tuned-...`` for a stand-in."""
    steps: pl.DataFrame
    """`STEPS_SCHEMA`; no line for a stand-in, of which nothing was trained."""
    rows: int
    """Rows that were trained on: those with nothing to learn are left out."""
    tokens: int
    """Learned tokens over all steps: the responses' and the ends of text, not the prompts'."""
    seconds: float
    """Time in steps, over all processes that worked on it."""


def fingerprint_of(model: CausalLM, rows: pl.DataFrame, tuning: Tuning) -> str:
    """24 hex digits for the base model, the rows (in any order) and all settings. Loads no model."""
    return fingerprint(_decided_by(model, conversations(rows), tuning))


def tune(
    model: CausalLM,
    rows: pl.DataFrame,
    folder: Path,
    tuning: Tuning,
    on_progress: Progress | None = None,
) -> Tuned:
    """Train a model on rows and keep it in a folder; ``on_progress`` is called with (steps done, steps in all).

    ``rows`` are as in `CausalLM.token_statistics` (``row_id`` and ``messages``, or ``instruction``, ``input`` and
    ``response``), written by the model's template. The model itself is left as it is; its ``dtype`` and ``max_tokens``
    are those of the pass and play no part here.

    Equation: AdamW on the mean cross-entropy of a batch's response tokens (`training_rows.backward`), gradients clipped
    to the norm ``max_gradient``; the rate rises linearly over ``floor(warmup * steps)`` steps from zero and falls with
    a half cosine to zero.

    A folder that is there with the same fingerprint is handed back and nothing is trained; one with another is
    replaced; one that was not made here is refused. A training that was killed goes on from its last checkpoint, with
    the weights that it would have had without the break (on a CPU, with as many threads, to the bit).

    Statuses: rows without a response, with a prompt that fills ``max_tokens``, or that the chat template refuses are
    left out and counted in ``card.json``; where no row is left, a ValueError says so.

    Departures: weights and steps are float32, on a GPU with bfloat16 arithmetic where that is safe: in weights of
    bfloat16 the small steps of a short training are rounded away. A training of fewer than ``1 / warmup`` steps has no
    warm-up: its only step would else have a rate of zero.
    """
    folder = Path(folder)
    found = conversations(rows)
    decided = _decided_by(model, found, tuning)
    with locked(folder.with_name(f".{folder.name}.lock")):
        done = _kept(folder, fingerprint(decided))
        if done is not None:
            return done
        part = _part_of(folder, fingerprint(decided))
        if models.is_fake(model.model):
            _build(folder, part, _stand_in_card(found, decided))
        else:
            _trained(model, found, folder, part, decided, tuning, on_progress)
        done = _kept(folder, fingerprint(decided))
    if done is None:
        raise RuntimeError(f"The trained model is not at {folder}, where it was just put.")
    return done


def _decided_by(model: CausalLM, found: Sequence[Conversation], tuning: Tuning) -> dict[str, Any]:
    """All that decides the weights. The number type and the cut of the pass do not: a training has its own."""
    base = {key: value for key, value in model.identity().items() if key not in ("dtype", "max_tokens")}
    return {"base": base, "tuning": asdict(tuning), "rows_hash": content_hash(found), "version": _VERSION}


def _stand_in_card(found: Sequence[Conversation], decided: dict[str, Any]) -> dict[str, Any]:
    answered = sum(has_response(messages) for _, messages in found)
    left_out = {"empty_response": len(found) - answered} if answered < len(found) else {}
    if not answered:
        raise ValueError(_nothing(len(found), left_out))
    counts = {"rows": answered, "left_out": left_out, "steps": 0, "tokens": 0, "loss_first": None, "loss_last": None}
    return {"fingerprint": fingerprint(decided), **decided, **counts, "note": "stand-in: nothing was trained"}


def _nothing(rows: int, left_out: dict[str, int]) -> str:
    if not rows:
        return "There is nothing to train on: no rows were given."
    counted = ", ".join(f"{count} {status}" for status, count in left_out.items())
    return f"There is nothing to train on: none of the {rows} rows has a response token to learn ({counted})."


# --- the folder


def _card(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) and "fingerprint" in found else None


def _kept(folder: Path, wanted: str) -> Tuned | None:
    """The trained model that lies in the folder, if it is the wanted one."""
    card = _card(folder)
    if card is None and folder.exists():
        raise FileExistsError(f"{folder} is there and was not made by a training: give another folder, or remove it.")
    if card is None or card["fingerprint"] != wanted:
        return None
    lines = training_loop.lines(folder)
    return Tuned(
        model=f"{models.FAKE}tuned-{wanted}" if "note" in card else str(folder),
        steps=pl.DataFrame(lines, schema=STEPS_SCHEMA),
        rows=card["rows"],
        tokens=card["tokens"],
        seconds=sum(line["seconds"] for line in lines),
    )


def _part_of(folder: Path, wanted: str) -> Path:
    """The folder of what is under way; what another training left there is thrown away."""
    part = folder.with_name(f"{folder.name}.part")
    name = part / "fingerprint"
    if not name.is_file() or name.read_text() != wanted:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        name.write_text(wanted)
    return part


def _build(folder: Path, part: Path, card: dict[str, Any], save: Callable[[Path], None] | None = None) -> None:
    """Write the model beside its place and rename it into it."""
    new = part / "model"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    if save is not None:
        save(new)
        shutil.copyfile(part / "steps.jsonl", new / "steps.jsonl")
    (new / "card.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if folder.exists():  # with a card of another training, or `_kept` would have refused it
        folder.rename(part / "replaced")
    new.rename(folder)
    shutil.rmtree(part, ignore_errors=True)


# --- the training


def _trained(
    model: CausalLM,
    found: Sequence[Conversation],
    folder: Path,
    part: Path,
    decided: dict[str, Any],
    tuning: Tuning,
    on_progress: Progress | None,
) -> None:
    device = compute.pick_device(model.device)
    if device not in ("cpu", "cuda", "cuda:0"):
        raise ValueError(f"device={device!r}: a training runs on cpu or cuda (choose one by CUDA_VISIBLE_DEVICES).")
    loaded = causal_lm.load(model.model, device, "float32")  # a copy of its own: its weights change
    rows, left_out = training_rows(model, loaded, found, tuning.max_tokens)
    if not rows:
        raise ValueError(_nothing(len(found), left_out))
    steps = steps_of(len(rows), tuning.batch_rows, tuning.epochs, tuning.seed)
    with training_loop.own_randomness(tuning.seed):
        causal = training_loop.run(loaded.model, rows, steps, part, tuning, model.batch_tokens, on_progress)
    lines = training_loop.lines(part)
    used = ("torch", "transformers", *(["peft"] if tuning.method == "lora" else []))
    card = {
        "fingerprint": fingerprint(decided),
        **decided,
        "rows": len(rows),
        "left_out": left_out,
        "steps": len(lines),
        "tokens": sum(line["tokens"] for line in lines),
        "loss_first": lines[0]["loss"],
        "loss_last": lines[-1]["loss"],
        "versions": {name: version(name) for name in used},
    }

    def save(new: Path) -> None:
        with compute.quiet():
            causal.save_pretrained(str(new))
            loaded.tokenizer.save_pretrained(str(new))

    _build(folder, part, card, save)
