import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

from genre import evaluate
from genre.config import AudioConfig
from genre.errors import UsageError
from genre.plots import evaluation, spectrograms, training
from genre.probabilities import tables
from tests.support.project import ROOT

CONFIG = AudioConfig()
NAMES = ["Hip hop", "R & B, soul and everything of that kind", "_unsorted", "A$AP and $", "Chanson française", "Rock"]


def genres(k: int) -> list[str]:
    return (NAMES + [f"Genre {i}" for i in range(20)])[:k]


def table_of(k: int, n: int = 240, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    proba = rng.dirichlet(np.ones(k), size=n) + 0.4 * np.eye(k)[y] * rng.uniform(size=(n, 1))
    proba /= proba.sum(axis=1, keepdims=True)
    ids = [f"c{i}" for i in range(n)]
    return tables.probability_table(ids, "test", [genres(k)[i] for i in y], ids, proba, genres(k))


def spectrograms_of(k: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {genre: rng.integers(0, 256, size=(96, 431), dtype=np.uint8) for genre in genres(k)}


def importance(n: int = 97) -> pd.Series:
    return pd.Series(np.linspace(-0.01, 0.2, n), index=[f"spectral_contrast_{i}_mean" for i in range(n)])


def history(n: int = 10) -> pd.DataFrame:
    epochs = np.arange(1, n + 1)
    loss = {"loss": 2 / epochs, "val_loss": (epochs - 4.0) ** 2 / 20 + 1}
    accuracy = {"accuracy": 1 - 1 / (epochs + 1), "val_accuracy": 0.5 + epochs / 50}
    return pd.DataFrame({"epoch": epochs, **loss, **accuracy, "learning_rate": 1e-3, "seconds": 2.0})


def scoreboard(k: int = 5) -> pd.DataFrame:
    rows = [
        (f"model_{i}", split, 0.8 + 0.01 * i + shift, 0.78 + 0.01 * i, 0.84 + 0.01 * i)
        for i in range(k)
        for split, shift in (("validation", 0.01), ("test", 0.0))
    ]
    return pd.DataFrame(rows, columns=["model", "split", "macro_auc", "low", "high"])


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]


FIGURES = {
    **{f"roc_{k}": lambda k=k: evaluation.roc_curves(table_of(k)) for k in (2, 20)},
    **{f"precision_recall_{k}": lambda k=k: evaluation.precision_recall_curves(table_of(k)) for k in (2, 20)},
    **{f"confusion_{k}": lambda k=k: evaluation.confusion_matrix(table_of(k)) for k in (2, 20)},
    **{f"reliability_{k}": lambda k=k: evaluation.reliability_diagram(table_of(k)) for k in (7,)},
    **{
        f"spectrograms_{k}": lambda k=k: spectrograms.spectrograms_per_genre(spectrograms_of(k), CONFIG) for k in (1, 6)
    },
    "importances": lambda: training.feature_importances(
        importance(), "Importance of catboost", spread=importance().abs() / 5
    ),
    "importances_one": lambda: training.feature_importances(importance(1), "Importance of catboost"),
    "learning_curve": lambda: training.learning_curve(history()),
    "learning_curve_one_epoch": lambda: training.learning_curve(history(1)),
    "leaderboard": lambda: training.leaderboard_plot(scoreboard()),
    "leaderboard_one": lambda: training.leaderboard_plot(scoreboard(1)),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_complete_and_nothing_is_cut_off(name):
    figure = FIGURES[name]()
    assert isinstance(figure, Figure)
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox(figure.canvas.get_renderer())
    page = figure.bbox_inches
    assert drawn.x0 >= -0.02 and drawn.y0 >= -0.02
    assert drawn.x1 <= page.x1 + 0.02 and drawn.y1 <= page.y1 + 0.02
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert any(axes.get_title(loc="left") for axes in shown)
    assert any(axes.get_xlabel() for axes in shown) and any(
        axes.get_ylabel() or axes.get_yticklabels() for axes in shown
    )


@pytest.mark.parametrize("name", ["roc_20", "spectrograms_6", "learning_curve"])
def test_a_figure_can_be_saved_as_png(name, tmp_path):
    figure = FIGURES[name]()
    figure.savefig(tmp_path / "f.png")
    image = imread(tmp_path / "f.png")
    assert 300 < image.shape[0] < 3000 and 600 < image.shape[1] < 3000
    assert image[..., :3].std() > 0.01


def test_the_legend_of_roc_curves_has_every_genre_and_its_area():
    table = table_of(6)
    values = evaluate.compute_metrics(tables.labels_of(table), tables.proba_of(table), genres(6))
    entries = [text.get_text() for text in evaluation.roc_curves(table).axes[0].get_legend().get_texts()]
    assert f"{values['auc/Hip hop']:.3f}  Hip hop" in entries
    assert f"{values['auc/_unsorted']:.3f}  _unsorted" in entries
    assert f"{values['auc/A$AP and $']:.3f}  A\\$AP and \\$" in entries
    assert f"{values['macro_auc']:.3f}  macro average" in entries
    assert len(entries) == 8


def test_the_area_under_the_average_roc_curve_is_the_macro_auc():
    table = table_of(5)
    lines = evaluation.roc_curves(table).axes[0].get_lines()
    x, y = lines[-1].get_data()
    expected = evaluate.compute_metrics(tables.labels_of(table), tables.proba_of(table), genres(5))["macro_auc"]
    assert np.trapezoid(y, x) == pytest.approx(expected, abs=0.003)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)


def test_a_genre_without_clips_is_named_and_has_no_curve():
    table = table_of(4)
    table = table[table["genre"] != "Hip hop"]
    for draw in (evaluation.roc_curves, evaluation.precision_recall_curves):
        axes = draw(table).axes[0]
        assert "none   Hip hop" in [text.get_text() for text in axes.get_legend().get_texts()]
    assert "0" in texts(evaluation.confusion_matrix(table))


def test_a_single_genre_can_be_drawn():
    table = table_of(3)
    table = table[table["genre"] == "Hip hop"]
    for draw in (
        evaluation.roc_curves,
        evaluation.precision_recall_curves,
        evaluation.confusion_matrix,
        evaluation.reliability_diagram,
    ):
        draw(table).savefig(io.BytesIO())


def test_twenty_genres_have_twenty_distinct_lines():
    lines = evaluation.roc_curves(table_of(20)).axes[0].get_lines()[1:-1]
    assert len({(line.get_color(), str(line._unscaled_dash_pattern)) for line in lines}) == 20


def test_confusion_matrix_has_shares_of_the_true_genre_and_counts():
    proba = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])
    table = tables.probability_table(list("abcde"), "test", ["x", "x", "x", "x", "y"], list("abcde"), proba, ["x", "y"])
    figure = evaluation.confusion_matrix(table)
    assert [text.get_text() for text in figure.axes[0].texts] == ["75 %\n3", "25 %\n1", "0", "100 %\n1"]
    assert "accuracy 0.800, 5 clips" in figure.axes[0].get_title(loc="left")


