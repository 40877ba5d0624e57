import numpy as np
import pandas as pd
import pytest

from genre.errors import UsageError
from genre.plots import comparison
from genre.probabilities.tables import probability_table


def texts(axes) -> list[str]:
    """Texts drawn in a panel."""
    return [t.get_text() for t in axes.texts]


def test_interval_dots_show_every_value_in_order():
    rows = pd.DataFrame(
        [
            ("all $97", "here", 0.9, 0.8, 0.95),
            ("top 10", "here", 0.7, 0.6, 0.8),
            ("all $97", "published", 0.865, np.nan, np.nan),
            ("top 10", "published", np.nan, np.nan, np.nan),
        ],
        columns=["label", "series", "value", "low", "high"],
    )
    figure = comparison.interval_dots(rows, "Parts", "Macro AUC")
    (axes,) = figure.axes
    assert texts(axes) == ["0.900", "0.700", "0.865"]
    assert [t.get_text() for t in axes.get_yticklabels()] == [r"all \$97", "top 10"]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["here", "published"]
    heights = [axes.collections[k].get_offsets()[:, 1] for k in (1, 3)]  # lines, dots, lines, dots
    assert heights[0][0] < heights[0][1] and axes.get_ylim()[0] > axes.get_ylim()[1]  # the first label on top
    figure.canvas.draw()
    with pytest.raises(UsageError, match="no column high"):
        comparison.interval_dots(rows.drop(columns="high"), "Parts", "Macro AUC")
    with pytest.raises(UsageError, match="nothing to draw for 'Parts'"):
        comparison.interval_dots(rows.assign(value=np.nan), "Parts", "Macro AUC")


def test_stacked_bars_show_the_largest_sums():
    table = pd.DataFrame({"p": [1.0, 5.0, 2.0], "q": [1.0, 1.0, 3.0]}, index=["x", "y", "z"])
    figure = comparison.stacked_bars(table, "SHAP", "Logits", top=2)
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["y", "z"]
    assert [round(bar.get_x() + bar.get_width(), 6) for bar in axes.patches[-2:]] == [6, 5]
    with pytest.raises(UsageError, match="nothing to draw"):
        comparison.stacked_bars(table.iloc[:0], "SHAP", "Logits")


def test_mean_roc_curves_give_the_macro_auc_of_each_table():
    y = np.arange(90) % 3
    perfect = np.eye(3)[y] * 0.7 + 0.1
    chance = np.full((90, 3), 1 / 3)
    ids = pd.Index([str(n) for n in range(90)])
    tables = {
        name: probability_table(ids, "test", np.array(list("abc"))[y], ids, p, list("abc"))
        for name, p in (("perfect", perfect), ("guess", chance))
    }
    (axes,) = comparison.mean_roc_curves(tables, "ROC").axes
    labels = [t.get_text() for t in axes.get_legend().get_texts()]
    assert labels == ["0.500  chance", "1.000  perfect", "0.500  guess"]
    _, best, guess = axes.lines
    assert best.get_ydata()[1] == 1 and np.allclose(guess.get_ydata(), guess.get_xdata())
    two_genres = tables["perfect"].query("genre != 'c'")
    (axes,) = comparison.mean_roc_curves({"two genres": two_genres}, "").axes
    assert "1.000  two genres" in [t.get_text() for t in axes.get_legend().get_texts()]
    with pytest.raises(UsageError, match="no curve"):
        comparison.mean_roc_curves({}, "ROC")
