from __future__ import annotations

import pytest

from attnchain_evals.tasks.prompts import Prompt, occurrences, part_of


def test_words_are_found_whole() -> None:
    assert occurrences("C++", "C++ and C+++ or C") == ((0, 3), (8, 11))
    assert occurrences("Ann", "Anna, Ann-Marie and Ann") == ((6, 9), (20, 23))


@pytest.mark.parametrize(
    ("part", "text", "spans"),
    [
        ("日本", "首都は日本の", ((3, 5),)),
        ("Tokyo", "首都はTokyoです", ((3, 8),)),
        ("서울", "서울은 한국의", ((0, 2),)),
        ("กรุงเทพ", "เมืองกรุงเทพอยู่ใน", ((5, 12),)),
        ("北京 Ann", "在北京 Anna, 在北京 Ann", ((11, 17),)),
        ("Ann", "Anna и Аnn", ()),
        ("Вена", "Веной, Вена", ((7, 11),)),
    ],
)
def test_words_of_scripts_without_spaces(part: str, text: str, spans: tuple[tuple[int, int], ...]) -> None:
    assert occurrences(part, text) == spans


def test_a_third_is_validation() -> None:
    parts = [part_of(str(number)) for number in range(2000)]
    assert 0.3 < parts.count("validation") / len(parts) < 0.37
    alone, grouped = Prompt("2", "", "", ()), Prompt("2", "", "", (), group="3")
    assert (alone.part, grouped.part) == ("validation", "test"), "a group stays together"
