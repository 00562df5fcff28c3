"""What a judge answered, kept the moment it arrives: SQLite, one line an answer and one line a call.

Here belongs storing, and who may buy what while several runs are at it. Whom to ask, and how, stands in `judge`; what
an answer means is `methods.judging`, and is never stored: a better reader reads the same answers anew.

- An answer and the end of its call are one transaction, so a killed process has lost no answer that had arrived.
- A call is written down before it goes out: what was under way at a kill is known, and counted (`Bill.unanswered`).
- A cell is claimed by the run that is about to buy it; another run waits for that answer. The claims of a run that is
  no longer alive are nobody's.
"""

import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from methods.judging.kinds import PENDING, Answer

BEAT_S = 5.0
"""A run says this often that it is alive ..."""
DEAD_AFTER_S = 60.0
"""... and is taken for dead when it has not for so long (at once where its process is seen to be gone)."""
ANSWERED, DECLINED = "answered", "declined"
"""Outcomes of calls that settle a cell: an answer, and a provider that will not take the text (its filter)."""
DOUBTFUL = ("timeout", "connection", "malformed")
"""Outcomes that leave open whether the provider charges for the call: it may have answered, but nothing arrived."""
BATCH = "batch:"
"""How the name of a holder begins that is no run but a batch of the provider: nobody waits for it."""
_WAIT_S = 60.0
"""For a writer in another process."""
_MANY = 500
"""Keys in one query."""
_RECENT = 2000
"""Answers that a guess of cost goes by."""
_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
  key TEXT PRIMARY KEY, status TEXT NOT NULL, text TEXT NOT NULL, logprobs TEXT NOT NULL,
  prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, guessed REAL NOT NULL, seconds REAL NOT NULL,
  question TEXT NOT NULL, model TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS answers_to ON answers (model, question, at);
CREATE TABLE IF NOT EXISTS calls (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL, run TEXT NOT NULL, account TEXT NOT NULL, sent REAL NOT NULL, ended REAL,
  outcome TEXT, prompt_tokens INTEGER NOT NULL DEFAULT 0, completion_tokens INTEGER NOT NULL DEFAULT 0, cost REAL,
  at_most REAL);
