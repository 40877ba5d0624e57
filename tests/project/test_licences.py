"""NOTICE.md against the licences of the packages installed, and the hashes of the pinned ones."""

import importlib.metadata
import re
import sys
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.project import ROOT, read_pins

#: Licences that ask for no more than their text, as licence fields, classifiers and licence files name them.
PERMISSIVE = re.compile(
    r"\b(MIT|BSD|Apache|ISC|PSF|Python Software|Unlicense|Zlib|CC0|Public Domain|HPND)\b|Permission is hereby",
    re.IGNORECASE,
)
#: Licences that ask for more: their name in NOTICE.md, and how packages name them.
DEMANDING = {
    "LGPL": r"\bLGPL|Lesser General Public",
    "GPL": r"\bA?GPL|GNU (Affero )?General Public",
    "MPL": r"\bMPL|Mozilla Public",
    "Artistic": r"Artistic License",
    "other": r"\bEPL|Eclipse Public|\bCDDL|Proprietary",
}
ANY_DEMANDING = re.compile("|".join(DEMANDING.values()), re.IGNORECASE)

#: Name of a library, in NOTICE.md or at the start of a file name.
LIBRARY = r"\blib[\w-]+"


def read_section(heading: str) -> str:
    """Text of NOTICE.md from one heading to the next."""
    return (ROOT / "NOTICE.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]


def read_table(heading: str) -> list[list[str]]:
    """Cells of the rows of the table below a heading of NOTICE.md."""
    lines = [line for line in read_section(heading).splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ") for line in lines[2:]]


def find_dependencies() -> dict[str, importlib.metadata.Distribution]:
    """Installed packages that the project needs, with the extra `dev`, by canonical name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [("genre", {"dev"})]
    while waiting:
        name, extras = waiting.pop()
        for text in importlib.metadata.distribution(name).requires or []:
            needed = Requirement(text)
            key = canonicalize_name(needed.name)
            wanted = not needed.marker or any(needed.marker.evaluate({"extra": extra}) for extra in {"", *extras})
            if wanted and key not in found:
                found[key] = importlib.metadata.distribution(key)
                waiting.append((key, needed.extras))
    return found


def name_licences(package: importlib.metadata.Distribution) -> Iterator[str]:
    """All that a package says of its licence, the first sixty words of its licence files included."""
    fields = package.metadata
    yield from fields.get_all("License-Expression", [])
    yield from (c for c in fields.get_all("Classifier", []) if c.startswith("License :: ") and c.count("::") > 1)
    yield from (line for text in fields.get_all("License", []) for line in text.splitlines()[:1])
    for path in package.files or []:
        if re.search(r"\.dist-info/(licenses/)?LICEN[CS]E[^/]*$", str(path)):
            yield " ".join(path.read_text().split()[:60])


def test_the_notice_lists_each_package_whose_licence_asks_for_more():
    packages = find_dependencies()
    licences = {name: " / ".join(name_licences(package)) for name, package in packages.items()}
    demanding = {n: text for n, text in licences.items() if ANY_DEMANDING.search(text) or not PERMISSIVE.search(text)}
    listed = {row[0]: row[1] for row in read_table("Packages")}
    assert len(packages) > 150
    assert set(listed) == set(demanding), {n: licences.get(n) for n in set(listed) ^ set(demanding)}
    for name, licence in listed.items():
        families = [spelling for family, spelling in DEMANDING.items() if re.search(rf"\b{family}\b", licence)]
        assert families and all(re.search(f, demanding[name], re.IGNORECASE) for f in families), (name, demanding[name])


@pytest.mark.skipif(sys.platform != "linux", reason="the notice lists what the wheels for Linux contain")
def test_the_notice_lists_each_library_inside_a_package():
    found = {
        (name, library[1])
        for name, package in find_dependencies().items()
        for path in package.files or []
        if re.search(r"^_soundfile_data/|\.libs/", str(path))
        and (library := re.match(r"(lib.+?)(?:-[0-9a-f]{8})*(?:_x86_64)?\.so", path.name))
    }
    demanding = {
        (package, library)
        for packages, names, _ in read_table("Libraries inside packages")
        for package in packages.split(", ")
        for library in re.findall(LIBRARY, names.split(", with ")[0])
    }
    permissive = set(re.findall(LIBRARY, read_section("Libraries inside packages").split("MIT, BSD")[1]))
    assert {pair for pair in found if pair[1] not in permissive} == demanding
    assert permissive <= {library for _, library in found}


def test_the_hashed_pins_are_the_plain_ones():
    assert read_pins("requirements-hashed.txt") == dict.fromkeys(read_pins("requirements.txt"), True)


def test_a_machine_that_only_serves_installs_hashed_pins():
    assert all(read_pins("requirements-serve.txt").values())
