from pathlib import Path

from studies.guarantees import ATTACKS, BEGIN, END, PAGE, command, counts
from studies.report_pages import ROOT

PRINTED = """
tests/a.py::test_one:
  - during generate phase (1.18 seconds):
    - 150 passing, 0 failing, and 4 invalid test cases
tests/a.py::test_other:
  - during generate phase (1.18 seconds):
    - 10 passing test cases, 2 failing test cases, 0 invalid test cases
"""


def test_what_hypothesis_prints_is_counted() -> None:
    assert counts(PRINTED.replace(" test cases, 2 failing", ", 2 failing")) == (162, 160)
    assert counts("no tests ran") == (0, 0)


def test_the_table_has_a_row_for_each_attack_whose_tests_are_there() -> None:
    rows = (ROOT / PAGE).read_text("utf-8").split(BEGIN)[1].split(END)[0].splitlines()[2:]
    assert all((Path(__file__).parents[2] / attack.tests).exists() for attack in ATTACKS)
    for row, attack in zip(rows, [*map(command, ATTACKS), "python -m studies.kills"], strict=True):
        assert row.endswith(f"| `{attack}` |")
        _, _, _, tried, survived, _, _ = (part.strip() for part in row.split("|"))
        assert tried == survived != "0"
