"""Duplicates: the same music in several clips, found, and kept within one split.

Two clips are exact duplicates if all their features are equal to the last digit, as they are where the decoded audio
is. They are near duplicates if their spectrograms are the same but for time and loudness: encoded again, louder or
softer, cut a little earlier. Candidates are each clip's nearest neighbours in statistics that an encoder, a gain and a
small shift hardly change, those of chroma and MFCCs. They are searched among all clips or, where there are many, within
clusters of clips. Candidates are then compared by the residuals of their log-mel spectrograms, that is, what remains
when the mean of every band and of every frame is subtracted: two pieces may share a timbre and a beat, but hardly each
note.
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
from genre.store.contents import InputReader

#: Neighbours of each clip that are compared with it. If a piece has more duplicates than this, they are joined through
#: one another.
N_NEIGHBOURS = 5

#: Mean number of clips per cell (a cluster within which neighbours are searched); the time per clip is proportional
#: to it.
CELL_CLIPS = 5_000

#: Number of cells below which all clips are searched as one.
MIN_CELLS = 10

#: Nearest cells in which a clip is searched for: 99.9 % of the duplicates that benchmarks/quality/leaks.py plants share
#: one with their original.
CELLS_OF_CLIP = 2

#: Correlation of residuals from which two clips are duplicates; benchmarks/quality/leaks.py measures what is found.
MIN_SIMILARITY = 0.75

#: Maximum number of frames by which one of two duplicates begins later: two seconds.
MAX_SHIFT = 86

#: Number of neighbouring bands that are summed before comparing; the similarity stays the same for a third of the work.
POOLED_BANDS = 3

#: Number of pairs compared at a time. With more, the memory for their spectra is requested from the system anew for
#: each chunk, and the page faults take as long as the comparison.
CHUNK_PAIRS = 16

#: Statistics of timbre and harmony, which an encoder and a gain hardly change; without the mean of the first MFCC, the
#: level.
ROBUST_FEATURES = [c for c in FEATURE_NAMES if FAMILIES[c] in ("mfccs", "chroma_stft") and c != "mfccs_1_mean"]


def find_duplicates(
    features: pd.DataFrame, spectrograms: InputReader | np.ndarray | None = None, *, n_jobs: int = 1
) -> pd.DataFrame:
    """Find the clips that are duplicates of each other.

    Parameters
    ----------
    features : pd.DataFrame [shape=(n, 97)]
        Indexed by clip.
    spectrograms : InputReader or np.ndarray [shape=(n, n_mels, t), dtype=uint8], optional
        Of the same clips in the same order. Without them only exact duplicates are found.
    n_jobs : int
        Number of threads, limited to one per core; -1 for one per core.

    Returns
    -------
    pd.DataFrame
        Columns ``first`` and ``second`` (ids, in the order of `features`), ``kind`` (``exact`` or ``near``) and
        ``similarity`` (up to 1). If a clip has many duplicates not every pair is listed, but all are connected.
    """
    pairs = _exact_duplicates(features).assign(similarity=1.0, kind="exact")
    if spectrograms is not None and len(features) > 1:
        near = _near_duplicates(features, spectrograms, n_jobs).assign(kind="near")
        is_exact = np.isin(_encode_pairs(near, len(features)), _encode_pairs(pairs, len(features)))
        pairs = pd.concat([pairs, near[~is_exact]], ignore_index=True)
    ids = features.index.to_numpy()
    out = pd.DataFrame({"first": ids[pairs["i"].to_numpy(int)], "second": ids[pairs["j"].to_numpy(int)]})
    return out.assign(kind=pairs["kind"], similarity=pairs["similarity"].to_numpy(float))


def duplicates_digest(clips: pd.DataFrame, fingerprint: str) -> str:
    """Hash all that `find_duplicates` depends on: the clips, how they are analysed, and this module.

    Parameters
    ----------
    clips : pd.DataFrame
        Columns ``clip_id`` and ``stamp``.
    fingerprint : str
        Fingerprint of the configuration.

    Returns
    -------
    str
        Twelve hexadecimal digits.
    """
    digest = hashlib.sha256(f"{Path(__file__).read_text()}\n{fingerprint}".encode())
    for clip_id, stamp in zip(clips["clip_id"], clips["stamp"], strict=True):
        digest.update(f"\n{clip_id}\t{stamp}".encode())
    return digest.hexdigest()[:12]


def between_recordings(duplicates: pd.DataFrame, clips: pd.DataFrame) -> pd.DataFrame:
    """Keep only the duplicate pairs from different recordings; within one recording, similar clips are no leak.

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
    clips = clips.set_index("clip_id")
    recording = clips["recording"]
    genre = clips["genre"].astype(str)
    differ = recording.loc[duplicates["first"]].to_numpy() != recording.loc[duplicates["second"]].to_numpy()
    duplicates = duplicates[differ].reset_index(drop=True)
    return duplicates.assign(
        first_genre=genre.loc[duplicates["first"]].to_numpy(),
        second_genre=genre.loc[duplicates["second"]].to_numpy(),
    )


