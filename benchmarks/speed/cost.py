"""Projected time, memory and disk of a build of many clips, from the measured cost of one: docs/production.md's tables.

The figures come from `benchmarks/speed/build.py`: seconds that a build takes whatever its size, seconds per clip of one
process on one core, the speed of two processes relative to one, and what one process of one machine does per clip: the
search for duplicates, and a build that finds nothing to do. Memory is that of the flow without any clip, what it grows
by for each, and that of a worker process. The size of the store follows from the inputs that a build computes.

    python -m benchmarks.speed.cost
    python -m benchmarks.speed.cost --clip-ms 9.7 --fixed-s 11 --two 1.8 --copies-ms 0.4 --again-ms 0.3
    python -m benchmarks.speed.cost --cores 2,8,16 --machines 4,16 --clips-per-track 6
"""

import numpy as np
import pandas as pd
import typer

from flows.hyperparameters import select_models
from flows.inputs import required_inputs
from flows.parameters import FAST
from genre.config import AudioConfig
from genre.inputs import get_input
from genre.store import building, parts

CONFIG = AudioConfig()

#: AudioSet's clips of the paper.
PAPER_CLIPS = 40_540

#: Tracks of a large library.
LIBRARY_TRACKS = 1_000_000

#: Bytes per clip of the tables and indices beside the inputs: ids, stamps, paths, statuses, compressed.
TABLE_BYTES = 150


def project_seconds(
    n_clips: int, n_cores: int, *, n_machines: int = 1, clip_s: float, fixed_s: float, two: float, copies_s: float
) -> float:
    """Return the duration of a build if each further core adds what the second one does, which is optimistic."""
    speed = n_machines * (1 + (n_cores - 1) * (two - 1))
    return fixed_s + n_clips * (clip_s / speed + copies_s)


def stored_bytes(names: list[str]) -> int:
    """Return the bytes of some inputs of one clip in a store, with its rows of the tables."""
    entries = [get_input(name) for name in names]
    return TABLE_BYTES + sum(int(np.prod(e.shape(CONFIG))) * np.dtype(e.dtype).itemsize for e in entries)


def tabulate_durations(
    sizes: dict[str, int], cores: list[int], machines: list[int], costs: dict[str, float]
) -> pd.DataFrame:
    """Return the duration of a build of each size, on one machine by its cores, and on several of the smallest."""
    rows = []
    for title, n_clips in sizes.items():
        durations = {f"{n} cores": project_seconds(n_clips, n, **costs) for n in cores}
        durations |= {
            f"{n} machines of {cores[0]}": project_seconds(n_clips, cores[0], n_machines=n, **costs) for n in machines
        }
        rows.append({"": title} | {column: format_duration(s) for column, s in durations.items()})
    return pd.DataFrame(rows)


def tabulate_needs(
    sizes: dict[str, int], flow_mb: float, clip_bytes: float, again_s: float, fixed_s: float
) -> pd.DataFrame:
    """Return what a build of each size needs besides time: disk, files, memory, and the time of one without work."""
    names = required_inputs(select_models(FAST, "folder"), CONFIG, has_audio=True)
    families = {parts.family_of(name) for name in names}
    rows = []
    for title, n_clips in sizes.items():
        n_files = 2 * len(families) * -(-n_clips // building.batch_size(n_clips))
        rows.append(
            {
                "": title,
                "store": f"{n_clips * stored_bytes(names) / 1e9:,.1f} GB",
                "files": f"{n_files:,}",
                "memory of the flow": f"{(flow_mb + n_clips * clip_bytes / 1e6) / 1000:.1f} GB",
                "a build with nothing to do": format_duration(fixed_s + n_clips * again_s),
            }
        )
    return pd.DataFrame(rows)


def main(
    clip_ms: float = 9.7,
    fixed_s: float = 11.0,
    two: float = 1.8,
    copies_ms: float = 0.4,
    again_ms: float = 0.3,
    flow_mb: float = 500.0,
    clip_bytes: float = 1700.0,
    cores: str = "2,8,16",
    machines: str = "4,16",
    clips_per_track: int = 6,
) -> None:
    """Print the tables in Markdown."""
    costs = {"clip_s": clip_ms / 1000, "fixed_s": fixed_s, "two": two, "copies_s": copies_ms / 1000}
    sizes = {
        "40,540 clips": PAPER_CLIPS,
        "a million tracks, one clip each": LIBRARY_TRACKS,
        f"a million tracks, {clips_per_track} clips each": LIBRARY_TRACKS * clips_per_track,
    }
    print_markdown(
        tabulate_durations(sizes, list(map(int, cores.split(","))), list(map(int, machines.split(","))), costs)
    )
    print_markdown(tabulate_needs(sizes, flow_mb, clip_bytes, again_ms / 1000, fixed_s))


def print_markdown(table: pd.DataFrame) -> None:
    """Print a table in Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    print("\n".join(f"| {' | '.join(line)} |" for line in lines), end="\n\n")


def format_duration(duration_s: float) -> str:
    """Return a duration in the largest unit of which it has two."""
    for unit, length_s in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if duration_s >= 2 * length_s:
            return f"{duration_s / length_s:.1f} {unit}"
    return f"{duration_s:.0f} seconds"


if __name__ == "__main__":
    typer.run(main)
