"""Figures that compare: scores with intervals, SHAP values by genre, mean ROC curves."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from genre.errors import UsageError
from genre.evaluate import compute_metrics
from genre.plots.style import (
    COLOURS,
    FAINT,
    add_legend,
    draw_intervals,
    genre_label,
    line_style,
    make_panel,
    make_unit_panel,
    set_title,
)
from genre.probabilities.tables import genres_of, labels_of, proba_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: Patterns of bars; with the seven colours they make 21 distinct bars.
HATCHES = ("", "//", "..")


def interval_dots(rows: pd.DataFrame, title: str, unit: str) -> "Figure":
    """Draw values with their intervals, one line per label and one colour per series.

    Parameters
    ----------
    rows : pd.DataFrame
        Columns ``label``, ``series``, ``value``, and the ends of its interval ``low`` and ``high``, NaN without an
        interval. Rows without a value are left out. Labels and series are drawn in the order of their first row.
    title : str
        Title of the figure.
    unit : str
        Label of the axis.

    Returns
    -------
    Figure
        First label on top.

    Raises
    ------
    UsageError
        If a column is missing or nothing has a value.
    """
    missing = [name for name in ("label", "series", "value", "low", "high") if name not in rows]
    if missing:
        raise UsageError(
            f"the rows to draw have no column {', '.join(missing)}; needed: label, series, value, low, high"
        )
    rows = rows[rows["value"].notna()]
    if rows.empty:
        raise UsageError(f"nothing to draw for {title!r}; at least one row needs a value")
    labels = pd.unique(rows["label"])
    series = pd.unique(rows["series"])
    figure, axes = make_panel(8.6, 1.6 + (0.2 + 0.2 * len(series)) * len(labels))
    for k, name in enumerate(series):
        part = rows[rows["series"] == name]
        shift = 0.5 * ((k + 0.5) / len(series) - 0.5)
        heights = pd.Index(labels).get_indexer(pd.Index(part["label"])) + shift
        draw_intervals(axes, part, heights, COLOURS[k % len(COLOURS)], str(name))
    axes.set(yticks=np.arange(len(labels)), yticklabels=[genre_label(str(label)) for label in labels])
    axes.set(ylim=(len(labels) - 0.4, -0.6), xlabel=unit)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)
    axes.grid(axis="y", visible=False)
    set_title(axes, title)
    if len(series) > 1:
        add_legend(axes, beside=True)
    return figure


def stacked_bars(table: pd.DataFrame, title: str, unit: str, *, top: int = 20) -> "Figure":
    """Draw the rows with the largest sums as bars stacked from their columns.

    Parameters
    ----------
    table : pd.DataFrame
        Rows by name, no negative values; one colour per column.
    title, unit : str
        Title of the figure, and label of the axis.
    top : int
        Maximum number of rows shown. Default 20.

    Returns
    -------
    Figure
        Largest sum on top.

    Raises
    ------
    UsageError
        If there is nothing to show.
    """
    shown = table.loc[table.sum(axis=1).sort_values(ascending=False, kind="stable").index[: max(top, 0)]]
    if shown.empty or shown.columns.empty:
        raise UsageError(f"nothing to draw for {title!r}; at least one row, one column and top >= 1 are needed")
    figure, axes = make_panel(8.6, 1.4 + 0.27 * len(shown))
    left = np.zeros(len(shown))
    for k, column in enumerate(shown):
        axes.barh(
            shown.index.astype(str),
            shown[column],
            left=left,
            height=0.72,
            color=COLOURS[k % len(COLOURS)],
            hatch=HATCHES[k // len(COLOURS) % len(HATCHES)],
            label=genre_label(str(column)),
        )
        left += shown[column].to_numpy()
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.margins(y=0.01)
    axes.set_xlabel(unit)
    set_title(axes, title)
    add_legend(axes, beside=True)
    return figure


def mean_roc_curves(tables: Mapping[str, pd.DataFrame], title: str) -> "Figure":
    """Draw the macro-average ROC curve of each table, as in the paper's figure 6.

    Parameters
    ----------
    tables : mapping of str to pd.DataFrame
        Name to probability table of the clips to show.
    title : str
        Title of the figure.

    Returns
    -------
    Figure
        Each curve is the mean true positive rate over the genres at each false positive rate; the legend gives the
        macro AUC, the mean of the areas.

    Raises
    ------
    UsageError
        If there is no table, or one is empty or no probability table.
    """
    if not tables:
        raise UsageError("no curve to draw; pass at least one probability table")
    figure, axes = make_unit_panel(title)
    axes.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=":", label="0.500  chance")
    grid = np.linspace(0, 1, 501)
    for k, (name, table) in enumerate(tables.items()):
        y_true = labels_of(table)
        proba = proba_of(table)
        auc = compute_metrics(y_true, proba, genres_of(table))["macro_auc"]
        axes.plot(grid, _mean_tpr(y_true, proba, grid), **line_style(k), label=f"{auc:.3f}  {genre_label(name)}")
    axes.set(xlabel="False positive rate", ylabel="True positive rate")
    add_legend(axes, beside=True, title="Macro AUC")
    return figure


def _mean_tpr(y_true: np.ndarray, proba: np.ndarray, grid: Sequence[float] | np.ndarray) -> np.ndarray:
    """Average the true positive rate at each false positive rate of `grid` over the genres present."""
    from sklearn.metrics import roc_curve

    present = [k for k in np.unique(y_true) if not (y_true == k).all()]
    rates = [np.interp(grid, *roc_curve(y_true == k, proba[:, k])[:2]) for k in present]
    return np.r_[0.0, np.mean(rates, axis=0)[1:]] if rates else np.full(len(grid), np.nan)
