"""What an acquisition has got of each genre: as a table, in MLflow and in Prefect."""

import hashlib
from collections.abc import Iterable

import pandas as pd
from prefect.artifacts import create_table_artifact

from genre.acquisition.ledger import STATUSES
from tracking import results, runs

#: What of the ledger is logged: no path of this machine, nobody's audio.
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
    """Segments by genre and status, in the order of the genres, and why they are gone.

    Parameters
    ----------
    segments : pd.DataFrame
        Segments from `genre.acquisition.ledger.Ledger.read_segments`.

    Returns
    -------
    pd.DataFrame
        Columns ``genre``, ``wanted``, one for each status, ``share`` (done among done and gone), and ``gone: CLASS``
        for each class of error among those gone.
    """
    order = segments.sort_values("genre_order")["genre"].unique()
    counts = pd.crosstab(segments["genre"], segments["status"]).reindex(index=order, columns=STATUSES, fill_value=0)
    gone = segments[segments["status"] == "gone"]
    why = pd.crosstab(gone["genre"], gone["error"]).reindex(order, fill_value=0)
    share = counts["done"] / (counts["done"] + counts["gone"]).where(lambda n: n > 0)
    counts.insert(0, "wanted", counts.sum(axis=1))
    return counts.assign(share=share).join(why.add_prefix("gone: ")).rename_axis("genre").reset_index()


def digest_clip_ids(clip_ids: Iterable[str]) -> str:
    """Sixteen hexadecimal digits that name a set of clips, whatever their order."""
    return hashlib.sha256("\n".join(sorted(clip_ids)).encode()).hexdigest()[:16]


def log_coverage(run_id: str, segments: pd.DataFrame, name: str, note: str) -> None:
    """Log the clips that are there as MLflow's data set, its coverage as metrics, and both tables."""
    done = segments[segments["status"] == "done"]
    version = digest_clip_ids(done["clip_id"])
    results.log_dataset(run_id, done.assign(recording=done["ytid"]), name, version)
    counts = coverage_table(segments)
    by_genre = {f"{c}/{row['genre']}": row[c] for _, row in counts.iterrows() for c in (*STATUSES, "share")}
    totals = {f"segments_{status}": int(counts[status].sum()) for status in STATUSES}
    runs.log_metrics(run_id, by_genre | totals)
    runs.set_tags(run_id, {"clips_digest": version, "ending": note})
    results.log_table(run_id, counts, "coverage")
    results.log_table(run_id, segments[_LOGGED_COLUMNS], "segments")
    shown = counts.assign(share=counts["share"].map("{:.0%}".format, na_action="ignore")).fillna("")
    create_table_artifact(key="coverage", table={str(c): shown[c].tolist() for c in shown}, description=note)
