"""The table of docs/guarantees.md: each guarantee under attack, by the suites of the tests, at greater length.

    python -m studies.guarantees

hypothesis keeps the inputs that broke something in `.hypothesis/`, and tries them first the next time.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from typing import NamedTuple

from studies import kills
from studies.report_pages import ROOT, between, write

PAGE = "docs/guarantees.md"
BEGIN, END = "<!-- attacks -->\n", "<!-- end of attacks -->"
HEAD = "| guarantee | attack | inputs tried | survived | command |\n|---|---|---|---|---|\n"


class Attack(NamedTuple):
    """A suite of the tests, and the factor by which it runs longer than in the tests."""

    guarantee: str
    attack: str
    tests: str
    longer: int


ATTACKS = (
    Attack(
        "a store holds the maps that multiplied values, or the module is named",
        "random models of many forms of attention and of values, read in random ways; a record of their own says what they"
        " multiplied",
        "tests/adapters/test_random_models.py",
        4,
    ),
    Attack(
        "a file of a store is read whole or refused by name",
        "bytes changed, cut out and put in; values of both headers replaced, renamed, removed",
        "tests/store/test_damaged_files.py",
        17,
    ),
    Attack(
        "a run is read as it was written or refused",
        "bytes of the manifest and of the rows changed, cut out and put in",
        "tests/evals/bench/test_manifest.py",
        5,
    ),
    Attack(
        "a bad command ends in words and leaves nothing behind",
        "a grammar of models, files, methods, settings, options and configurations that do not fit",
        "tests/evals/cli/test_bad_commands.py",
        5,
    ),
)


KILLS = (
    "| a run goes on where it was killed, and gives the rows of one that was left in peace | two processes of `accelerate"
    " launch`, or one of them, killed at random moments | {tried:,} | {survived:,} | `python -m studies.kills` |\n"
)


def command(attack: Attack) -> str:
    """Returns the command of a row."""
    return f"ATTNCHAIN_FUZZING={attack.longer} python -m pytest {attack.tests} --hypothesis-show-statistics"


def counts(printed: str) -> tuple[int, int]:
    """Returns how many inputs were tried, and how many survived, out of the statistics that hypothesis prints.

    >>> counts("    - during generate phase (1.0 seconds):\\n      - 12 passing, 1 failing, and 3 invalid test cases")
    (13, 12)
    """
    found = re.findall(r"- (\d+) passing(?: examples| test cases)?, (\d+) failing", printed)
    passing, failing = (sum(int(pair[place]) for pair in found) for place in (0, 1))
    return passing + failing, passing


def measured(attack: Attack) -> str:
    """Returns the row of an attack. Prints the output of pytest where it holds no statistics."""
    words = [sys.executable, "-m", "pytest", "-q", attack.tests, "--hypothesis-show-statistics"]
    done = subprocess.run(  # noqa: S603
        words,
        cwd=ROOT,
        env={**os.environ, "ATTNCHAIN_FUZZING": str(attack.longer)},
        capture_output=True,
        text=True,
        check=False,
    )
    tried, survived = counts(done.stdout)
    if not tried or done.returncode:
        print(done.stdout[-4000:], done.stderr[-1000:])
    return f"| {attack.guarantee} | {attack.attack} | {tried:,} | {survived:,} | `{command(attack)}` |\n"


def main() -> None:
    """Runs the attacks and writes the table."""
    rows = []
    for attack in ATTACKS:
        rows.append(measured(attack))
        print(rows[-1], end="", flush=True)
    tried, survived = kills.main([])
    rows.append(KILLS.format(tried=tried, survived=survived))
    write({PAGE: between(PAGE, BEGIN, END, HEAD + "".join(rows))})


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
