"""Figures from tables. Each function returns a `matplotlib.figure.Figure`; the caller saves it.

Figures are built without pyplot and without touching matplotlib's global settings, so they can be drawn in any thread
and need no display.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from genre import filters
from genre.config import AudioConfig
from genre.errors import UsageError
from genre.evaluate import calibration_error, genres_of, labels_of, metrics, proba_of, reliability_steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Seven colours that stay apart for colour-blind readers (Okabe and Ito 2008, its yellow replaced by Tol's wine).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255")
#: With three dashes they make 21 distinct lines.
DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.5)))
INK, FAINT, GRID = "#222222", "#777777", "#E3E3E3"
DPI = 150
LONGEST_NAME = 28

#: Titles of the quantities a training reports.
CURVES = {"loss": "Loss", "accuracy": "Accuracy", "auc": "Macro AUC"}
#: Hertz marked on the mel axis: octaves.
MEL_TICKS_HZ = (250, 500, 1000, 2000, 4000, 8000, 16000)


def roc_curves(table: pd.DataFrame) -> "Figure":
    """ROC curve of each genre against the rest, and their average.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table of the clips to show, usually one split.

    Returns
    -------
    Figure
        The legend gives the areas; the average curve is the mean true positive rate at each false positive rate. A
        genre without clips has "none".

    Raises
    ------
    UsageError
        If the table is empty or no probability table.
    """
    from sklearn.metrics import roc_curve

    genres, y_true, proba, values = _scored(table)
    figure, axes = _unit_panel(f"ROC{_where(table)}: each genre against the rest")
    grid, rates = np.linspace(0, 1, 501), []
    axes.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=":", label="0.500  chance")
    for k, genre in enumerate(genres):
        if np.isnan(values[f"auc/{genre}"]):
            axes.plot([], [], **_line(k), label=f"none   {_name(genre)}")
            continue
        fpr, tpr, _ = roc_curve(y_true == k, proba[:, k])
        axes.plot(fpr, tpr, **_line(k), label=f"{values[f'auc/{genre}']:.3f}  {_name(genre)}")
        rates.append(np.interp(grid, fpr, tpr))
    if rates:
        mean = np.r_[0.0, np.mean(rates, axis=0)[1:]]
        axes.plot(grid, mean, color=INK, lw=2.5, label=f"{values['macro_auc']:.3f}  macro average")
    axes.set(xlabel="False positive rate", ylabel="True positive rate")
    _legend(axes, beside=True, title="Area under the curve")
    return figure


def precision_recall_curves(table: pd.DataFrame) -> "Figure":
    """Precision against recall of each genre against the rest.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table of the clips to show, usually one split.

    Returns
    -------
    Figure
        The legend gives the average precisions, the title of the legend their mean.

    Raises
    ------
    UsageError
        If the table is empty or no probability table.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    genres, y_true, proba, _ = _scored(table)
    figure, axes = _unit_panel(f"Precision and recall{_where(table)}, by genre")
    averages = []
    for k, genre in enumerate(genres):
        if not (y_true == k).any():
            axes.plot([], [], **_line(k), label=f"none   {_name(genre)}")
            continue
        precision, recall, _ = precision_recall_curve(y_true == k, proba[:, k])
        averages.append(average_precision_score(y_true == k, proba[:, k]))
        found = recall > 0  # before the first clip found, precision jumps to 0
        axes.plot(
            recall[found],
            precision[found],
            **_line(k),
            drawstyle="steps-post",
            label=f"{averages[-1]:.3f}  {_name(genre)}",
        )
    axes.set(xlabel="Recall", ylabel="Precision")
    _legend(axes, beside=True, title=f"Average precision (mean {np.mean(averages):.3f})")
    return figure