def test_importances_are_sorted_and_cut():
    figure = training.feature_importances(importance().sample(frac=1, random_state=0), "Forest", top=3, unit="Share")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        f"spectral_contrast_{i}_mean" for i in (94, 95, 96)
    ]
    assert axes.get_title(loc="left") == "Forest: 3 of 97 features" and axes.get_xlabel() == "Share"


def test_learning_curve_marks_the_best_validation_epoch_and_ignores_other_columns():
    figure = training.learning_curve(history())
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Loss", "Accuracy"]
    legends = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert legends[0] == ["training", "validation", "best, epoch 4: 1.000"]
    assert legends[1][2] == "best, epoch 10: 0.700"


def test_reliability_of_a_calibrated_model_lies_on_the_diagonal():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, size=20_000)
    right = rng.uniform(size=20_000) < confidence
    ids = np.arange(20_000).astype(str)
    truth = np.where(right, "x", "y")
    table = tables.probability_table(ids, "validation", truth, ids, np.c_[confidence, 1 - confidence], ["x", "y"])
    upper, lower = evaluation.reliability_diagram(table).axes
    x, y = upper.get_lines()[1].get_data()
    assert np.abs(np.asarray(x) - np.asarray(y)).max() < 0.03
    assert sum(bar.get_height() for bar in lower.patches) == 20_000
    assert float(upper.get_title(loc="left").split()[-1]) < 0.02


