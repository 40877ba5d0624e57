"""Coverage of an acquisition, the clips of each genre: as a table, in MLflow and in Prefect."""

import hashlib
from collections.abc import Iterable

import pandas as pd
from prefect.artifacts import create_table_artifact

from genre.acquisition.ledger import STATUSES
from tracking import results, runs

#: Columns of the ledger that are logged: no local path and no audio.
_LOGGED_COLUMNS = [
    "clip_id",
    "genre",
    "split",
    "status",
    "error",
    "attempts",
    "format",
    "duration_s",
    "padded_s",
    "sha256",
]


def coverage_table(segments: pd.DataFrame) -> pd.DataFrame:
    """Count segments by genre and status, and those that are gone by the reason.

    Parameters
    ----------
    segments : pd.DataFrame
        Segments from `genre.acquisition.ledger.Ledger.read_segments`.

    Returns
    -------
    pd.DataFrame
        One row per genre, in the order of the genres. Columns ``genre``, ``wanted``, one for each status, ``share``
        (done among done and gone), and ``gone: CLASS`` for each class of error among those gone.
    """
    order = segments.sort_values("genre_order")["genre"].unique()
    counts = pd.crosstab(segments["genre"], segments["status"]).reindex(index=order, columns=STATUSES, fill_value=0)
    gone = segments[segments["status"] == "gone"]
    errors = pd.crosstab(gone["genre"], gone["error"]).reindex(order, fill_value=0)
    share = counts["done"] / (counts["done"] + counts["gone"]).where(lambda n: n > 0)  # NaN while no segment is either
    counts.insert(0, "wanted", counts.sum(axis=1))
    return counts.assign(share=share).join(errors.add_prefix("gone: ")).rename_axis("genre").reset_index()


def digest_clip_ids(clip_ids: Iterable[str]) -> str:
    """Return sixteen hexadecimal digits that identify a set of clips, in any order."""
    return hashlib.sha256("\n".join(sorted(clip_ids)).encode()).hexdigest()[:16]


def log_coverage(run_id: str, segments: pd.DataFrame, name: str, note: str) -> None:
    """Log the acquired clips as MLflow's data set, the coverage as metrics, and the tables of both."""
    done = segments[segments["status"] == "done"]
    version = digest_clip_ids(done["clip_id"])
    results.log_dataset(run_id, done.assign(recording=done["ytid"]), name, version)
    counts = coverage_table(segments)
    by_genre = {
        f"{column}/{genre}": value
        for column in (*STATUSES, "share")
        for genre, value in zip(counts["genre"], counts[column], strict=True)
    }
    totals = {f"segments_{status}": int(counts[status].sum()) for status in STATUSES}
    runs.log_metrics(run_id, by_genre | totals)
    runs.set_tags(run_id, {"clips_digest": version, "ending": note})
    results.log_table(run_id, counts, "coverage")
    results.log_table(run_id, segments[_LOGGED_COLUMNS], "segments")
    shown = counts.assign(share=counts["share"].map("{:.0%}".format, na_action="ignore")).fillna("")
    create_table_artifact(key="coverage", table={str(c): shown[c].tolist() for c in shown}, description=note)
