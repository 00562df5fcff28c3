"""Batches of a provider: cells handed in as a file, and their answers fetched hours later, at a lower price.

Here belongs handing in, finding again, and collecting. One request's form and one answer's reading are those of
`judge_calls`, their lines in a file `judge_files`; answers and calls are kept in `answers`, in whose database the
batches have two tables of their own.

- A cell in a batch is claimed by the batch, so no other run buys it.
- A batch is written down before it is handed in, under a name that goes with it to the provider. A process that is
  killed in between leaves a batch that is looked for there by that name: it is taken up if it is there, and its cells
  are free again if it is not. Nothing is paid twice.
- Collecting may be broken off and done again: an answer takes its own place each time.
"""

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from methods.judging.kinds import API_ERROR, Answer, Cell
from resources import judge_calls, prices
from resources.answers import ANSWERED, BATCH, Answers
from resources.judge import Judge
from resources.judge_calls import Endpoint, JudgeUnavailable
from resources.judge_files import chunks, read_line, request_line
from resources.prices import Price

MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000
"""In one batch: the largest that providers take."""
HANDING_IN, OPEN = "handing in", "open"
COLLECTED, NEVER, LOST = "collected", "never handed in", "lost"
"""What becomes of a batch, besides ``failed``, ``expired`` and ``cancelled``, which are the provider's words."""
ENDED = ("completed", "failed", "expired", "cancelled")
WINDOW_S = 25 * 3600.0
"""A provider answers within 24 hours; for so long a batch holds its cells whatever happens here."""
GRACE_S = 600.0
"""A batch that the provider does not list after so long was never handed in."""
_TABLES = """
CREATE TABLE IF NOT EXISTS batches (
  id TEXT PRIMARY KEY, remote TEXT, file TEXT, url TEXT NOT NULL, model TEXT NOT NULL, key_name TEXT NOT NULL,
  question TEXT NOT NULL, submitted REAL NOT NULL, state TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch_cells (
  batch TEXT NOT NULL, key TEXT NOT NULL, call INTEGER NOT NULL, choices TEXT NOT NULL,
  PRIMARY KEY (batch, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS batch_cells_of ON batch_cells (key);
"""
_COLUMNS = "id, remote, file, url, model, key_name, question, submitted, state"


@dataclass(frozen=True)
class Batch:
    """A batch as it is written down here."""

    id: str
    remote: str | None
    """The provider's name for it."""
    file: str | None
    """The provider's name for the file of its requests."""
    url: str
    model: str
    key_name: str
    question: str
    submitted: float
    state: str


@dataclass
class HandedIn:
    """What was handed in at once."""

    batches: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)


@dataclass
class Collected:
    """What a batch brought."""

    batch: str
    question: str
    state: str
    answers: int = 0
    """Lines that were taken in, good and bad."""
    failed: int = 0
    """Of these, cells without an answer: the provider says so, or says nothing of them."""
    freed: int = 0
    """Cells that the provider never came to: they cost nothing, and can be asked again."""
    unknown: int = 0
    """Lines about cells that are not in the batch."""
    twice: int = 0
    """Further lines about a cell that had one already."""


