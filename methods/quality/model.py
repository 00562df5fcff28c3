"""Model-based quality (survey 3.2): what a causal language model's token probabilities say of a response.

Here belong indicators that are one expression over `evidence/token_statistics`: nothing here runs a model. Judges are
in `methods.quality.judge`; losses over training time are in `methods.importance.dynamics`.

All logarithms are natural. Every indicator reads the response's tokens only, as the model sees them behind the prompt,
except where its name or a parameter says ``alone`` (without the prompt).
"""

from __future__ import annotations

import polars as pl

from methods.kinds import OK, Indicator, statused

STATISTICS = ("evidence/token_statistics",)


def _status(block: pl.DataFrame, tokens: str, keep_truncated: bool) -> pl.Series:
    """The evidence's own status first, unless it is a cut that is asked for; then truncation, then an empty list."""
    empty = pl.col(tokens).list.len().fill_null(0) == 0
    cut = pl.col("truncated").fill_null(False) & (not keep_truncated)
    welcome = (pl.col("status") == "truncated") & keep_truncated & ~empty
    return block.select(
        pl.when((pl.col("status") != OK) & ~welcome)
        .then("status")
        .when(cut)
        .then(pl.lit("truncated"))
        .when(empty)
        .then(pl.lit("empty_response"))
        .otherwise(pl.lit(OK))
        .alias("status")
    ).to_series()


def _tokens(name: str) -> pl.Expr:
    """A list of the evidence in double precision; lists add and subtract token by token."""
    return pl.col(name).cast(pl.List(pl.Float64))


def _mean(name: str) -> pl.Expr:
    return _tokens(name).list.mean()


def _read(block: pl.DataFrame, value: pl.Expr, tokens: str, keep_truncated: bool) -> pl.DataFrame:
    return statused(block.select(value.alias("value")).to_series(), _status(block, tokens, keep_truncated))


SCOPES = {
    "conditional": ("logp_conditional",),
    "alone": ("logp_alone",),
    "prompt": ("logp_prompt",),
    "text": ("logp_prompt", "logp_conditional"),
}
"""What perplexity can be of, and the evidence that it is the mean of."""


def perplexity(block: pl.DataFrame, scope: str = "conditional", keep_truncated: bool = False) -> pl.DataFrame:
    """Perplexity: how surprised the model is by an average token of the response, or of the whole text.

    Equation: PPL = exp(-(1/n) sum_j ln p_j). p = (.5, .25, .125, .5) gives 3.363586.

    Direction: lower is more predictable. Neither end is better by itself (very low: boilerplate, very high: noise), so
    the direction is `band`; which band is best depends on the data.

    Parameters: `scope` is `conditional` (the response behind its prompt), `alone` (the response without the prompt),
    `prompt` (all that is not response) or `text` (the whole conversation). `keep_truncated` scores a cut response by
    the tokens that were seen.

    Statuses: `empty_response` (no token to score); `truncated` unless `keep_truncated`; any status of the model's pass.

    Source: Ankner et al. 2024 (arXiv 2405.20541).

    Departures: Eq. 7 of the survey pairs a natural logarithm with a power of 2; here it is exp and ln. The mean is over
    the tokens that have a value: the first token of a conversation has none, so a text of n tokens has n - 1 terms.
    Prompt and text hold the marks of the template that the model reads, which are the same for every row.
    """
    if scope not in SCOPES:
        raise ValueError(f"scope must be {', '.join(map(repr, SCOPES))}, not {scope!r}")
    parts = SCOPES[scope]
    mean = pl.concat_list(_tokens(name).fill_null([]) for name in parts).list.mean() if parts[1:] else _mean(parts[0])
    return _read(block, (-mean).exp(), parts[-1], keep_truncated)


def normalised_loss(block: pl.DataFrame, keep_truncated: bool = False) -> pl.DataFrame:
    """The loss that training would see: -ln p of an average token of the response behind its prompt, in nats.

    Equation: NLL(A|Q) = -(1/n) sum_j ln p_j = ln PPL. p = (.5, .25, .125, .5) gives 1.213008.

    Direction: neither end is better by itself: low is known already, high is hard or wrong.

    Parameters: `keep_truncated` scores a cut response by the tokens that were seen.

    Statuses: `empty_response` (no token); `truncated` unless `keep_truncated`; any status of the model's pass.

    Source: the length-normalised form of least confidence (Bhatt et al. 2024, arXiv 2401.06692); the loss of every
    selection by loss.

    Departures: divided by the number of scored tokens; the survey's equations of losses divide by one less.
    """
    return _read(block, -_mean("logp_conditional"), "logp_conditional", keep_truncated)


