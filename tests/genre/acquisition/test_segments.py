"""Selection and order of AudioSet's segments."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genre.acquisition import bahuleyan2018, ontology, segments
from genre.acquisition.ontology import PAPER_GENRES
from genre.acquisition.segments import SegmentSelection
from genre.errors import DataError, UsageError

HEAD = "# Segments csv created Sun Mar  5 2017\n# num_ytids=3\n# YTID, start_seconds, end_seconds, positive_labels\n"
REGGAE = PAPER_GENRES["Reggae"]
TECHNO = PAPER_GENRES["Techno"]
VOCAL = PAPER_GENRES["Vocal music"]
HIP_HOP = PAPER_GENRES["Hip hop music"]
CHOIR = "/m/0l14jd"
BEATBOXING = "/m/02cz_7"


def line(ytid: str, *mids: str, start: float = 30.0, end: float | None = None) -> str:
    end = start + 10 if end is None else end
    return f'{ytid}, {start:.3f}, {end:.3f}, "{",".join(mids)}"\n'


def write(path: Path, *lines: str) -> str:
    path.write_text(HEAD + "".join(lines))
    return str(path)


def lines_of(n: int, mid: str, prefix: str = "x") -> list[str]:
    return [line(f"{prefix}{i:010d}", mid) for i in range(n)]


@pytest.fixture
def reggae_and_techno(tmp_path: Path) -> str:
    """Return the path of a list of 5 reggae and 9 techno segments."""
    return write(tmp_path / "list.csv", *lines_of(5, REGGAE, "r"), *lines_of(9, TECHNO, "t"))


def test_unusual_ids_fractional_times_and_short_segments_are_read_as_they_are(tmp_path):
    source = write(
        tmp_path / "list.csv",
        line("--dash-dash", REGGAE, start=0.5),
        line("abcdefghijk", TECHNO, start=7.25, end=9.75),
        line("ABCDEFGHIJK", TECHNO, "/m/04rlf"),
        line("NA", REGGAE),
        line("ABCDEFGHIJK", TECHNO, "/m/04rlf"),  # twice
        line("ABCDEFGHIJK", TECHNO, start=90),
    )
    table = segments.select_segments(source, SegmentSelection()).set_index("clip_id")
    assert set(table.index) == {"--dash-dash_0.5", "abcdefghijk_7.25", "ABCDEFGHIJK_30", "ABCDEFGHIJK_90", "NA_30"}
    assert table.loc["abcdefghijk_7.25", ["start_s", "end_s"]].tolist() == [7.25, 9.75]


def test_an_id_within_a_longer_id_does_not_count(tmp_path):
    source = write(
        tmp_path / "list.csv", line("a", REGGAE), line("b", TECHNO), line("c", TECHNO + "x", "/m/0" + REGGAE)
    )
    assert set(segments.select_segments(source, SegmentSelection())["ytid"]) == {"a", "b"}


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ("cutcutcut", "segment 15 is incomplete: cutcutcut"),
        ("cutcutcutcu, 30.000, 4", "segment 15 is incomplete"),
        ('cutcutcutcu, 30.000, 40.000, "/m/06c', "cannot be read as a list of segments"),
        ('cutcutcutcu, 30.000, 40.000, ""', "segment 15 is incomplete"),
        ('cutcutcutcu, 50.000, 40.000, "/m/06cqb"', "segment 15 is incomplete"),
        ('../../etc/x, 30.000, 40.000, "/m/06cqb"', "segment 15 is incomplete"),
        ('cutcutcutcu, thirty, 40.000, "/m/06cqb"', "cannot be read as a list of segments"),
    ],
)
def test_a_damaged_list_is_refused(reggae_and_techno, tail, message):
    with Path(reggae_and_techno).open("a") as file:
        file.write(tail)
    with pytest.raises(DataError, match=message) as caught:
        segments.select_segments(reggae_and_techno, SegmentSelection())
    assert "download" in str(caught.value)


def test_a_truncated_gzip_file_is_refused_and_a_whole_one_is_read(reggae_and_techno, tmp_path):
    packed = gzip.compress(Path(reggae_and_techno).read_bytes())
    (tmp_path / "whole.csv.gz").write_bytes(packed)
    assert len(segments.select_segments(str(tmp_path / "whole.csv.gz"), SegmentSelection())) == 14
    (tmp_path / "cut.csv.gz").write_bytes(packed[:-20])
    with pytest.raises(DataError, match=r"cut.csv.gz cannot be read"):
        segments.select_segments(str(tmp_path / "cut.csv.gz"), SegmentSelection())


def test_missing_lists_and_segments_are_named_in_the_error(tmp_path):
    with pytest.raises(DataError, match=r"there is no nowhere.csv"):
        segments.select_segments("nowhere.csv", SegmentSelection())
    with pytest.raises(DataError, match="none of AudioSet's lists in"):
        segments.select_segments(str(tmp_path), SegmentSelection())
    with pytest.raises(DataError, match=r"http://127.0.0.1:9/list.csv cannot be read .*; set -P source= to"):
        segments.select_segments("http://127.0.0.1:9/list.csv", SegmentSelection())
    with pytest.raises(DataError, match="no segment of Hip hop music"):
        segments.select_segments(write(tmp_path / "list.csv", line("a", "/m/09x0r")), SegmentSelection())


def test_several_lists_are_read_as_one(tmp_path):
    for name, mid in zip(segments.LIST_FILES, (REGGAE, TECHNO, VOCAL), strict=True):
        write(tmp_path / name, *lines_of(2, mid, mid[-1]))
    assert len(segments.select_segments(str(tmp_path), SegmentSelection())) == 6
    two = ",".join(str(tmp_path / name) for name in segments.LIST_FILES[:2])
    assert set(segments.select_segments(two, SegmentSelection())["genre"]) == {"Reggae", "Techno"}


def test_a_list_that_changes_gets_another_stamp(reggae_and_techno):
    before = segments.source_stamps(reggae_and_techno)
    assert segments.source_stamps(reggae_and_techno) == before
    with Path(reggae_and_techno).open("a") as file:
        file.write(line("another0000", REGGAE))
    assert segments.source_stamps(reggae_and_techno) != before
    assert segments.source_stamps("") == [segments.LISTS_URL + name for name in segments.LIST_FILES]


def write_labels(folder: Path) -> None:
    (folder / ontology.LABELS_FILE).write_text(
        'index,mid,display_name\n0,/m/03_d0,"Jazz"\n1,/m/09x0r,"Speech"\n2,/m/05zppz,"Male speech, man speaking"\n'
    )


def test_genres_are_names_in_any_case_or_ids_and_similar_names_are_listed_for_an_unknown_one(tmp_path):
    write_labels(tmp_path)
    source = write(tmp_path / "list.csv", line("a", "/m/03_d0"), line("b", "/m/05zppz"), line("c", "/m/09x0r"))
    table = segments.select_segments(source, SegmentSelection(genres="jazz; Male speech, man speaking"))
    assert table["genre"].tolist() == ["Jazz", "Male speech, man speaking"]
    assert segments.select_segments(source, SegmentSelection(genres="/m/09x0r,Jazz"))["genre"].tolist() == [
        "Speech",
        "Jazz",
    ]
    with pytest.raises(UsageError, match="unknown genre 'Jas'; similar names: Jazz"):
        segments.select_segments(source, SegmentSelection(genres="Jas"))
    with pytest.raises(UsageError, match=r"similar names: .*Male speech"):
        segments.select_segments(source, SegmentSelection(genres="speech man"))
    with pytest.raises(DataError, match="set -P labels= to the path"):
        segments.select_segments(source, SegmentSelection(genres="Jazz", labels=str(tmp_path / "none.csv")))


def test_invalid_criteria_are_refused_before_anything_is_read():
    for choice, message in (
        (SegmentSelection(policy="frist"), "choose from drop, first, paper"),
        (SegmentSelection(per_genre=-1), "negative"),
    ):
        with pytest.raises(UsageError, match=message):
            segments.select_segments("nowhere", choice)


def test_a_segment_of_two_genres_is_dropped_or_assigned_to_the_first(tmp_path):
    source = write(tmp_path / "list.csv", line("both", TECHNO, REGGAE), line("r", REGGAE), line("t", TECHNO))
    assert set(segments.select_segments(source, SegmentSelection())["ytid"]) == {"r", "t"}
    first = segments.select_segments(source, SegmentSelection(policy="first")).set_index("ytid")["genre"]
    assert first["both"] == "Reggae"
    choice = SegmentSelection(genres="Techno,Reggae", policy="first")
    assert segments.select_segments(source, choice).set_index("ytid")["genre"]["both"] == "Techno"


def test_descendants_count_for_their_genre_except_below_another_requested_genre(tmp_path):
    tree = [
        {"id": VOCAL, "child_ids": [CHOIR, BEATBOXING]},
        {"id": HIP_HOP, "child_ids": [BEATBOXING]},
        {"id": CHOIR, "child_ids": ["/m/chant"]},
    ]
    path = tmp_path / "ontology.json"
    path.write_text(json.dumps(tree))
    lines = [line("v", VOCAL), line("c", CHOIR), line("n", "/m/chant"), line("b", BEATBOXING), line("h", HIP_HOP)]
    source = write(tmp_path / "list.csv", *lines)
    assert set(segments.select_segments(source, SegmentSelection())["ytid"]) == {"v", "h"}
    choice = SegmentSelection(descendants=True, ontology=str(path))
    assert set(segments.select_segments(source, choice)["ytid"]) == {"v", "c", "n", "h"}  # b is below two of them
    groups = ontology.with_descendants({"Vocal": {VOCAL}, "Choir": {CHOIR}}, str(path))
    assert groups == {"Vocal": {VOCAL, BEATBOXING}, "Choir": {CHOIR, "/m/chant"}}
    with pytest.raises(DataError, match="set -P ontology= to the path"):
        segments.select_segments(source, SegmentSelection(descendants=True, ontology=str(tmp_path / "none.json")))


def test_any_prefix_is_balanced_and_the_order_depends_on_the_seed(reggae_and_techno):
    table = segments.select_segments(reggae_and_techno, SegmentSelection())
    assert table["genre"][:10].tolist() == ["Reggae", "Techno"] * 5
    pd.testing.assert_frame_equal(table, segments.select_segments(reggae_and_techno, SegmentSelection()))
    other_seed = segments.select_segments(reggae_and_techno, SegmentSelection(seed=1))
    assert table["ytid"].tolist() != other_seed["ytid"].tolist()


def test_a_limit_per_genre_selects_the_same_segments_when_the_list_grows(reggae_and_techno):
    before = set(segments.select_segments(reggae_and_techno, SegmentSelection(per_genre=5))["ytid"])
    with Path(reggae_and_techno).open("a") as file:
        file.write(line("another0000", REGGAE))
    after = set(segments.select_segments(reggae_and_techno, SegmentSelection(per_genre=6))["ytid"])
    assert before < after
    assert len(before) == 10


def test_the_evaluation_list_becomes_the_test_split(tmp_path):
    write(tmp_path / "balanced_train_segments.csv", *lines_of(40, REGGAE, "r"), *lines_of(3, TECHNO, "t"))
    write(tmp_path / "eval_segments.csv", line("e1", REGGAE), line("e2", TECHNO))
    table = segments.select_segments(str(tmp_path), SegmentSelection(split="audioset"))
    counts = table.groupby(["genre", "split"]).size().to_dict()
    assert counts == {
        ("Reggae", "test"): 1,
        ("Reggae", "train"): 38,
        ("Reggae", "validation"): 2,
        ("Techno", "test"): 1,
        ("Techno", "train"): 2,
        ("Techno", "validation"): 1,
    }
    assert set(segments.select_segments(str(tmp_path), SegmentSelection())["split"]) == {""}


@pytest.fixture
def paper_lists(tmp_path, monkeypatch) -> Path:
    """Write a short list whose seven-genre rows begin as the paper's do, and the names of two test clips."""
    monkeypatch.setattr(bahuleyan2018, "N_ROWS", 47)
    first_rows = [line(ytid, PAPER_GENRES[genre]) for ytid, genre in bahuleyan2018.FIRST_ROWS]
    rows = [
        line("speech", "/m/09x0r"),
        *first_rows,
        *lines_of(20, REGGAE, "r"),
        line("s2", "/m/09x0r"),
        *lines_of(22, TECHNO, "t"),
    ]
    write(tmp_path / "unbalanced_train_segments.csv", *rows)
    write(tmp_path / "eval_segments.csv", *lines_of(3, REGGAE, "e"))
    (tmp_path / "test.txt").write_text("5_Reggae.wav\n25_Techno.wav\n")
    return tmp_path


