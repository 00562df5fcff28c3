"""Importance (the survey's chapter 5): how hard is a row, and how much does training on it change a model?

Here belong readability and difficulty, losses, training dynamics and gradients. Whether a row is good is
`methods.quality`; how it differs from the rest is `methods.diversity`.
"""
