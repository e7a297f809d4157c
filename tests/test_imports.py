"""Which module may import which, and what an import of the core does not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from inspect import isabstract
from pathlib import Path

import pytest

from .import_graph import (
    cycles,
    definer,
    edges,
    is_door,
    private_uses,
    public_names,
    sources,
    through_own_door,
    upward,
)

ROOT = Path(__file__).parents[1]
CORE, PICTURES = ROOT / "attnchain_interp", ROOT / "attnchain_interp/pictures"
ADAPTERS, EVALS = ROOT / "adapters/attnchain_adapters", ROOT / "evals/attnchain_evals"
CORE_ROOMS = ["errors", "checks", "reprs", "files", "operators", "numerics", "chain", "store", "capture", "gradients"]
CORE_ROOMS += ["attribution", "diffusion", "pictures", "explorer"]
ADAPTERS_ROOMS = ["checks", "torch_operators", "softmaxes", "recording", "contributions", "recorders", "torch_models"]
ADAPTERS_ROOMS += ["timm_models", "transformers_models", "diffusers_models", "tracing", "nnsight_models"]
EVALS_ROOMS = ["terminal", "perturbation", "metrics", "tasks", "bundled", "weights", "probes", "segments"]
EVALS_ROOMS += ["bench", "report", "reproduce", "cli"]
FRAMEWORKS = {"timm", "transformers", "nnsight", "diffusers"}
HEAVY = {"scipy", "xarray", "pandas", "sklearn", "skimage", "typer", "matplotlib"}
FORBIDDEN = {
    CORE: {"attnchain_adapters", "attnchain_evals"} | FRAMEWORKS | HEAVY - {"scipy", "xarray"},  # inside functions
    PICTURES: {"attnchain_adapters", "attnchain_evals"} | FRAMEWORKS | HEAVY - {"matplotlib"},
    ADAPTERS: {"attnchain_evals"} | HEAVY,
    EVALS: {"attnchain_adapters"},
}


@pytest.fixture(scope="module")
def packages() -> dict[str, str]:
    return sources()


@pytest.fixture(scope="module")
def graph(packages: dict[str, str]) -> set[tuple[str, str]]:
    return edges(packages)


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
    (loaded,) = loaded_after("import attnchain_adapters.tracing")
    assert not loaded & (FRAMEWORKS | HEAVY | {"attnchain_interp"})


ASKED = "import {package} as p; dir(p), p.__all__, repr(p), hasattr(p, 'nothing'), hasattr(p, '__wrapped__')"
PROBE = """
import os, sys
exec(sys.argv[1])
for code in sys.argv[2:]:
    if not os.fork():
        exec(code)
        print(" ".join({*sys.modules}), flush=True)
        os._exit(0)
    assert not os.wait()[1], code
