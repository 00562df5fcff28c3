"""What a reward model says of an answer (survey 3.2): one number a row, read off `evidence/rewards`.

Here belong how a row is put before a reward model (a question and an answer), the shape of what it said
(`REWARDS_SCHEMA`), and the indicator that reads it. No model runs here: models are in `resources.reward_model`, the
head that is trained on embeddings in `methods.quality.preference`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from methods.kinds import OK, Indicator, statused

REWARDS_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {"row_id": pl.String, "status": pl.String, "truncated": pl.Boolean, "reward": pl.Float64}
)
"""One line a row. ``reward`` is null unless the status is ``ok`` or ``truncated`` (then it is the beginning's)."""

TRUNCATED, EMPTY_RESPONSE = "truncated", "empty_response"

SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant", "tool_call": "Call", "tool": "Result"}
"""What stands before each message of a question that has several."""


def question_and_answer(row: Mapping[str, Any]) -> tuple[str, str]:
    """What a reward model is shown of a row: the last assistant turn, and all that stands before it.

    A question of a single user message is that message as it is: the instruction and, on the next line, the input.
    Any other is written with a speaker before each message (`SPEAKERS`, a colon, a blank) and an empty line between
    two. Without ``messages`` the row's ``instruction``, ``input`` and ``response`` are taken.
    """
    messages = row.get("messages")
    if not messages:
        return "\n".join(part for part in (row.get("instruction"), row.get("input")) if part), row.get("response") or ""
    last = max((at for at, said in enumerate(messages) if said["role"] == "assistant"), default=len(messages))
    answer = messages[last]["content"] or "" if last < len(messages) else ""
    before = [(said["role"], said["content"] or "") for said in messages[:last]]
    if [role for role, _ in before] == ["user"]:
        return before[0][1], answer
    return "\n\n".join(f"{SPEAKERS.get(role, role)}: {content}" for role, content in before), answer


def rewarded(row_ids: pl.Series, rewards: np.ndarray, status: Sequence[str]) -> pl.DataFrame:
    """`REWARDS_SCHEMA` of some rows from what a model said of them: a reward (NaN for none) and a status each."""
    value = pl.Series("reward", np.asarray(rewards, dtype=np.float64)).fill_nan(None)
    table = pl.DataFrame({"row_id": row_ids, "status": pl.Series(list(status), dtype=pl.String), "reward": value})
    read = pl.col("status").is_in([OK, TRUNCATED])
    return table.select(
        "row_id", "status", truncated=pl.col("status") == TRUNCATED, reward=pl.when(read).then("reward")
    ).cast(pl.Schema(dict(REWARDS_SCHEMA)))


def reward_score(block: pl.DataFrame, keep_truncated: bool = False) -> pl.DataFrame:
    """The reward model's raw output for the row's answer to its question: how much people would like it.

    Equation: r(Q, A), Q being the instruction and, on the next line, the input (Eq. 9). The number is handed on as the
    model gives it: r = -1.2, 0, .3 are -1.2, 0, .3. It has no bounds.

    Direction: higher. MoDS keeps what is strictly above 0 (a threshold of the recipe, not of the indicator).

    Parameters: `keep_truncated` takes the reward of the beginning where the model could not see the whole.

    Statuses: `empty_response` (nothing was answered); `truncated` unless `keep_truncated`; `template_mismatch` (the
    model's chat template refuses the question); `no_embedding` (the trained head found no vector); any other status of
    the model's pass.

    Source: Du et al. 2023, MoDS (arXiv 2311.15653), with OpenAssistant/reward-model-deberta-v3-large-v2.

    Departures: any reward model can be asked; which one stands beside the table. Numbers of two models are not
    comparable, and what 0 means is the model's own affair. Of several turns the last answer is judged, with all that
    came before it as the question; the paper has single turns only. The trained head (`preference_head`) sees of a long
    text what its encoder sees, and does not flag the cut.
    """
    none = pl.col("reward").is_null()
    welcome = (pl.col("status") == TRUNCATED) & keep_truncated & ~none
    cut = pl.col("truncated").fill_null(False) & (not keep_truncated)
    status = block.select(
        pl.when((pl.col("status") != OK) & ~welcome)
        .then("status")
        .when(cut)
        .then(pl.lit(TRUNCATED))
        .otherwise(pl.lit(OK))
        .alias("status")
    ).to_series()
    return statused(block["reward"], status)


INDICATORS = (
    Indicator(
        id="reward_score",
        title="Reward of a reward model",
        axis="quality",
        family="model",
        section="3.2",
        equation=r"r_\theta(Q, A)",
        paper="Du et al. 2023, MoDS, arXiv 2311.15653",
        meaning="High: a model that learned from people's preferences likes this answer to this question. Only values "
        "of the same reward model can be compared.",
        needs=("evidence/rewards",),
        cost="gpu",
        params={"keep_truncated": False},
        direction="higher",
        compute=reward_score,
    ),
)
