"""Projected time of a build of many clips, from the measured cost of one: the table of docs/production.md.

The figures come from `benchmarks/speed/build.py`: seconds that a build takes whatever its size, seconds per clip of one
process on one core, the speed of two processes relative to one, and seconds per clip of the search for duplicates,
which one machine does.

    python -m benchmarks.speed.cost
    python -m benchmarks.speed.cost --clip-ms 9.7 --fixed-s 11 --two 1.8 --copies-ms 0.4 --cores 16 --clips-per-track 6
"""

import pandas as pd
import typer

#: AudioSet's clips of the paper.
PAPER_CLIPS = 40_540

#: Tracks of a large library.
LIBRARY_TRACKS = 1_000_000


def project_seconds(
    n_clips: int, n_cores: int, *, n_machines: int = 1, clip_s: float, fixed_s: float, two: float, copies_s: float
) -> float:
    """Return the duration of a build if each further core adds what the second one does, which is optimistic."""
    speed = n_machines * (1 + (n_cores - 1) * (two - 1))
    return fixed_s + n_clips * (clip_s / speed + copies_s)


def main(
    clip_ms: float = 9.7,
    fixed_s: float = 11.0,
    two: float = 1.8,
    copies_ms: float = 0.4,
    cores: int = 2,
    clips_per_track: int = 6,
) -> None:
    """Print the table in Markdown."""
    costs = {"clip_s": clip_ms / 1000, "fixed_s": fixed_s, "two": two, "copies_s": copies_ms / 1000}
    sizes = {
        "40,540 clips": PAPER_CLIPS,
        f"a million tracks, {clips_per_track} clips each": LIBRARY_TRACKS * clips_per_track,
    }
    rows = []
    for title, n_clips in sizes.items():
        durations = {"1 core": project_seconds(n_clips, 1, **costs)}
        durations[f"{cores} cores"] = project_seconds(n_clips, cores, **costs)
        for n in (4, 16):
            durations[f"{n} such machines"] = project_seconds(n_clips, cores, n_machines=n, **costs)
        rows.append({"": title} | {column: format_duration(s) for column, s in durations.items()})
    table = pd.DataFrame(rows)
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))


def format_duration(duration_s: float) -> str:
    """Return a duration in the largest unit of which it has two."""
    for unit, length_s in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if duration_s >= 2 * length_s:
            return f"{duration_s / length_s:.1f} {unit}"
    return f"{duration_s:.0f} seconds"


if __name__ == "__main__":
    typer.run(main)