class Batches:
    """The batches of a home."""

    def __init__(self, path: Path, store: Answers) -> None:
        self._store = store
        self._lock = path.with_suffix(".batches.lock")
        self._db = sqlite3.connect(path, timeout=60.0, isolation_level=None)
        self._db.executescript(_TABLES)

    def close(self) -> None:
        """Let the database go."""
        self._db.close()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- reading -----------------------------------------------------------------------------------------------

    def under_way(self) -> list[Batch]:
        """Batches whose answers are not here yet, the oldest first."""
        query = f"SELECT {_COLUMNS} FROM batches WHERE state IN (?, ?) ORDER BY submitted, id"
        return [Batch(*line) for line in self._db.execute(query, (HANDING_IN, OPEN))]

    def holding(self, keys: Iterable[str]) -> dict[str, str]:
        """The batch that each of these cells lies in, of those that are under way."""
        wanted, found = list(keys), dict[str, str]()
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            query = (
                "SELECT c.key, c.batch FROM batch_cells c JOIN batches b ON b.id = c.batch WHERE b.state IN (?, ?) "
                f"AND c.key IN ({','.join('?' * len(part))})"
            )
            found.update(self._db.execute(query, (HANDING_IN, OPEN, *part)).fetchall())
        return found

    # ---- handing in --------------------------------------------------------------------------------------------

    def hand_in(
        self,
        judge: Judge,
        cells: Sequence[Cell],
        question: str,
        price: Price | None = None,
        most: tuple[int, int] = (MOST_REQUESTS, MOST_BYTES),
    ) -> HandedIn:
        """Hand in these cells, each once, as far as the judge's limits allow: the longest answers count.

        Cells that another run holds are left out. Raises `JudgeUnavailable` where the provider takes no batch; the
        batches before are kept.
        """
        if judge.max_budget is not None and price is None:
            raise JudgeUnavailable(
                f"a budget is set, but {judge.model!r} has no price: add it to prices.yaml in the home"
            )
        if not judge.url and judge.model.startswith(("fake", "local:")):
            raise JudgeUnavailable(f"{judge.model} is in this process and takes no batches: ask without batch")
        done = HandedIn()
        endpoint = Endpoint(judge.url, judge.model, judge.key_name, judge.timeout_s, judge.extra)
        openai = client(judge.url, judge.key_name, judge.timeout_s)
        with _alone(self._lock.with_suffix(".in")) as alone, openai:
            if not alone:
                raise JudgeUnavailable("another run is handing in a batch right now: try again when it is done")
            by_key = {cell.key(judge.identity()): cell for cell in cells}
            body = {key: request_line(key, cell, endpoint, judge.structured) for key, cell in by_key.items()}
            for part in chunks(body, *most, affordable(by_key, judge, self._store, price)):
                keys = self._claimed(part)
                if keys:
                    batch = self._written(judge, question, {key: by_key[key] for key in keys}, price)
                    self._handed_in(openai, batch, b"".join(body[key] for key in keys))
                    done.batches.append(batch)
                    done.keys |= set(keys)
        return done

    def _claimed(self, keys: Sequence[str]) -> list[str]:
        """Those of these cells that nobody else is about to buy."""
        self._store.alive()
        since = time.time()
        return [key for key in keys if self._store.claim(key, since) is True]

    def _written(self, judge: Judge, question: str, cells: Mapping[str, Cell], price: Price | None) -> str:
        """Write a batch and its calls down, and hand it the claims on its cells."""
        batch, now = uuid4().hex, time.time()
        calls = {key: self._store.sent(key, _at_most(cell, judge, price)) for key, cell in cells.items()}
        lines = [(batch, key, call, json.dumps(cells[key].choices)) for key, call in calls.items()]
        with self._write():
            given = (batch, None, None, judge.url, judge.model, judge.key_name, question, now, HANDING_IN)
            self._db.execute(f"INSERT INTO batches ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", given)
            self._db.executemany("INSERT INTO batch_cells VALUES (?, ?, ?, ?)", lines)
            self._db.executemany("UPDATE claims SET run = ? WHERE key = ?", [(_holder(batch), key) for key in calls])
            # The holder is no process: it lives as long as the provider may take, whoever dies here.
            self._db.execute("INSERT OR REPLACE INTO runs VALUES (?, 0, '', ?)", (_holder(batch), now + WINDOW_S))
        return batch

    def _handed_in(self, openai: Any, batch: str, body: bytes) -> None:
        import openai as library

        try:
            file = openai.files.create(file=(f"{batch}.jsonl", body), purpose="batch").id
            self._set(batch, file=file)
            # Not tried again by itself: a second try after a lost reply would be a second batch.
            made = openai.with_options(max_retries=0).batches.create(
                input_file_id=file,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={"sluice": batch},
            )
        except library.APIStatusError as error:
            if error.status_code < 500:
                self._close(batch, NEVER, _calls_of(self._db, batch).values(), f"http_{error.status_code}")
            raise JudgeUnavailable(f"the provider takes no batch (HTTP {error.status_code})") from None
        except library.APIError as error:
            raise JudgeUnavailable(
                f"no answer to a batch that was handed in ({type(error).__name__}): it is looked for later"
            ) from None
        self._set(batch, remote=made.id, state=OPEN)

    def _set(self, batch: str, **values: str) -> None:
        named = ", ".join(f"{name} = ?" for name in values)
        with self._write():
            self._db.execute(f"UPDATE batches SET {named} WHERE id = ?", (*values.values(), batch))

    # ---- finding again -----------------------------------------------------------------------------------------

    def find_again(self, openai: Any, batch: Batch, now: float | None = None) -> str:
        """What became of a batch whose handing in was broken off: its state from now on."""
        with _alone(self._lock.with_suffix(".in")) as alone:
            state = self._state(batch.id)
            if not alone or state != HANDING_IN:
                return state  # it is being handed in
            batch = self._get(batch.id)
            # Without a file there was no batch. With one there may be, known by the name that went with it.
            remote = _listed(openai, batch) if batch.file else None
            if remote:
                self._set(batch.id, remote=remote, state=OPEN)
                return OPEN
            if batch.file and (now or time.time()) - batch.submitted < GRACE_S:
                return HANDING_IN  # it may not be listed yet
            self._close(batch.id, NEVER, _calls_of(self._db, batch.id).values(), "never_handed_in")
            return NEVER

    # ---- collecting --------------------------------------------------------------------------------------------

    def collect(self, openai: Any, batch: Batch, price: Price | None = None) -> Collected | None:
        """Take in what a batch brought; None while it is not done, or while somebody else takes it in.

        What a provider never came to is free again; what it says nothing of although it is done has failed.
        """
        with _alone(self._lock.with_suffix(".out")) as alone:
            if not alone or self._state(batch.id) != OPEN or batch.remote is None:
                return None
            ended, texts = _fetched(openai, batch.remote)
            if ended is None:
                return None
            calls = _calls_of(self._db, batch.id)
            told = Collected(batch.id, batch.question, COLLECTED if ended == "completed" else ended)
            seen: set[str] = set()
            for line in (line for text in texts for line in text.splitlines() if line.strip()):
                self._take(line, batch, calls, seen, price, told)
            left = [key for key in calls if key not in seen]
            if ended == "completed":
                for key in left:
                    self._keep(key, Answer(API_ERROR), batch, calls, price, told)
            told.freed += 0 if ended == "completed" else len(left)
            free = [] if ended == "completed" else [calls[key] for key in left]
            self._close(batch.id, told.state, free, f"batch_{ended}")
            return told

    def _take(
        self,
        line: str,
        batch: Batch,
        calls: Mapping[str, int],
        seen: set[str],
        price: Price | None,
        told: Collected,
    ) -> None:
        key, answer, free = read_line(line, lambda key: _choices_of(self._db, batch.id, key))
        if key not in calls:
            told.unknown += 1
        elif key in seen:
            told.twice += 1
        elif free:
            seen.add(key)
            told.freed += 1
            self._store.failed(calls[key], "batch_expired")
        else:
            seen.add(key)
            self._keep(key, answer, batch, calls, price, told)

    def _keep(
        self, key: str, answer: Answer, batch: Batch, calls: Mapping[str, int], price: Price | None, told: Collected
    ) -> None:
        nothing = answer.status == API_ERROR  # which is not charged for
        cost = price.of(answer.prompt_tokens, answer.completion_tokens, batch=True) if price else None
        outcome = "batch_error" if nothing else ANSWERED
        self._store.arrived(calls[key], key, answer, batch.question, batch.model, cost, outcome=outcome)
        told.answers += 1
        told.failed += nothing

    def _close(self, batch: str, state: str, free: Iterable[int], outcome: str) -> None:
        """A batch is done with: its claims go, and calls that came to nothing are ended."""
        for call in free:
            self._store.failed(call, outcome)
        with self._write():
            self._db.execute("UPDATE batches SET state = ? WHERE id = ?", (state, batch))
            self._db.execute("DELETE FROM claims WHERE run = ?", (_holder(batch),))
            self._db.execute("DELETE FROM runs WHERE run = ?", (_holder(batch),))

    def _state(self, batch: str) -> str:
        return self._get(batch).state

    def _get(self, batch: str) -> Batch:
        return Batch(*self._db.execute(f"SELECT {_COLUMNS} FROM batches WHERE id = ?", (batch,)).fetchone())

    @contextmanager
    def _write(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


# ---- plain functions -----------------------------------------------------------------------------------------------


def client(url: str, key_name: str, timeout_s: float = 60.0) -> Any:
    """A client for the endpoint; the key is read here and kept nowhere else."""
    from openai import DefaultHttpxClient, OpenAI

    key = os.environ.get(key_name, "").strip()
    if not key and not judge_calls.is_local(url):
        raise JudgeUnavailable(f"the judge at {url or 'api.openai.com'} needs a key: set {key_name}")
    http = DefaultHttpxClient(trust_env=not judge_calls.is_local(url))
    return OpenAI(api_key=key or "none", timeout=timeout_s, http_client=http, base_url=url or None)


def affordable(cells: Mapping[str, Cell], judge: Judge, store: Answers, price: Price | None) -> list[str]:
    """The first of these cells that the judge's limits allow, if every answer is as long as it may be; what the
    store's account has spent counts."""
    spent = store.bill(store.account)
    cost, taken = (spent.cost or 0.0) + spent.in_doubt, list[str]()
    for key, cell in cells.items():
        cost += _at_most(cell, judge, price)
        if judge.max_calls is not None and spent.calls + len(taken) >= judge.max_calls:
            break
        if judge.max_budget is not None and cost > judge.max_budget:
            break
        taken.append(key)
    return taken


def _at_most(cell: Cell, judge: Judge, price: Price | None) -> float:
    lengths = [judge.extra.get(name) for name in judge_calls.LENGTHS]
    longest = max(length for length in (cell.max_tokens, *lengths) if isinstance(length, int))
    return price.of(prices.most_tokens(cell), longest, batch=True) if price else 0.0


def _holder(batch: str) -> str:
    """The name under which a batch claims its cells."""
    return f"{BATCH}{batch}"


def _calls_of(db: sqlite3.Connection, batch: str) -> dict[str, int]:
    return dict(db.execute("SELECT key, call FROM batch_cells WHERE batch = ?", (batch,)).fetchall())


def _choices_of(db: sqlite3.Connection, batch: str, key: str) -> tuple[str, ...]:
    line = db.execute("SELECT choices FROM batch_cells WHERE batch = ? AND key = ?", (batch, key)).fetchone()
    return tuple(json.loads(line[0])) if line else ()


def _listed(openai: Any, batch: Batch) -> str | None:
    """The provider's name of a batch that was handed in under ours."""
    for there in openai.batches.list(limit=100):
        if (there.metadata or {}).get("sluice") == batch.id or there.input_file_id == batch.file:
            return there.id
        if there.created_at < batch.submitted - 3600:
            return None  # the newest come first
    return None


def _fetched(openai: Any, remote: str) -> tuple[str | None, list[str]]:
    """How a batch ended (None: it has not) and the texts of its files of answers and errors."""
    import openai as library

    try:
        got = openai.batches.retrieve(remote)
    except library.NotFoundError:
        return LOST, []
    if got.status not in ENDED:
        return None, []
    files = [name for name in (got.output_file_id, got.error_file_id) if name]
    return got.status, [openai.files.content(name).text for name in files]


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether nobody else is inside; a killed process is out."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
