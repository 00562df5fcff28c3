"""From indicators to a subset: combining scores, gating rows, and the plain ways to choose.

Here belongs what works on any score (aggregation, thresholds, percentiles, top-k, draws, quotas). Selectors that
look at vectors stand in ``diversity``.
"""
