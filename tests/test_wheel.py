"""The wheel holds three packages with their types and data; the source distribution holds everything they are made of."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("attnchain_interp", "attnchain_adapters", "attnchain_evals")


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


@pytest.fixture(scope="module")
def held(dist: Path) -> set[str]:
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as file:
        return {name.split("/", 1)[1] for name in file.getnames() if "/" in name}


def of_the_tree(pattern: str) -> set[str]:
    """The files of the three packages, by their names in the wheel."""
    roots = (ROOT, ROOT / "adapters", ROOT / "evals")
    return {
        file.relative_to(root).as_posix() for root in roots for package in PACKAGES for file in (root / package).rglob(pattern)
    }


def test_three_packages_and_nothing_else(names: list[str]) -> None:
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == set(PACKAGES), "no studies, no tests, no bare adapters or evals"


def test_every_module_and_every_stub_is_in_it(names: list[str]) -> None:
    stubs = of_the_tree("*.pyi")
    assert {"attnchain_interp/__init__.pyi", "attnchain_evals/__init__.pyi"} <= stubs
    assert stubs <= set(names), "lazy_loader reads the public names from them"
    assert {name for name in names if name.endswith(".py")} == of_the_tree("*.py")


def test_types_weights_and_card_are_in_it(names: list[str]) -> None:
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
    assert "attnchain_interp/explorer/assets/page.js" in names
    assert "attnchain_evals/bundled/vit.safetensors" in names
    assert "attnchain_evals/bundled/CARD.md" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_source_holds_the_front_end_and_what_is_built_of_it(held: set[str]) -> None:
    assert {"explorer/package-lock.json", "explorer/src/main.js", "attnchain_interp/explorer/assets/page.js"} <= held
    assert not [name for name in held if "node_modules" in name]


def test_the_source_holds_stubs_studies_and_tests(held: set[str]) -> None:
    assert {"attnchain_interp/__init__.pyi", "evals/attnchain_evals/__init__.pyi"} <= held
    assert {"studies/results.py", "tests/test_wheel.py", "README.md", "pyproject.toml"} <= held
