"""The command that kills runs, with a run that takes a second, and with one whose rows are others each time."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from studies.kills import attack

RUN = """
import sys, time
from pathlib import Path
folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
table = folder / "rows-00000.csv"
done = table.read_text().splitlines() if table.exists() else []
with table.open("a") as file:
    for number in range(len(done), 30):
        print(EACH, file=file, flush=True)
        time.sleep(0.01)
"""


@pytest.mark.parametrize(("each", "survived"), [("number", 3), ("number, time.time_ns()", 0)], ids=["sound", "faulty"])
def test_kills_are_counted_by_what_their_run_gave(tmp_path: Path, each: str, survived: int) -> None:
    command = [sys.executable, "-S", "-c", RUN.replace("EACH", each)]
    assert attack(3, tmp_path, command, command) == (3, survived)


def test_a_run_that_fails_by_itself_is_no_kill(tmp_path: Path) -> None:
    fine, broken = ([sys.executable, "-S", "-c", code] for code in ("", "raise SystemExit(3)"))
    with pytest.raises(RuntimeError, match="ended with 3"):
        attack(1, tmp_path, fine, broken)
