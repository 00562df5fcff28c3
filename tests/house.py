"""A home with a lake for tests of the whole pipeline: stand-in models that say what they looked at, and small sources.

Here belongs what several such tests share; the tests themselves stand in `test_pipeline.py`.
"""

import json
import random
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import dagster as dg
import polars as pl

from assets.partitions import SOURCES
from jobs import definitions, runs
from jobs.made import Outcome
from resources.fakes import FakeCausalLM, FakeEncoder
from resources.lake import Lake
from resources.reward_model import RewardModel

COUNTED: list[str] = []
"""Every row or text that a model of this module looked at."""


class Encoder(FakeEncoder):
    def encode(self, texts, *args, **kwargs):
        COUNTED.extend(["encoder"] * len(texts))
        return super().encode(texts, *args, **kwargs)


class Model(FakeCausalLM):
    def token_statistics(self, rows, *args, **kwargs):
        COUNTED.extend(["causal_lm"] * rows.height)
        return super().token_statistics(rows, *args, **kwargs)


class House:
    """A home, its lake, and runs on it as the command line makes them."""

    def __init__(self, home: Path) -> None:
        self.lake = Lake(home)
        for folder in (self.lake.root, self.lake.targets):
            folder.mkdir(parents=True, exist_ok=True)
        self.instance = dg.DagsterInstance.ephemeral()
        self.instance.add_dynamic_partitions(SOURCES.name, [source.name for source in self.lake.sources()])

    def copy(self, home: Path) -> "House":
        shutil.copytree(self.lake.home, home)
        return House(home)

    def make(
        self,
        targets: Iterable[str],
        sources: Mapping[str, Path] | None = None,
        encoder: FakeEncoder | None = None,
        causal_lm: FakeCausalLM | None = None,
        reward_model: RewardModel | None = None,
        **settings: object,
    ) -> Outcome:
        COUNTED.clear()
        rewards = reward_model or RewardModel(model="fake:reward")
        defs = definitions.build_defs(self.lake.home, encoder or Encoder(), causal_lm or Model(), reward_model=rewards)
        if sources:
            runs.add_sources(self.lake, self.instance, sources)
        names = list(sources or [source.name for source in self.lake.sources()])
        keys = [dg.AssetKey(target.split("/")) for target in targets]
        return runs.materialize(self.lake, defs, self.instance, keys, names, {"sources": names, **settings})

    def forget_calls(self) -> None:
        """Ask every table again, instead of trusting that the same call leaves the same."""
        shutil.rmtree(self.lake.root / "calls", ignore_errors=True)

    def frame(self, key: str, source: str | None = None) -> pl.DataFrame:
        return self.lake.scan(key.split("/"), source).collect()

    def version(self, key: str, source: str | None = None) -> str:
        return self.lake.manifest(key.split("/"), source).data_version


def computed(outcome: Outcome) -> dict[str, int]:
    """Rows computed by each table that counts them and was not up to date."""
    return {
        made.key + (f"[{made.source}]" if made.source else ""): made.computed
        for made in outcome.made
        if made.computed is not None and not made.up_to_date
    }


def fresh(outcome: Outcome) -> set[str]:
    return {made.key for made in outcome.made if not made.up_to_date}


# ---- the data -----------------------------------------------------------------------------------------------------------

NOUNS = "river harbour engine garden letter market bridge lantern orchard signal copper winter theatre compass kitchen".split()
VERBS = "carries follows repairs measures describes protects opens crosses remembers collects divides paints".split()
ADJECTIVES = "narrow patient golden broken distant quiet modern heavy honest curious bitter gentle".split()
CHINESE = "春天来了，公园里的花都开了。孩子们在草地上奔跑，老人们坐在长椅上聊天，晒着温暖的太阳。"


def prose(seed: int, sentences: int = 6) -> str:
    rng = random.Random(seed)
    said = []
    for _ in range(sentences):
        a, b, c = rng.sample(NOUNS, 3)
        said.append(
            f"The {rng.choice(ADJECTIVES)} {a} {rng.choice(VERBS)} the {rng.choice(ADJECTIVES)} {b} near a {c}."
        )
    return " ".join(said)


def alpaca(i: int, response: str | None = None) -> dict[str, str]:
    return {
        "instruction": f"Write about topic number {i}.",
        "input": "",
        "output": prose(i) if response is None else response,
    }


def lines(path: Path, records: Iterable[object]) -> Path:
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) + "\n" for r in records))
    return path


ALPHA = [alpaca(i) for i in range(30)]
ALPHA += [
    alpaca(3),  # 30: the same content as 3
    alpaca(100, prose(5) + " So it ends."),  # 31: nearly 5
    alpaca(101, ""),  # 32: nothing to learn
    {"instruction": "说说春天。", "input": "", "output": CHINESE},  # 33
    {"instruction": "How many ships sail from the old northern harbour every single morning in spring?", "input": "",
     "output": prose(77)},  # 34: a test item, once it is a target
    '{"instruction": "broken\n',  # 35: no JSON
]  # fmt: skip
NEAR = {**alpaca(5), "output": prose(5) + " So it ends."}
"""Nearly 5, in another source."""


def conversation(i: int) -> dict[str, object]:
    row = alpaca(i)
    said = [
        ("user", row["instruction"]),
        ("assistant", row["output"]),
        ("user", "Go on."),
        ("assistant", prose(i + 500)),
    ]
    return {"messages": [{"role": role, "content": content} for role, content in said]}
