"""The common style of all figures: colours, names, panels, legends."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Seven colours that stay apart for colour-blind readers (Okabe and Ito 2008, its yellow replaced by Tol's wine).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255")
#: With three dashes they make 21 distinct lines.
DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.5)))
INK, FAINT, GRID = "#222222", "#777777", "#E3E3E3"
DPI = 150
MAX_NAME_LENGTH = 28


def _line_style(k: int) -> dict[str, Any]:
    """Colour and dash of the k-th genre, the same in every figure."""
    dash = DASHES[k // len(COLOURS) % len(DASHES)]
    return {"color": COLOURS[k % len(COLOURS)], "ls": dash, "lw": 1.5}


def _genre_label(genre: str) -> str:
    """Genre as matplotlib may print it: a dollar would start a formula, a long name would squeeze the panel."""
    short = genre if len(genre) <= MAX_NAME_LENGTH else f"{genre[: MAX_NAME_LENGTH - 1]}…"
    return short.replace("$", r"\$")


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
