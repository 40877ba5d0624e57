"""Path of the project, and its pinned requirements."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def read_pins(name: str) -> dict[str, bool]:
    """Each requirement of a file, and whether it has hashes."""
    lines = (ROOT / name).read_text().replace("\\\n", " ").splitlines()
    parts = [re.split(r"\s+--hash=sha256:", line.strip()) for line in lines]
    return {pin: bool(hashes) and all(re.fullmatch("[0-9a-f]{64}", h) for h in hashes) for pin, *hashes in parts}
