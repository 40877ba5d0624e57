import re

import numpy as np
import pandas as pd
import pytest

from genre.errors import DataError
from genre.probabilities import tables
from genre.studies import label_audit

GENRES = ["a & b", "c", "d"]


@pytest.fixture(scope="module")
def judged() -> tuple[pd.DataFrame, np.ndarray]:
    """Six hundred clips judged rather well, one in twenty under a wrong label; and which."""
    rng = np.random.default_rng(0)
    true = np.arange(600) % 3
    logits = rng.normal(size=(600, 3))
    logits[np.arange(600), true] += 4
    logits[:, 2] -= 1  # a genre the model is timid about
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wrong = np.sort(rng.choice(600, 30, replace=False))
    label = true.copy()
    label[wrong] = (true[wrong] + 1) % 3
    ids = pd.Index([f"clip<{n}>" for n in range(600)])
    return tables.probability_table(ids, "train", np.array(GENRES)[label], ids, proba, GENRES), wrong


def test_wrong_labels_come_first(judged):
    table, wrong = judged
    rows = label_audit.rank_label_issues(table)
    assert len(rows) == 600 and rows["quality"].between(0, 1).all()
    n = int(rows["in_doubt"].sum())
    assert rows["in_doubt"].iloc[:n].all() and rows["quality"].iloc[:n].is_monotonic_increasing
    planted = set(table.index[wrong])
    assert len(planted & set(rows.index[rows["in_doubt"]])) >= 27
    assert n <= 45
    assert len(planted & set(rows.index[:20])) >= 18


def test_the_suggestion_is_the_best_other_genre(judged):
    table, _ = judged
    rows = label_audit.rank_label_issues(table)
    row = rows.iloc[0]
    answers = table.loc[row.name, GENRES].astype(float)
    assert row["suggested"] == answers.drop(row["genre"]).idxmax() != row["genre"]
    assert row["p_label"] == answers[row["genre"]] and row["p_suggested"] == answers.drop(row["genre"]).max()
    assert row["quality"] == pytest.approx((row["p_label"] - row["p_suggested"] + 1) / 2)


def test_a_genre_without_clips_is_named(judged):
    table, _ = judged
    with pytest.raises(DataError, match="no clip of d"):
        label_audit.rank_label_issues(table[table["genre"] != "d"])


def test_the_page_shows_every_clip_and_trusts_no_name(judged):
    table, _ = judged
    rows = label_audit.rank_label_issues(table).head(3)
    first, second, third = rows.index
    picture = np.random.default_rng(0).integers(0, 255, (96, 431), dtype=np.uint8)
    page = label_audit.render_page(
        rows, table, {first: picture, second: picture}, {first: label_audit.clip_url("/x/a b.mp3", 10, 20)}
    )
    assert page.count("<section>") == 3 and page.count("data:image/png;base64,") == 2
    assert "file:///x/a%20b.mp3#t=10,20" in page and page.count("<audio") == 1
    assert first not in page and first.replace("<", "&lt;").replace(">", "&gt;") in page
    assert "a & b" not in page
    assert page.index(str(re.escape(first))[5:-2]) < page.index(str(third)[5:-1])
