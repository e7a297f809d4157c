"""Maps of other tools become stores, and stores what the real packages take."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import bertviz
import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore, LayerAttention, Role, TokenLayout


def test_a_mapping_a_list_and_one_tensor(logits: Tensor) -> None:
    maps = logits.softmax(-1)
    named = AttentionStore.from_maps({"a": maps[0], "b": maps[1]})
    assert named.names == ["a", "b"]
    assert bool((named.tokens.roles == Role.TEXT).all())
    assert AttentionStore.from_maps(list(maps[:2]), names=["x", "y"]).names == ["x", "y"]
    assert torch.equal(AttentionStore.from_maps(maps).maps(), maps.transpose(0, 1))


@pytest.fixture
def output() -> Any:
    """What a decoder of transformers returns under "eager", asked for its attention."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = transformers.LlamaModel(transformers.LlamaConfig(vocab_size=20, initializer_range=1.0, **sizes)).eval()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        return model(torch.arange(6)[None], output_attentions=True)


def test_attentions_of_transformers(output: Any) -> None:
    store = AttentionStore.from_maps(output.attentions)
    assert store.names == ["layer.0", "layer.1"]
    assert torch.equal(store[1].maps, output.attentions[1])
    with pytest.raises(ac.AttentionError, match=r"output of a model, which holds attentions.*\nPass output.attentions"):
        AttentionStore.from_maps(output)


def test_patterns_of_a_cache(logits: Tensor) -> None:
    """A cache holds much else; its batch may have been removed. The real one: tests/other_tools."""
    maps = logits.softmax(-1)[:2, :1]
    cache = {f"blocks.{i}.attn.hook_{kind}": maps[i] for i in range(2) for kind in ("attn_scores", "pattern")}
    cache |= {"blocks.0.hook_resid_pre": torch.randn(1, 5, 16)}
    whole = AttentionStore.from_maps(cache)
    assert whole.names == ["blocks.0.attn", "blocks.1.attn"]
    assert torch.equal(whole.maps(), maps.transpose(0, 1))
    alone = AttentionStore.from_maps({name: activation[0] for name, activation in cache.items()})
    assert torch.equal(alone.maps(), whole.maps())
    with pytest.raises(ac.AttentionError, match=r"cache of 1 activations without an attention pattern.\n.*names_filter="):
        AttentionStore.from_maps({"blocks.0.hook_resid_pre": torch.randn(1, 5, 16)})


class Foreign:
    """An array of another library, as JAX, TensorFlow and CuPy have them."""

    shape = (1, 1, 2, 2)

    def __array__(self) -> np.ndarray:
        return np.eye(2)[None, None]


@pytest.mark.parametrize(
    ("maps", "names", "message"),
    [
        ((), None, "returns no attentions.\nCapture it"),
        ({}, None, "returns no attentions.\nCapture it"),
        ([None], None, "None for each layer.*\nCapture it"),
        (None, None, "maps is None.*\nCapture it"),
        ([torch.eye(2)[None, None], None], None, "'layer.1' is of type (?s:.*)leave out layers"),
        ([torch.eye(2)], None, r"'layer.0' is of shape \(2, 2\)"),
        ([(torch.eye(2)[None, None],)], None, r"'layer.0' is of type tuple(?s:.*)capture\(model.generate, …\)"),
        ([torch.eye(2)[None]], None, r"shape \(1, 2, 2\)(?s:.*)\[layer\[None\] for layer in maps\]"),
        ({"a": torch.eye(2)[None]}, None, r"\{name: layer\[None\] for name, layer in maps.items\(\)\}"),
        (np.eye(2)[None, None], None, r"one ndarray of shape \(1, 1, 2, 2\)(?s:.*)from_maps\(\[torch.from_numpy\(maps\)\]\)"),
        (np.eye(2)[None, None, None], None, r"type ndarray(?s:.*)Pass torch.from_numpy\(maps\)"),
        ([np.eye(2)[None, None]], None, r"type ndarray(?s:.*)\[torch.from_numpy\(layer\) for layer in maps\]"),
        ({"a": np.eye(2)[None, None]}, None, r"type ndarray(?s:.*)torch.from_numpy\(layer\) for name, layer"),
        ([Foreign()], None, r"type Foreign(?s:.*)\[torch.from_numpy\(np.array\(layer\)\) for layer in maps\]"),
        (Foreign(), None, r"one Foreign of shape \(1, 1, 2, 2\)(?s:.*)torch.from_numpy\(np.array\(maps\)\)"),
        ([[[1.0]]], None, r"type list(?s:.*)torch.tensor\(layer\)"),
        ({"sequences": torch.zeros(1, 3)}, None, r"output of generate\(\).*\nCapture the generation"),
        ({"logits": torch.zeros(1, 3), "cross_attentions": ()}, None, r"Pass output.cross_attentions"),
        ("a path", None, "maps is of type str"),
        (iter([]), None, "it must be a list or a mapping"),
        ({0: torch.eye(2)[None, None]}, None, r"named \[0\](?s:.*)by a string"),
        ([torch.eye(2)[None, None].to_sparse()], None, r"sparse tensor(?s:.*)\.to_dense\(\)"),
        ([torch.eye(2, device="meta")[None, None]], None, "on the meta device"),
        (torch.eye(2)[None, None], None, r"one tensor of shape \(1, 1, 2, 2\)(?s:.*)into a list"),
        ([torch.eye(2)[None, None]], [], "0 names for 1 layer"),
        ([torch.eye(2)[None, None]] * 2, ["a", "a"], "two layers are named 'a'"),
    ],
)
def test_maps_that_are_refused(maps: Any, names: Any, message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        AttentionStore.from_maps(maps, names=names)
    if names is None:
        with pytest.raises(ac.AttentionError, match=message):
            AttentionStore.from_maps(maps, TokenLayout.text(torch.ones(1, 2)))


def test_what_a_generation_returns_is_refused_with_the_capture_to_write() -> None:
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=20, eos_token_id=None, **sizes)).eval()
    model.set_attn_implementation("eager")
    ids = torch.arange(6)[None]
    told: dict[str, Any] = {
        "max_new_tokens": 3,
        "do_sample": False,
        "return_dict_in_generate": True,
        "output_attentions": True,
    }
    output: Any = model.generate(ids, **told)  # type: ignore[operator]
    for maps in (output, output.attentions, output.attentions[1]):
        with pytest.raises(ac.AttentionError, match=r"capture\(model.generate, …\)"):
            AttentionStore.from_maps(maps)
    assert AttentionStore.from_maps(output.attentions[0]).names == ["layer.0", "layer.1"]