CREATE INDEX IF NOT EXISTS calls_of ON calls (key);
CREATE TABLE IF NOT EXISTS runs (run TEXT PRIMARY KEY, pid INTEGER NOT NULL, host TEXT NOT NULL, beat REAL NOT NULL);
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, run TEXT NOT NULL) WITHOUT ROWID;
"""
_OPEN = f"(outcome IS NULL OR outcome IN {DOUBTFUL})"


@dataclass(frozen=True)
class Bill:
    """What was asked for and paid."""

    calls: int
    answered: int
    """Calls that brought an answer, good or bad: what a provider charges for."""
    failed: int
    """Calls that ended in an error: put off, declined, timed out, cut off."""
    unanswered: int
    """Calls that are under way, or were when their run was killed: those may have been charged, and are made again."""
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    """In dollars, by the tokens that the provider counted (an answer without a count is taken at the most that it can
    have cost); None where an answer has no price."""
    in_doubt: float
    """What calls that were cut off, timed out or killed may have cost on top of it, at the most."""


class Used(NamedTuple):
    """What one answer took."""

    key: str
    guessed: float
    """Prompt tokens by the length of its texts alone."""
    prompt_tokens: int
    completion_tokens: int
    seconds: float


class Answers:
    """The answers of a home, opened once by whoever asks; it is not for several threads at once.

    ``account``: whose calls a judge's limits count together (a name that several openings share, such as the id of a
    run of several steps); by itself each opening is an account of its own.
    """

    def __init__(self, path: Path, account: str = "") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._log = Path(f"{path}-wal")
        self.run = uuid4().hex
        self.account = account or self.run
        self._db = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        _patiently(self._db, "PRAGMA journal_mode = WAL")
        # A killed process loses nothing so; against a loss of power there is `flush`, once a second.
        self._db.execute("PRAGMA synchronous = NORMAL")
        with self._write():
            for statement in _TABLES.split(";"):
                self._db.execute(statement)

    def close(self) -> None:
        """Give back what this run still claims."""
        with self._write():
            self._db.execute("DELETE FROM claims WHERE run = ?", (self.run,))
            self._db.execute("DELETE FROM runs WHERE run = ?", (self.run,))
        self._db.close()

    def __enter__(self) -> "Answers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def flush(self) -> None:
        """Wait until what was written lies on the disk itself."""
        try:
            handle = os.open(self._log, os.O_RDONLY)
        except FileNotFoundError:
            return  # all of it is in the database already
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    # ---- reading -----------------------------------------------------------------------------------------------

    def known(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The answers that are there, as they came, by key."""
        found: dict[str, Answer] = {}
        columns = "key, status, text, logprobs, prompt_tokens, completion_tokens"
        for line in self._of(f"SELECT {columns} FROM answers WHERE key IN", keys):
            found[line[0]] = Answer(line[1], line[2], json.loads(line[3]), line[4], line[5])
        return found

    def times_bought(self, keys: Iterable[str]) -> dict[str, int]:
        """How often each cell was answered or declined, whatever the answer was worth."""
        counted = f"SELECT key, COUNT(*) FROM calls WHERE outcome IN {(ANSWERED, DECLINED)} AND key IN"
        return dict(self._of(counted, keys, "GROUP BY key"))

    def usage(self, model: str, question: str) -> list[Used]:
        """What the latest answers of a model to a question took, as far as the provider counted it."""
        query = (
            "SELECT key, guessed, prompt_tokens, completion_tokens, seconds FROM answers "
            "WHERE model = ? AND question = ? AND prompt_tokens > 0 ORDER BY at DESC LIMIT ?"
        )
        return [Used(*line) for line in self._db.execute(query, (model, question, _RECENT))]

    def bill(self, account: str | None = None) -> Bill:
        """All calls, or those of one account."""
        where, given = ("WHERE account = ?", (account,)) if account else ("", ())
        line = self._db.execute(
            f"SELECT COUNT(*), SUM(outcome = '{ANSWERED}'), SUM(outcome IS NOT NULL AND outcome != '{ANSWERED}'), "
            "SUM(outcome IS NULL), SUM(prompt_tokens), SUM(completion_tokens), SUM(cost), "
            f"SUM(outcome = '{ANSWERED}' AND cost IS NULL), SUM(CASE WHEN {_OPEN} THEN at_most END) "
            f"FROM calls {where}",
            given,
        ).fetchone()
        calls, answered, failed, unanswered, read, written = (int(value or 0) for value in line[:6])
        cost = None if line[7] else float(line[6] or 0.0)
        return Bill(calls, answered, failed, unanswered, read, written, cost, float(line[8] or 0.0))

    def committed(self) -> tuple[int, float]:
        """Calls of this account so far, and what they cost or may have cost."""
        bill = self.bill(self.account)
        return bill.calls, (bill.cost or 0.0) + bill.in_doubt

    # ---- buying ------------------------------------------------------------------------------------------------

    def alive(self) -> None:
        """Say that this run is alive; its claims hold for as long as it says so."""
        here = (self.run, os.getpid(), socket.gethostname(), time.time())
        with self._write():
            self._db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)", here)

    def claim(self, key: str, since: float) -> "bool | Answer":
        """True: the cell is this run's to buy. False: another run that is alive is about to buy it. Or the answer:
        where another run has stored one after ``since``, and ``pending`` where the cell lies in a batch."""
        with self._write():
            line = self._db.execute("SELECT run FROM claims WHERE key = ?", (key,)).fetchone()
            if line and line[0] != self.run and self._is_alive(line[0]):
                return Answer(PENDING) if line[0].startswith(BATCH) else False
            if self._db.execute("SELECT 1 FROM answers WHERE key = ? AND at >= ?", (key, since)).fetchone():
                return self.known([key])[key]
            self._db.execute("INSERT OR REPLACE INTO claims VALUES (?, ?)", (key, self.run))
            return True

    def release(self, key: str) -> None:
        """The cell is anybody's again."""
        with self._write():
            self._release(key)

    def sent(self, key: str, at_most: float = 0.0) -> int:
        """A call goes out that may cost so much; its number."""
        line = (key, self.run, self.account, time.time(), at_most)
        with self._write():
            made = self._db.execute("INSERT INTO calls (key, run, account, sent, at_most) VALUES (?, ?, ?, ?, ?)", line)
        return int(made.lastrowid or 0)

    def failed(self, call: int, outcome: str) -> None:
        """A call ended without an answer; ``outcome`` is a word such as ``timeout`` or ``http_500``."""
        with self._write():
            self._db.execute("UPDATE calls SET ended = ?, outcome = ? WHERE id = ?", (time.time(), outcome, call))

    def arrived(
        self,
        call: int,
        key: str,
        answer: Answer,
        question: str,
        model: str,
        cost: float | None = None,
        guessed: float = 0.0,
        outcome: str = ANSWERED,
    ) -> None:
        """An answer is here: kept, its call ended, and the cell free again, all at once. Said twice it is kept once.

        ``guessed``: the prompt's tokens by the length of its texts; ``outcome``: ``answered`` or ``declined``.
        """
        now, used = time.time(), (answer.prompt_tokens, answer.completion_tokens)
        said = (key, answer.status, answer.text, json.dumps(dict(answer.logprobs), sort_keys=True), *used, guessed)
        with self._write():
            sent = self._db.execute("SELECT sent FROM calls WHERE id = ?", (call,)).fetchone()
            line = (*said, now - sent[0], question, model, now)
            self._db.execute(f"INSERT OR REPLACE INTO answers VALUES ({_marks(line)})", line)
            self._db.execute(
                "UPDATE calls SET ended = ?, outcome = ?, prompt_tokens = ?, completion_tokens = ?, cost = ? "
                "WHERE id = ?",
                (now, outcome, *used, cost, call),
            )
            self._release(key)

    def _release(self, key: str) -> None:
        self._db.execute("DELETE FROM claims WHERE key = ? AND run = ?", (key, self.run))

    def _is_alive(self, run: str) -> bool:
        line = self._db.execute("SELECT pid, host, beat FROM runs WHERE run = ?", (run,)).fetchone()
        if line is None:
            return False
        pid, host, beat = line
        if host == socket.gethostname() and not _process_lives(pid):
            return False
        return time.time() - beat < DEAD_AFTER_S

    def _of(self, query: str, keys: Iterable[str], end: str = "") -> Iterator[Any]:
        """The lines that belong to some keys, many keys at a time."""
        every = list(keys)
        for start in range(0, len(every), _MANY):
            part = every[start : start + _MANY]
            yield from self._db.execute(f"{query} ({_marks(part)}) {end}", part)

    @contextmanager
    def _write(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _patiently(db: sqlite3.Connection, statement: str) -> None:
    """Also where SQLite does not wait by itself: turning a database to WAL while another process does the same."""
    until = time.monotonic() + _WAIT_S
    while True:
        try:
            db.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(0.02)


def _process_lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))