def pair_similarities(spectrograms: InputReader | np.ndarray, candidates: np.ndarray, *, n_jobs: int = 1) -> np.ndarray:
    """Compute the similarity of the spectrograms of each pair, at the shift in time at which it is highest.

    Parameters
    ----------
    spectrograms : InputReader or np.ndarray [shape=(n, n_mels, t), dtype=uint8]
        InputReader of all clips.
    candidates : np.ndarray [shape=(m, 2), dtype=int]
        Positions of the pairs.
    n_jobs : int
        Number of threads, limited to one per core; -1 for one per core.

    Returns
    -------
    np.ndarray [shape=(m,)]
        Correlation of their residuals over all bands and frames, -1 to 1; the shift is at most `MAX_SHIFT` frames.
    """
    chunks = (candidates[start : start + CHUNK_PAIRS] for start in range(0, len(candidates), CHUNK_PAIRS))
    parallel = Parallel(min(effective_n_jobs(n_jobs), cpu_count()), prefer="threads", return_as="generator")
    computed = parallel(delayed(_chunk_similarities)(spectrograms, chunk) for chunk in chunks)
    similarities = np.empty(len(candidates))
    for start, values in zip(range(0, len(candidates), CHUNK_PAIRS), computed, strict=True):
        similarities[start : start + CHUNK_PAIRS] = values
    return similarities


def resolve_duplicates(
    clips: pd.DataFrame, duplicates: pd.DataFrame, assigned: Mapping[str, str], *, merge: bool = True
) -> pd.DataFrame:
    """Merge duplicate recordings, or drop them where they are in two splits already.

    Recordings that share a duplicate become one recording, named like the one of them that was assigned first, or else
    the first by name. Assignments never change: of duplicates in different splits, only those in test are kept, or else
    those in validation; the others leave the data set.

    Parameters
    ----------
    clips : pd.DataFrame
        Clips table that contains all clips of `duplicates`.
    duplicates : pd.DataFrame
        As `find_duplicates` returns.
    assigned : mapping of str to str
        Recording to split, in the order of assignment.
    merge : bool
        Whether duplicates in one split, or not yet assigned, become one recording. Default True.

    Returns
    -------
    pd.DataFrame
        `clips` with merged ``recording``; clips that are dropped have the status ``duplicate_of_test`` or
        ``duplicate_of_validation``, and a reason.
    """
    groups = _connected_recordings(clips.set_index("clip_id")["recording"].astype(str), duplicates)
    duplicate_of: dict[str, str] = {}
    merged_into: dict[str, str] = {}
    for kept, *others in _rank_members(groups, assigned):
        for recording in others:
            is_divided = recording in assigned and assigned[recording] != assigned[kept]
            (duplicate_of if is_divided else merged_into)[recording] = kept
    clips = _drop_recordings(clips, duplicate_of, assigned)
    if merge and merged_into:
        successor = clips["recording"].map(merged_into)
        clips["recording"] = successor.fillna(clips["recording"])
    return clips


def _rank_members(groups: list[list[str]], assigned: Mapping[str, str]) -> list[list[str]]:
    """Sort the recordings of each group: the one that is kept first."""
    members = {recording for group in groups for recording in group}
    order = {recording: position for position, recording in enumerate(assigned) if recording in members}
    split_rank = {split: rank for rank, split in enumerate(reversed(SPLITS))}  # test is kept before all others

    def rank(recording: str) -> tuple[int, int, str]:
        split = assigned.get(recording, "")
        return split_rank.get(split, len(SPLITS)), order.get(recording, len(order)), recording

    return [sorted(group, key=rank) for group in groups]


