"""Compressed sound in place of samples: DTS and AC-3 that were stored as if they were PCM."""

from __future__ import annotations

import numpy as np

from genre.audio.scans.ac3 import is_chain

#: Samples that are looked at, of all channels together: four of the longest frames.
N_SEARCHED = 1 << 14

#: First two words of a frame as big-endian 16-bit samples, by what they begin. DTS: ETSI TS 102 114 section 6.1 and
#: annex C, 16 and 14 bits in a sample; the other is the preamble of a burst in IEC 61937-1 section 6.1.
_PREAMBLE = (0xF872, 0x4E1F)
_SYNC_WORDS = {(0x7FFE, 0x8001): "DTS", (0x1FFF, 0xE800): "DTS", _PREAMBLE: "S/PDIF (AC-3 or DTS)"}

#: Frames at one distance that are taken for a bit stream: samples of music have such words by chance at most once.
_MIN_FRAMES = 4

#: Shortest distance of two frames, in samples of all channels: 256 samples of two channels.
_MIN_DISTANCE = 512

#: First word of a frame of AC-3: ETSI TS 102 366 section 4.4.1.
_AC3_SYNC = 0x0B77

#: First word after the preamble of a burst, its data types AC-3, E-AC-3 and DTS: IEC 61937-2 table 2.
_BURST_TYPES = {1, 11, 12, 13, 17, 21}


def find_bitstream(samples: np.ndarray) -> str:
    """Return the name of the format whose frames stand in place of samples; empty if there are none.

    Heard as samples, a bit stream is noise at full level.

    Parameters
    ----------
    samples : np.ndarray [shape=(n, n_channels), dtype=int16 or float32]
        Samples as a file has them, of 16 bits or more; about `N_SEARCHED` are looked at, from the first that is not 0.

    Returns
    -------
    str
        ``DTS``, ``AC-3``, or a name that stands for either.
    """
    first = 0 if samples[0].any() else int(samples.any(axis=1).argmax())
    searched = samples[first : first + N_SEARCHED // samples.shape[1]].ravel()
    if searched.dtype != np.int16:
        searched = (np.clip(searched, -1, 1 - 2**-15) * 2**15).astype(np.int16)
    words = searched.view(np.uint16)
    return _find_in_order(words) or _find_in_order(words.byteswap())


def _find_in_order(words: np.ndarray) -> str:
    """Return the name of the format of 16-bit words in one order of bytes; empty if there is none."""
    for (first, second), name in _SYNC_WORDS.items():
        starts = np.flatnonzero(words[:-1] == first)
        if _are_evenly_spaced(starts[words[starts + 1] == second]):
            return name
    # bursts of E-AC-3 are so long that only the first is looked at
    if len(words) > 2 and (words[0], words[1]) == _PREAMBLE and words[2] & 0x1F in _BURST_TYPES:
        return _SYNC_WORDS[_PREAMBLE]
    starts = np.flatnonzero(words == _AC3_SYNC)
    data = words.astype(">u2").tobytes() if len(starts) else b""
    return "AC-3" if any(is_chain(data[2 * int(start) :], _MIN_FRAMES) for start in starts) else ""


def _are_evenly_spaced(starts: np.ndarray) -> bool:
    """Return whether positions lie at one distance, as frames of a bit stream do."""
    distances = np.diff(starts)
    return len(starts) >= _MIN_FRAMES and distances[0] >= _MIN_DISTANCE and bool((distances == distances[0]).all())
