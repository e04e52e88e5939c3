#!/usr/bin/env python3
"""Re-make ``static/vendor/`` from npm packages by name and version.

Each library gets a folder ``<name>-<version>/`` with the few files that the pages load and its licence. The icons of
``icons.txt`` become one SVG sprite. ``MANIFEST.sha256`` holds the digest of every file, in the format of sha256sum.

Usage: ``python deploy/vendor/vendor.py`` (needs ``npm`` and a connection to a package registry).

A new version: change it below, run this, and look at every page. plotly.js has to be of the same major and minor
version as the one that the pinned ``plotly`` Python package bundles; a test compares the two.
"""

import hashlib
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENDOR = ROOT / "static" / "vendor"
ICON_LIST = Path(__file__).with_name("icons.txt")


@dataclass(frozen=True, eq=False)
class Library:
    """One npm package.

    Parameters
    ----------
    package: name on npm.
    version: exact version.
    folder: name of its folder in ``static/vendor/``, without the version.
    files: where each file of the package goes, as ``{path in package: path in folder}``.
    """

    package: str
    version: str
    folder: str
    files: dict[str, str]


TABLER_LICENSE = """MIT License

Copyright 2018-2026 The Tabler Authors
Copyright 2018-2026 codecalm.net Pawel Kuna

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""

TABLER = Library(
    "@tabler/core",
    "1.6.1",
    "tabler",
    {"dist/css/tabler.min.css": "tabler.min.css", "dist/js/tabler.min.js": "tabler.min.js"},
)
ICONS = Library("@tabler/icons", "3.51.0", "tabler-icons", {"LICENSE": "LICENSE"})
PLOTLY = Library(
    "plotly.js-cartesian-dist-min",
    "4.1.1",
    "plotly-cartesian",
    {"plotly-cartesian.min.js": "plotly-cartesian.min.js", "LICENSE": "LICENSE"},
)
HTMX = Library("htmx.org", "2.0.11", "htmx", {"dist/htmx.min.js": "htmx.min.js", "LICENSE": "LICENSE"})
INTER = Library(
    "@fontsource-variable/inter",
    "5.3.0",
    "inter",
    {"files/inter-latin-wght-normal.woff2": "inter-latin.woff2", "LICENSE": "LICENSE"},
)
LIBRARIES = (TABLER, ICONS, PLOTLY, HTMX, INTER)

# The maps are three times the size of the files, and the manifest storage would refuse a link to a missing one.
SOURCE_MAP = re.compile(rb"\n?(/\*# sourceMappingURL=\S+ \*/|//# sourceMappingURL=\S+)\s*$")

# Tabler's rules for a folded sidebar, for a second navigation bar and for numbered headings, which no page has. Their
# :has() stands where any change of the document makes the browser match every element anew: a log line that arrived
# cost the 5,000 elements of the lines before it.
COSTLY_RULE = re.compile(
    rb"[^{}]*(?::has\((?::focus-visible|> ?\.step-item)\)|\[data-bs-navbar-position=vertical\])[^{}]*\{[^{}]*\}"
)


def npm_unpack(library: Library, folder: Path) -> Path:
    """Fetch a package with npm into ``folder`` and return the path of its unpacked root."""
    packed = subprocess.run(  # noqa: S603
        ["npm", "pack", "--silent", f"{library.package}@{library.version}", "--pack-destination", str(folder)],  # noqa: S607
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()[-1]
    target = folder / library.folder
    with tarfile.open(folder / packed) as archive:
        archive.extractall(target, filter="data")
    return target / "package"


def sprite(icons: Path, names: list[str]) -> str:
    """Join the outline icons ``names`` of the folder ``icons`` into one SVG of symbols, each with its name as id."""
    if missing := [name for name in names if not (icons / f"{name}.svg").is_file()]:
        raise SystemExit(
            f"{ICON_LIST.name} names icons that {ICONS.package} {ICONS.version} lacks: {', '.join(missing)}"
        )
    symbols = []
    for name in names:
        source = (icons / f"{name}.svg").read_text()
        body = source[source.index(">", source.index("<svg")) + 1 : source.rindex("</svg>")]
        body = re.sub(r"\s+", " ", body.replace('<path stroke="none" d="M0 0h24v24H0z" fill="none" />', "")).strip()
        symbols.append(
            f'<symbol id="{name}" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
            f'stroke-linecap="round" stroke-linejoin="round">{body}</symbol>'
        )
    return '<svg xmlns="http://www.w3.org/2000/svg">\n' + "\n".join(symbols) + "\n</svg>\n"


def icon_names() -> list[str]:
    """Names in ``icons.txt``, sorted."""
    lines = (line.strip() for line in ICON_LIST.read_text().splitlines())
    return sorted({line for line in lines if line and not line.startswith("#")})


def manifest(folder: Path) -> str:
    """Digests of every file below ``folder``, one a line, as sha256sum writes them."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "MANIFEST.sha256")
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n" for path in paths
    )


def main() -> None:
    """Fetch every library and write ``static/vendor/`` anew."""
    with tempfile.TemporaryDirectory() as temporary:
        fetched = {library: npm_unpack(library, Path(temporary)) for library in LIBRARIES}
        shutil.rmtree(VENDOR, ignore_errors=True)
        for library, package in fetched.items():
            folder = VENDOR / f"{library.folder}-{library.version}"
            folder.mkdir(parents=True)
            for source, target in library.files.items():
                content = SOURCE_MAP.sub(b"\n", (package / source).read_bytes())
                (folder / target).write_bytes(COSTLY_RULE.sub(b"", content) if library is TABLER else content)
            if library is TABLER:  # its package carries no licence file, only a notice in each file
                (folder / "LICENSE").write_text(TABLER_LICENSE)
            if library is ICONS:
                (folder / "sprite.svg").write_text(sprite(package / "icons" / "outline", icon_names()))
    (VENDOR / "MANIFEST.sha256").write_text(manifest(VENDOR))


if __name__ == "__main__":
    main()
