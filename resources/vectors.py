"""Embeddings on disk: one LanceDB table an encoder, one vector a row id.

Here belongs storing vectors as they are computed and reading them back in the order of a pool. Which rows are embedded,
and with what, is the encoder's and the asset's business. Vectors are keyed by row content, so a row that stands in two
sources, or comes back in a new version of its file, is embedded once. A row without a vector reads as NaN.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from resources.fingerprint import fingerprint


class VectorStore:
    """The vectors that one encoder (with one set of parameters) gave to rows."""

    def __init__(self, folder: Path, name: str, identity: dict[str, Any]) -> None:
        self.folder = folder
        self.table_name = f"{name}-{fingerprint(identity)}"

    def row_ids(self) -> set[str]:
        """The ids of the rows that already have a vector."""
        table = self._table()
        if table is None:
            return set()
        return {
            row_id for batch in table.search().select(["row_id"]).to_batches() for row_id in batch["row_id"].to_pylist()
        }

    def append(self, row_ids: Sequence[str], vectors: np.ndarray) -> None:
        """Store a finished block of vectors; rows that are already there stay as they are."""
        import pyarrow as pa

        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
        ids = pa.array(list(row_ids), pa.string())
        block = pa.table({"row_id": ids, "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])})
        table = self._table()
        if table is None:
            self._database().create_table(self.table_name, block, exist_ok=True)
            table = self._table()
        table.merge_insert("row_id").when_not_matched_insert_all().execute(block)

    def read(self, row_ids: Sequence[str]) -> np.ndarray:
        """(n, d) float32 in the order of the ids; NaN where a row has no vector (d = 1 where nothing was ever
        embedded). The table is read in blocks."""
        wanted = pl.DataFrame({"row_id": row_ids}, schema={"row_id": pl.String}).with_row_index("place")
        table = self._table()
        dimension = table.schema.field("vector").type.list_size if table is not None else 1
        vectors = np.full((len(wanted), dimension), np.nan, dtype=np.float32)
        if table is None or wanted.is_empty():
            return vectors
        for batch in table.search().select(["row_id", "vector"]).to_batches(4096):
            found = (
                pl.DataFrame({"row_id": pl.from_arrow(batch["row_id"])}).with_row_index("at").join(wanted, on="row_id")
            )
            if found.height:
                column = batch["vector"]
                block = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), dimension)
                vectors[found["place"].to_numpy()] = block[found["at"].to_numpy()]
        return vectors

    def compact(self) -> None:
        """Join the many small fragments that appending leaves behind."""
        table = self._table()
        if table is not None:
            table.optimize()

    def _database(self) -> Any:
        import lancedb

        self.folder.mkdir(parents=True, exist_ok=True)
        return lancedb.connect(self.folder)

    def _table(self) -> Any:
        database = self._database()
        return (
            database.open_table(self.table_name)
            if self.table_name in database.list_tables(limit=100_000).tables
            else None
        )
