"""The loop of a training: Hugging Face's `Trainer`, its checkpoints, and the steps that were made.

Here belongs what happens between a loaded model and a trained one. What rows are as tokens, and the loss, stand in
`training_rows`; what is trained when, and the folder that comes out, in `tuning`.
"""

import contextlib
import gc
import json
import math
import random
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resources import compute
from resources.causal_lm import Progress
from resources.training_rows import TrainingRow, backward

METHODS = ("full", "lora")

CHECKPOINT_SECONDS = 300.0
"""How much work a killed training may lose."""


@dataclass(frozen=True)
class Tuning:
    """How a model is trained; every field goes into the fingerprint of what comes out.

    Parameters: the defaults are those of Alpaca's training (which the survey's methods copy), with one epoch.
    ``lora_rank``, ``lora_alpha``, ``lora_dropout`` and ``lora_targets`` (name endings of linear layers; none: all of
    them but the head) hold for ``method="lora"`` only.
    """

    method: str = "full"
    epochs: float = 1.0
    learning_rate: float = 2e-5
    batch_rows: int = 128
    warmup: float = 0.03
    max_tokens: int = 512
    seed: int = 0
    weight_decay: float = 0.0
    max_gradient: float = 1.0
    lora_rank: int = 16
    lora_alpha: float = 32.0
    lora_dropout: float = 0.0
    lora_targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method={self.method!r} is not known: use {' or '.join(METHODS)}.")
        for name in ("epochs", "learning_rate", "batch_rows", "max_tokens", "lora_rank", "lora_alpha"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)!r} must be greater than zero.")
        for name in ("warmup", "lora_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r} must lie in [0, 1).")


def lines(folder: Path) -> list[dict[str, Any]]:
    """The steps that were written down; a line that a kill broke off ends them."""
    found: list[dict[str, Any]] = []
    with contextlib.suppress(FileNotFoundError, ValueError):
        for text in (folder / "steps.jsonl").read_text().splitlines():
            found.append(json.loads(text))
    return found


def checkpoint(part: Path) -> Path | None:
    """The last checkpoint that is whole (its state is written last), the steps after it forgotten."""
    made = lines(part)
    for path in sorted((part / "checkpoints").glob("checkpoint-*"), key=lambda p: -int(p.name.split("-")[1])):
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
            step = json.loads((path / "trainer_state.json").read_text())["global_step"]
            if [line["step"] for line in made[:step]] == list(range(1, step + 1)):
                (part / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in made[:step]))
                return path
        shutil.rmtree(path)
    (part / "steps.jsonl").write_text("")
    return None


@contextlib.contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Seed every generator that a training draws from, and give the process its own back afterwards."""
    import torch

    python, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)


def _adapted(causal: Any, tuning: Tuning) -> Any:
    """The model with low-rank matrices beside its linear layers, the only ones that learn."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=tuning.lora_rank,
        lora_alpha=tuning.lora_alpha,  # type: ignore[arg-type]
        lora_dropout=tuning.lora_dropout,
        target_modules=list(tuning.lora_targets) or "all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(causal, config)


def run(
    causal: Any,
    rows: Sequence[TrainingRow],
    steps: Sequence[np.ndarray],
    part: Path,
    tuning: Tuning,
    budget: int | None,
    on_progress: Progress | None,
) -> Any:
    """The trained model, low-rank matrices multiplied into the weights."""
    import torch
    import transformers
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    cuda = causal.device.type == "cuda"
    mixed = cuda and torch.cuda.is_bf16_supported()
    room = [budget or (8192 if cuda else 1024)]

    class Loop(Trainer):
        """The step is ours, since a batch is any number of parts; a "sample" of this trainer is a whole batch."""

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            start = time.perf_counter()
            model.train()
            batch = [rows[i] for i in inputs]
            loss = self._learned(model, batch)
            if not math.isfinite(loss):
                raise ArithmeticError(f"The loss of step {self.state.global_step + 1} is {loss}: lower learning_rate.")
            line = {
                "step": self.state.global_step + 1,
                "loss": loss,
                "learning_rate": self._get_learning_rate(),
                "tokens": sum(len(row.learned) for row in batch),
                "seconds": time.perf_counter() - start,
            }
            with (part / "steps.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            return torch.tensor(loss, device=self.args.device)

        def _learned(self, model: Any, batch: Sequence[TrainingRow]) -> float:
            while True:
                try:
                    return backward(causal, batch, room[0], mixed)
                except (RuntimeError, MemoryError) as error:
                    longest = max(len(row.tokens) for row in batch)
                    if not compute.is_out_of_memory(error) or room[0] <= longest:
                        raise
                room[0] //= 2  # the whole batch again, in smaller parts, and so all that come after it
                model.zero_grad()
                compute.free_memory()

        def floating_point_ops(self, inputs: Any) -> int:
            return 0  # it would look for tensors among the inputs

    class Watch(TrainerCallback):
        """Checkpoints by the clock, and word of how far it is."""

        saved = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if on_progress is not None:
                on_progress(state.global_step, state.max_steps)
            if time.monotonic() - self.saved >= CHECKPOINT_SECONDS and state.global_step < state.max_steps:
                control.should_save = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.saved = time.monotonic()

    cached = causal.config.use_cache
    arguments = TrainingArguments(
        output_dir=str(part / "checkpoints"),
        max_steps=len(steps),
        per_device_train_batch_size=1,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        learning_rate=tuning.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=int(tuning.warmup * len(steps)),
        optim="adamw_torch",
        weight_decay=tuning.weight_decay,
        max_grad_norm=tuning.max_gradient,
        seed=tuning.seed,
        use_cpu=not cuda,
        save_strategy="no",  # `Watch` says when
        save_total_limit=1,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # a second GPU would get a copy that `backward` knows nothing of
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # not `compute.quiet`: it would swallow what others write meanwhile
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            learner = _adapted(causal, tuning) if tuning.method == "lora" else causal
            trainer = Loop(
                model=learner,
                args=arguments,
                train_dataset=list(steps),  # type: ignore[arg-type]
                data_collator=lambda samples: samples[0].tolist(),
                callbacks=[Watch()],
            )
            trainer.remove_callback(PrinterCallback)
            last = checkpoint(part)
            trainer.train(resume_from_checkpoint=str(last) if last else None)
            del trainer
            gc.collect()  # it and its callbacks hold one another, and the optimizer's state
            trained = learner.merge_and_unload() if tuning.method == "lora" else learner
    finally:
        transformers.logging.set_verbosity(level)
    trained.config.use_cache = cached  # the trainer turns it off, and generating from the folder would crawl
    return trained.eval()
