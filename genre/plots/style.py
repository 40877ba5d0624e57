"""Common style of all figures: colours, labels, panels, legends."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Seven colours that colour-blind readers can distinguish (Okabe and Ito 2008, its yellow replaced by Tol's wine).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255")

#: Line styles; with the seven colours they make 21 distinct lines.
DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.5)))

#: Colour of text and of lines to be noticed.
INK = "#222222"

#: Colour of axes and of reference lines.
FAINT = "#777777"

#: Colour of the grid.
GRID = "#E3E3E3"

#: Resolution of a saved figure, dots per inch.
DPI = 150

#: Maximum number of characters of a label.
MAX_NAME_LENGTH = 28


def line_style(k: int) -> dict[str, Any]:
    """Return colour, dash and width of the k-th line, the same in every figure."""
    dash = DASHES[k // len(COLOURS) % len(DASHES)]
    return {"color": COLOURS[k % len(COLOURS)], "ls": dash, "lw": 1.5}


def genre_label(genre: str) -> str:
    """Shorten a name that would squeeze the panel, and escape dollars, which would start a formula."""
    short = genre if len(genre) <= MAX_NAME_LENGTH else f"{genre[: MAX_NAME_LENGTH - 1]}…"
    return short.replace("$", r"\$")


def make_panels(
    n_rows: int,
    n_columns: int,
    width: float,
    height: float,
    *,
    grid: bool = True,
    height_ratios: Sequence[float] | None = None,
    sharex: bool = False,
) -> "tuple[Figure, list[Axes]]":
    """Make a figure with panels in the common style.

    Parameters
    ----------
    n_rows, n_columns : int
        Number of panels.
    width, height : float
        Size of the figure, inches.
    grid : bool
        Draw grid lines. Default True.
    height_ratios : sequence of float, optional
        Relative heights of the rows, by default equal.
    sharex : bool
        Share the horizontal axis. Default False.

    Returns
    -------
    (Figure, list of Axes)
        The figure, and its panels row by row.
    """
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


def make_panel(width: float, height: float, *, grid: bool = True) -> "tuple[Figure, Axes]":
    """Make a figure with one panel; the size is in inches."""
    figure, (axes,) = make_panels(1, 1, width, height, grid=grid)
    return figure, axes


def make_unit_panel(title: str) -> "tuple[Figure, Axes]":
    """Make a figure with one panel for two rates from 0 to 1, with room for a legend beside it."""
    figure, axes = make_panel(8.6, 5.6)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    set_title(axes, title)
    return figure, axes


def set_title(axes: "Axes", text: str) -> None:
    """Set the title of a panel, aligned with its left end."""
    axes.set_title(text, loc="left", fontsize=12, fontweight="bold", color=INK, pad=10)


def add_legend(axes: "Axes", *, beside: bool = False, title: str | None = None, loc: str = "best") -> None:
    """Add a legend without a frame, inside the panel or to its right."""
    position: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)} if beside else {"loc": loc}
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, title=title, alignment="left", **position)


def add_colour_bar(figure: "Figure", panels: "list[Axes]", image: Any, label: str, ticks: Sequence[float]) -> None:
    """Add a thin colour bar to the right of the panels."""
    bar = figure.colorbar(image, ax=panels, aspect=30, pad=0.015, ticks=ticks)
    bar.outline.set_visible(False)
    bar.ax.tick_params(color=FAINT, labelcolor=INK)
    bar.set_label(label)


def draw_intervals(axes: "Axes", rows: pd.DataFrame, heights: np.ndarray, colour: str, label: str) -> None:
    """Draw dots with horizontal intervals and their values as text.

    Parameters
    ----------
    axes : Axes
        Panel to draw on.
    rows : pd.DataFrame
        Columns ``value``, ``low`` and ``high``, the last two NaN without an interval.
    heights : np.ndarray [shape=(len(rows),)]
        Vertical position of each row.
    colour, label : str
        Colour of the dots, and their name in the legend.
    """
    axes.hlines(heights, rows["low"], rows["high"], color=colour, lw=2.2, alpha=0.55)
    axes.scatter(rows["value"], heights, 36, color=colour, zorder=3, label=label)
    ends = rows["high"].fillna(rows["value"])
    for value, end, height in zip(rows["value"], ends, heights, strict=True):
        axes.annotate(
            f"{value:.3f}", (end, height), (6, 0), textcoords="offset points", va="center", fontsize=8, color=colour
        )
