"""What a build of many clips takes, from the measured cost of one: the table of docs/production.md.

The figures are those of ``benchmarks/build.py``, which finds them anew: seconds that a build takes whatever its size,
seconds a clip of one process on one core, how many times as fast two processes are, and seconds a clip of the search
for copies, which one machine does.

    python benchmarks/cost.py
    python benchmarks/cost.py --clip-ms 9.7 --fixed-s 11 --two 1.8 --copies-ms 0.4 --cores 16 --clips-per-track 6
"""

import pandas as pd
import typer

#: AudioSet's clips of the paper, and a large library's tracks.
PAPER_CLIPS, TRACKS = 40_540, 1_000_000


def seconds(
    n_clips: int, n_cores: int, *, n_machines: int = 1, clip_s: float, fixed_s: float, two: float, copies_s: float
) -> float:
    """Duration of a build; each further core of a machine adds what the second adds, which is the hopeful end."""
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
    known = {"clip_s": clip_ms / 1000, "fixed_s": fixed_s, "two": two, "copies_s": copies_ms / 1000}
    rows = []
    sizes = {"40,540 clips": PAPER_CLIPS, f"a million tracks, {clips_per_track} clips each": TRACKS * clips_per_track}
    for what, n_clips in sizes.items():
        row = {"": what, "1 core": seconds(n_clips, 1, **known), f"{cores} cores": seconds(n_clips, cores, **known)}
        row |= {f"{n} such machines": seconds(n_clips, cores, n_machines=n, **known) for n in (4, 16)}
        rows.append({k: _readable(v) if isinstance(v, float) else v for k, v in row.items()})
    table = pd.DataFrame(rows)
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _readable(duration_s: float) -> str:
    for unit, length_s in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if duration_s >= 2 * length_s:
            return f"{duration_s / length_s:.1f} {unit}"
    return f"{duration_s:.0f} seconds"


if __name__ == "__main__":
    typer.run(main)
