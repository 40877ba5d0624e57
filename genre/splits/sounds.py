"""Fingerprints of clips by their sound, which know a clip again whatever its file is called and however it is encoded.

A fingerprint is what the search for duplicates (`genre.splits.duplicates`) compares, in little space: the statistics of
timbre and harmony by which candidates are found, and the signs of the spectrogram's residual, averaged over four
frames. It has 680 bytes per clip, where a spectrogram has 41,000; no audio can be made of it.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import fft
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from genre.config import AudioConfig
from genre.probabilities.tables import name_tracks
from genre.splits.duplicates import (
    MAX_SHIFT,
    N_NEIGHBOURS,
    POOLED_BANDS,
    ROBUST_FEATURES,
    compute_residuals,
    highest_correlations,
)
from genre.store.contents import InputReader, load_features

#: Version of the fingerprints, raised by hand whenever the same audio and configuration give others: other values of
#: `ROBUST_FEATURES`, or another spectrogram. Other features leave it as it is, so that what an older model has learnt
#: is still known. It began as the `FEATURES_VERSION` of its time.
SOUNDS_VERSION = 2

#: Number of frames whose residual is averaged.
POOLED_FRAMES = 4

#: Number of groups of bands in a residual.
N_BANDS = AudioConfig().n_mels // POOLED_BANDS

#: Correlation of signs from which two clips have the same sound. Of 134 clips of the demo, encoded as MP3 at 64 kbit/s,
#: 6 dB softer, moved by half a second, or all three, each is above .58 with its original, and of 13,860 pairs of
#: different recordings none is above .43.
MIN_SIMILARITY = 0.56

#: The same where one of the clips is shorter than `SHORT_FRAMES`: a second of two melodies on few notes reaches .64.
MIN_SIMILARITY_SHORT = 0.8

#: Number of averaged frames of five seconds.
SHORT_FRAMES = 53

#: Number of clips, or of pairs, that are in memory at a time.
CHUNK_SIZE = 256


def name_fingerprints(config: AudioConfig) -> str:
    """Return the name of the fingerprints that a configuration gives; those of one name can be compared."""
    return f"{config.variant}-{config.digest(SOUNDS_VERSION)}"


def fingerprint_clips(clips: pd.DataFrame, directory: Path, config: AudioConfig) -> pd.DataFrame:
    """Compute the fingerprints of clips from the inputs that a store has of them.

    Parameters
    ----------
    clips : pd.DataFrame
        Columns ``clip_id`` and ``stamp``.
    directory : Path
        The store.
    config : AudioConfig
        Configuration of the store.

    Returns
    -------
    pd.DataFrame
        Indexed by ``clip_id``: the features `ROBUST_FEATURES`; ``signs``, bytes; ``n_frames``, the number of averaged
        frames that have sound. Its ``attrs`` hold their name, ``name``, see `name_fingerprints`.

    Raises
    ------
    DataError
        If a clip is not in the store, or a part is damaged.
    """
    table = load_features(clips, directory)[ROBUST_FEATURES].rename_axis("clip_id")
    table.attrs["name"] = name_fingerprints(config)
    spectrograms = InputReader(clips, directory)
    chunks = (spectrograms[start : start + CHUNK_SIZE] for start in range(0, len(clips), CHUNK_SIZE))
    rows = [row for chunk in chunks for row in _encode_residuals(chunk)]
    signs, n_frames = zip(*rows, strict=True)
    return table.assign(signs=signs, n_frames=np.array(n_frames, np.int32))


def match_sounds(sounds: pd.DataFrame, known: pd.DataFrame) -> pd.Series:
    """Find, for clips, a known one of the same sound.

    Parameters
    ----------
    sounds, known : pd.DataFrame
        As `fingerprint_clips` returns.

    Returns
    -------
    pd.Series
        ``clip_id`` of a clip that was recognised to that of the most similar known one.
    """
    if sounds.empty or known.empty:
        return pd.Series(dtype=object)
    scaler = StandardScaler().fit(known[ROBUST_FEATURES])
    index = NearestNeighbors(n_neighbors=min(N_NEIGHBOURS, len(known))).fit(scaler.transform(known[ROBUST_FEATURES]))
    neighbours = index.kneighbors(scaler.transform(sounds[ROBUST_FEATURES]), return_distance=False)
    i = np.repeat(np.arange(len(sounds)), neighbours.shape[1])
    first = sounds.iloc[i]
    second = known.iloc[neighbours.ravel()]
    n_frames = np.minimum(first["n_frames"].to_numpy(), second["n_frames"].to_numpy())
    required = np.where(n_frames < SHORT_FRAMES, MIN_SIMILARITY_SHORT, MIN_SIMILARITY)
    pairs = pd.DataFrame({"i": i, "j": neighbours.ravel(), "similarity": sign_similarities(first, second)})
    best = pairs[pairs["similarity"] >= required].sort_values("similarity").drop_duplicates("i", keep="last")
    return pd.Series(known.index[best["j"]], sounds.index[best["i"]], dtype=object)


def first_of_tracks(clips: pd.DataFrame) -> pd.DataFrame:
    """Return the first clip of each track, by which a recording is known again.

    Parameters
    ----------
    clips : pd.DataFrame
        Columns ``clip_id``, ``recording`` and ``path``.
    """
    return clips[clips["clip_id"].astype(str) == name_tracks(clips)]


def recognise_recordings(assigned: pd.DataFrame, sounds: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Give recordings of a new name the split of a known one of the same sound.

    Parameters
    ----------
    assigned : pd.DataFrame
        Columns ``recording`` and ``split``, as `genre.splits.assignment.assign_splits` returns.
    sounds, known : pd.DataFrame
        Fingerprints of clips of recordings that are new, and of any earlier ones, as `fingerprint_clips` returns; with
        the column ``recording``.

    Returns
    -------
    pd.DataFrame
        Columns ``recording`` and ``split``: the recordings of `sounds` that are not assigned, and were recognised.
    """
    split_of_recording = assigned.drop_duplicates("recording").set_index("recording")["split"]
    unassigned = sounds[~sounds["recording"].isin(split_of_recording.index)]
    matches = match_sounds(unassigned, known[known["recording"].isin(split_of_recording.index)])
    recording = unassigned.loc[matches.index, "recording"]
    split = known.loc[matches, "recording"].map(split_of_recording)
    found = pd.DataFrame({"recording": recording.to_numpy(), "split": split.to_numpy()}, dtype=str)
    return found.drop_duplicates("recording").reset_index(drop=True)


