"""Compiled: how far an independent cascade spreads in a directed graph, and which starts spread it farthest.

Here belong the drawing of live edges, the counting of what they reach, and the greedy choice of starts. What the nodes
stand for does not belong here. Importing this module imports the compiler; the compiled code is kept beside it.

In an independent cascade a node that becomes active makes each inactive successor active once, with the edge's
probability. That is the same as tossing every edge beforehand and calling active what the starts reach over live edges.
Here a toss is a hash of the seed, the sample and the edge, so that it is the same on every machine and in any order.
Gains are whole numbers (nodes reached, summed over the samples): equal gains are seen to be equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace

import numba
import numpy as np

ROOM = 2**27
"""Nodes that the reverse-reachable sets may hold together (512 MiB, and as much again for their index)."""


@dataclass(frozen=True)
class Graph:
    """Edges by the node they leave: those of node i stand from ``starts[i]`` to ``starts[i + 1]``."""

    starts: np.ndarray
    """(n + 1,) int64."""
    ends: np.ndarray
    """int32: the node that an edge goes to."""
    weights: np.ndarray
    """float64: the probability that an edge passes the activation on."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def reversed(self) -> Graph:
        """The same edges by the node they go to."""
        order = np.argsort(self.ends, kind="stable")
        leaves = np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.starts))
        starts = np.zeros(len(self) + 1, dtype=np.int64)
        np.cumsum(np.bincount(self.ends, minlength=len(self)), out=starts[1:])
        return Graph(starts, leaves[order], self.weights[order])


@dataclass(frozen=True)
class Starts:
    """The chosen starts in order, and what each adds to the expected number of active nodes."""

    order: np.ndarray
    gain: np.ndarray
    drawn: int
    """Live-edge samples, or reverse-reachable sets."""


@numba.njit(cache=True, nogil=True)
def _mixed(state: np.uint64) -> np.uint64:
    """Splitmix64: the bits of a counter, well mixed."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@numba.njit(cache=True, nogil=True)
def _uniform(stream: np.uint64, place: int) -> float:
    """The number from [0, 1) at a place of a stream."""
    bits = _mixed(stream + np.uint64(place + 1) * np.uint64(0x9E3779B97F4A7C15))
    return np.float64(bits >> np.uint64(11)) * 2.0**-53


@numba.njit(cache=True, nogil=True)
def _stream(seed: int, number: int) -> np.uint64:
    return _mixed(_mixed(np.uint64(seed)) + np.uint64(number + 1) * np.uint64(0xD1B54A32D192ED03))


@numba.njit(cache=True, nogil=True)
def _live_edges(starts: np.ndarray, ends: np.ndarray, weights: np.ndarray, samples: int, seed: int) -> tuple:
    """The live edges of each sample: where a sample begins, where in it a node's edges begin, and their ends."""
    n = len(starts) - 1
    base = np.zeros(samples + 1, dtype=np.int64)
    for sample in range(samples):
        stream, count = _stream(seed, sample), 0
        for edge in range(len(ends)):
            if _uniform(stream, edge) < weights[edge]:
                count += 1
        base[sample + 1] = base[sample] + count
    live = np.empty(base[samples], dtype=np.int32)
    first = np.empty((samples, n + 1), dtype=np.int32)
    for sample in range(samples):
        stream, at = _stream(seed, sample), base[sample]
        for node in range(n):
            first[sample, node] = at - base[sample]
            for edge in range(starts[node], starts[node + 1]):
                if _uniform(stream, edge) < weights[edge]:
                    live[at] = ends[edge]
                    at += 1
        first[sample, n] = at - base[sample]
    return base, first, live


@numba.njit(cache=True, nogil=True)
def _walk(
    node: int, first: np.ndarray, live: np.ndarray, reached: np.ndarray, mark: np.ndarray, stamp: int, queue: np.ndarray
) -> int:
    """How many nodes ``node`` reaches that nobody reached before; they stand at the beginning of ``queue``."""
    if reached[node]:
        return 0
    queue[0], count, done = node, 1, 0
    mark[node] = stamp
    while done < count:
        here = queue[done]
        done += 1
        for at in range(first[here], first[here + 1]):
            after = live[at]
            if mark[after] != stamp and not reached[after]:
                mark[after] = stamp
                queue[count] = after
                count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _gains(
    nodes: np.ndarray, base: np.ndarray, first: np.ndarray, live: np.ndarray, reached: np.ndarray, take: bool
) -> np.ndarray:
    """For each node, the nodes that it would newly reach, summed over the samples; ``take`` marks them as reached."""
    samples, n = reached.shape
    found = np.zeros(len(nodes), dtype=np.int64)
    mark, queue = np.zeros(n, dtype=np.int64), np.empty(n, dtype=np.int32)
    stamp = 0
    for sample in range(samples):
        some = live[base[sample] : base[sample + 1]]
        for i in range(len(nodes)):
            stamp += 1
            count = _walk(nodes[i], first[sample], some, reached[sample], mark, stamp, queue)
            found[i] += count
            if take:
                for at in range(count):
                    reached[sample, queue[at]] = True
    return found


