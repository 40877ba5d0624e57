"""Audit of labels: those that out-of-fold models doubt most, as a table and as a page for review."""

import base64
import html
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from genre.errors import DataError
from genre.inputs import spectrogram
from genre.probabilities import tables
from genre.studies import label_correction
from genre.studies.label_correction import Listing

_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Labels in doubt</title><style>
body{font:15px/1.45 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222}
section{display:flex;gap:1.2rem;align-items:center;border-top:1px solid #ddd;padding:.8rem 0}
img{width:300px;height:134px;image-rendering:auto;background:#eee}b{font-weight:600}small{color:#666}
i{display:inline-block;height:.7rem;background:#0072B2}i.label{background:#D55E00}td{padding:0 .6rem 0 0}
</style>"""


def rank_label_issues(table: pd.DataFrame) -> pd.DataFrame:
    """Rank clips by the doubt about their label, by confident learning (Northcutt et al. 2021; the library cleanlab).

    A clip is in doubt if a model that was not trained on its recording gives another genre at least the probability
    that clips of that genre get on average. A genre with low probabilities throughout is thus not penalised.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table, each clip predicted by a model that was not fitted on its recording.

    Returns
    -------
    pd.DataFrame
        Index ``clip_id``; ``genre`` as labelled, ``suggested``, ``p_label`` and ``p_suggested``, ``quality`` (0 to 1,
        half the margin of the label over the best other genre, plus a half) and ``in_doubt``. In doubt first, then by
        quality, the lowest first.

    Raises
    ------
    DataError
        If a genre has no clip, so that its average is unknown.
    UsageError
        If `table` is no probability table.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    y = tables.labels_of(table)
    proba = tables.proba_of(table)
    genres = tables.genres_of(table)
    if missing := [genre for k, genre in enumerate(genres) if not (y == k).any()]:
        raise DataError(f"no clip of {', '.join(missing)}; an audit needs clips of every genre")
    others = np.where(np.eye(len(genres), dtype=bool)[y], -1.0, proba)
    rows = pd.DataFrame(
        {
            "genre": table["genre"].astype(str),
            "suggested": np.array(genres)[others.argmax(axis=1)],
            "p_label": proba[np.arange(len(y)), y],
            "p_suggested": others.max(axis=1),
            "quality": get_label_quality_scores(y, proba, method="normalized_margin"),
            "in_doubt": find_label_issues(y, proba, filter_by="confident_learning", n_jobs=1),
        },
        index=table.index,
    )
    return rows.sort_values(["in_doubt", "quality"], ascending=[False, True], kind="stable")


def render_page(
    shown: pd.DataFrame,
    proba: pd.DataFrame,
    spectrograms: Mapping[str, np.ndarray],
    audio_urls: Mapping[str, str],
    listing: Listing | None = None,
) -> str:
    """Render a page of clips with their label, the predictions, the spectrogram and a player, for correction.

    Parameters
    ----------
    shown : pd.DataFrame
        Rows of `rank_label_issues`, in the order of the page.
    proba : pd.DataFrame
        Probability table that has these clips.
    spectrograms : mapping of str to np.ndarray [shape=(n_mels, t), dtype=uint8]
        Clip to stored spectrogram; clips without one are shown without.
    audio_urls : mapping of str to str
        Clip to the URL of its audio; clips without one have no player.
    listing : Listing, optional
        Labels as a CSV, which the page corrects and offers as a download; by default nothing can be corrected.

    Returns
    -------
    str
        HTML that refers to nothing but the audio.

    Raises
    ------
    UsageError
        If `proba` is no probability table.
    """
    genres = tables.genres_of(proba)
    parts = [_HEAD, f"<h1>Labels in doubt</h1><p>{len(shown)} clips, the most doubtful first. Orange: the label."]
    if listing:
        parts.append(label_correction.render_instructions(listing, genres))
    for clip_id, row in zip(shown.index.astype(str), shown.to_dict("records"), strict=True):
        predictions = proba.loc[clip_id, genres].sort_values(ascending=False)
        bars = "".join(
            _bar_row(str(genre), float(p), genre == row["genre"]) for genre, p in predictions.items() if p >= 0.01
        )
        fields = label_correction.render_fields(listing, clip_id, str(row["suggested"])) if listing else ""
        parts.append(
            f"<section>{_spectrogram_tag(spectrograms.get(clip_id))}<div>"
            f"<b>{html.escape(str(row['genre']))}</b> &rarr; "
            f"{html.escape(str(row['suggested']))}? <small>{html.escape(clip_id)}</small>"
            f"<table>{bars}</table>{_audio_tag(audio_urls.get(clip_id))}{fields}</div></section>"
        )
    if listing:
        parts.append(label_correction.render_script(listing))
    return "\n".join(parts)


def clip_url(path: str, start_s: float, end_s: float) -> str:
    """Return the URL of a window of a local audio file, for a browser on this machine."""
    return f"{Path(path).resolve().as_uri()}#t={start_s:g},{end_s:g}"


def _bar_row(genre: str, p: float, is_label: bool) -> str:
    mark = ' class="label"' if is_label else ""
    return f'<tr><td>{html.escape(genre)}<td>{p:.2f}<td><i{mark} style="width:{300 * p:.0f}px"></i></tr>'


def _spectrogram_tag(stored: np.ndarray | None) -> str:
    if stored is None:
        return ""
    from matplotlib.image import imsave

    file = io.BytesIO()
    imsave(file, spectrogram.render_rgb_image(stored), format="png")
    return f'<img alt="spectrogram" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _audio_tag(address: str | None) -> str:
    return f'<audio controls preload="none" src="{html.escape(address)}"></audio>' if address else ""
