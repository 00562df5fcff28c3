"""Quality (the survey's chapter 3): is a row well written, right and useful? One module for each section.

Here belong indicators that look at a row for its worth. How rows differ from each other is `methods.diversity`, what
a row does for a model is `methods.importance`, and choosing by any of them is `methods.selection`.
"""