def widest(graph: Graph, budget: int, samples: int, seed: int) -> Starts:
    """Starts of the widest spread by lazy greedy choice (CELF) over live-edge samples that are drawn once.

    The mean spread over fixed samples is monotone and submodular: a gain computed earlier bounds the gain now, so only
    nodes with the largest bound are computed anew, and the choice is that of computing all. Equal gains go to the
    lowest node. Memory: for each sample, its live edges, n places and n marks (9 bytes a node where the weights of a
    node add up to 1).
    """
    n = len(graph)
    base, first, live = _live_edges(graph.starts, graph.ends, graph.weights, samples, seed)
    reached = np.zeros((samples, n), dtype=np.bool_)
    bounds = _gains(np.arange(n), base, first, live, reached, False)
    queue = [(-bound, node, 0) for node, bound in enumerate(bounds.tolist())]
    heapify(queue)
    order: list[int] = []
    gain: list[int] = []
    while len(order) < min(budget, n):
        bound, node, known_at = queue[0]
        if known_at == len(order):
            heappop(queue)
            _gains(np.array([node]), base, first, live, reached, True)
            order.append(node)
            gain.append(-bound)
        else:
            now = int(_gains(np.array([node]), base, first, live, reached, False)[0])
            heapreplace(queue, (-now, node, len(order)))
    return Starts(np.array(order, dtype=np.int64), np.array(gain, dtype=np.float64) / samples, samples)


@numba.njit(cache=True, nogil=True)
def _reverse_sets(
    starts: np.ndarray, ends: np.ndarray, weights: np.ndarray, wanted: int, seed: int, room: int
) -> tuple:
    """Sets of the nodes from which a node drawn by chance is reached; edges are given by the node they go to."""
    n = len(starts) - 1
    entries = np.empty(room, dtype=np.int32)
    offsets = np.zeros(wanted + 1, dtype=np.int64)
    mark, used = np.full(n, -1, dtype=np.int64), 0
    for number in range(wanted):
        stream = _stream(seed, number)
        root = int(_uniform(stream, 0) * n)
        begin, done, full = used, used, used >= room
        if not full:
            entries[used] = root
            used += 1
            mark[root] = number
        while done < used and not full:
            here = entries[done]
            done += 1
            for edge in range(starts[here], starts[here + 1]):
                before = ends[edge]
                if mark[before] != number and _uniform(stream, edge + 1) < weights[edge]:
                    if used == room:
                        full = True
                        break
                    mark[before] = number
                    entries[used] = before
                    used += 1
        if full:
            return entries[:begin], offsets[: number + 1]
        offsets[number + 1] = used
    return entries[:used], offsets


@numba.njit(cache=True, nogil=True)
def _sets_of_nodes(entries: np.ndarray, offsets: np.ndarray, n: int) -> tuple:
    """For each node, the sets that hold it."""
    places = np.zeros(n + 1, dtype=np.int64)
    for node in entries:
        places[node + 1] += 1
    for node in range(n):
        places[node + 1] += places[node]
    at = places[:-1].copy()
    sets = np.empty(len(entries), dtype=np.int32)
    for number in range(len(offsets) - 1):
        for place in range(offsets[number], offsets[number + 1]):
            node = entries[place]
            sets[at[node]] = number
            at[node] += 1
    return places, sets


@numba.njit(cache=True, nogil=True)
def _cover(
    node: int,
    places: np.ndarray,
    sets: np.ndarray,
    entries: np.ndarray,
    offsets: np.ndarray,
    covered: np.ndarray,
    left: np.ndarray,
) -> None:
    """Cover the sets that hold a node; ``left`` counts for every node the sets that are not covered."""
    for at in range(places[node], places[node + 1]):
        number = sets[at]
        if not covered[number]:
            covered[number] = True
            for place in range(offsets[number], offsets[number + 1]):
                left[entries[place]] -= 1


def widest_by_sets(graph: Graph, budget: int, sets: int, seed: int, room: int = ROOM) -> Starts:
    """As `widest`, for large graphs: the nodes that together stand in most reverse-reachable sets (RIS).

    A set holds the nodes that reach a node drawn by chance; n times the share of sets that a choice meets estimates its
    spread without bias. ``sets`` are drawn, fewer where they would hold more than ``room`` nodes together. Greedy
    maximum coverage, equal counts to the lowest node.
    """
    n = len(graph)
    back = graph.reversed()
    entries, offsets = _reverse_sets(back.starts, back.ends, back.weights, sets, seed, room)
    places, holds = _sets_of_nodes(entries, offsets, n)
    drawn = len(offsets) - 1
    left = np.diff(places)
    covered = np.zeros(drawn, dtype=np.bool_)
    queue = [(-count, node) for node, count in enumerate(left.tolist())]
    heapify(queue)
    order: list[int] = []
    gain: list[int] = []
    while len(order) < min(budget, n):
        bound, node = heappop(queue)
        now = int(left[node])
        if now < -bound:
            heappush(queue, (-now, node))
            continue
        _cover(node, places, holds, entries, offsets, covered, left)
        order.append(node)
        gain.append(now)
    return Starts(np.array(order, dtype=np.int64), np.array(gain, dtype=np.float64) * n / max(drawn, 1), drawn)
