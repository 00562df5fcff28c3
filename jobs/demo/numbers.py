"""Computed questions about numbers: prices, units, dates, times, primes, percentages, shapes.

Each family is a function that takes a `random.Random` and returns a prompt and an answer; the answer is computed, so
it is right by construction. Several wordings a family keep the rows from being near-duplicates of each other.
Questions about words, lists and code stand in `words`; hand-written rows stand in `corpus/seeds`.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
import statistics
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from random import Random

Pair = tuple[str, str]
Family = Callable[[Random], Pair]

NAMES = (
    "Amara",
    "Bo",
    "Chiara",
    "Dmitri",
    "Elif",
    "Farah",
    "Goran",
    "Hana",
    "Ivo",
    "Jun",
    "Kofi",
    "Leila",
    "Mateo",
    "Noor",
)
GOODS = (
    "tulip bulbs",
    "notebooks",
    "jars of honey",
    "ceramic mugs",
    "bus tickets",
    "paint brushes",
    "light bulbs",
    "postcards",
)
TOWNS = ("Aarhus", "Brno", "Cork", "Delft", "Elche", "Ferrara", "Ghent", "Izmir", "Kazan", "Lucca", "Tromsø", "Ulm")


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def _day(date: dt.date) -> str:
    return f"{date.day} {date:%B %Y}"


def _clock(minutes: int) -> str:
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def shopping(rng: Random) -> Pair:
    """Multiply and add in a small story."""
    name, goods = rng.choice(NAMES), rng.sample(GOODS, 2)
    a, b = rng.randint(3, 12), rng.randint(2, 9)
    p, q = rng.randint(2, 15), rng.randint(3, 18)
    total = a * p + b * q
    paid = (total // 50 + 1) * 50
    return rng.choice(
        (
            (
                f"{name} buys {a} {goods[0]} at {p} euros each and {b} {goods[1]} at {q} euros each. "
                f"How much change is left from {paid} euros?",
                f"The {goods[0]} cost {a} · {p} = {a * p} euros and the {goods[1]} cost {b} · {q} = {b * q} euros, "
                f"together {total}. From {paid} euros {paid - total} are left.",
            ),
            (
                f"An order lists {a} boxes of {goods[0]} ({p} € a box) and {b} boxes of {goods[1]} ({q} € a box). "
                "Work out the total and say which line is dearer.",
                f"Line one comes to {a * p} €, line two to {b * q} €, so the order is worth {total} €. "
                + (
                    "Both lines cost the same."
                    if a * p == b * q
                    else f"The dearer line is the one with {goods[0] if a * p > b * q else goods[1]}."
                ),
            ),
            (
                f"For the school fair {name} packed {a} crates with {p * 10} {goods[0]} in each, and {b * 3} of them "
                "broke on the way. How many arrived whole?",
                f"Before the journey there were {a} times {p * 10}, that is {a * p * 10}. Take away the {b * 3} broken "
                f"ones and {a * p * 10 - b * 3} {goods[0]} arrive whole.",
            ),
        )
    )


def lengths(rng: Random) -> Pair:
    """Convert lengths; one mile is 1.609344 km and one inch 2.54 cm by definition."""
    n, town = rng.randint(3, 95), rng.choice(TOWNS)
    return rng.choice(
        (
            (
                f"A signpost outside {town} says {n} miles. What is that in kilometres, to one decimal?",
                f"One mile is 1.609344 kilometres, so {n} miles are {n * 1.609344:.1f} kilometres.",
            ),
            (
                f"Convert a screen size of {n} inches into centimetres.",
                f"Multiply by 2.54, because an inch is defined as 2.54 centimetres: {n} · 2.54 = {n * 2.54:.2f} cm.",
            ),
            (
                f"How many feet and inches are {n + 140} centimetres, rounded to the nearest inch?",
                "Divide by 2.54 to get "
                f"{round((n + 140) / 2.54)} inches; with twelve inches to the foot that makes "
                f"{round((n + 140) / 2.54) // 12} feet and {round((n + 140) / 2.54) % 12} inches.",
            ),
        )
    )


def temperatures(rng: Random) -> Pair:
    """Celsius and Fahrenheit in both directions, and kelvin."""
    c, town = rng.randint(-25, 45), rng.choice(TOWNS)
    f = rng.randint(-4, 110)
    return rng.choice(
        (
            (
                f"The forecast for {town} is {c} degrees Celsius. Tell an American visitor what that means.",
                f"Take nine fifths of {c} and add 32: that is {c * 9 / 5 + 32:.1f} degrees Fahrenheit. "
                + ("Pack a warm coat." if c < 8 else "A light jacket will do." if c < 20 else "Summer clothes it is."),
            ),
            (
                f"Write {f} °F in °C and show the steps.",
                f"First subtract 32, which gives {f - 32}. Then multiply by 5/9 and round: {(f - 32) * 5 / 9:.1f} °C.",
            ),
            (
                f"A lab freezer stands at {c - 50} °C. Which temperature is that on the Kelvin scale?",
                f"Kelvin starts at absolute zero, 273.15 degrees below the Celsius zero, so the freezer is at "
                f"{c - 50 + 273.15:.2f} K.",
            ),
        )
    )


def dates(rng: Random) -> Pair:
    """Days between two dates and the day of the week, from the proleptic Gregorian calendar."""
    start = dt.date(rng.randint(1950, 2030), 1, 1) + dt.timedelta(days=rng.randint(0, 360))
    gap = rng.randint(20, 300)
    end = start + dt.timedelta(days=gap)
    leap = start.year % 4 == 0 and (start.year % 100 != 0 or start.year % 400 == 0)
    return rng.choice(
        (
            (
                f"On which weekday did or will {_day(start)} fall?",
                f"In the Gregorian calendar {_day(start)} is a {start:%A}.",
            ),
            (
                f"A library loan begins on {_day(start)} and runs for {gap} days. When is the book due?",
                f"Counting {gap} days on from {_day(start)} leads to {start + dt.timedelta(days=gap):%A}, {_day(end)}.",
            ),
            (
                f"How many days lie between {_day(start)} and {_day(end)}, and how many full weeks is that?",
                f"The second date comes {gap} days after the first. Divided by seven that is {gap // 7} full weeks"
                + (f" with {gap % 7} left over." if gap % 7 else " exactly."),
            ),
            (
                f"Was or is {start.year} a leap year? Give the rule too.",
                f"{'Yes' if leap else 'No'}. A year is a leap year if 4 divides it, except full centuries unless 400 "
                f"divides them; {start.year} leaves a remainder of {start.year % 4} when divided by 4"
                + (" and is no such century." if leap else "."),
            ),
        )
    )


def clock(rng: Random) -> Pair:
    """Add minutes to a time of day; find the time between two times."""
    start, length = rng.randint(300, 1080), rng.randint(35, 340)
    a, b = rng.sample(TOWNS, 2)
    hours, minutes = divmod(length, 60)
    return rng.choice(
        (
            (
                f"The ferry from {a} to {b} departs at {_clock(start)} and takes {length} minutes. When does it dock?",
                f"That is {hours} h {minutes} min on the way. After {_clock(start)} it is {_clock(start + length)}.",
            ),
            (
                f"My shift runs from {_clock(start)} to {_clock(start + length)} without a break. How long do I work?",
                f"You work {_count(hours, 'hour')} and {_count(minutes, 'minute')}, or {length} minutes in total.",
            ),
            (
                f"A roast needs {length} minutes in the oven and guests in {a} eat at {_clock(start + 400)}. "
                "When must it go in if it also rests for a quarter of an hour?",
                f"Count back fifteen minutes for the rest and {length} for the oven, {length + 15} in all. "
                f"The roast has to go in at {_clock(start + 400 - length - 15)}.",
            ),
        )
    )


def number_bases(rng: Random) -> Pair:
    """Binary, hexadecimal and Roman numerals."""
    n = rng.randint(17, 899)
    values = (900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1)
    marks = ("CM", "D", "CD", "C", "XC", "L", "XL", "X", "IX", "V", "IV", "I")
    roman, rest = "", n
    for value, mark in zip(values, marks, strict=True):
        roman += mark * (rest // value)
        rest %= value
    powers = [str(2**i) for i in range(n.bit_length() - 1, -1, -1) if n >> i & 1]
    return rng.choice(
        (
            (
                f"How is the decimal number {n} written in binary?",
                f"{n} is the sum {' + '.join(powers)}. Writing a 1 for each power of two that occurs gives {n:b}.",
            ),
            (
                f"Give {n} as a Roman numeral.",
                f"The Roman numeral is {roman}: largest marks come first, and a smaller one in front is subtracted.",
            ),
            (
                f"What is 0x{n:X} in everyday notation?",
                f"The prefix 0x marks base sixteen. Read digit by digit, 0x{n:X} stands for {n}.",
            ),
        )
    )


def primes(rng: Random) -> Pair:
    """Factorisation, greatest common divisor and least common multiple."""
    n, a, b = rng.randint(60, 900), rng.randint(12, 120), rng.randint(12, 120)
    factors, rest, p = [], n, 2
    while rest > 1:
        while rest % p == 0:
            factors.append(p)
            rest //= p
        p += 1
    counts = Counter(factors)
    return rng.choice(
        (
            (
                f"Split {n} into prime factors.",
                f"{n} is prime, so there is nothing to split."
                if len(factors) == 1
                else f"{n} = {' · '.join(map(str, factors))}, with {len(counts)} different "
                f"prime{'s' if len(counts) > 1 else ''} among {len(factors)} factors.",
            ),
            (
                f"Two lighthouse lamps flash every {a} and every {b} seconds. They flash together now; "
                "after how many seconds do they do so again?",
                f"We need the least common multiple. Since gcd({a}, {b}) = {math.gcd(a, b)}, it is "
                f"{a} · {b} / {math.gcd(a, b)} = {math.lcm(a, b)} seconds.",
            ),
            (
                f"Reduce the fraction {a}/{b} as far as possible.",
                f"Both parts are divisible by {math.gcd(a, b)}, their greatest common divisor. "
                f"What remains is {Fraction(a, b)}."
                if math.gcd(a, b) > 1
                else f"{a} and {b} share no divisor above 1, so {a}/{b} is already in lowest terms.",
            ),
        )
    )


def percentages(rng: Random) -> Pair:
    """Discounts, shares and growth."""
    price, off = rng.randint(4, 60) * 5, rng.choice((5, 10, 15, 20, 25, 30, 40))
    part, town = rng.randint(11, 89), rng.choice(TOWNS)
    return rng.choice(
        (
            (
                f"A coat costs {price} euros and is reduced by {off} percent. What is the new price?",
                f"{off} percent of {price} is {price * off / 100:.2f}, so the coat now costs "
                f"{price * (100 - off) / 100:.2f} euros.",
            ),
            (
                f"In a survey in {town}, {part * 4} of 400 people cycle to work. Give the percentage and a fraction.",
                f"Dividing by 400 gives {part} percent, and the fraction in lowest terms is {Fraction(part, 100)}.",
            ),
            (
                f"The rent rose from {price * 4} to {price * 4 + price * off // 25} euros. How many percent is that?",
                f"The increase is {price * off // 25} euros. Measured against the old rent that is "
                f"{price * off // 25 / (price * 4) * 100:.1f} percent.",
            ),
        )
    )


def statistics_of(rng: Random) -> Pair:
    """Mean, median and range of a handful of readings."""
    xs = [rng.randint(1, 60) for _ in range(7)]
    shown = ", ".join(map(str, xs))
    town = rng.choice(TOWNS)
    return rng.choice(
        (
            (
                f"Rain gauge in {town}, millimetres per day for a week: {shown}. Report mean and median.",
                f"The seven readings add up to {sum(xs)}, so the mean is {sum(xs) / 7:.2f} mm. In order they are "
                f"{', '.join(map(str, sorted(xs)))}, and the middle one, the median, is {statistics.median(xs)} mm.",
            ),
            (
                f"Find the range and the largest jump between neighbours in {shown}.",
                f"The range is {max(xs)} - {min(xs)} = {max(xs) - min(xs)}. The largest jump between neighbours is "
                f"{max(abs(x - y) for x, y in itertools.pairwise(xs))}.",
            ),
        )
    )


def geometry(rng: Random) -> Pair:
    """Areas, volumes and the theorem of Pythagoras."""
    a, b, c = rng.randint(2, 25), rng.randint(2, 25), rng.randint(2, 12)
    name = rng.choice(NAMES)
    return rng.choice(
        (
            (
                f"{name} tiles a floor of {a} by {b} metres with square tiles of half a metre. How many does it take?",
                f"Along one side lie {2 * a} tiles and along the other {2 * b}, so {4 * a * b} tiles cover the floor.",
            ),
            (
                f"How much water fits into an aquarium that measures {a * 10} × {b * 10} × {c * 10} cm inside?",
                f"In decimetres the sides are {a}, {b} and {c}, and a cubic decimetre is a litre. "
                f"The aquarium takes {a * b * c} litres.",
            ),
            (
                f"A ladder stands {c} m from a wall and reaches {a + c} m up. How long is it, to the centimetre?",
                f"Ladder, wall and ground form a right triangle, so the length is the square root of {c}² + {a + c}² = "
                f"{c * c + (a + c) ** 2}, which is {math.hypot(c, a + c):.2f} m.",
            ),
        )
    )


FAMILIES: tuple[Family, ...] = (
    shopping,
    lengths,
    temperatures,
    dates,
    clock,
    number_bases,
    primes,
    percentages,
    statistics_of,
    geometry,
)
