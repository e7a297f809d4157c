"""Cross-attention with both texts, as rows of the target over the source."""

from __future__ import annotations

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp import pictures
from attnchain_interp.attribution import cross_attention

from .texts import SEQ2SEQ, TEXT, bart


def captured() -> ac.AttentionStore:
    ids = torch.tensor([SEQ2SEQ.encode(TEXT)])
    target = torch.tensor([SEQ2SEQ.encode("a dog walks")])
    return ac.capture(bart(), input_ids=ids, decoder_input_ids=target, reading=ac.Reading(kind="cross", tokenizer=SEQ2SEQ))


def test_rows_of_the_target_over_the_source() -> None:
    store = captured()
    found = cross_attention(store, SEQ2SEQ)
    assert found.token_attr is not None
    torch.testing.assert_close(found.token_attr, torch.stack([each.maps[0].double().mean(0) for each in store]).mean(0))
    torch.testing.assert_close(found.token_attr.sum(1), torch.ones(len(found.output_tokens), dtype=torch.float64))
    assert "".join(found.spelling.text.split()) == "".join(TEXT.split()) + "</s>"
    assert found.spelling.template[-1]
    assert not any(found.spelling.template[:-1])
    assert found.output_spelling.text.split()[:3] == ["a", "dog", "walks"]
    one = cross_attention(store, layers=-1, head=1)
    torch.testing.assert_close(one.token_attr, store[-1].maps[0, 1].double())
    assert "1 layer, head 1" in one.policy


@pytest.mark.parametrize(
    ("labels", "text"), [(["na", "Ã¯", "ve", "ĠðŁ", "ĺĢ"], "naïve 😀"), (["un", "##like", "me"], "unlike me")]
)
def test_labels_spell_the_text_where_no_tokenizer_is_given(labels: list[str], text: str) -> None:
    source, query = (ac.TokenLayout.text(torch.ones(1, len(each)), [each]) for each in (labels, ["a"]))
    maps = torch.full((1, 1, 1, len(labels)), 1 / len(labels))
    assert cross_attention(ac.AttentionStore.from_maps([maps], source, queries=query)).spelling.text == text


def test_its_pictures() -> None:
    found = cross_attention(captured(), SEQ2SEQ)
    said = [text.get_text() for text in pictures.show_text(found).axes[0].texts]
    assert {"dog", "mat", "</s>"} <= {word.rstrip(".") for word in said}
    assert found._repr_html_().count('type="radio"') == len(found.output_tokens)


def test_what_is_no_cross_attention() -> None:
    store = captured()
    with pytest.raises(ac.AttentionError, match="attention of a sequence to itself"):
        cross_attention(ac.AttentionStore.from_maps([torch.full((1, 1, 2, 2), 0.5)]))
    bare = ac.AttentionStore.from_maps([store[0].maps], queries=ac.TokenLayout.text(torch.ones(1, len(store.queries or ()))))
    with pytest.raises(ac.AttentionError, match="have no labels"):
        cross_attention(bare)
    for wrong in ({"example": 1}, {"head": 9}):
        with pytest.raises(ac.AttentionError, match="does not exist"):
            cross_attention(store, **wrong)
