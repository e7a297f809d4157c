"""Where sentences end, in cased and uncased texts, and in other scripts."""

from __future__ import annotations

from attnchain_interp.attribution import sentences_of
from attnchain_interp.attribution.text.spelling import Spelling


def spelled(text: str, cased: bool = True) -> list[str]:
    return [text[first:behind] for first, behind in sentences_of(text, cased)]


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


def test_other_scripts() -> None:
    for text, parts in (
        ("Она ушла. Мы тоже в 5 ч. утра.", ["Она ушла. ", "Мы тоже в 5 ч. утра."]),
        ("שלום. עולם", ["שלום. ", "עולם"]),
        ("你好。「再见！」他走了", ["你好。", "「再见！」", "他走了"]),
        ("Il part. Élise reste. « Oui. » L'été vient.", ["Il part. ", "Élise reste. ", "« Oui. » ", "L'été vient."]),
        ("Tu pars ? « Non ! » dit-il.", ["Tu pars ? ", "« Non ! » dit-il."]),
        ("Er kam. „Übel!“ Ärger. »Öl.« Um 5 p. öfter.", ["Er kam. ", "„Übel!“ ", "Ärger. ", "»Öl.« ", "Um 5 p. öfter."]),
        ("Hola. ¿Qué tal? ¡Ánimo!", ["Hola. ", "¿Qué tal? ", "¡Ánimo!"]),
        ("Był. Łódź, Šumava.", ["Był. ", "Łódź, Šumava."]),
        ("كيف حالك؟ أنا بخير.", ["كيف حالك؟ ", "أنا بخير."]),
        ("वह गया। हम रुके। क्यों?", ["वह गया। ", "हम रुके। ", "क्यों?"]),
        ("وہ گیا۔ ہم رکے۔", ["وہ گیا۔ ", "ہم رکے۔"]),
    ):
        assert spelled(text) == parts


def test_a_text_without_capitals() -> None:
    text = "it rained. we left (at last.) \nso what"
    assert spelled(text) == ["it rained. we left (at last.) \n", "so what"]
    assert spelled(text, cased=False) == ["it rained. ", "we left (at last.) \n", "so what"]


def test_the_sentences_of_a_prompt() -> None:
    def of(pieces: list[str], template: list[bool]) -> list[str]:
        found = Spelling(pieces, template)
        return found.joined(found.groups("sentence")).pieces

    words = ["He met", " Dr.", " Who at 5 p.m.", " sharp.", " They left."]
    assert of(words, [False] * 5) == ["He met Dr.", " Who at 5 p.m. sharp.", " They left."]
    assert of(["[CLS]", "it rained.", " we left."], [True, False, False]) == ["it rained.", " we left."], (
        "an uncased tokenizer"
    )
