"""Every module of the packages has a test file of its name, in the folder that mirrors its own."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MIRRORED = {  # a folder of modules → the folder of their tests
    "attnchain_interp": "tests",
    "adapters/attnchain_adapters": "tests/adapters",
    "evals/attnchain_evals": "tests/evals",
}
ELSEWHERE = {  # folder → modules whose tests stand in files of other names
}


def untested(root: Path) -> set[str]:
    """The modules without a test file of their name. An `__init__` and a `__main__` need none."""
    return {
        module.relative_to(root).as_posix()
        for folder, tests in MIRRORED.items()
        for module in (root / folder).rglob("*.py")
        if not module.name.startswith("__")
        and not (root / tests / module.relative_to(root / folder).parent / f"test_{module.name}").exists()
    }


def test_every_module_has_its_test_file() -> None:
    elsewhere = {f"{folder}/{name}.py" for folder, names in ELSEWHERE.items() for name in names.split()}
    missing = untested(ROOT) - elsewhere
    assert not missing, f"write a test file for each of {sorted(missing)}"


@pytest.mark.parametrize("test", ["tests/room/test_noun.py", "tests/test_noun.py", "tests/room/noun.py"])
def test_a_missing_file_is_seen(test: str, tmp_path: Path) -> None:
    for file in ("attnchain_interp/__init__.py", "attnchain_interp/room/noun.py", test):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert untested(tmp_path) == (set() if test == "tests/room/test_noun.py" else {"attnchain_interp/room/noun.py"})
