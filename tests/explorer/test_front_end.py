"""The JavaScript of the page: its own tests, and that the built file is what the sources give."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from matplotlib import colormaps

ROOT = Path(__file__).parents[2]
FRONT_END = ROOT / "explorer"
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_modules() -> None:
    command = [str(NODE), "--test"]
    found = subprocess.run(command, cwd=FRONT_END, capture_output=True, text=True, timeout=120)  # noqa: S603
    assert found.returncode == 0, found.stdout
    passed = re.search(r"# pass (\d+)", found.stdout)
    assert passed is not None
    assert int(passed[1]) >= 15


@pytest.mark.skipif(not (FRONT_END / "node_modules").exists(), reason="needs `npm ci` in explorer/")
def test_built_file_is_that_of_the_sources(tmp_path: Path) -> None:
    built = ROOT / "attnchain_interp/explorer/assets/page.js"
    before = built.read_bytes()
    command = [str(NODE), "build.js", str(tmp_path)]
    subprocess.run(command, cwd=FRONT_END, check=True, timeout=120)  # noqa: S603
    assert (tmp_path / "page.js").read_bytes() == before


def test_colours_are_those_of_the_pictures() -> None:
    source = (FRONT_END / "src/colours.js").read_text()
    magma = "".join(re.findall(r'^  "([0-9a-f]+)"', source, re.MULTILINE))
    found = [int(magma[k : k + 2], 16) for k in range(0, len(magma), 2)]
    wanted = (colormaps["magma"](range(256))[:, :3] * 255).round().astype(int).flatten().tolist()
    assert found == wanted


def test_no_registry_is_named() -> None:
    for file in ("package.json", "package-lock.json", ".npmrc"):
        assert not re.search(r"https?://(?!.*(github\.com/sponsors|opencollective))", (FRONT_END / file).read_text())
