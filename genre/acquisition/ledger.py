"""Ledger of an acquisition: an SQLite table with one row per segment, updated as soon as its state changes."""

import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from genre.acquisition.faults import DENIALS, SERVED

#: States of a segment: still to be downloaded, downloaded, or never to be requested again.
STATUSES = ("waiting", "done", "gone")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS segments (
    clip_id TEXT PRIMARY KEY, ytid TEXT NOT NULL, start_s REAL NOT NULL, end_s REAL NOT NULL,
    genre TEXT NOT NULL, genre_order INTEGER NOT NULL, turn INTEGER NOT NULL, number INTEGER NOT NULL DEFAULT -1,
    split TEXT NOT NULL DEFAULT '', wanted INTEGER NOT NULL DEFAULT 1,
    status TEXT NOT NULL DEFAULT 'waiting', error TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0, next_try REAL NOT NULL DEFAULT 0, first_try REAL, last_try REAL,
    path TEXT NOT NULL DEFAULT '', format TEXT NOT NULL DEFAULT '', bytes INTEGER, duration_s REAL, padded_s REAL,
    peak REAL, rms REAL, sha256 TEXT NOT NULL DEFAULT '', tools TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS next_in_genre ON segments (wanted, status, genre, turn);
CREATE INDEX IF NOT EXISTS by_video ON segments (ytid);
CREATE INDEX IF NOT EXISTS by_number ON segments (number);
CREATE TABLE IF NOT EXISTS breaks (at REAL NOT NULL, until REAL NOT NULL, error TEXT NOT NULL, message TEXT NOT NULL);
"""

#: Columns that were added later, with their types: older ledgers lack them. ``doubted`` is 1 for a segment that was
#: asked for again after it was gone: a second answer on another day settles it.
_ADDED_COLUMNS = {"doubted": "INTEGER NOT NULL DEFAULT 0"}

_SELECTED_COLUMNS = ("clip_id", "ytid", "start_s", "end_s", "genre", "genre_order", "turn", "number", "split")


class Ledger:
    """State of every segment of one data set.

    Every change is committed before the call returns, because a process may be killed at any time. A ledger is for one
    thread at a time, in one process at a time.

    Parameters
    ----------
    path : Path
        The database; created if missing.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.executescript(_SCHEMA)
        present = {row["name"] for row in self._db.execute("PRAGMA table_info(segments)")}
        for name in _ADDED_COLUMNS.keys() - present:
            self._db.execute(f"ALTER TABLE segments ADD COLUMN {name} {_ADDED_COLUMNS[name]}")

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def enroll(self, chosen: pd.DataFrame) -> None:
        """Mark exactly these segments as wanted; the state of segments already in the ledger is kept.

        Parameters
        ----------
        chosen : pd.DataFrame
            As returned by `genre.acquisition.segments.select_segments`.
        """
        fields = ", ".join(_SELECTED_COLUMNS)
        marks = ", ".join("?" * len(_SELECTED_COLUMNS))
        updates = ", ".join(f"{c} = excluded.{c}" for c in _SELECTED_COLUMNS[4:])  # id, video and times never change
        rows = chosen[list(_SELECTED_COLUMNS)].astype(object).itertuples(index=False, name=None)
        with self._db:
            self._db.execute("BEGIN")
            self._db.execute("UPDATE segments SET wanted = 0")
            self._db.executemany(
                f"INSERT INTO segments ({fields}) VALUES ({marks}) "
                f"ON CONFLICT (clip_id) DO UPDATE SET wanted = 1, {updates}",
                rows,
            )

    def update_segment(self, clip_id: str, **values: Any) -> None:
        """Set columns of one segment."""
        pairs = ", ".join(f"{column} = ?" for column in values)
        self._db.execute(f"UPDATE segments SET {pairs} WHERE clip_id = ?", (*values.values(), clip_id))

    def next_due(self, genres: Sequence[str], now: float, busy: Sequence[str] = ()) -> dict[str, Any] | None:
        """Return the segment to download next, or None if none is due.

        Parameters
        ----------
        genres : sequence of str
            Genres by priority: the segment is of the first that has one due.
        now : float
            Unix time. A segment is due if it waits and its ``next_try`` is not later than this.
        busy : sequence of str
            Clip ids that are left out, because they are being downloaded.
        """
        excluded = f"AND clip_id NOT IN ({', '.join('?' * len(busy))})" if busy else ""
        for genre in genres:
            row = self._db.execute(
                "SELECT * FROM segments WHERE wanted = 1 AND status = 'waiting' AND genre = ? AND next_try <= ? "
                f"{excluded} ORDER BY turn LIMIT 1",
                (genre, now, *busy),
            ).fetchone()
            if row:
                return dict(row)
        return None

    def denied_since_success(self) -> list[str]:
        """Return the wanted segments that YouTube has denied for the first time since it last served one.

        Those that were asked for again after a denial are settled, and left out.
        """
        query = (
            f"SELECT clip_id FROM segments WHERE wanted = 1 AND status = 'gone' AND doubted = 0 "
            f"AND error IN ({_quoted(DENIALS)}) AND last_try > (SELECT coalesce(max(last_try), 0) FROM segments "
            f"WHERE attempts > 0 AND (status = 'done' OR error IN ({_quoted(SERVED)})))"
        )
        return [row["clip_id"] for row in self._db.execute(query)]

    def ask_again(self, clip_ids: Sequence[str] | None = None, next_try: float = 0.0) -> int:
        """Let segments that are gone wait again, by default all wanted ones; return their number.

        Parameters
        ----------
        clip_ids : sequence of str, optional
            The segments.
        next_try : float
            Unix time from which they may be requested.
        """
        changes = "status = 'waiting', attempts = 0, doubted = 1, next_try = ?"
        condition = "wanted = 1 AND status = 'gone'"
        if clip_ids is None:
            return self._db.execute(f"UPDATE segments SET {changes} WHERE {condition}", (next_try,)).rowcount
        with self._db:
            self._db.execute("BEGIN")
            rows = [(next_try, clip_id) for clip_id in clip_ids]
            return self._db.executemany(
                f"UPDATE segments SET {changes} WHERE {condition} AND clip_id = ?", rows
            ).rowcount

    def next_try_time(self) -> float | None:
        """Return the Unix time at which the first waiting segment is due, or None if none is waiting."""
        row = self._db.execute("SELECT min(next_try) FROM segments WHERE wanted = 1 AND status = 'waiting'").fetchone()
        return row[0]

    def done_by_genre(self) -> dict[str, int]:
        """Count the downloaded clips of each genre, in the order of the genres."""
        rows = self._db.execute(
            "SELECT genre, sum(status = 'done') FROM segments WHERE wanted = 1 GROUP BY genre ORDER BY min(genre_order)"
        )
        return {genre: int(n) for genre, n in rows}

    def count_by_status(self) -> dict[str, int]:
        """Count the wanted segments of each status."""
        rows = self._db.execute("SELECT status, count(*) FROM segments WHERE wanted = 1 GROUP BY status")
        return dict.fromkeys(STATUSES, 0) | dict(rows.fetchall())

    def read_segments(self) -> pd.DataFrame:
        """Return all columns of the wanted segments, in turn."""
        return pd.read_sql_query("SELECT * FROM segments WHERE wanted = 1 ORDER BY turn, genre_order", self._db)

    def find(self, columns: Sequence[str], **values: Any) -> list[dict[str, Any]]:
        """Return some columns of the wanted segments that have the given values."""
        conditions = " AND ".join(f"{column} = ?" for column in values)
        query = f"SELECT {', '.join(columns)} FROM segments WHERE wanted = 1 AND {conditions}"
        return [dict(row) for row in self._db.execute(query, tuple(values.values()))]

    def add_break(self, until: float, error: str, message: str) -> None:
        """Record that nothing may be requested before the Unix time `until`."""
        self._db.execute("INSERT INTO breaks VALUES (?, ?, ?, ?)", (time.time(), until, error, message))

    def current_break(self, now: float) -> Mapping[str, Any] | None:
        """Return ``until``, ``error`` and ``message`` of the break that is not over yet, or None."""
        row = self._db.execute("SELECT * FROM breaks WHERE until > ? ORDER BY until DESC LIMIT 1", (now,)).fetchone()
        return dict(row) if row else None

    def n_breaks_since_success(self) -> int:
        """Count the breaks since the last downloaded clip; each makes the next one longer."""
        query = (
            "SELECT count(*) FROM breaks WHERE at > "
            "(SELECT coalesce(max(last_try), 0) FROM segments WHERE status = 'done' AND attempts > 0)"
        )
        return int(self._db.execute(query).fetchone()[0])


def _quoted(names: Sequence[str]) -> str:
    """Return names as a list of SQL texts."""
    return ", ".join(f"'{name}'" for name in names)
