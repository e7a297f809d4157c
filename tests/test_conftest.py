"""A skipped test fails under `.ci/run`, in a folder with the conftest.py of this one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("strict", ["1", ""])
def test_a_skip_turns_red(tmp_path: Path, strict: str) -> None:
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    (tmp_path / "test_here.py").write_text(TESTS)
    (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_package')\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: needs a CUDA device\n")
    command = [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "--continue-on-collection-errors", "."]
    environment = {**os.environ, "ATTNCHAIN_CI": strict, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)  # noqa: S603
    counts = {name: int(count) for count, name in re.findall(r"(\d+) (passed|failed|skipped|xfailed|errors?)", done.stdout)}
    if strict:
        assert counts == {"failed": 1, "passed": 1, "skipped": 1, "xfailed": 1, "errors": 3}, done.stdout
        for reason in ("needs a program", "needs another program", "needs a browser", "could not import 'no_such_package'"):
            assert reason in done.stdout
        assert done.returncode == 1
    else:
        assert counts == {"passed": 1, "skipped": 5, "xfailed": 1}, done.stdout
        assert done.returncode == 0
