from __future__ import annotations

from attnchain_evals.tasks.prompts import Prompt, occurrences, part_of, sentences_of


def spelled(text: str) -> list[str]:
    return [text[first:behind] for first, behind in sentences_of(text)]


def test_sentences_cover_the_text() -> None:
    for text, parts in (
        ("It rained. We left.", ["It rained. ", "We left."]),
        ('He said: "Go!" Then he went at 5 p.m. to 3.5 places.', ['He said: "Go!" ', "Then he went at 5 p.m. to 3.5 places."]),
        ("the film . it is bad ! so bad", ["the film . ", "it is bad ! ", "so bad"]),
        ("one line\nanother line\n\n", ["one line\n", "another line\n\n"]),
        ("no end", ["no end"]),
        ("  A start. B", ["  A start. ", "B"]),
    ):
        assert spelled(text) == parts
        assert "".join(parts) == text


def test_words_are_found_whole() -> None:
    assert occurrences("C++", "C++ and C+++ or C") == ((0, 3), (8, 11))
    assert occurrences("Ann", "Anna, Ann-Marie and Ann") == ((6, 9), (20, 23))


def test_a_third_is_validation() -> None:
    parts = [part_of(str(number)) for number in range(2000)]
    assert 0.3 < parts.count("validation") / len(parts) < 0.37
    alone, grouped = Prompt("2", "", "", ()), Prompt("2", "", "", (), group="3")
    assert (alone.part, grouped.part) == ("validation", "test"), "a group stays together"
