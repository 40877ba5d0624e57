"""Numbers from probability tables: metrics, bootstrap intervals, paired tests, calibration. No figures, no files.

A probability table is indexed by ``clip_id`` and holds ``split``, ``genre`` (categorical: its categories are the
genres, in order), ``recording`` and one column of probabilities per genre, rows summing to 1.
"""

from genre.evaluate.calibration import (
    PRECISION,
    Threshold,
    answered,
    calibration_error,
    calibration_scores,
    reliability_steps,
    temperature,
    tempered,
    threshold,
)
from genre.evaluate.comparison import MAX_GENRE_LOSS, PairedGain, comparisons, mcnemar, objections, paired_gain
from genre.evaluate.pooling import FLOOR, pool, pool_weights
from genre.evaluate.resampling import bootstrap, intervals, summary
from genre.evaluate.scores import metrics
from genre.evaluate.tables import (
    META_COLUMNS,
    SUM_TOLERANCE,
    common_clips,
    genres_of,
    labels_of,
    per_recording,
    proba_of,
    probability_table,
)

__all__ = [
    "FLOOR",
    "MAX_GENRE_LOSS",
    "META_COLUMNS",
    "PRECISION",
    "SUM_TOLERANCE",
    "PairedGain",
    "Threshold",
    "answered",
    "bootstrap",
    "calibration_error",
    "calibration_scores",
    "common_clips",
    "comparisons",
    "genres_of",
    "intervals",
    "labels_of",
    "mcnemar",
    "metrics",
    "objections",
    "paired_gain",
    "per_recording",
    "pool",
    "pool_weights",
    "proba_of",
    "probability_table",
    "reliability_steps",
    "summary",
    "temperature",
    "tempered",
    "threshold",
]