def test_the_papers_test_clips_are_found_by_their_number(paper_lists):
    choice = SegmentSelection(split="bahuleyan2018", test_list=str(paper_lists / "test.txt"), genres="Reggae,Techno")
    table = segments.select_segments(str(paper_lists), choice).set_index("ytid")
    assert set(table.index[table["split"] == "test"]) == {"r0000000000", "t0000000000"}
    assert set(table["split"]) == {"train", "validation", "test"}
    assert table.loc["e0000000001", "number"] == -1


def test_the_papers_split_is_refused_with_counts_if_the_lists_differ(paper_lists):
    folder = paper_lists
    (folder / "test.txt").write_text("5_Reggae.wav\n24_Techno.wav\n")  # 24 is Reggae
    choice = SegmentSelection(split="bahuleyan2018", test_list=str(folder / "test.txt"))
    with pytest.raises(DataError, match=r"5 of the 5 rows .* 47 of 47 .* 1 of 2 test clips"):
        segments.select_segments(str(folder), choice)
    (folder / "test.txt").write_text("5_Reggae.wav\n25_Techno.wav\n")
    path = folder / "unbalanced_train_segments.csv"
    path.write_text(path.read_text().replace(line("t0000000021", TECHNO), ""))  # the last: no number moves
    with pytest.raises(DataError, match=r"5 of the 5 rows .* 46 of 47 .* 2 of 2"):
        segments.select_segments(str(folder), choice)
    path.write_text(path.read_text().replace(line("--AQ3p3ymeE", PAPER_GENRES["Rock music"]), ""))
    with pytest.raises(DataError, match=r"3 of the 5 rows .* 45 of 47"):
        segments.select_segments(str(folder), choice)
    (folder / "test.txt").write_text("24_Polka.wav\n")
    with pytest.raises(DataError, match=r"'24_Polka.wav' is not NUMBER_Genre.wav"):
        segments.select_segments(str(folder), choice)