def ifd(block: pl.DataFrame, keep_truncated: bool = False) -> pl.DataFrame:
    """Instruction-following difficulty: how little the prompt helps the model to write the response.

    Equation: IFD = NLL(A|Q) / NLL(A), NLL the mean of -ln p over the response's tokens (Eq. 12).
    p(A|Q) = (.5, .5, .25) and p(A) = (.25, .25, .125) give 4/7.

    Direction: higher, the prompt helps less and there is more to learn; above 1 it misleads, and the paper drops such
    rows before it takes the top (a threshold of the recipe, not of the indicator).

    Parameters: `keep_truncated` scores a cut response by the tokens that were seen.

    Statuses: `empty_response` (no token); `truncated` unless `keep_truncated`; `not_finite` where the response alone
    is certain (NLL 0); any status of the model's pass.

    Source: Li et al. 2023, Cherry LLM (arXiv 2308.12032).

    Departures: the ratio of losses and nothing else; the ratio of perplexities is `superfiltering`. What stands
    before the response in NLL(A) is the evidence's choice. Each mean is over the tokens that have a value.
    """
    value = _tokens("logp_conditional").list.mean() / _tokens("logp_alone").list.mean()
    return _read(block, value, "logp_conditional", keep_truncated)


def superfiltering(block: pl.DataFrame, keep_truncated: bool = False) -> pl.DataFrame:
    """Instruction-following difficulty as a ratio of perplexities, as Superfiltering computes it with a small model.

    Equation: PPL(A|Q) / PPL(A) = exp(NLL(A|Q) - NLL(A)). The example of `ifd` gives .5.

    Direction: higher; above 1 the prompt misleads, and the paper keeps < 1.

    Parameters: `keep_truncated` scores a cut response by the tokens that were seen.

    Statuses: `empty_response` (no token); `truncated` unless `keep_truncated`; any status of the model's pass.

    Source: Li et al. 2024, Superfiltering (arXiv 2402.00530).

    Departures: the survey's Eq. 12 is a ratio of losses; the paper's code takes this one, and the two rank
    differently, so each has its own name here.
    """
    value = (_tokens("logp_alone").list.mean() - _tokens("logp_conditional").list.mean()).exp()
    return _read(block, value, "logp_conditional", keep_truncated)


def el2n(block: pl.DataFrame, keep_truncated: bool = False) -> pl.DataFrame:
    """Error norm: how far the predicted distribution stands from the token that came, averaged over the response.

    Equation: (1/n) sum_j ||p_j - onehot(x_j)||_2, with ||.||^2 = sum_v p^2 - 2 p_label + 1 clipped at 0 (Eq. 10).
    p = (.7, .2, .1) with label 0 and (.1, .6, .3) with label 2 give .650764. Between 0 and sqrt(2).

    Direction: higher is harder.

    Parameters: `keep_truncated` scores a cut response by the tokens that were seen.

    Statuses: `empty_response` (no token); `truncated` unless `keep_truncated`; any status of the model's pass.

    Source: Paul et al. 2021 (arXiv 2107.07075); for language models Marion et al. 2023.

    Departures: one model's score; Paul et al. average over several early in training.
    """
    right = _tokens("logp_conditional").list.eval(2.0 * pl.element().exp())
    norm = (_tokens("sum_p2") - right).list.eval((pl.element() + 1.0).clip(0.0).sqrt())
    return _read(block, norm.list.mean(), "sum_p2", keep_truncated)


