"""Which models to use, as the environment says: for whoever starts the program without a configuration.

Here belongs only the reading of ``SLUICE_ENCODER``, ``SLUICE_CAUSAL_LM``, ``SLUICE_REWARD_MODEL``,
``SLUICE_CTC_ALIGNER``, ``SLUICE_UNIEVAL``, ``SLUICE_DEITA_...``, ``SLUICE_NLI``, ``SLUICE_JUDGE_...``,
``SLUICE_DEVICE`` and ``SLUICE_DTYPE``. Unset means the embedded models, and none of those that do not come with the
program; ``fake`` (or ``fake:...``) means the stand-ins of `fakes` and of the models.
"""

import os

from resources import models
from resources.alignment import Aligner
from resources.boolean_qa import UniEval
from resources.causal_lm import CausalLM
from resources.deita import DeitaScorers
from resources.encoder import Encoder
from resources.fakes import FakeCausalLM, FakeEncoder
from resources.judge import Judge
from resources.nli import NLI
from resources.reward_model import RewardModel


def encoder_from_env() -> Encoder:
    """The encoder of ``SLUICE_ENCODER`` on ``SLUICE_DEVICE``."""
    return encoder(_read("SLUICE_ENCODER", "embedded:minilm"), device=_read("SLUICE_DEVICE", "auto"))


def causal_lm_from_env() -> CausalLM:
    """The language model of ``SLUICE_CAUSAL_LM`` on ``SLUICE_DEVICE`` as ``SLUICE_DTYPE``."""
    return causal_lm(
        _read("SLUICE_CAUSAL_LM", "embedded:smollm2"),
        device=_read("SLUICE_DEVICE", "auto"),
        dtype=_read("SLUICE_DTYPE", "auto"),
    )


def reward_model_from_env() -> RewardModel:
    """The reward model of ``SLUICE_REWARD_MODEL`` on ``SLUICE_DEVICE`` as ``SLUICE_DTYPE``; unset: none."""
    model = _read("SLUICE_REWARD_MODEL", "")
    return RewardModel(
        model="fake:reward" if model == "fake" else model,
        device=_read("SLUICE_DEVICE", "auto"),
        dtype=_read("SLUICE_DTYPE", "auto"),
    )


def ctc_aligner_from_env() -> Aligner:
    """The aligner of ``SLUICE_CTC_ALIGNER`` on ``SLUICE_DEVICE``; unset: the embedded encoder."""
    model = _read("SLUICE_CTC_ALIGNER", "embedded:minilm")
    return Aligner(model="fake:aligner" if model == "fake" else model, device=_read("SLUICE_DEVICE", "auto"))


def nli_from_env() -> NLI:
    """The model of ``SLUICE_NLI`` on ``SLUICE_DEVICE`` as ``SLUICE_DTYPE``; unset: none."""
    model = _read("SLUICE_NLI", "")
    return NLI(
        model="fake:nli" if model == "fake" else model,
        device=_read("SLUICE_DEVICE", "auto"),
        dtype=_read("SLUICE_DTYPE", "auto"),
    )


def unieval_from_env() -> UniEval:
    """The checkpoint of ``SLUICE_UNIEVAL`` on ``SLUICE_DEVICE``; unset: none."""
    model = _read("SLUICE_UNIEVAL", "")
    return UniEval(model="fake:unieval" if model == "fake" else model, device=_read("SLUICE_DEVICE", "auto"))


def deita_from_env() -> DeitaScorers:
    """The scorers of ``SLUICE_DEITA_COMPLEXITY`` and ``SLUICE_DEITA_QUALITY`` on ``SLUICE_DEVICE``; unset: none."""
    specs = [_read(name, "") for name in ("SLUICE_DEITA_COMPLEXITY", "SLUICE_DEITA_QUALITY")]
    complexity, quality = ("fake:deita" if spec == "fake" else spec for spec in specs)
    device, dtype = _read("SLUICE_DEVICE", "auto"), _read("SLUICE_DTYPE", "auto")
    return DeitaScorers(complexity=complexity, quality=quality, device=device, dtype=dtype)


def judge_from_env() -> Judge:
    """The judge of ``SLUICE_JUDGE_MODEL`` at ``SLUICE_JUDGE_URL``; unset: none.

    ``SLUICE_JUDGE_KEY_NAME`` names the variable that holds the key, ``SLUICE_JUDGE_RPM`` and ``SLUICE_JUDGE_TPM`` are
    requests and tokens a minute (0: no limit), ``SLUICE_JUDGE_CONCURRENCY`` is calls at a time.
    """
    model = _read("SLUICE_JUDGE_MODEL", "")
    return Judge(
        url=_read("SLUICE_JUDGE_URL", ""),
        model="fake:judge" if model == "fake" else model,
        key_name=_read("SLUICE_JUDGE_KEY_NAME", "OPENAI_API_KEY"),
        requests_per_minute=_number("SLUICE_JUDGE_RPM", "0", 0),
        tokens_per_minute=_number("SLUICE_JUDGE_TPM", "0", 0),
        concurrency=int(_number("SLUICE_JUDGE_CONCURRENCY", "8", 1)),
    )


def encoder(model: str, device: str = "auto") -> Encoder:
    """The encoder that a spec names; ``fake`` and ``fake:...`` give the stand-in."""
    if models.is_fake(model):
        return FakeEncoder() if model == "fake" else FakeEncoder(model=model)
    return Encoder(model=model, device=device)


def causal_lm(model: str, device: str = "auto", dtype: str = "auto") -> CausalLM:
    """The language model that a spec names; ``fake`` and ``fake:...`` give the stand-in."""
    if models.is_fake(model):
        return FakeCausalLM() if model == "fake" else FakeCausalLM(model=model)
    return CausalLM(model=model, device=device, dtype=dtype)


def _number(name: str, default: str, least: int) -> float:
    text = _read(name, default)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value < float("inf") or (least and value != int(value)):
        raise ValueError(f"{name} is {text!r}; give a {'whole ' if least else ''}number from {least}")
    return value


def _read(name: str, default: str) -> str:
    return os.environ.get(name, "").strip() or default
