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
    "kind": "the same text, the same vector, or nearly the same",
    "cut": "whether the later row has more earlier twins than are listed",
    "target": "the file of the home's folder targets that the row stands in",
    "prompt": "what the user says first, with its material",
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
    "logp_prompt": "ln p of each token that is not response, but the first",
    "entropy": "entropy of the prediction at each response token, in nats",
    "sum_p2": "Σp² of the prediction at each response token",
    "top1": "the largest probability at each response token",
    "top2": "the second largest probability at each response token",
    "hit": "whether the likeliest token is the one that stands there",
    "stop": "which words of the response are stop-words",
    "to_instruction": "how far the instruction carries each word of the response, 0 to 1",
    "to_input": "how far the input carries each word of the response, 0 to 1",
    "to_prompt": "how far input and instruction carry each word of the response, 0 to 1",
    "of_instruction": "how far the response carries each word of the instruction, 0 to 1",
    "of_input": "how far the response carries each word of the input, 0 to 1",
    "of_prompt": "how far the response carries each word of input and instruction, 0 to 1",
    "naturalness": "how sure the model is that the response is natural",
    "coherence": "how sure the model is that the response fits what was asked",
    "understandability": "how sure the model is that the response can be understood",
    "engagingness": "how sure the model is that the response is engaging, summed over its sentences",
    "groundedness": "how sure the model is that the response agrees with the input",
    "consistency": "how sure the model is that the prompt bears the response out, mean of its sentences",
    "fluency": "how sure the model is that the response is fluent, mean of its sentences",
    "ids": "the nearest other rows, nearest first",
    "similarity": "how alike: cosine of embeddings, or Jaccard index of word n-grams for pairs",
    # clusters
    "cluster": "number of the cluster, from 0; -1: none (noise, or nothing to go by)",
    "size": "rows in the cluster",
    "strength": "how surely the row belongs to its cluster, as the clustering measures it",
    "mean_similarity": "mean cosine of its rows to the centroid",
    "top_terms": "terms that tell the cluster from the rest",
    "exemplars": "the rows nearest to the centroid",
    "centroid": "the middle of the cluster, of unit length",
    # what a model was asked
    "n_matched": "tokens that the model wrote by itself just as they stand in the response",
    "n_scored": "tokens that it wrote",
    "mean_nll": "mean -ln p of the response's tokens on each subnet of the model",
    "n_options": "answers to choose from, the row's own first",
    "probabilities": "how probable each answer is to the model, for each way of asking",
    # tasks
    "task": "a cluster or a source",
    "name": "what the task is about",
    "uncertainty": "mean change of the answer's probability when words of the instruction are missing",
    "probability": "mean probability of the answer's tokens",
    "task_rows": "rows of the task that have an uncertainty",
    "drawn": "of these, rows that the means are of",
    "region": "ambiguous, difficult or easy, against the pool's median task",
    # trained models and what is read off them
    "perplexity": "how perplexing the base model finds the prompt: exp of the mean -ln p of its tokens",
    "step": "which step of the training, or of the pipeline",
    "loss": "mean loss of the step's batch, before the step",
    "learning_rate": "how large a step the training made",
    "tokens": "tokens that were learned in the step",
    "answer": "what the model that was tuned on the seed answers",
    "reward": "what the reward model says of the answer; higher is better",
    "reward_generated": "what the reward model says of the generated answer",
    "feature": "which features of question and answer the weights are for",
    "weights": "what each of these features adds to the reward",
    # runs on subsets
    "run": "which draw, from 0",
    "key": "hash of the rows that were trained on",
    "rows": "the rows that were trained on",
    "n": "how many rows were trained on",
    "seed": "the seed of the training",
    "eval_loss": "mean loss of the trained model on rows that it never saw, in nats a token",
    "eval_losses": "the same for each of these rows",
    "eval_rows": "the rows that the loss was measured on",
    "train_loss": "mean loss of the last pass over the rows",
    "seconds": "how long training and measuring took",
    "model": "the model that was trained, as its fingerprint names it",
    "term": "an indicator of the rule, or its intercept",
    "weight": "how much it counts: a chosen row in training, 1 unless the selector says otherwise; a term of a rule, "
    "for one unit of it, in ln(loss)",
    "p_value": "how likely so large a weight is by chance",
    "intercept": "where the rule begins",
    "terms": "what each indicator of the rule adds to ln(loss)",
    "trial": "the order in which sizes were tried, from 0",
    "best": "whether this size has the least loss",
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