def test_layers_and_layouts_of_other_types_are_refused() -> None:
    layout, layer = TokenLayout.text(torch.ones(1, 2)), LayerAttention("a", torch.eye(2)[None, None])
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: AttentionStore([layer], ["a", "b"]), "tokens is of type list(?s:.*)TokenLayout.text"),  # type: ignore[arg-type]
        (lambda: AttentionStore([layer], layout, queries=torch.ones(1, 2)), "queries is of type Tensor"),  # type: ignore[arg-type]
        (lambda: AttentionStore(layer, layout), "layers is of type LayerAttention(?s:.*)from_maps"),  # type: ignore[arg-type]
        (lambda: AttentionStore(layer.maps, layout), "layers is of type Tensor(?s:.*)from_maps"),  # type: ignore[arg-type]
        (lambda: AttentionStore(None, layout), "layers is of type NoneType"),  # type: ignore[arg-type]
        (lambda: AttentionStore([layer.maps], layout), "a layer is of type Tensor"),  # type: ignore[list-item]
        (lambda: LayerAttention("a", np.eye(2)[None, None]), r"torch.from_numpy\(attention\)"),  # type: ignore[arg-type]
        (lambda: TokenLayout(np.ones((1, 2))), r"torch.from_numpy\(roles\)"),  # type: ignore[arg-type]
        (lambda: TokenLayout.text([[1, 1]]), r"torch.tensor\(mask\)"),  # type: ignore[arg-type]
        (lambda: ac.Factors(np.ones((1, 1, 2, 2)), torch.ones(1, 1, 2, 2)), r"torch.from_numpy\(query\)"),  # type: ignore[arg-type]
        (lambda: ac.stationary(np.eye(2)), r"torch.from_numpy\(P\)"),  # type: ignore[arg-type]
    ]
    for call, message in cases:
        with pytest.raises(ac.AttentionError, match=message):
            call()


def test_xarray(store: AttentionStore) -> None:
    store.metadata["model"] = "tiny"
    array = store.to_xarray()
    assert array.dims == ("batch", "layer", "head", "query", "key")
    assert np.array_equal(array.values, store.maps().numpy())
    assert array.sel(layer="layer.1", batch=1, head=2, query=0, key=3).item() == store[1].maps[1, 2, 0, 3].item()
    assert array.attrs == {"model": "tiny"}
    assert "query_label" not in array.coords
    to_roles = array[0].groupby("key_role").sum()  # roles are (batch, token): of one example they group the tokens
    assert np.allclose(to_roles.sel(key_role="patch"), store.maps()[0, ..., 1:].sum(-1))
    assert np.allclose(to_roles.sel(key_role="class"), store.maps()[0, ..., 0])
    assert store.to_xarray(layers=[2, "layer.0"]).layer.values.tolist() == ["layer.2", "layer.0"]


