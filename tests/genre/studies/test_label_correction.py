"""Correction of labels on the page: its script in a JavaScript runtime, the page in a browser where there is one."""

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genre import datasets
from genre.errors import DataError
from genre.probabilities import tables
from genre.studies import label_audit, label_correction
from tests.support.sounds import write_music

NASTY = 'say "a", </script><b> & é'


def make_source(folder: Path) -> Path:
    """Write six tracks and a CSV that lists them, one by two stretches, with columns that are not ours."""
    music = write_music(folder / "m", genres={"a": 200, "b": 300}, tracks=3, seconds=21)
    rows = [f"m/{genre}/{n}.wav,{genre},0.{n}" for genre in "ab" for n in range(3)]
    rows[0] += ",,10,'"
    rows += [f'{music / "a" / "0.wav"},b,0.9,10,,"{NASTY.replace(chr(34), chr(34) * 2)}"']
    path = folder / "it's mine.csv"
    path.write_text("\n".join(["path,genre,confidence,start_s,end_s,note", *rows]) + "\n")
    return path


def corrected(listing: label_correction.Listing, corrections: dict[int, str | None]) -> str:
    """Return the CSV that the page's own function makes."""
    arguments = (list(listing.lines.columns), listing.lines.to_numpy().tolist(), corrections)
    call = f"console.log(correctedCsv({', '.join(map(json.dumps, arguments))}))"
    deno = shutil.which("deno", path=str(Path(sys.executable).parent)) or shutil.which("deno")
    assert deno, "deno is one of the requirements"
    command = [deno, "eval", label_correction.CSV_SCRIPT + call]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.removesuffix("\n")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path)


@pytest.fixture
def clips(source: Path, tmp_path: Path) -> pd.DataFrame:
    return datasets.load_clips("folder", str(source), tmp_path, {})


def test_each_clip_is_of_the_line_that_it_was_cut_from(source, clips):
    listing = label_correction.load_listing(clips, str(source))
    assert listing.path == source and len(listing.lines) == 7
    found = [listing.lines["genre"][listing.line_of_clip[clip]] for clip in clips["clip_id"]]
    assert found == clips["genre"].tolist() and len(set(listing.line_of_clip.values())) == 7


def test_without_a_correction_the_csv_is_the_same(source, clips):
    listing = label_correction.load_listing(clips, str(source))
    (source.parent / "same.csv").write_text(corrected(listing, {}))
    pd.testing.assert_frame_equal(*(pd.read_csv(source.parent / name) for name in ("same.csv", source.name)))


def test_a_correction_replaces_the_genre_of_a_line_or_removes_it(source, clips, tmp_path):
    listing = label_correction.load_listing(clips, str(source))
    source.write_text(corrected(listing, {1: NASTY, 4: None, 6: "toString"}))
    table = datasets.load_clips("folder", str(source), tmp_path, {})
    lines = pd.read_csv(source)
    assert lines["genre"].tolist() == ["a", NASTY, "a", "b", "b", "toString"]
    assert lines["note"].tolist()[-1] == NASTY and lines["confidence"].tolist() == [0, 0.1, 0.2, 0, 0.2, 0.9]
    assert set(table["genre"]) == {"a", "b", NASTY, "toString"}
    assert not table["path"].str.endswith("b/1.wav").any()
    kept = table[table["genre"].isin(["a", "b"])]["clip_id"]
    assert set(kept) < set(clips["clip_id"])  # nothing that was computed is lost


def test_labels_that_come_from_no_csv_are_one_line_per_file(tmp_path):
    music = write_music(tmp_path / "m", genres={"a": 200, "b": 300}, tracks=2, seconds=21)
    clips = datasets.load_clips("folder", str(music), tmp_path, {})
    listing = label_correction.load_listing(clips, str(music))
    (tmp_path / "elsewhere.csv").write_text(corrected(listing, {0: "new"}))
    table = datasets.load_clips("folder", str(tmp_path / "elsewhere.csv"), tmp_path, {})
    assert listing.path is None and len(table) == len(clips)
    assert table["genre"].tolist() == ["new"] * 2 + clips["genre"].tolist()[2:]
    assert table["recording"].tolist() == clips["recording"].tolist()


def render(source: Path, clips: pd.DataFrame, n_shown: int) -> str:
    """Return the page of the first clips, all of them in doubt."""
    listing = label_correction.load_listing(clips, str(source))
    genres = list(clips["genre"].cat.categories)
    proba = np.full((len(clips), len(genres)), 1 / len(genres))
    table = tables.probability_table(clips["clip_id"], "train", clips["genre"], clips["recording"], proba, genres)
    shown = table[["genre"]].assign(suggested="b").head(n_shown)
    return label_audit.render_page(shown, table, {}, {}, listing)


def test_the_page_holds_the_lines_and_trusts_no_name(source, clips):
    page = render(source, clips, 3)
    assert page.count("<p data-line=") == 3 and page.count("<script") == page.count("</script>") == 2
    held = json.loads(re.search(r'id="listing">(.*?)</script>', page)[1])
    assert held["file"] == source.name and held["lines"][-1][-1] == NASTY
    command = re.search(r"<pre>(.*?)</pre>", page)[1]
    assert html.unescape(command).endswith("""'source=""" + str(source).replace("'", "'\"'\"'") + "'")


def test_a_csv_that_is_gone_or_broken(source, clips):
    source.write_text("path\n")
    with pytest.raises(DataError, match="lacks the column genre"):
        label_correction.load_listing(clips, str(source))
    source.unlink()
    assert label_correction.load_listing(clips, str(source)).path is None


def test_a_person_corrects_the_page_in_a_browser(source, clips, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright")
    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser_path is None:
        pytest.skip("no Chromium on this machine")
    (tmp_path / "labels.html").write_text(render(source, clips, 8))
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto((tmp_path / "labels.html").as_uri())
        first = tab.locator("section").nth(1)  # its track has another clip on the page
        first.get_by_role("textbox").or_(first.get_by_role("combobox")).fill("Fado")
        assert tab.locator("section").nth(2).locator("input").first.input_value() == "Fado"
        tab.locator("section").nth(7).get_by_role("checkbox").check()
        assert tab.locator("#count").inner_text() == "2 of 7 lines corrected"
        with tab.expect_download() as download:
            tab.locator("#download").click()
        name = download.value.suggested_filename
        download.value.save_as(tmp_path / "corrected.csv")
        browser.close()
    assert name.endswith("mine.csv")
    assert pd.read_csv(tmp_path / "corrected.csv")["genre"].tolist() == ["a", "Fado", "a", "b", "b", "b"]