def test_reliability_diagram_draws_the_calibrated_table_too():
    confidence = np.repeat([0.6, 0.9], 50)
    ids = np.arange(100).astype(str)
    truth = np.where(np.arange(100) % 50 < 30, "x", "y")
    table = tables.probability_table(ids, "test", truth, ids, np.c_[confidence, 1 - confidence], ["x", "y"])
    calibrated = evaluate.apply_temperature(table, 5.0)
    upper, _ = evaluation.reliability_diagram(table, others={"calibrated": calibrated}).axes
    texts = [text.get_text() for text in upper.get_legend().get_texts()]
    assert f"calibrated: error {evaluate.calibration_error(calibrated):.3f}" in texts
    line = next(line for line in upper.get_lines() if str(line.get_label()).startswith("calibrated"))
    np.testing.assert_allclose(line.get_ydata(), evaluate.reliability_steps(calibrated)["right"])
    assert f"{evaluate.calibration_error(table):.3f}" in upper.get_title(loc="left")


def test_the_axes_of_a_spectrogram_are_seconds_and_mel():
    tone = np.zeros((96, 431), dtype=np.uint8)
    tone[40] = 255
    figure = spectrograms.spectrograms_per_genre({"Rock": tone}, CONFIG)
    axes, bar = figure.axes
    assert axes.get_xlim() == pytest.approx((0, 431 * 512 / 22050))
    assert axes.images[0].get_array().min() == -80 and axes.images[0].get_array().max() == 0
    marks = {label.get_text(): tick for tick, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)}
    # Slaney's mel scale: 22,050 Hz / 96 bands put band centres of about 1 and 8 kHz here.
    import librosa

    centres = librosa.mel_frequencies(n_mels=98, fmin=0, fmax=11025)[1:-1]
    assert marks["1"] == pytest.approx(np.abs(centres - 1000).argmin(), abs=0.6)
    assert marks["8"] == pytest.approx(np.abs(centres - 8000).argmin(), abs=0.6)
    assert "dB" in bar.get_ylabel()


def test_leaderboard_puts_the_best_on_test_on_top():
    board = scoreboard(3)
    board.loc[(board["model"] == "model_0") & (board["split"] == "test"), "macro_auc"] = 0.99
    axes = training.leaderboard_plot(board).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["model_1", "model_2", "model_0"]
    assert "0.990" in [text.get_text() for text in axes.texts]


def test_leaderboard_can_be_drawn_without_intervals_and_without_a_test_split():
    board = scoreboard(3).assign(low=np.nan, high=np.nan)
    training.leaderboard_plot(board[board["split"] == "validation"]).savefig(io.BytesIO())


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: evaluation.roc_curves(table_of(3).iloc[:0]), "no clips to evaluate"),
        (lambda: evaluation.precision_recall_curves(table_of(3).iloc[:0]), "no clips to evaluate"),
        (lambda: evaluation.confusion_matrix(table_of(3).iloc[:0]), "no clips to evaluate"),
        (lambda: evaluation.reliability_diagram(table_of(3).iloc[:0]), "no clips to evaluate"),
        (lambda: evaluation.reliability_diagram(table_of(3), bins=0), "at least one bin"),
        (lambda: training.feature_importances(pd.Series(dtype=float), "Forest"), "no importances to draw for 'Forest'"),
        (lambda: training.learning_curve(history().iloc[:0]), "no learning curve"),
        (lambda: training.learning_curve(history()[["seconds"]]), "no learning curve in the columns"),
        (lambda: spectrograms.spectrograms_per_genre({}, CONFIG), "no spectrogram"),
        (
            lambda: spectrograms.spectrograms_per_genre({"Rock": np.zeros((431, 96), np.uint8)}, CONFIG),
            "'Rock' has shape",
        ),
        (lambda: training.leaderboard_plot(scoreboard().drop(columns="low")), "no column low"),
        (lambda: training.leaderboard_plot(scoreboard().assign(macro_auc=np.nan)), "no model with a macro AUC"),
    ],
)
def test_input_that_cannot_be_drawn_is_refused(draw, message):
    with pytest.raises(UsageError, match=message):
        draw()


def test_two_threads_draw_the_same_figure_of_a_table():
    def png(_: int) -> bytes:
        stream = io.BytesIO()
        evaluation.roc_curves(table_of(7)).savefig(stream, metadata={"Software": None})
        return stream.getvalue()

    with ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(png, range(2)))) == 1


def test_no_pyplot_and_no_matplotlib_until_something_is_drawn():
    code = (
        "import sys; from genre.plots import training as plots; assert 'matplotlib' not in sys.modules; "
        "import pandas as pd; "
        "plots.feature_importances(pd.Series({'a': 1.0}), 'x').savefig('/dev/null', format='png'); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
