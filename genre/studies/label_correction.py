"""Correction of labels by a person, on the page of doubtful ones: a CSV that the data set ``folder`` takes.

The page needs no server: it holds the lines of the CSV, and a script that replaces the genres which the person has
typed and hands the CSV over as a download.
"""

import html
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from genre.datasets import folder

#: The function that makes the CSV: ``corrections`` maps the number of a line to its genre, or to null to remove it.
CSV_SCRIPT = r"""
function correctedCsv(columns, lines, corrections) {
  const cell = text => /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  const at = columns.indexOf("genre");
  const kept = lines.map((line, n) => n in corrections && corrections[n] !== null
    ? line.map((text, k) => k === at ? corrections[n] : text) : line).filter((_, n) => corrections[n] !== null);
  return [columns, ...kept].map(line => line.map(cell).join(",") + "\n").join("");
}
"""

#: Name of the download where the labels come from no CSV.
_FILE_NAME = "corrected.csv"

#: Advice where the labels come from a CSV. A build of the same path reuses what was computed, and its tracks keep their
#: splits; the few tracks of a new genre may all be in one.
_PUT_IN_PLACE = "put it in place of {} (or, if it has new genres, beside it under a name of its own)"

#: Everything else that the page does. A track with several clips on the page has the same genre at each of them.
_PAGE_SCRIPT = r"""
const listing = JSON.parse(document.getElementById("listing").textContent);
const corrections = {};
let isSaved = true;
function readFields(fields) {
  const line = fields.dataset.line;
  const [text, box] = fields.querySelectorAll("input");
  const genre = text.value.trim();
  delete corrections[line];
  if (box.checked) corrections[line] = null;
  else if (genre && genre !== listing.lines[line][listing.columns.indexOf("genre")]) corrections[line] = genre;
  for (const others of document.querySelectorAll(`[data-line="${line}"]`)) {
    const [otherText, otherBox] = others.querySelectorAll("input");
    otherText.value = text.value;
    otherText.disabled = otherBox.checked = box.checked;
  }
  const n = Object.keys(corrections).length;
  isSaved = n === 0;
  document.getElementById("count").textContent = `${n} of ${listing.lines.length} lines corrected`;
}
document.querySelectorAll("[data-line]").forEach(readFields);
document.addEventListener("input", event => {
  const fields = event.target.closest("[data-line]");
  if (fields) readFields(fields);
});
document.addEventListener("click", event => {
  const genre = event.target.dataset.genre;
  if (genre === undefined) return;
  const fields = event.target.closest("[data-line]");
  fields.querySelector("input").value = genre;
  readFields(fields);
});
document.getElementById("download").addEventListener("click", () => {
  const link = document.createElement("a");
  const text = correctedCsv(listing.columns, listing.lines, corrections);
  link.href = URL.createObjectURL(new Blob([text], {type: "text/csv"}));
  link.download = listing.file;
  link.click();
  isSaved = true;
});
window.addEventListener("beforeunload", event => { if (!isSaved) event.preventDefault(); });
"""


@dataclass(frozen=True)
class Listing:
    """Labels of a data set as lines of a CSV.

    Attributes
    ----------
    lines : pd.DataFrame
        Text; at least ``path`` and ``genre``, without missing values. The index counts the lines from 0.
    line_of_clip : mapping of str to int
        Clip to its line; clips whose line cannot be found are missing.
    path : Path or None
        The CSV that the lines were read from; None if the data set has none.
    """

    lines: pd.DataFrame
    line_of_clip: Mapping[str, int]
    path: Path | None = None


def load_listing(clips: pd.DataFrame, source: str) -> Listing:
    """Return the labels of a data set as lines: those of the CSV it was built from or, if there is none, one per file.

    Parameters
    ----------
    clips : pd.DataFrame
        Clips table.
    source : str
        Source of the data set.

    Raises
    ------
    DataError
        If the source is a CSV that can no longer be read.
    """
    path = Path(source).expanduser().resolve()
    is_csv = clips["dataset"].iloc[0] == "folder" and path.is_file()
    if is_csv:
        lines = folder.read_listing(path)
        files = [str(folder.resolve_listed(name, path)) for name in lines["path"]]
    else:
        lines = clips.drop_duplicates("path", ignore_index=True)[["path", "genre", "recording"]]
        files = list(lines["path"])
    lines = lines.astype(object).fillna("").astype(str)
    return Listing(lines, _match_lines(clips, lines, files), path if is_csv else None)


def _match_lines(clips: pd.DataFrame, lines: pd.DataFrame, files: Sequence[str]) -> dict[str, int]:
    """Map each clip to the line of its file or, if that has several, the one of the stretch that the clip lies in."""
    spans = lines.reindex(columns=["start_s", "end_s"]).apply(pd.to_numeric, errors="coerce")
    stretches = spans.fillna({"start_s": 0.0, "end_s": float("inf")}).assign(path=files, line=lines.index)
    pairs = clips[["clip_id", "path", "start_s"]].merge(stretches, on="path", suffixes=("", "_of_line"))
    is_inside = (pairs["start_s"] >= pairs["start_s_of_line"]) & (pairs["start_s"] < pairs["end_s"])
    found = pairs[is_inside].drop_duplicates("clip_id")
    return dict(zip(found["clip_id"].astype(str), found["line"].astype(int), strict=True))


def render_fields(listing: Listing, clip_id: str, suggested: str) -> str:
    """Render the fields in which a person corrects the genre of a clip's track; empty if its line is not known."""
    line = listing.line_of_clip.get(clip_id)
    if line is None:
        return ""
    genre = html.escape(listing.lines["genre"][line])
    suggested = html.escape(suggested)
    return (
        f'<p data-line="{line}">Genre <input list="genres" placeholder="{genre}" aria-label="genre"> '
        f'<button type="button" data-genre="{suggested}">{suggested}</button> '
        '<label><input type="checkbox"> leave out</label></p>'
    )


def render_instructions(listing: Listing, genres: Sequence[str]) -> str:
    """Render the steps of a correction, the button that downloads the CSV, and the genres to choose from."""
    options = "".join(f'<option value="{html.escape(genre)}">' for genre in genres)
    path = listing.path or Path(_FILE_NAME)
    words = ["mlflow", "run", ".", "--env-manager", "local", "-P", "dataset=folder", "-P", f"source={path}"]
    place = f"<code>{html.escape(str(path))}</code>"
    return (
        "<p>Where the label is wrong, choose the right genre or type a new one; leave out what is no music or fits no "
        'genre. Then <button type="button" id="download">download the CSV</button> (<span id="count"></span>), '
        f"{_PUT_IN_PLACE.format(place) if listing.path else f'keep it, for example as {place}'}, and train on it:</p>"
        f'<pre>{html.escape(shlex.join(words))}</pre><datalist id="genres">{options}</datalist>'
    )


def render_script(listing: Listing) -> str:
    """Render the lines of the CSV and the script of the page, for its end."""
    content = {
        "file": listing.path.name if listing.path else _FILE_NAME,
        "columns": list(listing.lines.columns),
        "lines": listing.lines.to_numpy().tolist(),
    }
    text = json.dumps(content, ensure_ascii=False).replace("<", "\\u003c")  # or "</script>" in a name would end it
    return f'<script type="application/json" id="listing">{text}</script>\n<script>{CSV_SCRIPT}{_PAGE_SCRIPT}</script>'
