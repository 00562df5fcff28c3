"""The human loop: drawing rows for people to read, showing them, and reading back what was said.

Here belong the audit sample and what it tells of a source (`sample`), what a rater sees (`tasks`, `rendering`,
`exports`), and the way back (`imports`). What labels mean together stands in `methods.quality.human`.
"""
