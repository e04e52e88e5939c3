"""What the pages load from ``static/``: the vendored libraries are as they were fetched, and every name exists."""

import hashlib
import re
from importlib.metadata import version
from pathlib import Path

import plotly
from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.test import override_settings

STATIC = Path(settings.BASE_DIR) / "static"
VENDOR = STATIC / "vendor"
TEMPLATES = sorted((Path(settings.BASE_DIR) / "templates").rglob("*.html"))
SCRIPTS = sorted((STATIC / "js").rglob("*.js"))


def manifest() -> dict[str, str]:
    lines = (VENDOR / "MANIFEST.sha256").read_text().splitlines()
    return {name: digest for digest, name in (line.split("  ") for line in lines)}


def test_every_vendored_file_is_the_one_in_the_manifest() -> None:
    files = [path for path in VENDOR.rglob("*") if path.is_file() and path.name != "MANIFEST.sha256"]
    digests = {str(path.relative_to(VENDOR)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert digests == manifest()


def test_every_vendored_library_has_its_licence() -> None:
    folders = {name.split("/")[0] for name in manifest()}
    assert {folder for folder in folders if f"{folder}/LICENSE" in manifest()} == folders


def test_plotly_in_the_browser_is_the_minor_version_that_the_python_package_was_made_for() -> None:
    banner = re.compile(r"plotly(?:-cartesian)?\.js(?: \(cartesian - minified\))? v(\d+)\.(\d+)\.")
    bundled = (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_text(encoding="utf-8")[:400]
    (vendored,) = VENDOR.glob("plotly-cartesian-*")
    python_side = banner.search(bundled)
    assert python_side is not None
    assert vendored.name.removeprefix("plotly-cartesian-").split(".")[:2] == list(python_side.groups())
    browser_side = banner.search((vendored / "plotly-cartesian.min.js").read_text(encoding="utf-8")[:400])
    assert browser_side is not None
    assert browser_side.groups() == python_side.groups()


def test_the_python_package_is_the_pinned_one() -> None:
    pins = (Path(settings.BASE_DIR) / "requirements.txt").read_text()
    assert f"plotly=={version('plotly')} " in pins


def used_icons() -> dict[str, set[str]]:
    """Icon names that templates, Python and scripts name, with where."""
    patterns = [
        (TEMPLATES, r'{% icon "([a-z0-9-]+)"'),
        (TEMPLATES, r'(?:icon_name|action_icon)(?:=|\|default:)"([a-z0-9-]+)"'),
        (TEMPLATES, r'{% nav_item "\w+" "[^"]+" "([a-z0-9-]+)"'),
        (SCRIPTS, r'\bicon\("([a-z0-9-]+)"'),
    ]
    found: dict[str, set[str]] = {}
    for paths, pattern in patterns:
        for path in paths:
            for name in re.findall(pattern, path.read_text(encoding="utf-8")):
                found.setdefault(name, set()).add(path.name)
    return found


def test_every_icon_that_is_used_is_in_the_sprite() -> None:
    (sprite,) = VENDOR.glob("tabler-icons-*/sprite.svg")
    drawn = set(re.findall(r'<symbol id="([a-z0-9-]+)"', sprite.read_text()))
    assert {name: places for name, places in used_icons().items() if name not in drawn} == {}


def test_every_static_file_that_a_template_names_exists() -> None:
    named = {name for path in TEMPLATES for name in re.findall(r"{% static ['\"]([^'\"]+)['\"] %}", path.read_text())}
    assert [name for name in sorted(named) if finders.find(name) is None] == []


def test_no_template_needs_an_exception_from_the_content_security_policy() -> None:
    inline = re.compile(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:|hx-on|hx-vals=['\"]js:", re.I)
    found = {path.name: inline.findall(path.read_text()) for path in TEMPLATES}
    assert {name: matches for name, matches in found.items() if matches} == {}


def test_collecting_rewrites_the_imports_of_our_modules(tmp_path: Path) -> None:
    storage = {"BACKEND": "mlops_site.staticfiles.ModuleStaticFilesStorage"}
    with override_settings(STORAGES={**settings.STORAGES, "staticfiles": storage}, STATIC_ROOT=tmp_path):
        call_command("collectstatic", interactive=False, verbosity=0)
    (main,) = tmp_path.glob("js/main.*.js")
    imports = re.findall(r'import\s*"\./([^"]+)"', main.read_text())
    assert len(imports) >= 9
    assert all((tmp_path / "js" / name).is_file() and re.fullmatch(r"\w+\.[0-9a-f]{12}\.js", name) for name in imports)
