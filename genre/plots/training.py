"""Figures of trainings: learning curves, importances, leaderboard."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from genre.errors import UsageError
from genre.plots.style import COLOURS, FAINT, INK, add_legend, draw_intervals, make_panel, make_panels, set_title
from genre.probabilities.tables import Level

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Titles of the quantities a training reports.
CURVE_TITLES = {"loss": "Loss", "accuracy": "Accuracy", "auc": "Macro AUC"}


def feature_importances(
    series: pd.Series, title: str, top: int = 20, *, spread: pd.Series | None = None, unit: str = "Importance"
) -> "Figure":
    """Draw the most important features as bars, the most important on top.

    Parameters
    ----------
    series : pd.Series
        Importance by feature name.
    title : str
        Title of the figure.
    top : int
        Number of features to show. Default 20.
    spread : pd.Series, optional
        Standard deviation by feature name, drawn as whiskers.
    unit : str
        Label of the axis, for example ``Drop of macro AUC``.

    Returns
    -------
    Figure
        The title gives the number of features if not all are shown.

    Raises
    ------
    UsageError
        If there is nothing to show.
    """
    shown = series.dropna().sort_values(ascending=False).head(top).iloc[::-1]
    if shown.empty:
        raise UsageError(f"no importances to draw for {title!r}; at least one feature and top >= 1 are needed")
    figure, axes = make_panel(8, 1.4 + 0.27 * len(shown))
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
    set_title(axes, title if len(shown) == len(series) else f"{title}: {len(shown)} of {len(series)} features")
    return figure


def learning_curve(history: pd.DataFrame) -> "Figure":
    """Draw training and validation values per epoch, one panel per quantity.

    Parameters
    ----------
    history : pd.DataFrame
        One row per epoch, numbered by the column ``epoch`` or else from 1. Any of the columns ``loss``, ``accuracy``,
        ``auc`` and their ``val_…``; other columns are ignored.

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
            f"no learning curve in the columns {list(history)}; needed: any of {', '.join(CURVE_TITLES)} or val_…"
        )
    epochs = history["epoch"].to_numpy() if "epoch" in history else np.arange(1, len(history) + 1)
    figure, panels = make_panels(1, len(names), 4.9 * len(names), 4.0)
    for name, axes in zip(names, panels, strict=True):
        _draw_curves(axes, history, name, epochs)
        axes.set(xlabel="Epoch", xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        set_title(axes, CURVE_TITLES[name])
        add_legend(axes)
    return figure


def leaderboard_plot(df: pd.DataFrame, *, level: Level = "clip") -> "Figure":
    """Draw the macro AUC of each model with its interval, by split, the best model on top.

    Parameters
    ----------
    df : pd.DataFrame
        One row per model and split: ``model``, ``split`` (``validation`` or ``test``), ``macro_auc``, and the ends of
        its interval ``low`` and ``high``, NaN where unknown.
    level : {"clip", "track"}
        What was scored, for the label of the axis. Default ``clip``.

    Returns
    -------
    Figure
        Ordered by macro AUC on test, and then on validation; models without a test score are at the bottom.

    Raises
    ------
    UsageError
        If a column is missing or no row has a macro AUC.
    """
    rows = _leaderboard_rows(df)
    wide = rows.pivot(index="model", columns="split", values="macro_auc").reindex(columns=["validation", "test"])
    models = wide.assign(test=wide["test"].fillna(-1)).sort_values(["test", "validation"]).index
    figure, axes = make_panel(8.6, 1.7 + 0.55 * len(models))
    for split, k, shift in (("test", 0, 0.13), ("validation", 1, -0.13)):
        part = rows[rows["split"] == split]
        if not part.empty:
            heights = models.get_indexer(pd.Index(part["model"])) + shift
            draw_intervals(axes, part.rename(columns={"macro_auc": "value"}), heights, COLOURS[k], split)
    axes.set(yticks=np.arange(len(models)), yticklabels=models, ylim=(-0.6, len(models) - 0.4))
    axes.set_xlabel(f"Macro AUC by {level} with 95 % interval")
    set_title(axes, "Leaderboard")
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)
    axes.grid(axis="y", visible=False)
    add_legend(axes, beside=True)
    return figure


def _draw_curves(axes: "Axes", history: pd.DataFrame, name: str, epochs: np.ndarray) -> None:
    """Draw the training and validation curves of one quantity, and mark the best validation value."""
    marker = "o" if len(history) <= 12 else None
    for column, label, k in ((name, "training", 0), (f"val_{name}", "validation", 1)):
        if column in history:
            axes.plot(epochs, history[column], color=COLOURS[k], lw=2, marker=marker, ms=4, label=label)
    if f"val_{name}" in history:
        _mark_best(axes, epochs, history[f"val_{name}"].to_numpy(dtype=float), lowest=name == "loss")


def _leaderboard_rows(df: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of validation and test that have a macro AUC, after checking that there are any."""
    missing = [name for name in ("model", "split", "macro_auc", "low", "high") if name not in df]
    if missing:
        raise UsageError(
            f"the leaderboard has no column {', '.join(missing)}; needed: model, split, macro_auc, low, high"
        )
    rows = df[df["split"].isin(["validation", "test"]) & df["macro_auc"].notna()]
    if rows.empty:
        raise UsageError("the leaderboard has no model with a macro AUC on validation or test; train one first")
    return rows


def _mark_best(axes: "Axes", epochs: np.ndarray, values: np.ndarray, *, lowest: bool) -> None:
    """Circle the best value of a validation curve, and add it to the legend."""
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
