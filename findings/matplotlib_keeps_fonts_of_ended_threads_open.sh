#!/usr/bin/env bash
# matplotlib keeps the font files of every thread that has drawn open, also after the thread has ended.
#
# Versions    matplotlib 3.11.2, numpy 2.4.6.
# Behaviour   A figure drawn in a thread opens its fonts anew, since matplotlib caches opened fonts by the identifier of
#             the thread. They stay in the cache, with their files, when the thread has ended, although its figure
#             belongs to no pyplot state and is collected. Only a later thread that happens to get the same identifier
#             uses them.
# Guess       What a thread opened to draw is closed with the figure, or at least with the thread.
# Use         A long-lived process that draws in threads keeps a fixed pool of them, instead of a new one per task.
# Output seen
#             open fonts before, after one thread with ten figures, and after five with two each: 0 2 10
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet matplotlib==3.11.2 numpy==2.4.6
cat > "$folder/fonts.py" <<'PYTHON'
import gc
import io
import os
import threading

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw(n=1):
    for _ in range(n):
        figure = Figure()
        FigureCanvasAgg(figure)
        figure.subplots().set_title("title")
        figure.savefig(io.BytesIO(), format="png")


def count_open_fonts():
    gc.collect()
    links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return sum(os.readlink(link).endswith(".ttf") for link in links if os.path.islink(link))


def count_after(n_threads, n_figures):
    """Count the open fonts after some threads, all alive until the last has drawn, have ended."""
    has_drawn = threading.Barrier(n_threads)
    turn = threading.Lock()

    def work():
        with turn:
            draw(n_figures)
        has_drawn.wait()

    threads = [threading.Thread(target=work) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count_open_fonts()


before = count_open_fonts()
counts = count_after(1, 10), count_after(5, 2)
print("open fonts before, after one thread with ten figures, and after five with two each:", before, *counts)
assert before == 0 < counts[0] and counts[1] == 5 * counts[0]
PYTHON
"$folder/venv/bin/python" "$folder/fonts.py"