"""


def loaded_after(*codes: str, start: str = "") -> list[set[str]]:
    """The modules that each of the codes loads. `start` runs once, before all of them: an import of torch takes seconds."""
    command = [sys.executable, "-c", PROBE, start, *codes]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_the_core_loads_no_framework_and_no_pyplot() -> None:
    loaded, stores, pictures, framework, above, bare, asked = loaded_after(
        "import attnchain_interp as ac; ac.stationary, ac.capture",
        "import attnchain_interp as ac; ac.AttentionStore",
        "import matplotlib.figure; from attnchain_interp.pictures import show_grid",
        "import attnchain_interp, nnsight",
        "import attnchain_interp as ac; ac.capture, ac.Chain, ac.AttentionStore, ac.stationary",
        "import attnchain_interp",
        ASKED.format(package="attnchain_interp"),
        start="import torch",
    )
    assert not loaded & (FRAMEWORKS | HEAVY | {"captum", "attnchain_adapters"})
    assert "pydantic" not in stores, "files alone need it"
    assert "matplotlib.pyplot" not in pictures
    assert "nnsight" in framework, "the probe can fail"
    assert not [room for room in CORE_ROOMS[CORE_ROOMS.index("gradients") :] if f"attnchain_interp.{room}" in above]
    assert not above & {"captum", "matplotlib"}, "a name loads only rooms above it"
    assert asked == bare, "asking for names loads nothing"


def test_the_command_line_and_the_names_of_the_evaluation_answer_without_torch() -> None:
    command, bare, asked = loaded_after(
        "import attnchain_evals.cli.app", "import attnchain_evals", ASKED.format(package="attnchain_evals")
    )
    assert "torch" not in command | bare
    assert asked == bare


def test_public_names_exist() -> None:
    import attnchain_evals
    import attnchain_interp

    assert len(dir(attnchain_interp)) < 67
    methods = attnchain_interp.attribution
    named = {name for name in methods.__all__ if isinstance(made := getattr(methods, name), type)
             and issubclass(made, methods.TokenAttribution) and not isabstract(made)}  # fmt: skip
    assert named <= set(dir(attnchain_interp)), "every method is a name of the package"
    for package in (attnchain_interp, attnchain_evals):
        assert dir(package)
        assert all(getattr(package, name) is not None for name in dir(package))
        with pytest.raises(AttributeError, match="nothing"):
            package.nothing  # noqa: B018


def test_the_core_has_at_most_fourteen_rooms() -> None:
    entries = {entry.name.removesuffix(".py") for entry in CORE.iterdir() if entry.suffix in ("", ".py")}
    assert entries - {"__init__", "__pycache__"} == set(CORE_ROOMS)
    assert len(CORE_ROOMS) <= 14


@pytest.mark.parametrize(("package", "rooms"), [(ADAPTERS, ADAPTERS_ROOMS), (EVALS, EVALS_ROOMS)])
def test_every_room_has_its_place_in_the_order(package: Path, rooms: list[str]) -> None:
    entries = {entry.name.removesuffix(".py") for entry in package.iterdir() if entry.suffix in ("", ".py")}
    assert entries - {"__init__", "__main__", "__pycache__"} == set(rooms)


@pytest.mark.parametrize(
    ("package", "rooms"),
    [("attnchain_interp", CORE_ROOMS), ("attnchain_adapters", ADAPTERS_ROOMS), ("attnchain_evals", EVALS_ROOMS)],
)
def test_a_room_imports_only_from_rooms_above(package: str, rooms: list[str], graph: set[tuple[str, str]]) -> None:
    forbidden_edges = upward(graph, package, rooms)
    assert not forbidden_edges


@pytest.mark.parametrize(
    "source",
    [
        "from p.low.deep import g",
        "def f():\n    import p.low.deep",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.low import g",
        "def f():\n    from ..low import deep",
        "import p.low as low\nlow.g()",
        "from p import g",
    ],
)
def test_an_upward_import_is_seen_wherever_it_stands(source: str) -> None:
    door = "from p.low.deep import g as g"
    made_up = {"p": door, "p.high": "", "p.high.one": source, "p.low": door, "p.low.deep": "def g(): ..."}
    assert upward(edges(made_up), "p", ["high", "low"]) == {("p.high.one", "p.low.deep")}
    assert upward(edges(made_up), "p", ["low", "high"]) == set()


def test_no_modules_import_one_another(packages: dict[str, str], graph: set[tuple[str, str]]) -> None:
    groups, inside = cycles(graph), through_own_door(packages)
    assert not groups
    assert not inside


def test_a_cycle_is_seen_also_through_a_door() -> None:
    made_up = {
        "p": "",
        "p.a": "from p.a.one import f as f",
        "p.a.one": "def f():\n    from p.b import g",
        "p.b": "from p.b.two import g as g",
        "p.b.two": "from p.a import f\ndef g(): ...",
    }
    assert cycles(edges(made_up)) == [["p.a.one", "p.b.two"]]
    assert through_own_door(made_up) == set()
    assert through_own_door({**made_up, "p.a.three": "from p.a import f"}) == {("p.a.three", "p.a")}
    assert not is_door("p.a", {**made_up, "p.a": "def f(): ..."}), "what is defined in an __init__ is a module's"
    assert definer("p.a", "f", made_up) == "p.a.one"


def test_adapters_and_evals_take_public_names_alone(packages: dict[str, str]) -> None:
    public = public_names(packages, "attnchain_interp")
    assert {("attnchain_interp", "TokenRank"), ("attnchain_interp.checks", "check_one_of")} <= public
    private = private_uses(packages, "attnchain_interp", ["attnchain_adapters", "attnchain_evals"])
    assert not private


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from core import f\nfrom core.room import g\nimport core as c\nc.f, c.room.g", set()),
        ("from core.room.file import g", {"core.room.file.g"}),
        ("import core.room.file", {"core.room.file"}),
        ("from core.room import _hidden", {"core.room._hidden"}),
        ("import core as c\nc.room.h", {"core.room.h"}),
        ("from core import room\nroom.h", {"core.room.h"}),
    ],
)
def test_a_private_name_is_seen(source: str, found: set[str]) -> None:
    room = "from core.room.file import g\n__all__ = ['g']"
    made_up = {"core": "from .room import f as f", "core.room": room, "core.room.file": "", "user": "", "user.one": source}
    assert {what for _, what in private_uses(made_up, "core", ["user"])} == found
