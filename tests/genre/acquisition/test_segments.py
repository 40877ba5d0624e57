"""Which of AudioSet's segments are wanted, and in which order."""

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
REGGAE, TECHNO, VOCAL, HIP_HOP = (PAPER_GENRES[g] for g in ("Reggae", "Techno", "Vocal music", "Hip hop music"))
CHOIR, BEATBOXING = "/m/0l14jd", "/m/02cz_7"


def line(ytid: str, *mids: str, start: float = 30.0, end: float | None = None) -> str:
    end = start + 10 if end is None else end
    return f'{ytid}, {start:.3f}, {end:.3f}, "{",".join(mids)}"\n'


def write(path: Path, *lines: str) -> str:
    path.write_text(HEAD + "".join(lines))
    return str(path)


def some(n: int, mid: str, word: str = "x") -> list[str]:
    return [line(f"{word}{n:010d}", mid) for n in range(n)]


@pytest.fixture
def both(tmp_path: Path) -> str:
    return write(tmp_path / "list.csv", *some(5, REGGAE, "r"), *some(9, TECHNO, "t"))


def test_odd_ids_fractions_and_short_segments_come_as_they_are(tmp_path):
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


def test_an_id_is_no_part_of_another(tmp_path):
    source = write(
        tmp_path / "list.csv", line("a", REGGAE), line("b", TECHNO), line("c", TECHNO + "x", "/m/0" + REGGAE)
    )
    assert set(segments.select_segments(source, SegmentSelection())["ytid"]) == {"a", "b"}


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        ("cutcutcut", "segment 15 is not whole: cutcutcut"),
        ("cutcutcutcu, 30.000, 4", "segment 15 is not whole"),
        ('cutcutcutcu, 30.000, 40.000, "/m/06c', "cannot be read as a list of segments"),
        ('cutcutcutcu, 30.000, 40.000, ""', "segment 15 is not whole"),
        ('cutcutcutcu, 50.000, 40.000, "/m/06cqb"', "segment 15 is not whole"),
        ('../../etc/x, 30.000, 40.000, "/m/06cqb"', "segment 15 is not whole"),
        ('cutcutcutcu, thirty, 40.000, "/m/06cqb"', "cannot be read as a list of segments"),
    ],
)
def test_a_list_that_is_not_whole_is_refused(both, tail, said):
    with Path(both).open("a") as file:
        file.write(tail)
    with pytest.raises(DataError, match=said) as caught:
        segments.select_segments(both, SegmentSelection())
    assert "download" in str(caught.value)


def test_a_damaged_archive_is_refused_and_a_whole_one_read(both, tmp_path):
    packed = gzip.compress(Path(both).read_bytes())
    (tmp_path / "whole.csv.gz").write_bytes(packed)
    assert len(segments.select_segments(str(tmp_path / "whole.csv.gz"), SegmentSelection())) == 14
    (tmp_path / "cut.csv.gz").write_bytes(packed[:-20])
    with pytest.raises(DataError, match=r"cut.csv.gz cannot be read"):
        segments.select_segments(str(tmp_path / "cut.csv.gz"), SegmentSelection())


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"there is no nowhere.csv"):
        segments.select_segments("nowhere.csv", SegmentSelection())
    with pytest.raises(DataError, match="none of AudioSet's lists in"):
        segments.select_segments(str(tmp_path), SegmentSelection())
    with pytest.raises(DataError, match=r"http://127.0.0.1:9/list.csv cannot be read .*; give -P source=PATH"):
        segments.select_segments("http://127.0.0.1:9/list.csv", SegmentSelection())
    with pytest.raises(DataError, match="no segment of Hip hop music"):
        segments.select_segments(write(tmp_path / "list.csv", line("a", "/m/09x0r")), SegmentSelection())