def confusion_matrix(table: pd.DataFrame) -> "Figure":
    """Predicted genre against true genre.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table of the clips to show, usually one split.

    Returns
    -------
    Figure
        Colour and upper number: share of the true genre's clips, in percent. Lower number: clips.

    Raises
    ------
    UsageError
        If the table is empty or no probability table.
    """
    from sklearn.metrics import confusion_matrix as count

    genres, y_true, proba, values = _scored(table)
    k = len(genres)
    counts = count(y_true, proba.argmax(axis=1), labels=np.arange(k))
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.0 + (0.75 if k <= 10 else 0.56) * max(k, 4)
    figure, axes = _panel(side + 0.3, side, grid=False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.ndindex(k, k):
        colour = "white" if shares[row, column] > 55 else INK if counts[row, column] else "#BBBBBB"
        text = f"{shares[row, column]:.0f} %\n{counts[row, column]}" if counts[row, column] else "0"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9 if k <= 10 else 7.5)
    axes.set(xlabel="Predicted genre", ylabel="True genre", xticks=np.arange(k), yticks=np.arange(k))
    axes.set_xticklabels([_name(genre) for genre in genres], rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticklabels([_name(genre) for genre in genres])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _title(axes, f"Confusion matrix{_where(table)}\naccuracy {values['accuracy']:.3f}, {len(table):,} clips")
    return figure


def importances(
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

    names = [name for name in CURVES if name in history or f"val_{name}" in history]
    if history.empty or not names:
        raise UsageError(f"no learning curve in the columns {list(history)}; needed: {', '.join(CURVES)} or val_…")
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
        _title(axes, CURVES[name])
        _legend(axes)
    return figure


def reliability(table: pd.DataFrame, *, others: Mapping[str, pd.DataFrame] | None = None, bins: int = 10) -> "Figure":
    """How often the predicted genre is right at each confidence.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table of the clips to show, usually one split.
    others : mapping, optional
        Label to probability table of the same clips, before or after calibration, drawn as lines.
    bins : int
        Equal steps of confidence between 0 and 1. Default 10.

    Returns
    -------
    Figure
        Above: share of right answers against mean confidence, the dots' area following the number of clips; on the
        diagonal a model knows what it knows. Below: clips per step. The title gives the expected calibration error, the
        mean distance from the diagonal over clips.

    Raises
    ------
    UsageError
        If the table is empty or no probability table, or `bins` is below 1.
    """
    means = reliability_steps(table, bins=bins)
    figure, (upper, lower) = _panels(2, 1, 6, 6.8, height_ratios=[3.2, 1], sharex=True)
    upper.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=":", label="perfect")
    for k, (label, other) in enumerate((others or {}).items(), start=1):
        steps = reliability_steps(other, bins=bins)
        label = f"{label}: error {calibration_error(other, bins=bins):.3f}"
        upper.plot(steps["confidence"], steps["right"], **_line(k), marker="o", ms=4, label=label)
    upper.plot(means["confidence"], means["right"], color=COLOURS[0], lw=2)
    sizes = 20 + 200 * means["clips"] / means["clips"].max()
    upper.scatter(means["confidence"], means["right"], sizes, color=COLOURS[0], zorder=3, label="this model")
    upper.set(ylabel="Share of right answers", xlim=(0, 1), ylim=(0, 1.03))
    _title(upper, f"Reliability{_where(table)}: calibration error {calibration_error(table, bins=bins):.3f}")
    _legend(upper, loc="upper left")
    lower.bar((means.index + 0.5) / bins, means["clips"], width=0.92 / bins, color=COLOURS[5])
    lower.set(xlabel="Confidence (largest probability)", ylabel="Clips")
    return figure


def spectrograms_per_genre(spectrograms: dict[str, np.ndarray], config: AudioConfig) -> "Figure":
    """One log-mel spectrogram per genre, as in the paper's figure 1.

    Parameters
    ----------
    spectrograms : dict of str to np.ndarray [shape=(n_mels, t), dtype=uint8]
        By genre; 0…255 stands for −`config.top_db`…0 dB below the clip's maximum.
    config : AudioConfig
        What the spectrograms were made with.

    Returns
    -------
    Figure
        Time in seconds, frequency in kHz on the mel scale, level in dB; at most four a row.

    Raises
    ------
    UsageError
        If there is none, or one has not `config.n_mels` rows.
    """
    if not spectrograms:
        raise UsageError("no spectrogram to draw; give one per genre")
    for genre, picture in spectrograms.items():
        if picture.ndim != 2 or len(picture) != config.n_mels:
            raise UsageError(f"the spectrogram of {genre!r} has shape {picture.shape}, not ({config.n_mels}, frames)")
    n_columns = min(4, len(spectrograms)) if len(spectrograms) != 3 else 3
    n_rows = -(-len(spectrograms) // n_columns)
    figure, panels = _panels(n_rows, n_columns, 1.6 + 3.1 * n_columns, 0.7 + 2.4 * n_rows, grid=False)
    for axes, (genre, picture) in zip(panels, spectrograms.items(), strict=False):
        image = _spectrogram(axes, picture, config)
        _title(axes, _name(genre))
    for k, axes in enumerate(panels):
        axes.set_visible(k < len(spectrograms))
        if k % n_columns == 0:
            axes.set_ylabel("Frequency (kHz, mel)")
        if k + n_columns >= len(spectrograms):
            axes.set_xlabel("Time (s)")
    _colour_bar(
        figure, panels, image, "Level below the clip's maximum (dB)", np.linspace(-config.top_db, 0, 5).tolist()
    )
    return figure


def leaderboard(df: pd.DataFrame) -> "Figure":
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


def _scored(table: pd.DataFrame) -> tuple[list[str], np.ndarray, np.ndarray, dict[str, float]]:
    """Genres, labels, probabilities and metrics of a table that is not empty."""
    genres, y_true, proba = genres_of(table), labels_of(table), proba_of(table)
    return genres, y_true, proba, metrics(y_true, proba, genres)


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


def _spectrogram(axes: "Axes", picture: np.ndarray, config: AudioConfig) -> Any:
    """Draw one spectrogram with seconds and kilohertz; the image, for the colour bar."""
    centres = filters.mel_hz(config.sr, config.n_mels)[1:-1]
    ticks = [hz for hz in MEL_TICKS_HZ if centres[0] <= hz <= centres[-1]]
    level_db = picture.astype(np.float32) / 255 * config.top_db - config.top_db
    length_s = picture.shape[1] * config.hop_length / config.sr
    extent = (0.0, length_s, -0.5, config.n_mels - 0.5)
    image = axes.imshow(
        level_db, cmap="magma", vmin=-config.top_db, vmax=0, origin="lower", aspect="auto", extent=extent
    )
    axes.set_yticks(np.interp(ticks, centres, np.arange(config.n_mels)), [f"{hz / 1000:g}" for hz in ticks])
    axes.tick_params(labelsize=8)
    return image


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


def _line(k: int) -> dict[str, Any]:
    """Colour and dash of the k-th genre, the same in every figure."""
    dash = DASHES[k // len(COLOURS) % len(DASHES)]
    return {"color": COLOURS[k % len(COLOURS)], "ls": dash, "lw": 1.5}


def _name(genre: str) -> str:
    """Genre as matplotlib may print it: a dollar would start a formula, a long name would squeeze the panel."""
    short = genre if len(genre) <= LONGEST_NAME else f"{genre[: LONGEST_NAME - 1]}…"
    return short.replace("$", r"\$")


def _where(table: pd.DataFrame) -> str:
    """`` on test`` when the table holds one split, nothing otherwise."""
    splits = table["split"].unique()
    return f" on {splits[0]}" if len(splits) == 1 else ""


def _panels(
    n_rows: int,
    n_columns: int,
    width: float,
    height: float,
    *,
    grid: bool = True,
    height_ratios: Sequence[float] | None = None,
    sharex: bool = False,
) -> "tuple[Figure, list[Axes]]":
    """Figure of so many inches with its panels, row by row, in this module's style."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    panels = list(figure.subplots(n_rows, n_columns, squeeze=False, height_ratios=height_ratios, sharex=sharex).ravel())
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.tick_params(color=FAINT, labelcolor=INK)
        axes.set_axisbelow(True)
        if grid:
            axes.grid(color=GRID, lw=0.8)
    return figure, panels


def _panel(width: float, height: float, *, grid: bool = True) -> "tuple[Figure, Axes]":
    """Figure with one panel."""
    figure, (axes,) = _panels(1, 1, width, height, grid=grid)
    return figure, axes


def _unit_panel(title: str) -> "tuple[Figure, Axes]":
    """Panel for two rates from 0 to 1, with room for a legend beside it."""
    figure, axes = _panel(8.6, 5.6)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _title(axes, title)
    return figure, axes


def _title(axes: "Axes", text: str) -> None:
    """Title flush with the left end of the panel."""
    axes.set_title(text, loc="left", fontsize=12, fontweight="bold", color=INK, pad=10)


def _legend(axes: "Axes", *, beside: bool = False, title: str | None = None, loc: str = "best") -> None:
    """Legend without a frame, inside the panel or to its right."""
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)} if beside else {"loc": loc}
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, title=title, alignment="left", **place)


def _colour_bar(figure: "Figure", panels: "list[Axes]", picture: Any, label: str, ticks: Sequence[float]) -> None:
    """Thin bar to the right of the panels."""
    bar = figure.colorbar(picture, ax=panels, aspect=30, pad=0.015, ticks=ticks)
    bar.outline.set_visible(False)
    bar.ax.tick_params(color=FAINT, labelcolor=INK)
    bar.set_label(label)
