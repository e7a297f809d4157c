"""The patches of the how-to pages apply to this repository, and the tests that they bring pass."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from studies.speed.measurement import ROOT

PAGES = ("add-a-method", "add-a-metric", "add-an-adapter")
SELECTED = "lazy_walk or LazyWalk or rank-accuracy or test_the_share_of_the_top or tinyformer"


def patch(page: str) -> str:
    (found,) = re.findall(
        r"^```diff\n(.*?)^```", (ROOT / f"docs/how-to/{page}.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    return found


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with all of the patches."""
    tree = tmp_path_factory.mktemp("how-to") / "tree"
    unwanted = shutil.ignore_patterns(".*", "_build", "__pycache__", "*.egg-info", "*.png", "build", "dist", "node_modules")
    shutil.copytree(ROOT, tree, ignore=unwanted)
    for page in PAGES:
        command = ["git", "apply", "-C1", "--whitespace=error", "-"]
        done = subprocess.run(command, cwd=tree, input=patch(page), capture_output=True, text=True)  # noqa: S603
        assert done.returncode == 0, f"docs/how-to/{page}.md: {done.stderr}"
    return tree


def test_what_the_patches_bring_passes(patched: Path) -> None:
    files = [
        "attribution/of_attention/test_lazy_walk.py",
        "attribution/test_contract.py",
        *(f"attribution/text/test_{name}.py" for name in ("contexts", "rows", "text_attribution")),
        "adapters/test_tinyformer_models.py",
    ]
    files += ["evals/metrics/test_rank_accuracy.py", "evals/metrics/test_presets.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", SELECTED]
    done = subprocess.run(  # noqa: S603
        [*command, *(f"tests/{file}" for file in files)], cwd=patched, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran = int(re.search(r"(\d+) passed", done.stdout)[1])  # type: ignore[index]
    assert ran >= 15, "the tests of the patches, and those that run over every method and preset"


def test_the_patched_tree_announces_its_adapter(patched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((patched / "pyproject.toml").read_text("utf-8"))["project"]
    module, name = project["entry-points"]["attnchain_interp.adapters"]["tinyformer"].split(":")
    assert (patched / "adapters" / f"{module.replace('.', '/')}.py").is_file()
    package, _, own = module.rpartition(".")
    monkeypatch.setattr(import_module(package), "__path__", [str(patched / "adapters" / package)])
    assert hasattr(import_module(f"{package}.{own}"), name)
    monkeypatch.delitem(sys.modules, module)