def uncertainty_mean_entropy(block: pl.DataFrame, keep_truncated: bool = False) -> pl.DataFrame:
    """Mean entropy of the model's next-token distribution along the response, in nats.

    Equation: (1/n) sum_j (-sum_v p_j(v) ln p_j(v)). Rows (.7, .2, .1) and (.5, .3, .2) give .915736.

    Direction: higher is more uncertain; Bhatt et al. select the most uncertain.

    Parameters: `keep_truncated` scores a cut response by the tokens that were seen.

    Statuses: `empty_response` (no token); `truncated` unless `keep_truncated`; any status of the model's pass.

    Source: Bhatt et al. 2024 (arXiv 2401.06692).

    Departures: the survey's Eq. 14 sums p ln p of the observed token only and lacks the minus. The tokens are the
    row's response, not the model's own generation.
    """
    return _read(block, _tokens("entropy").list.mean(), "entropy", keep_truncated)


def uncertainty_least_confidence(block: pl.DataFrame, stat: str = "log", keep_truncated: bool = False) -> pl.DataFrame:
    """How improbable the whole response is to the model.

    Equation: -sum_j ln p_j (`log`); -(1/n) sum_j ln p_j (`log_mean`); -prod_j p_j (`product`, Eq. 15).
    p = (.7, .5) gives 1.049822, .524911 and -.35.

    Direction: higher is less confident. `log` and `product` rank alike, but the product underflows to 0 after some
    hundred tokens; both grow with length, `log_mean` does not.

    Parameters: `stat` is `log`, `log_mean` or `product`. `keep_truncated` scores a cut response by the tokens seen.

    Statuses: `empty_response` (no token); `truncated` unless `keep_truncated`; any status of the model's pass.

    Source: Bhatt et al. 2024 (arXiv 2401.06692).

    Departures: p_j is the probability of the row's own token; for the model's greedy generation it would be the
    largest.
    """
    logp = _tokens("logp_conditional").list
    values = {"log": -logp.sum(), "log_mean": -logp.mean(), "product": -logp.sum().exp()}
    if stat not in values:
        raise ValueError(f"stat must be 'log', 'log_mean' or 'product', not {stat!r}")
    return _read(block, values[stat], "logp_conditional", keep_truncated)


def uncertainty_mean_margin(block: pl.DataFrame, keep_truncated: bool = False) -> pl.DataFrame:
    """How close the model's two best guesses are, averaged over the response.

    Equation: -(1/n) sum_j (top1_j - top2_j) (Eq. 16), between -1 and 0. Rows (.7, .2, .1), (.5, .3, .2) give -.35.

    Direction: higher (nearer 0) is more uncertain.

    Parameters: `keep_truncated` scores a cut response by the tokens that were seen.

    Statuses: `empty_response` (no token); `truncated` unless `keep_truncated`; any status of the model's pass.

    Source: Bhatt et al. 2024 (arXiv 2401.06692).
    """
    return _read(block, -(_tokens("top1") - _tokens("top2")).list.mean(), "top1", keep_truncated)


def uncertainty_min_margin(block: pl.DataFrame, keep_truncated: bool = False) -> pl.DataFrame:
    """How close the model's two best guesses are at the token where they are closest.

    Equation: -min_j (top1_j - top2_j) (Eq. 17), between -1 and 0. Rows (.7, .2, .1), (.5, .3, .2) give -.2.

    Direction: higher (nearer 0) is more uncertain. A minimum: it nears 0 as responses grow longer.

    Parameters: `keep_truncated` scores a cut response by the tokens that were seen.

    Statuses: `empty_response` (no token); `truncated` unless `keep_truncated`; any status of the model's pass.

    Source: Bhatt et al. 2024 (arXiv 2401.06692).
    """
    return _read(block, -(_tokens("top1") - _tokens("top2")).list.min(), "top1", keep_truncated)


_BHATT = "Bhatt et al. 2024, An Experimental Design Framework for Label-Efficient SFT, arXiv 2401.06692"