def test_the_way_back_from_xarray(store: AttentionStore) -> None:
    """By what the message said, layers were taken for examples."""
    maps = store.to_xarray()
    fix = re.escape('Pass torch.from_numpy(maps.transpose("layer", ...).values), and names=maps.layer.values.tolist().')
    with pytest.raises(ac.AttentionError, match=f"(?s)DataArray with the axes batch, layer, .*{fix}"):
        AttentionStore.from_maps(maps)  # type: ignore[arg-type]
    layers_first, names = torch.from_numpy(maps.transpose("layer", ...).values), maps.layer.values.tolist()
    back = AttentionStore.from_maps(layers_first, store.tokens, names)
    assert back.names == store.names
    assert torch.equal(back.maps(), store.maps())


def test_xarray_of_padded_text() -> None:
    labels = [["a", "cat", "sat"], ["cats", "sit", "<pad>"]]
    tokens = TokenLayout.text(torch.tensor([[1, 1, 1], [1, 1, 0]]), labels)
    maps = torch.rand(2, 4, 3, 3, dtype=torch.bfloat16, requires_grad=True).softmax(-1)
    array = AttentionStore.from_maps([maps], tokens).to_xarray()
    assert array.dtype == np.float32
    assert array.query_role.values.tolist() == [["text"] * 3, ["text", "text", "pad"]]
    assert array.key_label.values.tolist() == labels
    assert array[1].set_xindex("query_label").sel(query_label="sit").shape == (1, 4, 3)


def test_without_xarray(store: AttentionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match=r"pip install 'attnchain-interp\[xarray\]'"):
        store.to_xarray()


def shown(view: Callable[..., Any], store: AttentionStore, example: int = 0) -> dict[str, Any]:
    """What BertViz puts into its page."""
    page = view(*store.to_bertviz(example), html_action="return").data
    (parameters,) = re.findall(r"^\s*const params = ({.*});", page, re.MULTILINE)
    (attention,) = json.loads(parameters)["attention"]
    return attention


views = pytest.mark.parametrize("view", [bertviz.head_view, bertviz.model_view])


@views
def test_bertviz_shows_the_maps(store: AttentionStore, view: Callable[..., Any]) -> None:
    attention = shown(view, store, 1)
    assert np.allclose(attention["attn"], store.maps()[1])
    assert attention["left_text"] == ["class 0", "patch 0,0", "patch 0,1", "patch 1,0", "patch 1,1"]


@views
def test_bertviz_leaves_padding_out(view: Callable[..., Any]) -> None:
    tokens = TokenLayout.text(torch.tensor([[1, 1, 1], [0, 1, 1]]))
    maps = torch.rand(2, 4, 3, 3, dtype=torch.bfloat16, requires_grad=True).masked_fill(
        ~tokens.mask[:, None, None], -torch.inf
    )
    maps = maps.softmax(-1)
    maps = torch.where(tokens.mask[:, None, :, None], maps, torch.nan)  # what a fully masked query may hold
    store = AttentionStore.from_maps([maps], tokens)
    attention = shown(view, store, 1)
    assert np.allclose(attention["attn"], maps[None, 1, :, 1:, 1:].detach().float())
    assert attention["right_text"] == ["text 1", "text 2"]
    assert not store.to_bertviz()[0][0].requires_grad
    labelled = AttentionStore(store, TokenLayout(tokens.roles, labels=[["a", "cat", "sat"], ["<pad>", "cats", "sit"]]))
    assert shown(view, labelled, -1)["left_text"] == ["cats", "sit"]


def test_there_and_back(store: AttentionStore) -> None:
    attention, tokens = store.to_bertviz(1)
    assert {(part.shape, part.dtype) for part in attention} == {((1, 3, 5, 5), torch.float32)}
    assert len(tokens) == 5
    assert torch.allclose(AttentionStore.from_maps(attention).maps().double(), store.maps()[1:])


def test_what_bertviz_cannot_show(store: AttentionStore) -> None:
    for example in (2, -3, True):
        with pytest.raises(ac.AttentionError, match=f"example {example} does not exist; there are 2, numbered 0 to 1"):
            store.to_bertviz(example)
    mixed = AttentionStore([store[0], LayerAttention("narrow", store[1].maps[:, :2])], store.tokens)
    for convert in (mixed.to_bertviz, mixed.to_xarray):
        with pytest.raises(ac.AttentionError, match="different shapes"):
            convert()


def test_queries_that_are_other_tokens() -> None:
    maps = torch.rand(2, 3, 4, 5)
    queries = TokenLayout.text(torch.ones(2, 4), [["a", "b", "c", "d"]] * 2)
    store = AttentionStore.from_maps([maps / maps.sum(-1, keepdim=True)], queries=queries)
    array = store.to_xarray()
    assert dict(array.sizes) == {"batch": 2, "layer": 1, "head": 3, "query": 4, "key": 5}
    assert array.query_label[0].values.tolist() == ["a", "b", "c", "d"]
    with pytest.raises(ac.AttentionError, match="BertViz takes cross-attention beside"):
        store.to_bertviz()
