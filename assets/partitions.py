"""How the assets are cut: one partition a source, and the two ways in which a table reads another.

Here belong partition definitions and mappings only.
"""

import dagster as dg

SOURCES = dg.DynamicPartitionsDefinition(name="source")
"""One partition a dataset; the landing sensor and the command line add to it."""


def same_source(key: str) -> dg.AssetDep:
    """Depends on the same source's table (or on an unpartitioned one)."""
    return dg.AssetDep(key.split("/"))


def whole_pool(key: str, sources: list[str] | None = None) -> dg.AssetDep:
    """Depends on every source's table, or on those of the named sources alone."""
    mapping = dg.SpecificPartitionsPartitionMapping(sources) if sources else dg.AllPartitionMapping()
    return dg.AssetDep(key.split("/"), partition_mapping=mapping)
