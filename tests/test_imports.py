"""Who may import whom, and what the import of the core does not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE, PICTURES = ROOT / "attnchain_interp", ROOT / "attnchain_interp/pictures"
ADAPTERS, EVALS = ROOT / "adapters/attnchain_adapters", ROOT / "evals/attnchain_evals"
FRAMEWORKS = {"timm", "transformers", "nnsight", "diffusers"}
HEAVY = {"scipy", "xarray", "pandas", "sklearn", "skimage", "typer", "matplotlib"}
FORBIDDEN = {
    CORE: {"attnchain_adapters", "attnchain_evals"} | FRAMEWORKS | HEAVY - {"scipy", "xarray"},  # inside functions
    PICTURES: {"attnchain_adapters", "attnchain_evals"} | FRAMEWORKS | HEAVY - {"matplotlib"},
    ADAPTERS: {"attnchain_evals"} | HEAVY,
    EVALS: {"attnchain_adapters"},
}


def imported(source: str) -> Iterator[str]:
    """Top-level names of all modules that a source text imports, wherever it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def forbidden(package: Path, source: str) -> set[str]:
    return FORBIDDEN[package] & set(imported(source))


@pytest.mark.parametrize("package", FORBIDDEN, ids=lambda package: package.name)
def test_no_forbidden_edge(package: Path) -> None:
    files = [file for file in package.rglob("*.py") if package == PICTURES or PICTURES not in file.parents]
    assert files
    found = {str(file.relative_to(ROOT)): bad for file in files if (bad := forbidden(package, file.read_text()))}
    assert not found


def test_the_walk_sees_what_is_forbidden() -> None:
    assert forbidden(CORE, "def f():\n    from timm.layers import Attention") == {"timm"}
    assert forbidden(CORE, "from matplotlib.figure import Figure") == {"matplotlib"}
    assert forbidden(PICTURES, "import matplotlib, timm") == {"timm"}
    assert forbidden(ADAPTERS, "import attnchain_evals.cli.app") == {"attnchain_evals"}
    assert forbidden(EVALS, "from attnchain_adapters import recording") == {"attnchain_adapters"}


def test_each_framework_is_imported_in_one_adapter_file() -> None:
    homes = {
        framework: [file.name for file in ADAPTERS.rglob("*.py") if framework in set(imported(file.read_text()))]
        for framework in FRAMEWORKS
    }
    assert homes["diffusers"] == ["adapter.py"]
    assert homes["nnsight"] == ["nnsight_models.py"]
    assert homes["timm"] == ["adapter.py"]
    assert homes["transformers"] == ["adapter.py"]
    assert all(len(files) <= 1 for files in homes.values())


def test_what_travels_imports_torch_alone() -> None:
    names = [name for file in (ADAPTERS / "tracing").glob("*.py") for name in imported(file.read_text())]
    assert "torch" in names
    assert set(names) <= {"attnchain_adapters", "torch", *sys.stdlib_module_names}
    loaded = loaded_after("import attnchain_adapters.tracing")
    assert not loaded & (FRAMEWORKS | HEAVY | {"attnchain_interp"})


def loaded_after(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(' '.join({{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    return set(done.stdout.split())


def test_the_core_loads_no_framework_and_no_pyplot() -> None:
    loaded = loaded_after("import attnchain_interp as ac; ac.stationary, ac.capture")
    assert not loaded & (FRAMEWORKS | HEAVY | {"captum", "attnchain_adapters"})
    assert "matplotlib.pyplot" not in loaded_after("import matplotlib.figure; from attnchain_interp.pictures import show_grid")
    assert "timm" in loaded_after("import attnchain_interp, timm"), "the probe can fail"


def test_the_command_line_answers_without_torch() -> None:
    assert "torch" not in loaded_after("import attnchain_evals.cli.app")


def test_public_names_exist() -> None:
    import attnchain_evals
    import attnchain_interp

    assert len(dir(attnchain_interp)) < 60
    for package in (attnchain_interp, attnchain_evals):
        assert dir(package)
        assert all(getattr(package, name) is not None for name in dir(package))
        with pytest.raises(AttributeError, match="nothing"):
            package.nothing  # noqa: B018


def test_asking_for_names_loads_nothing() -> None:
    loaded = loaded_after("import attnchain_interp as ac; dir(ac), hasattr(ac, 'nothing')")
    assert not loaded & {"captum", "matplotlib", "attnchain_interp.attribution", "attnchain_interp.pictures"}
    assert "torch" not in loaded_after("import attnchain_evals; dir(attnchain_evals), hasattr(attnchain_evals, 'nothing')")
