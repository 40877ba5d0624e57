#!/usr/bin/env bash
# The wheel av declares BSD-3-Clause, its FFmpeg answers "LGPL", and it contains x264 and x265, which are GPL.
#
# Versions    av 18.1.0, the wheel for Linux on x86-64.
# Behaviour   FFmpeg is configured with --enable-libx264 and --enable-libx265, without --enable-gpl. avutil's licence
#             text is therefore "LGPL version 3 or later", the package's License-Expression is BSD-3-Clause, and its
#             licence file does not mention either library; but both lie in the folder av.libs, and their encoders are
#             registered.
# Guess       FFmpeg's own configure script accepts these libraries only with --enable-gpl, so that a licence text that
#             begins with LGPL proves that there is no GPL code in the build.
# Use         Who passes a container image with av on looks at the libraries in av.libs, not at the licence texts.
# Output seen
#             package: BSD-3-Clause
#             FFmpeg: LGPL version 3 or later
#             --enable-gpl: False, libraries: ['libx264', 'libx265'], encoders: ['libx264', 'libx265']
#             named in the licence file: []
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0
cat > "$folder/licence.py" <<'PYTHON'
from importlib.metadata import distribution

from av import _core, codecs_available

NAMES = ["libx264", "libx265"]

package = distribution("av")
avutil = _core.library_meta["libavutil"]
licence_text = "".join(path.read_text() for path in package.files if path.name == "LICENSE.txt")
is_gpl_build = "--enable-gpl" in avutil["configuration"].split()
libraries = [name for name in NAMES if any(path.name.startswith(f"{name}-") for path in package.files)]
encoders = [name for name in NAMES if name in codecs_available]
named = [name for name in NAMES if name.removeprefix("lib") in licence_text.lower()]
print("package:", package.metadata["License-Expression"])
print("FFmpeg:", avutil["license"])
print(f"--enable-gpl: {is_gpl_build}, libraries: {libraries}, encoders: {encoders}")
print("named in the licence file:", named)
assert package.metadata["License-Expression"] == "BSD-3-Clause"
assert avutil["license"].startswith("LGPL") and not is_gpl_build
assert libraries == encoders == NAMES and not named
PYTHON
"$folder/venv/bin/python" "$folder/licence.py"
