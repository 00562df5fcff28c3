"""Stage 3: rows as vectors.

Here belongs embedding one source: an index in Parquet, the vectors in LanceDB. The encoder is `resources.encoder`.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets.coverage import FROM_FILTERED, coverage, rows_to_assess, share_not_ok
from assets.incremental import fill
from assets.partitions import SOURCES
from assets.step import Result, Step, check_specs
from methods.kinds import Encode
from methods.rows import TEXT
from resources.encoder import Encoder
from resources.progress import Progress
from resources.settings import Settings
from resources.tables import LakeResource
from resources.vectors import VectorStore

MINILM = dg.AssetKey(["embedded", "minilm"])
EMBEDDING_VERSION = "1"
"""Raised when rows are handed to the encoder in another form."""
INDEX_SCHEMA = {"row_id": pl.String, "status": pl.String, "n_tokens": pl.Int64, "truncated": pl.Boolean}


def vectors_identity(encoder: Encoder) -> dict[str, Any]:
    """Everything that decides a row's vector."""
    return {"code": EMBEDDING_VERSION, **encoder.identity()}


def vectors_of(lake: LakeResource, encoder: Encoder) -> VectorStore:
    """The vectors that this encoder gave to rows."""
    return lake.vectors("minilm", vectors_identity(encoder))


def encode_with(lake: LakeResource, encoder: Encoder, log: Callable[[str], None] | None = None) -> Encode:
    """Any texts to vectors; each text is encoded once, and its vector kept under a hash of the text."""
    store = lake.vectors("texts", vectors_identity(encoder))

    def encode(texts: Sequence[str]) -> np.ndarray:
        keys = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() for text in texts]
        known = store.row_ids()
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known and text.strip()}
        names = list(new)
        progress = Progress("embedding texts", len(new), "texts", log)
        for block in encoder.encode(list(new.values())) if new else ():
            fine = np.isfinite(block.vectors).all(axis=1)
            store.append([names[i] for i in block.indices[fine]], block.vectors[fine])
            progress.advance(len(block.indices))
        return store.read(keys)

    return encode


@dg.asset(
    key=MINILM,
    group_name="embedded",
    partitions_def=SOURCES,
    deps=FROM_FILTERED,
    code_version=EMBEDDING_VERSION,
    kinds={"lancedb"},
    pool="gpu",
    tags={"cost": "gpu"},
    check_specs=check_specs(MINILM.path, SOURCES),
    description="The sentence embedding of prompt and response together (unit length). Vectors lie in LanceDB, "
    "one a row content; every "
    "finished block is kept.",
)
def minilm(
    context: dg.AssetExecutionContext, lake: LakeResource, settings: Settings, encoder: Encoder
) -> Iterator[Any]:
    """Embed the rows that have no vector yet."""
    step = Step(context, lake, settings)
    identity = encoder.identity()

    def compute() -> Result:
        store = vectors_of(lake, encoder)

        def encode(todo: pl.LazyFrame, total: int) -> Iterator[pl.DataFrame]:
            yield pl.DataFrame(schema=INDEX_SCHEMA)
            rows = todo.select("row_id", text=TEXT).collect()
            progress = step.progress("embedding", total)
            for block in encoder.encode(rows["text"].to_list()):
                ids = rows["row_id"].gather(block.indices)
                fine = np.isfinite(block.vectors).all(axis=1)
                store.append(ids.filter(pl.Series(fine)).to_list(), block.vectors[fine])
                yield pl.DataFrame(
                    {"row_id": ids, "status": block.status, "n_tokens": block.n_tokens, "truncated": block.truncated},
                    schema=INDEX_SCHEMA,
                )
                progress.advance(len(block.indices))
            store.compact()

        cache = step.lake.cache("minilm", vectors_identity(encoder))
        done = fill(step, MINILM, rows_to_assess(step), [], encode, cache)
        return Result(
            done.data,
            {**done.facts, **coverage(step), **share_not_ok(done.data), "encoder": str(identity.get("model", ""))},
        )

    yield from step.make(MINILM, identity, compute)


ASSETS = (minilm,)
