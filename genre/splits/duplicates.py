"""The same music twice: copies found, and kept on one side of the split.

A copy is exact where all features are equal to the last digit, as they are where the decoded audio is. It is near where
the spectrograms are the same picture but for time and loudness: encoded again, louder or softer, cut a little earlier.
Candidates are each clip's nearest neighbours in what an encoder, a gain and a small shift leave alone, the statistics
of chroma and MFCCs, looked for among all clips or, where these are many, in cells. They are then compared by the
residual of their log-mel spectrograms, what is left when every band's and every frame's mean is taken away: two pieces
may share a timbre and a beat, but hardly each note.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed, effective_n_jobs
from scipy import fft
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import MiniBatchKMeans
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from genre.config import SPLITS
from genre.inputs.features import FAMILIES, FEATURE_NAMES
from genre.store.contents import Spectrograms

#: Neighbours of each clip that are compared with it. A piece may be there more often than this: its copies are then
#: joined through one another.
N_NEIGHBOURS = 5

#: Clips of a cell, within which neighbours are looked for; the time of each clip is in proportion to it. Where there
#: would be fewer cells than these, all clips are one.
CELL_CLIPS, MIN_CELLS = 5_000, 10

#: Nearest cells in which a clip is searched for: 99.9 % of the duplicates that benchmarks/quality/leaks.py plants share
#: one with their original.
CELLS_OF_CLIP = 2

#: Correlation of residuals from which two clips are duplicates; benchmarks/quality/leaks.py measures what is found.
MIN_SIMILARITY = 0.75

#: Frames that one of two copies may begin later: two seconds.
MAX_SHIFT = 86

#: Bands whose mean is taken before comparing; the picture stays the same and the work is a third.
POOLED_BANDS = 3

#: Pairs compared at a time: with more, the memory of their spectra comes from the system anew for each, and the page
#: faults take as long as the comparison.
CHUNK_PAIRS = 16

#: Statistics of timbre and harmony; the first MFCC's mean is the level.
_ROBUST_FEATURES = [c for c in FEATURE_NAMES if FAMILIES[c] in ("mfccs", "chroma_stft") and c != "mfccs_1_mean"]


def find_duplicates(
    features: pd.DataFrame, spectrograms: Spectrograms | np.ndarray | None = None, *, n_jobs: int = 1
) -> pd.DataFrame:
    """Clips that are copies of each other.

    Parameters
    ----------
    features : pd.DataFrame [shape=(n, 97)]
        Indexed by clip.
    spectrograms : Spectrograms or np.ndarray [shape=(n, n_mels, t), dtype=uint8], optional
        In the same order. Without them, only features that are equal to the last digit are found.
    n_jobs : int
        Threads that compare, at most one per core; -1 for as many.

    Returns
    -------
    pd.DataFrame
        Columns ``first`` and ``second`` (ids, in the order of `features`), ``kind`` (``exact`` or ``near``) and
        ``similarity`` (up to 1). Of many copies of one clip not every pair is listed, but they hang together.
    """
    found = _exact_duplicates(features)
    found["similarity"] = 1.0
    if spectrograms is not None and len(features) > 1:
        candidates = _candidate_pairs(features)
        similarity = pair_similarities(spectrograms, candidates, n_jobs=n_jobs)
        rows = np.column_stack([candidates, similarity])[similarity >= MIN_SIMILARITY]
        near = pd.DataFrame(rows, columns=["i", "j", "similarity"]).astype({"i": int, "j": int})
        equal = {(i, j) for i, j in zip(found["i"], found["j"], strict=True)}
        near = near[[(i, j) not in equal for i, j in zip(near["i"], near["j"], strict=True)]]
        found = pd.concat([found.assign(kind="exact"), near.assign(kind="near")], ignore_index=True)
    ids = features.index.to_numpy()
    out = pd.DataFrame({"first": ids[found["i"].to_numpy(int)], "second": ids[found["j"].to_numpy(int)]})
    return out.assign(kind=found.get("kind", "exact"), similarity=found["similarity"].to_numpy(float))


def duplicates_digest(clips: pd.DataFrame, fingerprint: str) -> str:
    """Twelve hexadecimal digits of all that `find_duplicates` depends on: clips, their analysis, and this module.

    Parameters
    ----------
    clips : pd.DataFrame
        Columns ``clip_id`` and ``stamp``.
    fingerprint : str
        Of the configuration.

    Returns
    -------
    str
    """
    text = "\n".join([Path(__file__).read_text(), fingerprint, *(clips["clip_id"] + "\t" + clips["stamp"]).astype(str)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def between_recordings(duplicates: pd.DataFrame, clips: pd.DataFrame) -> pd.DataFrame:
    """Pairs that are of two recordings: within one, likeness is no leak.

    Parameters
    ----------
    duplicates : pd.DataFrame
        As `find_duplicates` returns.
    clips : pd.DataFrame
        Columns ``clip_id``, ``recording``, ``genre``.

    Returns
    -------
    pd.DataFrame
        Those rows, with ``first_genre`` and ``second_genre``.
    """
    known = clips.set_index("clip_id")
    apart = (
        known["recording"].loc[duplicates["first"]].to_numpy()
        != known["recording"].loc[duplicates["second"]].to_numpy()
    )
    duplicates = duplicates[apart].reset_index(drop=True)
    genres = {
        f"{side}_genre": known["genre"].loc[duplicates[side]].astype(str).to_numpy() for side in ("first", "second")
    }
    return duplicates.assign(**genres)


def pair_similarities(
    spectrograms: Spectrograms | np.ndarray, candidates: np.ndarray, *, n_jobs: int = 1
) -> np.ndarray:
    """How much alike the spectrograms of each pair are, at the shift in time that suits them best.

    Parameters
    ----------
    spectrograms : Spectrograms or np.ndarray [shape=(n, n_mels, t), dtype=uint8]
        Of all clips.
    candidates : np.ndarray [shape=(m, 2), dtype=int]
        Positions of the pairs.
    n_jobs : int
        Threads, at most one per core; -1 for as many.

    Returns
    -------
    np.ndarray [shape=(m,)]
        Correlation of their residuals over all bands and frames, -1 to 1; the shift is at most `MAX_SHIFT` frames.
    """
    chunks = (candidates[start : start + CHUNK_PAIRS] for start in range(0, len(candidates), CHUNK_PAIRS))
    several = Parallel(min(effective_n_jobs(n_jobs), cpu_count()), prefer="threads")
    return np.concatenate(
        [np.empty(0), *several(delayed(_chunk_similarities)(spectrograms, chunk) for chunk in chunks)]
    )


def resolve_duplicates(
    clips: pd.DataFrame, duplicates: pd.DataFrame, assigned: Mapping[str, str], *, merge: bool = True
) -> pd.DataFrame:
    """Copies made one recording, or taken out where they stand on two sides already.

    Recordings that share a copy are one recording, named as the one of them that was dealt first, or else the first by
    name. Nothing that was dealt moves: a recording dealt to another side than its copy leaves the data set, unless it
    is on the side that is to be kept clean, test before validation before train.

    Parameters
    ----------
    clips : pd.DataFrame
        Clips table, all of whose usable clips `duplicates` speaks of.
    duplicates : pd.DataFrame
        As `find_duplicates` returns.
    assigned : mapping of str to str
        Recording to split, in the order in which they were dealt.
    merge : bool
        Whether copies on one side, or on none yet, become one recording. Default True.

    Returns
    -------
    pd.DataFrame
        `clips` with ``recording`` joined, and status ``duplicate_of_test`` or ``duplicate_of_validation`` with its
        reason for what leaves.
    """
    clips = clips.copy()
    for members in _connected_recordings(clips.set_index("clip_id")["recording"].astype(str), duplicates):
        order = {recording: place for place, recording in enumerate(assigned)}
        cleanest = {split: place for place, split in enumerate(reversed(SPLITS))}
        members.sort(key=lambda r: (cleanest.get(assigned.get(r, ""), len(SPLITS)), order.get(r, len(order)), r))
        kept, split = members[0], assigned.get(members[0])
        leaving = [r for r in members if r in assigned and assigned[r] != split]
        joining = [r for r in members if r not in leaving]
        gone = clips["recording"].isin(leaving) & (clips["status"] == "ok")
        clips.loc[gone, "reason"] = f"the same music as {kept}, which is in {split}"
        clips.loc[gone, "status"] = f"duplicate_of_{split}"
        if merge:
            clips.loc[clips["recording"].isin(joining), "recording"] = kept
    return clips


def _chunk_similarities(spectrograms: Spectrograms | np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """`pair_similarities` of one chunk, the spectra of which are held at once."""
    at, inverse = np.unique(candidates, return_inverse=True)
    selected = spectrograms[at]
    n = fft.next_fast_len(selected.shape[-1] + MAX_SHIFT, real=True)
    spectra = _residual_spectra(selected, n)
    products = [(spectra[i] * spectra[j].conj()).sum(axis=0) for i, j in inverse.reshape(candidates.shape)]
    at_shift = fft.irfft(products, n)
    return np.maximum(at_shift[:, : MAX_SHIFT + 1].max(axis=1), at_shift[:, -MAX_SHIFT:].max(axis=1))


def _exact_duplicates(features: pd.DataFrame) -> pd.DataFrame:
    """Positions of rows that are equal to the first such row."""
    table = features.reset_index(drop=True)
    repeated = np.flatnonzero(table.duplicated(keep=False))
    first = table.iloc[repeated].groupby(list(table.columns), sort=False, dropna=False).ngroup().to_numpy()
    leader = pd.Series(repeated).groupby(first).transform("first").to_numpy()
    return pd.DataFrame({"i": leader, "j": repeated})[leader != repeated].reset_index(drop=True)


def _candidate_pairs(features: pd.DataFrame) -> np.ndarray:
    """Pairs of positions, each once, that are near in what a copy keeps."""
    X = StandardScaler().fit_transform(features[_ROBUST_FEATURES].to_numpy(np.float64)).astype(np.float32)
    both = np.concatenate([at[_nearest_neighbours(X[at])] for at in _cluster_clips(X) if len(at) > 1])
    return np.unique(np.sort(both, axis=1), axis=0)


def _nearest_neighbours(X: np.ndarray) -> np.ndarray:
    """Each position beside those of its neighbours, shape (m, 2)."""
    index = NearestNeighbors(n_neighbors=min(N_NEIGHBOURS, len(X) - 1)).fit(X)
    near = index.kneighbors(return_distance=False)  # of the fitted points themselves, which do not count
    return np.column_stack([np.repeat(np.arange(len(X)), near.shape[1]), near.ravel()])


def _cluster_clips(X: np.ndarray) -> list[np.ndarray]:
    """Positions of the clips of each cell."""
    n_cells = len(X) // CELL_CLIPS
    if n_cells < MIN_CELLS:
        return [np.arange(len(X))]
    centres = MiniBatchKMeans(n_cells, random_state=0, n_init=1).fit(X).cluster_centers_
    nearest = NearestNeighbors(n_neighbors=CELLS_OF_CLIP).fit(centres).kneighbors(X, return_distance=False)
    return [np.flatnonzero((nearest == cell).any(axis=1)) for cell in range(n_cells)]


def _residual_spectra(spectrograms: np.ndarray, n_fft: int) -> np.ndarray:
    """Fourier transforms along time of the residuals, each of length 1, padded to `n_fft` frames."""
    n, n_mels, t = spectrograms.shape
    bands = spectrograms[:, : n_mels // POOLED_BANDS * POOLED_BANDS].reshape(n, n_mels // POOLED_BANDS, POOLED_BANDS, t)
    S = bands.sum(axis=2, dtype=np.uint16).astype(np.float32)  # in whole numbers, which is three times as fast
    audible = S.any(axis=1, keepdims=True)  # what pads a short clip is no likeness
    S -= S.sum(axis=2, keepdims=True) / np.maximum(audible.sum(axis=2, keepdims=True), 1)
    S -= S.mean(axis=1, keepdims=True)
    S *= audible
    S /= np.maximum(np.linalg.norm(S, axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
    return fft.rfft(S, n_fft, axis=-1)


def _connected_recordings(recording: pd.Series, duplicates: pd.DataFrame) -> list[list[str]]:
    """Recordings that hang together by copies, where there are two or more."""
    codes, names = pd.factorize(recording)
    code = pd.Series(codes, index=recording.index)
    i, j = code.loc[duplicates["first"]].to_numpy(), code.loc[duplicates["second"]].to_numpy()
    graph = coo_array((np.ones(len(i)), (i, j)), shape=(len(names), len(names)))
    part = pd.Series(connected_components(graph, directed=False)[1])
    together = part[part.duplicated(keep=False)]
    return [[str(names[k]) for k in group.index] for _, group in together.groupby(together)]