INDICATORS = (
    Indicator(
        id="perplexity",
        title="Perplexity",
        axis="quality",
        family="model",
        section="3.2",
        equation=r"\exp(-\frac{1}{n} \sum_j \ln p_j)",
        paper="Ankner et al. 2024, Perplexed by Perplexity, arXiv 2405.20541",
        meaning="How many equally likely tokens the model hesitates between. Low: predictable text; very high: noise.",
        needs=STATISTICS,
        cost="gpu",
        params={"scope": "conditional", "keep_truncated": False},
        direction="band",
        compute=perplexity,
    ),
    Indicator(
        id="normalised_loss",
        title="Loss of the response",
        axis="quality",
        family="model",
        section="3.2",
        equation=r"-\frac{1}{n} \sum_j \ln p_j",
        paper=_BHATT,
        meaning="The loss that training on the row would start from, in nats a token. Low: the model knows it already; "
        "high: hard, or wrong.",
        needs=STATISTICS,
        cost="gpu",
        params={"keep_truncated": False},
        direction="band",
        compute=normalised_loss,
    ),
    Indicator(
        id="ifd",
        title="Instruction-following difficulty (loss ratio)",
        axis="quality",
        family="model",
        section="3.2",
        equation=r"\frac{NLL(A \mid Q)}{NLL(A)}",
        paper="Li et al. 2023, Cherry LLM, arXiv 2308.12032",
        meaning="Near 1 the prompt hardly helps to predict the answer: much to learn. Above 1 prompt and answer clash.",
        needs=STATISTICS,
        cost="gpu",
        params={"keep_truncated": False},
        direction="higher",
        compute=ifd,
    ),
    Indicator(
        id="superfiltering",
        title="Instruction-following difficulty (perplexity ratio)",
        axis="quality",
        family="model",
        section="3.2",
        equation=r"\frac{PPL(A \mid Q)}{PPL(A)}",
        paper="Li et al. 2024, Superfiltering, arXiv 2402.00530",
        meaning="As `ifd`, with perplexities in place of losses: large drops weigh more. Keep below 1, take the top.",
        needs=STATISTICS,
        cost="gpu",
        params={"keep_truncated": False},
        direction="higher",
        compute=superfiltering,
    ),
    Indicator(
        id="el2n",
        title="Error L2 norm",
        axis="quality",
        family="model",
        section="3.2",
        equation=r"\frac{1}{n} \sum_j \lVert p_j - onehot(x_j) \rVert_2",
        paper="Paul et al. 2021, Deep Learning on a Data Diet, arXiv 2107.07075",
        meaning="How wrong the model is about an average token of the answer: 0 never, 1.41 always and sure of it.",
        needs=STATISTICS,
        cost="gpu",
        params={"keep_truncated": False},
        direction="higher",
        compute=el2n,
    ),
    Indicator(
        id="uncertainty_mean_entropy",
        title="Mean entropy",
        axis="quality",
        family="model",
        section="3.2",
        equation=r"-\frac{1}{n} \sum_j \sum_v p_j(v) \ln p_j(v)",
        paper=_BHATT,
        meaning="How undecided the model is, in nats, before an average token of the answer.",
        needs=STATISTICS,
        cost="gpu",
        params={"keep_truncated": False},
        direction="higher",
        compute=uncertainty_mean_entropy,
    ),
    Indicator(
        id="uncertainty_least_confidence",
        title="Least confidence",
        axis="quality",
        family="model",
        section="3.2",
        equation=r"-\sum_j \ln p_j",
        paper=_BHATT,
        meaning="How improbable the whole answer is to the model. It grows with length unless `stat` is `log_mean`.",
        needs=STATISTICS,
        cost="gpu",
        params={"stat": "log", "keep_truncated": False},
        direction="higher",
        compute=uncertainty_least_confidence,
    ),
    Indicator(
        id="uncertainty_mean_margin",
        title="Mean margin",
        axis="quality",
        family="model",
        section="3.2",
        equation=r"-\frac{1}{n} \sum_j (\beta_{1,j} - \beta_{2,j})",
        paper=_BHATT,
        meaning="Near 0 the model's first and second guess are about as likely; near -1 it is sure throughout.",
        needs=STATISTICS,
        cost="gpu",
        params={"keep_truncated": False},
        direction="higher",
        compute=uncertainty_mean_margin,
    ),
    Indicator(
        id="uncertainty_min_margin",
        title="Minimum margin",
        axis="quality",
        family="model",
        section="3.2",
        equation=r"-\min_j (\beta_{1,j} - \beta_{2,j})",
        paper=_BHATT,
        meaning="As the mean margin, at the most undecided token of the answer alone.",
        needs=STATISTICS,
        cost="gpu",
        params={"keep_truncated": False},
        direction="higher",
        compute=uncertainty_min_margin,
    ),
)
