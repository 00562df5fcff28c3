"""Computed questions about words, lists, tables and code: sorting, counting, small Python snippets, ciphers.

The families here have the shape that `numbers` describes: a `random.Random` in, a prompt and its computed answer
out. Questions about numbers stand there; hand-written rows stand in `corpus/seeds`.
"""

from __future__ import annotations

from random import Random

from jobs.demo.numbers import NAMES, Family, Pair

# fmt: off
WORDS = (
    "anchor",
    "basil",
    "candle",
    "dolphin",
    "ember",
    "fiddle",
    "garnet",
    "hammock",
    "island",
    "juniper",
    "kettle",
    "lantern",
    "marble",
    "nutmeg",
    "orchard",
    "pebble",
    "quartz",
    "raven",
    "saddle",
    "thimble",
    "umbrella",
    "velvet",
    "walnut",
    "yarrow",
    "zither",
    "acorn",
    "beacon",
    "cobalt",
    "drizzle",
    "falcon",
)
# fmt: on
SENTENCES = (
    "Seven small boats left the harbour before sunrise.",
    "The old gardener never trusted the weather report.",
    "Every Tuesday the market smells of coffee and oranges.",
    "A broken violin hung silently above the fireplace.",
    "Nobody noticed the letter under the blue carpet.",
    "Her grandmother collected buttons from nine countries.",
    "Between the two mountains lies a narrow green valley.",
    "The night train to the coast was late again.",
)


def _list(items: list[str]) -> str:
    return ", ".join(items[:-1]) + " and " + items[-1]


def sorting(rng: Random) -> Pair:
    """Sort words by alphabet or by length, or numbers by size."""
    words = rng.sample(WORDS, 6)
    numbers = rng.sample(range(-60, 400), 7)
    by_length = sorted(words, key=lambda w: (len(w), w))
    return rng.choice(
        (
            (
                f"Put these words into alphabetical order: {', '.join(words)}.",
                f"In alphabetical order they are {_list(sorted(words))}.",
            ),
            (
                f"Arrange {_list(words)} from the shortest to the longest word; break ties by the alphabet.",
                "; ".join(f"{w} ({len(w)})" for w in by_length) + ". The number in brackets counts the letters.",
            ),
            (
                f"Sort in descending order: {', '.join(map(str, numbers))}.",
                f"From the largest to the smallest: {', '.join(map(str, sorted(numbers, reverse=True)))}.",
            ),
        )
    )


def letters(rng: Random) -> Pair:
    """Count and turn around the letters of a sentence."""
    sentence = rng.choice(SENTENCES)
    words = sentence.rstrip(".").split()
    letter = rng.choice("aeionrst")
    n = sentence.lower().count(letter)
    longest = max(words, key=len)
    return rng.choice(
        (
            (
                f'How often does the letter "{letter}" occur in this sentence, in upper or lower case? {sentence}',
                f'The letter "{letter}" occurs {n} time{"" if n == 1 else "s"}.',
            ),
            (f"Write the sentence backwards, word by word: {sentence}", " ".join(reversed(words)).capitalize() + "."),
            (
                f"Which word is the longest here, and how many words are there? {sentence}",
                f'There are {len(words)} words, and the longest (the first of them, if several tie) is "{longest}" '
                f"with {len(longest)} letters.",
            ),
        )
    )


def code_output(rng: Random) -> Pair:
    """Small Python snippets; the answer is what running them gives."""
    a, b, c = rng.randint(2, 9), rng.randint(12, 40), rng.randint(2, 5)
    word = rng.choice([word for word in WORDS if len(word) >= 7])
    squares = [n * n for n in range(a, b) if n % (c + 3) == 0]
    return rng.choice(
        (
            (
                f"What does this Python expression give?\n\n"
                f"```python\n[n * n for n in range({a}, {b}) if n % {c + 3} == 0]\n```",
                f"It collects the squares of the multiples of {c + 3} from {a} up to {b - 1}: `{squares}`.",
            ),
            (
                f"Predict the value of `'{word}'[::-1][{c % 3}:{c + 2}]` and explain it.",
                f"`[::-1]` turns the string around into '{word[::-1]}', and the second slice keeps places {c % 3} to "
                f"{c + 1}. The value is '{word[::-1][c % 3 : c + 2]}'.",
            ),
            (
                f"What will `divmod({b * 7}, {a + 2})` return in Python?",
                f"`divmod` returns quotient and remainder together, here `{divmod(b * 7, a + 2)}`, since "
                f"{a + 2} · {b * 7 // (a + 2)} + {b * 7 % (a + 2)} = {b * 7}.",
            ),
        )
    )


def data_formats(rng: Random) -> Pair:
    """Turn one notation into another."""
    names = rng.sample(NAMES, 3)
    ages = [rng.randint(19, 71) for _ in names]
    csv = "name,age\n" + "\n".join(f"{n},{a}" for n, a in zip(names, ages, strict=True))
    rows = [f'{{"name": "{n}", "age": {a}}}' for n, a in zip(names, ages, strict=True)]
    oldest = max(zip(ages, names, strict=True))[1]
    return rng.choice(
        (
            (f"Turn this CSV into a JSON array of objects.\n\n{csv}", "```json\n[" + ",\n ".join(rows) + "]\n```"),
            (
                f"From the table below, who is oldest, and what is the average age?\n\n{csv}",
                f"{oldest} is the oldest, or shares that place, and the three ages average {sum(ages) / 3:.1f} years.",
            ),
            (
                f"Make a Markdown table out of: {'; '.join(f'{n} is {a}' for n, a in zip(names, ages, strict=True))}.",
                "| Name | Age |\n| --- | ---: |\n"
                + "\n".join(f"| {n} | {a} |" for n, a in zip(names, ages, strict=True)),
            ),
        )
    )


def sets(rng: Random) -> Pair:
    """What two lists share and what sets them apart."""
    pool = rng.sample(WORDS, 8)
    left, right = pool[:5], rng.sample(pool[3:], 5)
    both = [w for w in left if w in right]
    only = [w for w in left if w not in right]
    a, b = rng.sample(NAMES, 2)
    return rng.choice(
        (
            (
                f"{a} likes the words {_list(left)}; {b} likes {_list(right)}. Which ones do both like?",
                f"Both of them like {_list(both) if len(both) > 1 else both[0]}.",
            ),
            (
                f"List A: {', '.join(left)}. List B: {', '.join(right)}. What stands only in A?",
                f"Only list A holds {_list(only) if len(only) > 1 else only[0] if only else 'nothing of its own'}.",
            ),
        )
    )


def caesar(rng: Random) -> Pair:
    """Shift letters along the alphabet, there and back."""
    words, k = rng.sample(WORDS, 3), rng.randint(1, 12)
    plain = " ".join(words)
    secret = "".join(chr((ord(c) - 97 + k) % 26 + 97) if c.isalpha() else c for c in plain)
    return rng.choice(
        (
            (
                f'Encrypt "{plain}" with a Caesar shift of {k}.',
                f'Moving every letter {k} place{"" if k == 1 else "s"} on, with a after z, gives "{secret}".',
            ),
            (
                f'This text was shifted by {k} letters: "{secret}". Decode it.',
                f'Going back {k} in the alphabet from each letter reads "{plain}".',
            ),
        )
    )


FAMILIES: tuple[Family, ...] = (sorting, letters, code_output, data_formats, sets, caesar)
