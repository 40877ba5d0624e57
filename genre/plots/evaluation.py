"""Figures of one model's evaluation. Each function returns a `matplotlib.figure.Figure`; the caller saves it.

Figures are built without pyplot and without touching matplotlib's global settings, so they can be drawn in any thread
and need no display.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from genre.evaluate import calibration_error, compute_metrics, reliability_steps
from genre.plots.style import (
    COLOURS,
    FAINT,
    INK,
    add_legend,
    genre_label,
    line_style,
    make_panel,
    make_panels,
    make_unit_panel,
    set_title,
)
from genre.probabilities.tables import Level, genres_of, labels_of, proba_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def roc_curves(table: pd.DataFrame) -> "Figure":
    """Draw the ROC curve of each genre against the rest, and their average.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table of the clips to show, usually one split.

    Returns
    -------
    Figure
        The legend gives the areas under the curves, "none" for a genre without clips. The average curve is the mean
        true positive rate at each false positive rate.

    Raises
    ------
    UsageError
        If the table is empty or no probability table.
    """
    from sklearn.metrics import roc_curve

    genres, y_true, proba, values = _score_table(table)
    figure, axes = make_unit_panel(f"ROC{_split_suffix(table)}: each genre against the rest")
    grid = np.linspace(0, 1, 501)
    rates = []
    axes.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=":", label="0.500  chance")
    for k, genre in enumerate(genres):
        if np.isnan(values[f"auc/{genre}"]):
            axes.plot([], [], **line_style(k), label=f"none   {genre_label(genre)}")
            continue
        fpr, tpr, _ = roc_curve(y_true == k, proba[:, k])
        axes.plot(fpr, tpr, **line_style(k), label=f"{values[f'auc/{genre}']:.3f}  {genre_label(genre)}")
        rates.append(np.interp(grid, fpr, tpr))
    if rates:
        mean = np.r_[0.0, np.mean(rates, axis=0)[1:]]
        axes.plot(grid, mean, color=INK, lw=2.5, label=f"{values['macro_auc']:.3f}  macro average")
    axes.set(xlabel="False positive rate", ylabel="True positive rate")
    add_legend(axes, beside=True, title="Area under the curve")
    return figure


def precision_recall_curves(table: pd.DataFrame) -> "Figure":
    """Draw precision against recall of each genre against the rest.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table of the clips to show, usually one split.

    Returns
    -------
    Figure
        The legend gives the average precisions, and their mean in its title.

    Raises
    ------
    UsageError
        If the table is empty or no probability table.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    genres, y_true, proba, _ = _score_table(table)
    figure, axes = make_unit_panel(f"Precision and recall{_split_suffix(table)}, by genre")
    averages = []
    for k, genre in enumerate(genres):
        if not (y_true == k).any():
            axes.plot([], [], **line_style(k), label=f"none   {genre_label(genre)}")
            continue
        precision, recall, _ = precision_recall_curve(y_true == k, proba[:, k])
        averages.append(average_precision_score(y_true == k, proba[:, k]))
        defined = recall > 0  # at recall 0 the precision is 0, or 1 by convention
        axes.plot(
            recall[defined],
            precision[defined],
            **line_style(k),
            drawstyle="steps-post",
            label=f"{averages[-1]:.3f}  {genre_label(genre)}",
        )
    axes.set(xlabel="Recall", ylabel="Precision")
    add_legend(axes, beside=True, title=f"Average precision (mean {np.mean(averages):.3f})")
    return figure


