#!/usr/bin/env bash
# TagLib loses the last frame of an ID3v2.4 tag with a footer.
#
# Versions    pytaglib 3.2.0 (its wheel carries TagLib 2), mutagen 1.48.1, numpy 2.4.6, soundfile 0.14.0.
# Behaviour   The tag's header sets the footer flag, ends with the ten bytes "3DI...", and has the frames TIT2 and TCON,
#             its size counted without header and footer, as section 3.4 of the standard says. taglib.File(path).tags
#             has the title and no genre; in the other order, the genre and no title. mutagen reads both frames.
# Guess       A footer repeats the header and changes nothing else.
# Way round   Whoever adds a frame to such a tag puts it first.
# Output seen
#             no footer, TIT2 TCON: TagLib GENRE TITLE, mutagen TCON TIT2
#             footer, TIT2 TCON: TagLib TITLE, mutagen TCON TIT2
#             footer, TCON TIT2: TagLib GENRE, mutagen TCON TIT2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pytaglib==3.2.0 mutagen==1.48.1 numpy==2.4.6 soundfile==0.14.0
cat > "$folder/footers.py" <<'PYTHON'
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile as sf
import taglib
from mutagen.id3 import ID3

folder = Path(sys.argv[1])
sound = BytesIO()
sf.write(sound, 0.1 * np.sin(np.arange(44100) / 10), 44100, format="MP3")
TEXTS = {b"TIT2": b"Title", b"TCON": b"Jazz"}


def synchsafe(n):
    return bytes(n >> shift & 0x7F for shift in (21, 14, 7, 0))


def write_tag(names, footer):
    body = b"".join(n + synchsafe(1 + len(TEXTS[n])) + b"\0\0" + b"\3" + TEXTS[n] for n in names)
    rest = bytes([4, 0, 0x10 if footer else 0]) + synchsafe(len(body))
    path = folder / "song.mp3"
    path.write_bytes(b"ID3" + rest + body + (b"3DI" + rest if footer else b"") + sound.getvalue())
    return path


lines = []
for footer, names in ((False, (b"TIT2", b"TCON")), (True, (b"TIT2", b"TCON")), (True, (b"TCON", b"TIT2"))):
    path = write_tag(names, footer)
    with taglib.File(path) as file:
        by_taglib = " ".join(sorted(file.tags))
    order = b" ".join(names).decode()
    lines.append(f"{'' if footer else 'no '}footer, {order}: TagLib {by_taglib}, mutagen {' '.join(sorted(ID3(path)))}")
print(*lines, sep="\n")
expected = [
    "no footer, TIT2 TCON: TagLib GENRE TITLE, mutagen TCON TIT2",
    "footer, TIT2 TCON: TagLib TITLE, mutagen TCON TIT2",
    "footer, TCON TIT2: TagLib GENRE, mutagen TCON TIT2",
]
sys.exit(lines != expected)
PYTHON
"$folder/venv/bin/python" "$folder/footers.py" "$folder"