def test_several_lists_are_one(tmp_path):
    for name, mid in zip(segments.LIST_FILES, (REGGAE, TECHNO, VOCAL), strict=True):
        write(tmp_path / name, *some(2, mid, mid[-1]))
    assert len(segments.select_segments(str(tmp_path), SegmentSelection())) == 6
    two = ",".join(str(tmp_path / name) for name in segments.LIST_FILES[:2])
    assert set(segments.select_segments(two, SegmentSelection())["genre"]) == {"Reggae", "Techno"}


def test_a_list_that_changed_is_another_version(both):
    before = segments.source_stamps(both)
    assert segments.source_stamps(both) == before
    with Path(both).open("a") as file:
        file.write(line("another0000", REGGAE))
    assert segments.source_stamps(both) != before
    assert segments.source_stamps("") == [segments.LISTS_URL + name for name in segments.LIST_FILES]


def labels(folder: Path) -> Path:
    path = folder / ontology.LABELS_FILE
    path.write_text(
        'index,mid,display_name\n0,/m/03_d0,"Jazz"\n1,/m/09x0r,"Speech"\n2,/m/05zppz,"Male speech, man speaking"\n'
    )
    return path


def test_genres_are_names_or_ids_in_any_case_and_a_wrong_one_lists_its_neighbours(tmp_path):
    labels(tmp_path)
    source = write(tmp_path / "list.csv", line("a", "/m/03_d0"), line("b", "/m/05zppz"), line("c", "/m/09x0r"))
    table = segments.select_segments(source, SegmentSelection(genres="jazz; Male speech, man speaking"))
    assert table["genre"].tolist() == ["Jazz", "Male speech, man speaking"]
    assert segments.select_segments(source, SegmentSelection(genres="/m/09x0r,Jazz"))["genre"].tolist() == [
        "Speech",
        "Jazz",
    ]
    with pytest.raises(UsageError, match="unknown genre 'Jas'; near it: Jazz"):
        segments.select_segments(source, SegmentSelection(genres="Jas"))
    with pytest.raises(UsageError, match=r"near it: .*Male speech"):
        segments.select_segments(source, SegmentSelection(genres="speech man"))
    with pytest.raises(DataError, match="give -P labels=PATH"):
        segments.select_segments(source, SegmentSelection(genres="Jazz", labels=str(tmp_path / "none.csv")))


def test_what_makes_no_sense_is_refused_before_anything_is_read():
    for choice, said in (
        (SegmentSelection(policy="frist"), "choose from drop, first, paper"),
        (SegmentSelection(per_genre=-1), "negative"),
    ):
        with pytest.raises(UsageError, match=said):
            segments.select_segments("nowhere", choice)


def test_a_segment_of_two_genres_is_dropped_or_goes_to_the_first(tmp_path):
    source = write(tmp_path / "list.csv", line("both", TECHNO, REGGAE), line("r", REGGAE), line("t", TECHNO))
    assert set(segments.select_segments(source, SegmentSelection())["ytid"]) == {"r", "t"}
    first = segments.select_segments(source, SegmentSelection(policy="first")).set_index("ytid")["genre"]
    assert first["both"] == "Reggae"
    assert (
        segments.select_segments(source, SegmentSelection(genres="Techno,Reggae", policy="first")).set_index("ytid")[
            "genre"
        ]["both"]
        == "Techno"
    )


def test_descendants_count_for_their_genre_except_below_what_is_asked_for_itself(tmp_path):
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
    wide = SegmentSelection(descendants=True, ontology=str(path))
    assert set(segments.select_segments(source, wide)["ytid"]) == {"v", "c", "n", "h"}  # b is below two of them
    groups = ontology.with_descendants({"Vocal": {VOCAL}, "Choir": {CHOIR}}, str(path))
    assert groups == {"Vocal": {VOCAL, BEATBOXING}, "Choir": {CHOIR, "/m/chant"}}
    with pytest.raises(DataError, match="give -P ontology=PATH"):
        segments.select_segments(source, SegmentSelection(descendants=True, ontology=str(tmp_path / "none.json")))