def confusion_matrix(table: pd.DataFrame) -> "Figure":
    """Draw the confusion matrix, predicted genre against true genre.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table of the clips to show, usually one split.

    Returns
    -------
    Figure
        Colour and upper number: share of the true genre's clips, per cent. Lower number: clips.

    Raises
    ------
    UsageError
        If the table is empty or no probability table.
    """
    from sklearn.metrics import confusion_matrix as count_confusions

    genres, y_true, proba, values = _score_table(table)
    k = len(genres)
    counts = count_confusions(y_true, proba.argmax(axis=1), labels=np.arange(k))
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.0 + (0.75 if k <= 10 else 0.56) * max(k, 4)  # inches; smaller cells and text for many genres
    figure, axes = make_panel(size + 0.3, size, grid=False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.ndindex(k, k):
        colour = "white" if shares[row, column] > 55 else INK if counts[row, column] else "#BBBBBB"
        text = f"{shares[row, column]:.0f} %\n{counts[row, column]}" if counts[row, column] else "0"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9 if k <= 10 else 7.5)
    axes.set(xlabel="Predicted genre", ylabel="True genre", xticks=np.arange(k), yticks=np.arange(k))
    axes.set_xticklabels([genre_label(genre) for genre in genres], rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticklabels([genre_label(genre) for genre in genres])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    set_title(axes, f"Confusion matrix{_split_suffix(table)}\naccuracy {values['accuracy']:.3f}, {len(table):,} clips")
    return figure


def reliability_diagram(
    table: pd.DataFrame,
    *,
    others: Mapping[str, pd.DataFrame] | None = None,
    bins: int = 10,
    level: Level = "clip",
) -> "Figure":
    """Draw how often the predicted genre is right at each confidence.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table of the clips to show, usually one split.
    others : mapping, optional
        Label to probability table of the same clips, before or after calibration, drawn as lines.
    bins : int
        Number of equal bins of confidence between 0 and 1. Default 10.
    level : {"clip", "track"}
        Unit of a row of the tables, for the label of the lower axis. Default ``clip``.

    Returns
    -------
    Figure
        Above: share of correct predictions against mean confidence, the area of a dot following the number of clips;
        a perfectly calibrated model lies on the diagonal. Below: clips per bin. The title gives the expected
        calibration error, the mean distance from the diagonal over clips.

    Raises
    ------
    UsageError
        If the table is empty or no probability table, or `bins` is below 1.
    """
    means = reliability_steps(table, bins=bins)
    figure, (upper, lower) = make_panels(2, 1, 6, 6.8, height_ratios=[3.2, 1], sharex=True)
    upper.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=":", label="perfect")
    for k, (label, other) in enumerate((others or {}).items(), start=1):
        steps = reliability_steps(other, bins=bins)
        label = f"{label}: error {calibration_error(other, bins=bins):.3f}"
        upper.plot(steps["confidence"], steps["right"], **line_style(k), marker="o", ms=4, label=label)
    upper.plot(means["confidence"], means["right"], color=COLOURS[0], lw=2)
    sizes = 20 + 200 * means["clips"] / means["clips"].max()
    upper.scatter(means["confidence"], means["right"], sizes, color=COLOURS[0], zorder=3, label="this model")
    upper.set(ylabel="Share of correct predictions", xlim=(0, 1), ylim=(0, 1.03))
    set_title(upper, f"Reliability{_split_suffix(table)}: calibration error {calibration_error(table, bins=bins):.3f}")
    add_legend(upper, loc="upper left")
    lower.bar((means.index + 0.5) / bins, means["clips"], width=0.92 / bins, color=COLOURS[5])
    lower.set(xlabel="Confidence (largest probability)", ylabel=f"{level.capitalize()}s")
    return figure


def _score_table(table: pd.DataFrame) -> tuple[list[str], np.ndarray, np.ndarray, dict[str, float]]:
    """Return genres, labels, probabilities and metrics of a table that is not empty."""
    genres = genres_of(table)
    y_true = labels_of(table)
    proba = proba_of(table)
    return genres, y_true, proba, compute_metrics(y_true, proba, genres)


def _split_suffix(table: pd.DataFrame) -> str:
    """Return `` on test``, for example, if the table has clips of one split only, else an empty string."""
    splits = table["split"].unique()
    return f" on {splits[0]}" if len(splits) == 1 else ""
