"""What is shipped: three packages, their data, and no bare `adapters` or `evals`."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--sdist", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    return out


@pytest.fixture(scope="module")
def names(dist: Path) -> list[str]:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        return file.namelist()


def test_three_packages_and_nothing_else(names: list[str]) -> None:
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"attnchain_interp", "attnchain_adapters", "attnchain_evals"}


def test_types_weights_and_card_are_in_it(names: list[str]) -> None:
    for package in ("attnchain_interp", "attnchain_adapters", "attnchain_evals"):
        assert f"{package}/py.typed" in names
    assert "attnchain_interp/explorer/assets/page.js" in names
    assert "attnchain_evals/bundled/vit.safetensors" in names
    assert "attnchain_evals/bundled/CARD.md" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_source_holds_the_front_end_and_what_is_built_of_it(dist: Path) -> None:
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as file:
        held = {name.split("/", 1)[1] for name in file.getnames() if "/" in name}
    assert {"explorer/package-lock.json", "explorer/src/main.js", "attnchain_interp/explorer/assets/page.js"} <= held
    assert not [name for name in held if "node_modules" in name]
