"""What a row must survive before anything expensive looks at it.

`rules` judges one row by itself (empty, refused, truncated, ...), `language` says which language a text is in,
`shingles` cuts texts into hashed words and n-grams, `duplicates` finds pairs that say the same, `resolution` decides
which of a pair stays, and `contamination` finds test items that leaked into a pool. Scores do not belong here: a filter
answers yes or no and says why.
"""
