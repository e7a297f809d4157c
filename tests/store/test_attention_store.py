import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore, LayerAttention, TokenLayout


def test_access(store: AttentionStore, logits: Tensor) -> None:
    maps = logits.softmax(-1)
    assert len(store) == 3
    assert [layer.name for layer in store] == store.names == ["layer.0", "layer.1", "layer.2"]
    assert torch.equal(store[-1].maps, maps[2])
    assert store["layer.1"].heads == 3
    assert "layer.1" in store
    assert store[1] in store
    assert "layer.3" not in store
    assert torch.equal(store.maps(), maps.transpose(0, 1))
    assert torch.equal(store.maps(slice(1, None)), maps[1:].transpose(0, 1))
    assert torch.equal(store.maps(["layer.2", 0]), maps[[2, 0]].transpose(0, 1))
    assert "3 layers (layer.0 … layer.2), 3 heads" in repr(store)
    assert "grid 2×2" in repr(store)


def test_to_another_device(store: AttentionStore) -> None:
    moved = store.to("cpu")
    assert torch.equal(moved.maps(), store.maps())
    assert moved.tokens is store.tokens


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (torch.full((1, 1, 2, 2), 0.4), "'layer.0' is not row-stochastic"),
        (torch.full((1, 1, 2, 2), torch.nan), "NaN"),
        (torch.tensor([[[[1.5, -0.5], [0.5, 0.5]]]]), "negative"),
        (torch.full((1, 1, 2, 4), 0.25), "(?s)are not square .*queries="),
    ],
)
def test_maps_that_are_refused(maps: Tensor, message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        AttentionStore.from_maps([maps])


def test_stores_that_are_refused(store: AttentionStore) -> None:
    with pytest.raises(ac.AttentionError, match="two layers are named"):
        AttentionStore([store[0], LayerAttention("layer.0", store[1].maps)], store.tokens)
    with pytest.raises(ac.AttentionError, match="named 'a, b', and a comma"):
        AttentionStore.from_maps({"a, b": store[0].maps, "c": store[1].maps})


def test_one_layout_stands_for_a_batch() -> None:
    maps = torch.full((4, 3, 5, 5), 0.2)
    image = AttentionStore.from_maps([maps], TokenLayout.image(grid=(2, 2), class_token=True))
    assert (image.tokens.batch, image.tokens.grid) == (4, (2, 2))
    assert AttentionStore.from_maps([maps], TokenLayout.text()).tokens.roles.shape == (4, 5)
    labels = [list("abcde")]
    assert AttentionStore.from_maps([maps], TokenLayout.text(labels=labels)).tokens.labels == labels * 4


def test_what_does_not_exist(store: AttentionStore) -> None:
    for layer in (3, "layer.9", [0, 7], slice(5, None), [], True):
        with pytest.raises(ac.AttentionError, match="layer"):
            store.chain(layers=layer)  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="there are 3, numbered 0 to 2"):
        store[3]
    with pytest.raises(ac.AttentionError, match="\nThe layers are layer.0, layer.1"):
        store["nothing"]
    with pytest.raises(ac.AttentionError, match="head 3 does not exist; there are 3"):
        store.chain(heads=[3])
    with pytest.raises(ac.AttentionError, match="heads='sum' is unknown"):
        store.chain(heads="sum")
    with pytest.raises(ac.AttentionError, match="direction='sideways'"):
        store.chain(direction="sideways")  # type: ignore[arg-type]


def test_only_some_layers(store: AttentionStore) -> None:
    last_two = store.only([-1, "layer.1"])
    assert last_two.names == ["layer.1", "layer.2"]
    assert torch.equal(last_two.maps(), store.maps(slice(1, None)))
    assert last_two.tokens is store.tokens


def test_layers_of_different_shapes_are_not_stacked(store: AttentionStore) -> None:
    mixed = AttentionStore([store[0], LayerAttention("narrow", store[1].maps[:, :2])], store.tokens)
    with pytest.raises(ac.AttentionError, match="different shapes"):
        mixed.maps()
    with pytest.raises(ac.AttentionError, match="equally many heads"):
        mixed.chain(heads="each")
    assert mixed.chain().matrix.shape == (2, 5, 5)


def test_a_notebook_shows_three_lines_and_the_way_to_the_page() -> None:
    plain = AttentionStore.from_maps({"<b>": torch.rand(1, 1, 4, 4).softmax(-1)})
    shown = plain._repr_html_()
    assert shown.startswith("<pre>" + repr(plain).replace("<", "&lt;").replace(">", "&gt;"))
    assert shown.count("\n") == 3
    assert "ac.explore(store)" in shown
