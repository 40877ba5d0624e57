"""Figures of trainings: learning curves, importances, leaderboard."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from genre.errors import UsageError
from genre.plots.style import COLOURS, FAINT, INK, _legend, _panel, _panels, _title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Titles of the quantities a training reports.
CURVE_TITLES = {"loss": "Loss", "accuracy": "Accuracy", "auc": "Macro AUC"}


def feature_importances(
    series: pd.Series, title: str, top: int = 20, *, spread: pd.Series | None = None, unit: str = "Importance"
) -> "Figure":
    """The most important features as bars, the first on top.

    Parameters
    ----------
    series : pd.Series
        Importance by feature name.
    title : str
    top : int
        How many features to show. Default 20.
    spread : pd.Series, optional
        Standard deviation by feature name, drawn as whiskers.
    unit : str
        Label of the axis, say ``Drop of macro AUC``.

    Returns
    -------
    Figure

    Raises
    ------
    UsageError
        If there is nothing to show.
    """
    shown = series.dropna().sort_values(ascending=False).head(top).iloc[::-1]
    if shown.empty:
        raise UsageError(f"no importances to draw for {title!r}; at least one feature and top >= 1 are needed")
    figure, axes = _panel(8, 1.4 + 0.27 * len(shown))
    whiskers = None if spread is None else spread.reindex(shown.index)
    axes.barh(
        shown.index.astype(str), shown, xerr=whiskers, height=0.72, color=COLOURS[0], error_kw={"ecolor": INK, "lw": 1}
    )
    axes.axvline(0, color=FAINT, lw=0.8)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.margins(y=0.01)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(unit)
    _title(axes, title if len(shown) == len(series) else f"{title}: {len(shown)} of {len(series)} features")
    return figure


def learning_curve(history: pd.DataFrame) -> "Figure":
    """Training and validation per epoch, one panel a quantity.

    Parameters
    ----------
    history : pd.DataFrame
        One row an epoch, counted from 1 unless a column ``epoch`` says otherwise. Columns ``loss``, ``accuracy``,
        ``auc`` and their ``val_…``, any of them; other columns are left out.

    Returns
    -------
    Figure
        The best validation value of each panel is marked.

    Raises
    ------
    UsageError
        If there is no epoch, or none of these columns.
    """
    from matplotlib.ticker import MaxNLocator

    names = [name for name in CURVE_TITLES if name in history or f"val_{name}" in history]
    if history.empty or not names:
        raise UsageError(
            f"no learning curve in the columns {list(history)}; needed: {', '.join(CURVE_TITLES)} or val_…"
        )
    epochs = history["epoch"].to_numpy() if "epoch" in history else np.arange(1, len(history) + 1)
    figure, panels = _panels(1, len(names), 4.9 * len(names), 4.0)
    for name, axes in zip(names, panels, strict=True):
        marker = "o" if len(history) <= 12 else None
        for column, label, k in ((name, "training", 0), (f"val_{name}", "validation", 1)):
            if column in history:
                axes.plot(epochs, history[column], color=COLOURS[k], lw=2, marker=marker, ms=4, label=label)
        if f"val_{name}" in history:
            _mark_best(axes, epochs, history[f"val_{name}"].to_numpy(dtype=float), lowest=name == "loss")
        axes.set(xlabel="Epoch", xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _title(axes, CURVE_TITLES[name])
        _legend(axes)
    return figure


def leaderboard_plot(df: pd.DataFrame) -> "Figure":
    """Macro AUC of each model with its interval, by split, the best on top.

    Parameters
    ----------
    df : pd.DataFrame
        One row a model and split: ``model``, ``split`` (``validation`` or ``test``), ``macro_auc`` and the ends of its
        interval, ``low`` and ``high``, NaN where unknown.

    Returns
    -------
    Figure
        Ordered by the test's macro AUC, or by validation's where no test is given.

    Raises
    ------
    UsageError
        If a column is missing or no row has a macro AUC.
    """
    missing = [name for name in ("model", "split", "macro_auc", "low", "high") if name not in df]
    if missing:
        raise UsageError(f"the leaderboard has no column {', '.join(missing)}")
    rows = df[df["split"].isin(["validation", "test"]) & df["macro_auc"].notna()]
    if rows.empty:
        raise UsageError("the leaderboard has no model with a macro AUC on validation or test; train one first")
    wide = rows.pivot(index="model", columns="split", values="macro_auc").reindex(columns=["validation", "test"])
    models = wide["test"].fillna(-1).to_frame().assign(v=wide["validation"]).sort_values(["test", "v"]).index
    figure, axes = _panel(8.6, 1.7 + 0.55 * len(models))
    for split, k, shift in (("test", 0, 0.13), ("validation", 1, -0.13)):
        part = rows[rows["split"] == split]
        _interval_bars(axes, part, models.get_indexer(pd.Index(part["model"])) + shift, COLOURS[k], split)
    axes.set(yticks=np.arange(len(models)), yticklabels=models, ylim=(-0.6, len(models) - 0.4))
    axes.set_xlabel("Macro AUC with 95 % interval")
    _title(axes, "Leaderboard")
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)
    axes.grid(axis="y", visible=False)
    _legend(axes, beside=True)
    return figure


def _interval_bars(axes: "Axes", rows: pd.DataFrame, heights: np.ndarray, colour: str, label: str) -> None:
    """Dots with horizontal intervals and their values."""
    if rows.empty:
        return
    axes.hlines(heights, rows["low"], rows["high"], color=colour, lw=2.2, alpha=0.55)
    axes.scatter(rows["macro_auc"], heights, 36, color=colour, zorder=3, label=label)
    ends = rows["high"].fillna(rows["macro_auc"])
    for value, end, height in zip(rows["macro_auc"], ends, heights, strict=True):
        axes.annotate(
            f"{value:.3f}", (end, height), (6, 0), textcoords="offset points", va="center", fontsize=8, color=colour
        )


def _mark_best(axes: "Axes", epochs: np.ndarray, values: np.ndarray, *, lowest: bool) -> None:
    """Circle the best value of a validation curve and write it beside."""
    if np.isnan(values).all():
        return
    best = np.nanargmin(values) if lowest else np.nanargmax(values)
    axes.plot(
        epochs[best],
        values[best],
        "o",
        ms=10,
        mfc="none",
        mec=INK,
        mew=1.5,
        label=f"best, epoch {epochs[best]}: {values[best]:.3f}",
    )
