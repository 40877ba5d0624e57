#!/usr/bin/env bash
# soundfile writes integer samples to a file of floats without scaling them, and scales them to every integer format.
#
# Versions    soundfile 0.14.0 (libsndfile 1.2.2), numpy 2.4.6.
# Behaviour   An int16 array of half full scale, 16384, written by soundfile.write to an AU or WAV file of subtype FLOAT
#             or DOUBLE reads back as 16384.0, and not as 0.5. Read as int16 it is 16384 again, which hides it. Written as PCM_16,
#             PCM_24 or ULAW the same array reads back as 0.5. float32 samples of 0.5 read back as 0.5 from all of them.
# Guess       The value is the same in every subtype, as the range of integers is known: a file is 90 dB too loud instead.
# Way round   Convert to floats between -1 and 1 before a float subtype is written.
# Output seen
#             int16 to PCM_16: 0.5
#             int16 to PCM_24: 0.5
#             int16 to ULAW: 0.512
#             int16 to FLOAT: 16384.0, as int16 16384
#             int16 to DOUBLE: 16384.0, as int16 16384
#             float32 to FLOAT: 0.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet soundfile==0.14.0 numpy==2.4.6
cat > "$folder/levels.py" <<'PYTHON'
import io

import numpy as np
import soundfile as sf


def written(samples, subtype):
    file = io.BytesIO()
    sf.write(file, samples, 8000, format="AU", subtype=subtype)
    file.seek(0)
    level = float(sf.read(file)[0][100])
    file.seek(0)
    return level, int(sf.read(file, dtype="int16")[0][100])


half = np.full(800, 16384, np.int16)
for subtype in ("PCM_16", "PCM_24", "ULAW"):
    print(f"int16 to {subtype}: {round(written(half, subtype)[0], 3)}")
for subtype in ("FLOAT", "DOUBLE"):
    print("int16 to {}: {}, as int16 {}".format(subtype, *written(half, subtype)))
print(f"float32 to FLOAT: {written(np.full(800, 0.5, np.float32), 'FLOAT')[0]}")
PYTHON
"$folder/venv/bin/python" "$folder/levels.py" | tee "$folder/seen"
diff "$folder/seen" <(sed -n 's/^# Output seen$//; /^# *int16 to\|^# *float32 to/s/^# *//p' "$0")