def find_learnt_recordings(test: pd.DataFrame, sounds: pd.DataFrame, learnt: pd.DataFrame) -> list[str]:
    """Return the recordings of test clips of which a model has learnt a clip.

    Parameters
    ----------
    test : pd.DataFrame
        Column ``recording``, indexed by ``clip_id``.
    sounds, learnt : pd.DataFrame
        Fingerprints of the test clips, and of the clips that the model learnt.
    """
    matches = match_sounds(sounds.loc[sounds.index.intersection(test.index)], learnt)
    return sorted(test.loc[matches.index, "recording"].astype(str).unique())


def sign_similarities(first: pd.DataFrame, second: pd.DataFrame) -> np.ndarray:
    """Compute the similarity of pairs of fingerprints, at the shift in time at which it is highest.

    Parameters
    ----------
    first, second : pd.DataFrame [n]
        As `fingerprint_clips` returns; compared row by row.

    Returns
    -------
    np.ndarray [shape=(n,)]
        Correlation of the signs, -1 to 1; the shift is at most two seconds.
    """
    starts = range(0, len(first), CHUNK_SIZE)
    chunks = [_chunk_similarities(*(t.iloc[at : at + CHUNK_SIZE] for t in (first, second))) for at in starts]
    return np.concatenate(chunks) if chunks else np.empty(0)


def _chunk_similarities(first: pd.DataFrame, second: pd.DataFrame) -> np.ndarray:
    """Compute `sign_similarities` of some pairs, the spectra of which are in memory together."""
    signs = [_decode_signs(table) for table in (first, second)]
    shift = MAX_SHIFT // POOLED_FRAMES
    n_fft = fft.next_fast_len(max(s.shape[-1] for s in signs) + shift, real=True)
    spectra = [fft.rfft(s, n_fft, axis=-1) for s in signs]
    return highest_correlations((spectra[0] * spectra[1].conj()).sum(axis=1), n_fft, shift)


def _encode_residuals(spectrograms: np.ndarray) -> list[tuple[bytes, int]]:
    """Return the signs of the averaged residuals of some spectrograms, and their number of frames with sound."""
    S = compute_residuals(spectrograms)
    n_frames = np.maximum(S.any(axis=1).sum(axis=1) // POOLED_FRAMES, 1)
    t = S.shape[-1] // POOLED_FRAMES
    averaged = S[:, :, : t * POOLED_FRAMES].reshape(*S.shape[:2], t, POOLED_FRAMES).sum(axis=-1)
    bits = np.packbits(averaged.transpose(0, 2, 1).reshape(len(S), -1) > 0, axis=1)  # a frame's bands together
    return [(row.tobytes(), int(n)) for row, n in zip(bits, n_frames, strict=True)]


def _decode_signs(sounds: pd.DataFrame) -> np.ndarray:
    """Return the signs as 1 and -1, 0 after the sound has ended, scaled to norm 1; shape ``(n, bands, frames)``."""
    n_bytes = max(map(len, sounds["signs"]))
    packed = np.stack([np.frombuffer(row.ljust(n_bytes, b"\0"), np.uint8) for row in sounds["signs"]])
    bits = np.unpackbits(packed, axis=1).reshape(len(sounds), -1, N_BANDS)
    n_frames = sounds["n_frames"].to_numpy()[:, None, None]
    has_sound = np.arange(bits.shape[1])[None, :, None] < n_frames
    signs = np.where(has_sound, 2.0 * bits - 1, 0.0).astype(np.float32)
    signs /= np.sqrt(n_frames * N_BANDS)
    return signs.transpose(0, 2, 1)
