"""What is shipped: three packages, their data, and no bare `adapters` or `evals`."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        return file.namelist()


def test_three_packages_and_nothing_else(names: list[str]) -> None:
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"attnchain_interp", "attnchain_adapters", "attnchain_evals"}


def test_types_weights_and_card_are_in_it(names: list[str]) -> None:
    for package in ("attnchain_interp", "attnchain_adapters", "attnchain_evals"):
        assert f"{package}/py.typed" in names
    assert "attnchain_evals/bundled/vit.safetensors" in names
    assert "attnchain_evals/bundled/CARD.md" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