def test_the_papers_policy_drops_techno_of_the_unbalanced_list_only(paper_lists, monkeypatch):
    monkeypatch.setattr(bahuleyan2018, "_N_DROPPED", 10)
    write(paper_lists / "balanced_train_segments.csv", *lines_of(4, TECHNO, "b"))
    table = segments.select_segments(str(paper_lists), SegmentSelection(policy="paper"))
    kept = table[table["genre"] == "Techno"]
    assert len(kept) == 22 - 10 + 4
    assert (table["genre"] == "Reggae").sum() == 1 + 20 + 3


def test_the_official_lists_yield_the_published_numbers(shared):
    table = segments.select_segments(str(shared), SegmentSelection(policy="first", split="audioset"))
    assert len(table) == 415 + 500  # PAPER.md 1.7: rows of the balanced and of the evaluation list
    assert len(segments.select_segments(str(shared), SegmentSelection())) == 415 - 20 + 500 - 35
    assert table["clip_id"].is_unique
    jazz = segments.select_segments(str(shared), SegmentSelection(genres="Jazz,Techno"))
    assert set(jazz["genre"]) == {"Jazz", "Techno"}


def test_the_papers_list_of_test_clips_has_the_published_counts(shared, tmp_path):
    names = np.load(shared / "paper" / "test_probabilities.npz")["file_name"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    assert bahuleyan2018.read_test_clips(str(tmp_path / "names.txt")).value_counts().to_dict() == {
        "Rock music": 416,
        "Pop music": 383,
        "Hip hop music": 364,
        "Techno": 329,
        "Rhythm and blues": 232,
        "Vocal music": 171,
        "Reggae": 132,
    }
