"""Numbers from probability tables: metrics, bootstrap intervals, paired tests, calibration. No figures, no files.

A probability table is indexed by ``clip_id`` and holds ``split``, ``genre`` (categorical: its categories are the
genres, in order), ``recording`` and one column of probabilities per genre, rows summing to 1.
"""

from genre.evaluate.calibration import min_confidence
from genre.evaluate.comparison import PairedGain, paired_gain
from genre.evaluate.resampling import bootstrap, intervals, summary
from genre.evaluate.scores import metrics
from genre.evaluate.tables import (
    META_COLUMNS,
    SUM_TOLERANCE,
    genres_of,
    labels_of,
    per_recording,
    proba_of,
    probability_table,
)

__all__ = [
    "META_COLUMNS",
    "SUM_TOLERANCE",
    "PairedGain",
    "bootstrap",
    "genres_of",
    "intervals",
    "labels_of",
    "metrics",
    "min_confidence",
    "paired_gain",
    "per_recording",
    "proba_of",
    "probability_table",
    "summary",
]
