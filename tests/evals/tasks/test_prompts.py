from __future__ import annotations

from attnchain_evals.tasks.prompts import Prompt, occurrences, part_of


def test_words_are_found_whole() -> None:
    assert occurrences("C++", "C++ and C+++ or C") == ((0, 3), (8, 11))
    assert occurrences("Ann", "Anna, Ann-Marie and Ann") == ((6, 9), (20, 23))


def test_a_third_is_validation() -> None:
    parts = [part_of(str(number)) for number in range(2000)]
    assert 0.3 < parts.count("validation") / len(parts) < 0.37
    alone, grouped = Prompt("2", "", "", ()), Prompt("2", "", "", (), group="3")
    assert (alone.part, grouped.part) == ("validation", "test"), "a group stays together"