def _drop_recordings(clips: pd.DataFrame, duplicate_of: Mapping[str, str], assigned: Mapping[str, str]) -> pd.DataFrame:
    """Return the clips table without the usable clips of some recordings, each a duplicate of one in another split."""
    clips = clips.copy()
    is_dropped = clips["recording"].isin(list(duplicate_of)) & (clips["status"] == "ok")
    if is_dropped.any():
        kept = clips.loc[is_dropped, "recording"].map(duplicate_of)
        split = kept.map(assigned)
        clips.loc[is_dropped, "reason"] = "duplicate of " + kept + ", which is in the " + split + " split"
        clips.loc[is_dropped, "status"] = "duplicate_of_" + split
    return clips


def _chunk_similarities(spectrograms: InputReader | np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Compute `pair_similarities` of one chunk, the spectra of which are in memory together."""
    positions, inverse = np.unique(candidates, return_inverse=True)
    selected = spectrograms[positions]
    n = fft.next_fast_len(selected.shape[-1] + MAX_SHIFT, real=True)
    spectra = _residual_spectra(selected, n)
    products = [(spectra[i] * spectra[j].conj()).sum(axis=0) for i, j in inverse.reshape(candidates.shape)]
    return highest_correlations(np.asarray(products), n, MAX_SHIFT)


def highest_correlations(products: np.ndarray, n_fft: int, max_shift: int) -> np.ndarray:
    """Return the highest correlation of each pair over the shifts in time.

    Parameters
    ----------
    products : np.ndarray [shape=(m, n_fft // 2 + 1), dtype=complex]
        Of each pair, the spectrum of one times the conjugate of the other, summed over bands.
    n_fft : int
        Length of the transform, at least the number of frames plus `max_shift`.
    max_shift : int
        Largest shift, frames.
    """
    correlation = fft.irfft(products, n_fft)  # by shift; negative shifts wrap around to the end
    return np.maximum(correlation[:, : max_shift + 1].max(axis=1), correlation[:, -max_shift:].max(axis=1))


def _exact_duplicates(features: pd.DataFrame) -> pd.DataFrame:
    """Find equal rows: positions ``i`` of the first of them, and ``j`` of each further one."""
    # by hash first: pandas codes every column of the rows that it compares, in twice the memory of the features
    suspects = np.flatnonzero(pd.Series(_hash_rows(features)).duplicated(keep=False))
    table = features.iloc[suspects].reset_index(drop=True)
    is_repeated = table.duplicated(keep=False)
    group = table[is_repeated].groupby(list(table.columns), sort=False, dropna=False).ngroup().to_numpy()
    repeated = suspects[is_repeated]
    first = pd.Series(repeated).groupby(group).transform("first").to_numpy()
    return pd.DataFrame({"i": first, "j": repeated})[first != repeated].reset_index(drop=True)


def _hash_rows(features: pd.DataFrame) -> np.ndarray:
    """Return a hash of each row, equal for equal rows."""
    hashes = np.zeros(len(features), np.uint64)
    for name in features:
        hashes *= np.uint64(1_000_003)  # an odd factor, so that no bit is lost; overflow wraps around
        hashes += pd.util.hash_array(features[name].to_numpy() + 0.0)  # -0.0 equals 0.0
    return hashes


def _near_duplicates(features: pd.DataFrame, spectrograms: InputReader | np.ndarray, n_jobs: int) -> pd.DataFrame:
    """Find the candidate pairs whose spectrograms are similar enough: positions ``i``, ``j`` and ``similarity``."""
    candidates = _candidate_pairs(features)
    similarity = pair_similarities(spectrograms, candidates, n_jobs=n_jobs)
    is_near = similarity >= MIN_SIMILARITY
    i, j = candidates[is_near].T
    return pd.DataFrame({"i": i, "j": j, "similarity": similarity[is_near]})


def _encode_pairs(pairs: pd.DataFrame, n: int) -> np.ndarray:
    """Return a number for each pair of n clips."""
    return pairs["i"].to_numpy(np.int64) * n + pairs["j"].to_numpy(np.int64)


def _candidate_pairs(features: pd.DataFrame) -> np.ndarray:
    """Return pairs of positions, each once, of clips that are close in the features that duplicates share."""
    n = len(features)
    X = _standardise(features[ROBUST_FEATURES])
    found = []
    for cell in _cluster_clips(X):
        if len(cell) > 1:
            # one number per pair, because each clip has ten
            pairs = np.sort(cell[_nearest_neighbours(X[cell])], axis=1)
            found.append(np.unique(pairs[:, 0] * n + pairs[:, 1]))
    return np.column_stack(np.divmod(np.unique(np.concatenate(found)), n))


def _standardise(features: pd.DataFrame) -> np.ndarray:
    """Return the features with mean 0 and deviation 1, float32; one at a time, to have one of them only in float64."""
    X = np.empty((features.shape[1], len(features)), np.float32)
    for row, name in zip(X, features, strict=True):
        row[:] = StandardScaler().fit_transform(features[[name]].to_numpy(np.float64))[:, 0]
    return X.T


def _nearest_neighbours(X: np.ndarray) -> np.ndarray:
    """Return pairs of positions, each row with each of its neighbours, shape (m, 2)."""
    index = NearestNeighbors(n_neighbors=min(N_NEIGHBOURS, len(X) - 1)).fit(X)
    neighbours = index.kneighbors(return_distance=False)  # without X, a point is not its own neighbour
    return np.column_stack([np.repeat(np.arange(len(X)), neighbours.shape[1]), neighbours.ravel()])


def _cluster_clips(X: np.ndarray) -> list[np.ndarray]:
    """Divide the clips into cells, which may overlap; return the positions of each cell's clips."""
    n_cells = len(X) // CELL_CLIPS
    if n_cells < MIN_CELLS:
        return [np.arange(len(X))]
    centres = MiniBatchKMeans(n_cells, random_state=0, n_init=1).fit(X).cluster_centers_
    nearest = NearestNeighbors(n_neighbors=CELLS_OF_CLIP).fit(centres).kneighbors(X, return_distance=False)
    order = np.argsort(nearest, axis=None, kind="stable")
    first = np.searchsorted(nearest.ravel(), np.arange(1, n_cells), sorter=order)
    return np.split(order // CELLS_OF_CLIP, first)


def _residual_spectra(spectrograms: np.ndarray, n_fft: int) -> np.ndarray:
    """Transform the residuals along time, each scaled to norm 1 and padded to `n_fft` frames."""
    S = compute_residuals(spectrograms)
    S /= np.maximum(np.linalg.norm(S, axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
    return fft.rfft(S, n_fft, axis=-1)


def compute_residuals(spectrograms: np.ndarray) -> np.ndarray:
    """Compute what remains of spectrograms without the mean of every band and of every frame.

    Parameters
    ----------
    spectrograms : np.ndarray [shape=(n, n_mels, t), dtype=uint8]
        Log-mel spectrograms.

    Returns
    -------
    np.ndarray [shape=(n, n_mels // 3, t), dtype=float32]
        Residuals of groups of bands; 0 in frames that pad a short clip.
    """
    n, n_mels, t = spectrograms.shape
    bands = spectrograms[:, : n_mels // POOLED_BANDS * POOLED_BANDS].reshape(n, n_mels // POOLED_BANDS, POOLED_BANDS, t)
    S = bands.sum(axis=2, dtype=np.uint16).astype(np.float32)  # summed as integers, three times as fast
    audible = S.any(axis=1, keepdims=True)  # frames that pad a short clip must not count as similar
    S -= S.sum(axis=2, keepdims=True) / np.maximum(audible.sum(axis=2, keepdims=True), 1)
    S -= S.mean(axis=1, keepdims=True)
    S *= audible
    return S


def _connected_recordings(recording: pd.Series, duplicates: pd.DataFrame) -> list[list[str]]:
    """Group the recordings that duplicates connect; only groups of two or more are returned."""
    if duplicates.empty:
        return []
    codes, names = pd.factorize(recording)
    code = pd.Series(codes, index=recording.index)
    first = code.loc[duplicates["first"]].to_numpy()
    second = code.loc[duplicates["second"]].to_numpy()
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(len(names), len(names)))
    component = pd.Series(connected_components(graph, directed=False)[1])
    connected = component[component.duplicated(keep=False)]
    return [[str(names[k]) for k in group.index] for _, group in connected.groupby(connected)]
