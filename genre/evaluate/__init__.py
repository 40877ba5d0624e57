"""Numbers from probability tables: metrics, bootstrap intervals, paired tests, calibration. No figures, no files.

A probability table is indexed by ``clip_id`` and holds ``split``, ``genre`` (categorical: its categories are the
genres, in order), ``recording``, ``track`` (where it is known) and one column of probabilities per genre, rows summing
to 1. Its rows are clips, or tracks where `genre.probabilities.tables.per_track` made it; the functions score its rows.
`summarise_scores`, `fit_temperature`, `calibration_scores` and the comparisons at the level of tracks take clips and
average them.
"""

from genre.evaluate.calibration import (
    TARGET_PRECISION,
    Threshold,
    apply_temperature,
    calibration_error,
    calibration_scores,
    fit_temperature,
    fit_threshold,
    reliability_steps,
    selective_precision,
)
from genre.evaluate.comparison import (
    MAX_ERROR,
    MAX_GENRE_LOSS,
    PairedGain,
    compare_models,
    find_objections,
    mcnemar_test,
    paired_gain,
    spend_error,
)
from genre.evaluate.resampling import (
    MIN_RECORDINGS,
    bootstrap_metrics,
    chance_p_value,
    confidence_intervals,
    count_recordings,
    summarise_scores,
)
from genre.evaluate.scores import compute_metrics

__all__ = [
    "MAX_ERROR",
    "MAX_GENRE_LOSS",
    "MIN_RECORDINGS",
    "TARGET_PRECISION",
    "PairedGain",
    "Threshold",
    "apply_temperature",
    "bootstrap_metrics",
    "calibration_error",
    "calibration_scores",
    "chance_p_value",
    "compare_models",
    "compute_metrics",
    "confidence_intervals",
    "count_recordings",
    "find_objections",
    "fit_temperature",
    "fit_threshold",
    "mcnemar_test",
    "paired_gain",
    "reliability_steps",
    "selective_precision",
    "spend_error",
    "summarise_scores",
]
