"""The Dagster assets, one module a stage: raw, filtered, evidence, embedded, clustered, scored, selected, evaluated.

Beside the stages stand what they share: `partitions`, `automation`, `checks` and `expectations`, `metadata`, `step`
and `incremental`.
"""
