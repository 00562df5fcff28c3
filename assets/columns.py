"""What the columns of the tables mean, in a phrase each, for the pages of the UI.

Here belong the phrases alone. A column means the same in every table that has it; what an indicator's number means
stands in the catalogue.
"""

from collections.abc import Sequence

from methods import text
from methods.quality import readability

MEANING = {
    # rows
    "row_id": "hash of the content: the same row in two sources has the same id",
    "source": "the dataset that the row came from",
    "position": "record number in the source's file, from 0",
    "part": "above 0 only where one record gives several rows",
    "line": "line of the file where the record starts, from 1",
    "layout": "the layout that the record was read as",
    "messages": "the conversation: role and content of each message",
    "instruction": "the first thing that the user says",
    "input": "the material that the instruction speaks of",
    "response": "all that the assistant says",
    "turns": "how many times the assistant speaks",
    "record": "the original record, as JSON",
    # filters
    "language": "language of the response, ISO 639-1; und: not determined",
    "flags": "what a filter noticed without dropping the row",
    "rule": "the rule that dropped the row",
    "detail": "in words, with the numbers behind it",
    "file": "the file that was read",
    "excerpt": "the beginning of what could not be read",
    "signature": "MinHash of the row's word n-grams",
    "copies": "how often the same content stands in the pool",
    "a": "the earlier row of the pair",
    "b": "the later row of the pair",
    "kind": "the same text, or nearly the same",
    # evidence and scores
    "value": "the number; empty where it could not be computed",
    "status": "ok, or why there is no value",
    "n_tokens": "tokens that the model read",
    "truncated": "whether the model saw only the beginning",
    "n_prompt_tokens": "tokens of the prompt",
    "n_response_tokens": "tokens of the response that were scored",
    "logp_conditional": "ln p of each response token, given the prompt",
    "logp": "ln p of each response token behind the instruction, and behind each perturbed copy of it",
    "logp_yes": "ln p of yes as the answer to each question",
    "logp_no": "ln p of no as the answer to each question",
    "logp_alone": "ln p of each response token, without the prompt",
    "entropy": "entropy of the prediction at each response token, in nats",
    "sum_p2": "Σp² of the prediction at each response token",
    "top1": "the largest probability at each response token",
    "top2": "the second largest probability at each response token",
    "hit": "whether the likeliest token is the one that stands there",
    "ids": "the nearest other rows, nearest first",
    "similarity": "how alike: cosine of embeddings, or Jaccard index of word n-grams for pairs",
    # clusters
    "cluster": "number of the cluster, from 0; -1: no embedding",
    "size": "rows in the cluster",
    "mean_similarity": "mean cosine of its rows to the centroid",
    "top_terms": "terms that tell the cluster from the rest",
    "exemplars": "the rows nearest to the centroid",
    "centroid": "the middle of the cluster, of unit length",
    # subsets
    "rank": "the order in which rows were chosen, from 1",
    "score": "what the recipe made of its indicators; higher is better",
    "gain": "what the row added when it was taken; the selector says in which unit",
    "reason": "why, in words",
    "nearest": "the row most like it among those chosen before",
    # cards
    "measure": "a number for a whole set of rows",
    "axis": "quality, diversity or importance",
    "direction": "which end is better",
    "subset": "for the chosen rows",
    "random": "for as many rows drawn at random from the pool",
    "pool": "for all rows that there were to choose from",
    "encoder": "whose vectors the measure read",
    "n_used": "rows of the subset that the measure could use",
    "parameters": "parameters of the measure, its seed among them",
    "n_subset": "rows in the subset",
    "n_random": "rows in the random subset",
    "n_pool": "rows in the pool",
}
COUNTED = {
    "words": "hashes of the words, in order",
    "marks": "a card of 32 bits for each word, in order: length, part of speech, frequency, place",
    **text.COUNTED,
}


def described(name: str, origins: Sequence[str] = (), most: int = 3) -> str | None:
    """What a column means and which columns it comes from; None if there is nothing to say."""
    meaning = MEANING.get(name) or readability.MEANING.get(name) or _counted(name)
    named = ", ".join(origins[:most]) + (f" and {len(origins) - most} more" if len(origins) > most else "")
    return "; ".join(part for part in (meaning, f"from {named}" if named else "") if part) or None


def _counted(name: str) -> str:
    field, _, what = name.partition("_")
    return f"{field}: {COUNTED[what]}" if what in COUNTED else ""
