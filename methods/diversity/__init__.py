"""Diversity (the survey's chapter 4): how varied is a row within itself, among its neighbours, and a set as a whole?

Here belong lexical and geometric indicators of a row, measures of a set, and selectors that spread out over the data.
Whether a row is good is `methods.quality`; what it does for a model is `methods.importance`.
"""
