"""Figures that set several things side by side: scores with intervals, SHAP values by genre, mean ROC curves."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from genre.errors import UsageError
from genre.evaluate import compute_metrics
from genre.plots.style import COLOURS, FAINT, _genre_label, _legend, _line_style, _panel, _title, _unit_panel
from genre.probabilities.tables import genres_of, labels_of, proba_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def interval_dots(rows: pd.DataFrame, title: str, unit: str) -> "Figure":
    """Values with their intervals, one line a label, one colour a series.

    Parameters
    ----------
    rows : pd.DataFrame
        Columns ``label``, ``series``, ``value``, and the ends of its interval ``low`` and ``high``, NaN where there is
        none. Rows without a value are left out. Labels and series stand in the order of their first row.
    title : str
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
        raise UsageError(f"the rows to draw have no column {', '.join(missing)}")
    rows = rows[rows["value"].notna()]
    if rows.empty:
        raise UsageError(f"nothing to draw for {title!r}; at least one row needs a value")
    labels, series = pd.unique(rows["label"]), pd.unique(rows["series"])
    figure, axes = _panel(8.6, 1.6 + (0.2 + 0.2 * len(series)) * len(labels))
    for k, name in enumerate(series):
        part = rows[rows["series"] == name]
        shift = 0.5 * ((k + 0.5) / len(series) - 0.5)
        heights = pd.Index(labels).get_indexer(pd.Index(part["label"])) + shift
        colour = COLOURS[k % len(COLOURS)]
        axes.hlines(heights, part["low"], part["high"], color=colour, lw=2.2, alpha=0.55)
        axes.scatter(part["value"], heights, 36, color=colour, zorder=3, label=name)
        for value, end, height in zip(part["value"], part["high"].fillna(part["value"]), heights, strict=True):
            text = f"{value:.3f}"
            axes.annotate(
                text, (end, height), (6, 0), textcoords="offset points", va="center", fontsize=8, color=colour
            )
    axes.set(yticks=np.arange(len(labels)), yticklabels=[_genre_label(str(label)) for label in labels])
    axes.set(ylim=(len(labels) - 0.4, -0.6), xlabel=unit)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)
    axes.grid(axis="y", visible=False)
    _title(axes, title)
    if len(series) > 1:
        _legend(axes, beside=True)
    return figure


def stacked_bars(table: pd.DataFrame, title: str, unit: str, *, top: int = 20) -> "Figure":
    """The rows with the largest sums as bars, each made of its columns.

    Parameters
    ----------
    table : pd.DataFrame
        Rows by name, no value negative; the columns become colours.
    title, unit : str
        Title, and label of the axis.
    top : int
        Rows shown. Default 20.

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
    figure, axes = _panel(8.6, 1.4 + 0.27 * len(shown))
    left = np.zeros(len(shown))
    for k, column in enumerate(shown):
        colour, hatch = COLOURS[k % len(COLOURS)], ("", "//", "..")[k // len(COLOURS) % 3]
        axes.barh(
            shown.index.astype(str),
            shown[column],
            left=left,
            height=0.72,
            color=colour,
            hatch=hatch,
            label=_genre_label(str(column)),
        )
        left += shown[column].to_numpy()
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.margins(y=0.01)
    axes.set_xlabel(unit)
    _title(axes, title)
    _legend(axes, beside=True)
    return figure


def mean_roc_curves(tables: Mapping[str, pd.DataFrame], title: str) -> "Figure":
    """Macro-average ROC curve of each table, as in the paper's figure 6.

    Parameters
    ----------
    tables : mapping of str to pd.DataFrame
        Name to probability table of the clips to show.
    title : str

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
        raise UsageError("no curve to draw; give one probability table or more")
    figure, axes = _unit_panel(title)
    axes.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=":", label="0.500  chance")
    grid = np.linspace(0, 1, 501)
    for k, (name, table) in enumerate(tables.items()):
        genres, y_true, proba = genres_of(table), labels_of(table), proba_of(table)
        auc = compute_metrics(y_true, proba, genres)["macro_auc"]
        axes.plot(grid, _mean_tpr(y_true, proba, grid), **_line_style(k), label=f"{auc:.3f}  {_genre_label(name)}")
    axes.set(xlabel="False positive rate", ylabel="True positive rate")
    _legend(axes, beside=True, title="Macro AUC")
    return figure


def _mean_tpr(y_true: np.ndarray, proba: np.ndarray, grid: Sequence[float] | np.ndarray) -> np.ndarray:
    """Mean over the genres present of the true positive rate at each false positive rate of `grid`."""
    from sklearn.metrics import roc_curve

    present = [k for k in np.unique(y_true) if not (y_true == k).all()]
    rates = [np.interp(grid, *roc_curve(y_true == k, proba[:, k])[:2]) for k in present]
    return np.r_[0.0, np.mean(rates, axis=0)[1:]] if rates else np.full(len(grid), np.nan)