def test_any_prefix_is_balanced_and_the_order_is_drawn_by_the_seed(both):
    table = segments.select_segments(both, SegmentSelection())
    assert table["genre"][:10].tolist() == ["Reggae", "Techno"] * 5
    pd.testing.assert_frame_equal(table, segments.select_segments(both, SegmentSelection()))
    assert table["ytid"].tolist() != segments.select_segments(both, SegmentSelection(seed=1))["ytid"].tolist()


def test_a_cap_keeps_its_choice_when_the_list_grows(both):
    before = set(segments.select_segments(both, SegmentSelection(per_genre=5))["ytid"])
    with Path(both).open("a") as file:
        file.write(line("another0000", REGGAE))
    after = set(segments.select_segments(both, SegmentSelection(per_genre=6))["ytid"])
    assert before < after
    assert len(before) == 10


def test_the_evaluation_list_is_the_test_set(tmp_path):
    write(tmp_path / "balanced_train_segments.csv", *some(40, REGGAE, "r"), *some(3, TECHNO, "t"))
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
def as_the_paper_had_it(tmp_path, monkeypatch) -> Path:
    """A list whose seven-genre rows begin as the paper's do, a few in number; and the names of two test clips."""
    monkeypatch.setattr(bahuleyan2018, "N_ROWS", 47)
    first = [line(ytid, PAPER_GENRES[genre]) for ytid, genre in bahuleyan2018.FIRST_ROWS]
    rows = [line("speech", "/m/09x0r"), *first, *some(20, REGGAE, "r"), line("s2", "/m/09x0r"), *some(22, TECHNO, "t")]
    write(tmp_path / "unbalanced_train_segments.csv", *rows)
    write(tmp_path / "eval_segments.csv", *some(3, REGGAE, "e"))
    (tmp_path / "test.txt").write_text("5_Reggae.wav\n25_Techno.wav\n")
    return tmp_path


def test_the_papers_test_clips_are_found_by_their_number(as_the_paper_had_it):
    folder = as_the_paper_had_it
    choice = SegmentSelection(split="bahuleyan2018", test_list=str(folder / "test.txt"), genres="Reggae,Techno")
    table = segments.select_segments(str(folder), choice).set_index("ytid")
    assert set(table.index[table["split"] == "test"]) == {"r0000000000", "t0000000000"}
    assert set(table["split"]) == {"train", "validation", "test"}
    assert table.loc["e0000000001", "number"] == -1


def test_the_papers_split_is_refused_with_counts_where_the_lists_are_others(as_the_paper_had_it):
    folder = as_the_paper_had_it
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


def test_the_papers_drop_takes_techno_of_the_unbalanced_list_only(as_the_paper_had_it, monkeypatch):
    monkeypatch.setattr(bahuleyan2018, "_N_DROPPED", 10)
    write(as_the_paper_had_it / "balanced_train_segments.csv", *some(4, TECHNO, "b"))
    table = segments.select_segments(str(as_the_paper_had_it), SegmentSelection(policy="paper"))
    kept = table[table["genre"] == "Techno"]
    assert len(kept) == 22 - 10 + 4
    assert (table["genre"] == "Reggae").sum() == 1 + 20 + 3


def test_the_official_lists(shared):
    table = segments.select_segments(str(shared), SegmentSelection(policy="first", split="audioset"))
    assert len(table) == 415 + 500  # PAPER.md 1.7: rows of the balanced and of the evaluation list
    assert len(segments.select_segments(str(shared), SegmentSelection())) == 415 - 20 + 500 - 35
    assert table["clip_id"].is_unique
    jazz = segments.select_segments(str(shared), SegmentSelection(genres="Jazz,Techno"))
    assert set(jazz["genre"]) == {"Jazz", "Techno"}


def test_the_papers_list_of_test_clips(shared, tmp_path):
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
