"""A skipped test fails under `.ci/run`, in a folder with the conftest.py of this one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from studies.speed.measurement import ROOT

TESTS = """
import pytest

@pytest.mark.skip(reason="needs a program")
def test_marked(): ...

def test_called(five):
    pytest.skip("needs another program")

@pytest.fixture
def browser():
    pytest.skip("needs a browser")

def test_fixture(browser): ...

@pytest.mark.gpu
def test_allowed():
    pytest.skip("needs a CUDA device and there is none")

@pytest.mark.xfail(strict=True)
def test_expected_to_fail():
    raise ValueError

def test_runs(five): ...
"""


RUNS = """
import os, pytest

for strict in ("1", ""):
    os.environ["ATTNCHAIN_CI"] = strict
    code = pytest.main(["-q", "-ra", "-p", "no:cacheprovider", "--continue-on-collection-errors", "."])
    print(f"returned {code:d}", end="\\f")
"""


def test_a_skip_turns_red(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    (tmp_path / "test_here.py").write_text(TESTS)
    (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_package')\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: needs a CUDA device\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RUNS]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)  # noqa: S603
    strict, plain = done.stdout.removesuffix("\f").split("\f")
    assert counts(strict) == {"failed": 1, "passed": 1, "skipped": 1, "xfailed": 1, "errors": 3, "returned": 1}, strict
    for reason in ("needs a program", "needs another program", "needs a browser", "could not import 'no_such_package'"):
        assert reason in strict
    assert counts(plain) == {"passed": 1, "skipped": 5, "xfailed": 1, "returned": 0}, plain


def counts(printed: str) -> dict[str, int]:
    found = re.findall(r"(\d+) (passed|failed|skipped|xfailed|errors?)", printed)
    return {name: int(count) for count, name in found} | {"returned": int(printed.rpartition(" ")[2])}
