import numpy as np

from flows.reports import leaderboard
from genre import evaluate
from tests.support.simulation import two_models


def test_the_first_is_compared_with_every_other_and_a_failed_one_stays_blank():
    poor, good = two_models(np.random.default_rng(0), n_clips=120, n_genres=3, skills=(0.5, 2.5))
    tables = {"svm": poor, "catboost": good}
    scored = {name: evaluate.summarise_scores(table.assign(split="validation")) for name, table in tables.items()}
    for name, table in tables.items():
        scored[name] |= evaluate.summarise_scores(table)
    board = leaderboard.rank_models(scored, {"svm": "trained", "catboost": "trained", "mel_cnn": "failed: no memory"})
    assert list(board.index) == ["catboost", "svm", "mel_cnn"]
    pairs = evaluate.compare_models({name: tables[name] for name in ("catboost", "svm")})
    board = leaderboard.add_leads(board, pairs)
    gain = evaluate.paired_gain(good, poor)
    assert board.loc["svm", "lead"] == gain["gain"] > 0
    assert tuple(board.loc["svm", ["lead_low", "lead_high", "lead_mcnemar"]]) == (*gain["interval"], gain["mcnemar"])
    assert board.loc[["catboost", "mel_cnn"], "lead"].isna().all()
    low, high = gain["interval"]
    shown = leaderboard.format_leaderboard(board)
    assert shown["first leads by"].tolist() == ["", f"{gain['gain']:+.3f} [{low:+.3f}, {high:+.3f}]", ""]
    assert shown["McNemar"].tolist() == ["", f"p {gain['mcnemar']:.2g}", ""]
    lines = leaderboard.to_text(board).splitlines()
    assert max(map(len, lines)) < 120 and "nan" not in lines[3] and lines[3].endswith("failed: no memory")


def test_nobody_to_compare_with():
    board = leaderboard.rank_models({}, {"svm": "failed: no memory"})
    assert leaderboard.add_leads(board, evaluate.compare_models({}))["lead"].isna().all()
