"""Plain PyTorch models: `nn.MultiheadAttention` alone, in torch's own layers, in torchvision's ViT, and in users' modules."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_adapters.torch_models import TorchAdapter
from attnchain_interp.capture import CaptureRequest, StoreCollector

from ..conftest import Proofs, Proved

Move = Callable[[Tensor], Tensor]
WIDTH, HEADS, LENGTH = 24, 4, 7
adapter = TorchAdapter()


class Own(nn.Module):
    """A user's model: token numbers to classes, its own block around the attention."""

    def __init__(self, batch_first: bool = True, need_weights: bool = True, **options: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, WIDTH)
        self.attention = nn.ModuleList(
            nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first, **options) for _ in range(2)
        )
        self.head = nn.Linear(WIDTH, 4)
        self.batch_first, self.need_weights = batch_first, need_weights

    def forward(self, ids: Tensor, absent: Tensor | None = None) -> Tensor:
        x = self.embedding(ids)
        x = x if self.batch_first else x.transpose(0, 1)
        for attention in self.attention:
            x = x + attention(x, x, x, key_padding_mask=absent, need_weights=self.need_weights)[0]
        return self.head(x if self.batch_first else x.transpose(0, 1))


class Windows(nn.Module):
    """Windows of four tokens, folded into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        windows = x.reshape(-1, 4, WIDTH)
        return self.attention(windows, windows, windows)[0].reshape(x.shape)


class Reading(nn.Module):
    """Queries of their own, as many as there are tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.probes = nn.Parameter(torch.randn(1, LENGTH, WIDTH))
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(self.probes.expand(len(x), -1, -1), x, x)[0]


def wakened(model: nn.Module) -> Any:
    """Weights that attend to some tokens more than to others, and a head that is not zero."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "in_proj_weight" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 2 / parameter.shape[1] ** 0.5
        elif not parameter.any() and parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return model.eval()


def encoder(**options: Any) -> Any:
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, **{"batch_first": True, "dropout": 0.1, **options})
    nested = not options  # torch warns where it cannot pack padded batches
    return wakened(nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested))


def vision() -> Any:
    options: dict[str, Any] = {
        "image_size": 32,
        "patch_size": 8,
        "num_layers": 2,
        "num_heads": HEADS,
        "hidden_dim": WIDTH,
        "mlp_dim": 32,
    }
    return wakened(torchvision.models.VisionTransformer(**options, num_classes=5))


def sequences(batch: int = 2, length: int = LENGTH) -> Tensor:
    return torch.randn(batch, length, WIDTH, generator=torch.Generator().manual_seed(2))


FAST = "aten::_transformer_encoder_layer_fwd"
LAYERS = ["layers.0.self_attn", "layers.1.self_attn"]
IDS = torch.arange(2 * LENGTH).reshape(2, LENGTH)
ABSENT = torch.arange(LENGTH).expand(2, -1) >= torch.tensor([[LENGTH], [4]])
CAUSAL = nn.Transformer.generate_square_subsequent_mask(LENGTH)

TORCHVISION = {
    "swin_t": "attends within windows",
    "maxvit_t": "attends within windows",
    "swin3d_t": "attends within windows",
    "mvit_v1_b": "pools its queries and keys",
}
# name: (model, arguments, names of the layers)
MODELS: dict[str, tuple[Callable[[], Any], dict[str, Any], list[str]]] = {
    "encoder": (encoder, {"src": sequences()}, LAYERS),
    "encoder, norm first": (
        lambda: encoder(norm_first=True),
        {"src": sequences()},
        LAYERS,
    ),
    "encoder, sequence first": (
        lambda: encoder(batch_first=False),
        {"src": sequences().transpose(0, 1)},
        LAYERS,
    ),
    "encoder, causal": (
        encoder,
        {"src": sequences(), "mask": CAUSAL, "is_causal": True},
        LAYERS,
    ),
    "encoder, padded": (
        encoder,
        {"src": sequences(), "src_key_padding_mask": ABSENT},
        LAYERS,
    ),
    "one layer": (lambda: encoder().layers[0], {"src": sequences()}, ["self_attn"]),
    "unbatched": (encoder, {"src": sequences()[0]}, LAYERS),
    "own": (lambda: wakened(Own()), {"ids": IDS}, ["attention.0", "attention.1"]),
    "own, padded": (lambda: wakened(Own()), {"ids": IDS, "absent": ABSENT}, ["attention.0", "attention.1"]),
    "own, no weights": (lambda: wakened(Own(need_weights=False)), {"ids": IDS}, ["attention.0", "attention.1"]),
    "own, sequence first": (lambda: wakened(Own(batch_first=False)), {"ids": IDS}, ["attention.0", "attention.1"]),
    "torchvision": (
        vision,
        {"x": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))},
        [f"encoder.layers.encoder_layer_{k}.self_attention" for k in range(2)],
    ),
}
every_model = pytest.mark.parametrize("name", MODELS)


def asked_for(model: nn.Module, *inputs: Any, **arguments: Any) -> list[Tensor]:
    """The maps that each module gives when it is called again as the model called it, and asked for them."""
    plain, found = copy.deepcopy(model), []

    def again(module: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
        if kwargs.get("average_attn_weights", True):
            found.append(module(*args, **{**kwargs, "need_weights": True, "average_attn_weights": False})[1])

    for module in plain.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.register_forward_hook(again, with_kwargs=True)
    plain(*inputs, **arguments)  # with gradients, so not on the fast path
    return [cast("Tensor", maps).detach() for maps in found]


@every_model
def test_maps_are_those_that_the_modules_give(name: str, proofs: Proofs) -> None:
    build, arguments, layers = MODELS[name]
    model = build()
    with torch.no_grad():
        own = model(**arguments)
        proof = ac.prove(model, **arguments)
        after = model(**arguments)
    assert proof.holds, (proof.deviation, proof.layers)
    store = proof.store
    assert (store.names, store.metadata["route"]) == (layers, "multi-head")
    expected = asked_for(model, **arguments)
    assert float(expected[0].std(-1).mean()) > 0.01, "a flat map proves nothing"
    valid = store.tokens.mask[:, None, :, None]
    for layer, maps in zip(store, expected, strict=True):
        maps = maps if maps.ndim == 4 else maps[None]
        assert torch.allclose(layer.maps * valid, maps * valid, atol=1e-5)
        assert layer.heads == HEADS
    assert torch.equal(own, after)
    padded = "padded" in name
    assert store.tokens.mask.sum(1).tolist() == [len(store.tokens), 4 if padded else len(store.tokens)][: store.batch]
    assert torch.allclose(ac.stationary(store.chain(), damping=0.9).sum(-1), torch.ones(store.batch), atol=1e-5)
    proofs["torch", name] = Proved([f'kind="{store.metadata["kind"]}"'], {store.metadata["route"]})


@pytest.mark.parametrize("weight", [-torch.inf, -1e9])
def test_keys_that_a_mask_adds_to_are_padding_where_nobody_attends_to_them(weight: float) -> None:
    added = torch.zeros(ABSENT.shape).masked_fill(ABSENT, weight)
    store = ac.capture(wakened(Own()), ids=IDS, absent=added)
    assert torch.equal(store.tokens.mask, ~ABSENT)
    assert ac.capture(wakened(Own()), ids=IDS, absent=added.clamp(min=-1)).tokens.mask.all()


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_sequences_are_refused(layout: torch.layout) -> None:
    nested = torch.nested.nested_tensor([torch.rand(length, WIDTH) for length in (3, 5)], layout=layout)
    with pytest.raises(ac.AttentionError, match=r"(?s)given sequences that are nested .*to_padded_tensor\(0.0\)"):
        ac.capture(encoder(), nested)


def called(run: Callable[[], Any]) -> set[str]:
    """The names of torch's operators that run."""
    with torch.profiler.profile() as profile:
        run()
    return {event.name for event in profile.events() or ()}


def test_the_fast_path_is_not_taken_and_the_output_is_the_same() -> None:
    model, inputs, outputs = encoder(), sequences(), []
    with torch.no_grad():
        fast = model(inputs)
        with model.register_forward_hook(lambda _, __, output: outputs.append(output)):
            assert FAST in called(lambda: model(inputs)), "no fast path to keep off"
            assert FAST not in called(lambda: ac.capture(model, inputs))
    assert torch.allclose(outputs[-1], fast, atol=1e-5)


def test_torchvisions_tokens_are_a_class_token_and_a_grid() -> None:
    images = torch.randn(2, 3, 32, 32)
    store = ac.capture(vision(), images)
    assert (store.tokens.grid, store.tokens.class_token, len(store.tokens)) == ((4, 4), 0, 17)
    assert ac.TokenRank(vision()).attribute(images).shape == images.shape
    with pytest.raises(ac.AttentionError, match="the images are 40×32 but VisionTransformer wants 32×32"):
        ac.capture(vision(), torch.randn(1, 3, 40, 32))


def test_an_encoder_and_a_decoder_are_told_apart() -> None:
    model = wakened(nn.Transformer(WIDTH, HEADS, 2, 2, 32, batch_first=True))
    source, target = sequences(length=5), sequences()
    with pytest.raises(ac.AttentionError, match='(?s)several sequences.*kind="cross" or kind="decoder" or kind="encoder"'):
        ac.capture(model, source, target)
    called = {"tgt_mask": CAUSAL, "tgt_is_causal": True, "memory_key_padding_mask": ABSENT[:, 2:]}
    expected = asked_for(model, source, target, **called)
    by_kind = {
        "encoder": ["encoder.layers.0.self_attn", "encoder.layers.1.self_attn"],
        "decoder": ["decoder.layers.0.self_attn", "decoder.layers.1.self_attn"],
        "cross": ["decoder.layers.0.multihead_attn", "decoder.layers.1.multihead_attn"],
    }
    wanted = {"encoder": expected[:2], "decoder": expected[2::2], "cross": expected[3::2]}
    for kind, names in by_kind.items():
        proof = ac.prove(model, source, target, reading=ac.Reading(kind=kind), **called)
        assert proof.holds, kind
        assert (proof.store.names, proof.store.metadata["kind"]) == (names, kind)
        for layer, maps in zip(proof.store, wanted[kind], strict=True):
            assert torch.allclose(layer.maps, maps, atol=1e-5), layer.name
    cross = ac.capture(model, source, target, reading=ac.Reading(kind="cross"), **called)
    assert cross.queries is not None
    assert (len(cross.queries), len(cross.tokens), cross.tokens.mask.sum(1).tolist()) == (LENGTH, 5, [5, 2])
    decoder = ac.capture(model.decoder, target, source, tgt_mask=CAUSAL)
    assert decoder.metadata["kind"] == "decoder"
    with pytest.raises(ac.AttentionError, match='(?s)has no attention of kind="decoder".*It has kind="encoder"'):
        ac.capture(model.encoder, source, reading=ac.Reading(kind="decoder"))
    with pytest.raises(ac.AttentionError, match="kind='pool' is unknown"):
        ac.capture(model, source, target, reading=ac.Reading(kind="pool"))


def test_attention_to_other_tokens_is_not_taken_for_a_chain() -> None:
    model = wakened(Reading())
    with pytest.raises(ac.AttentionError, match=r"(?s)queries may be other tokens than its keys.*kind=\"cross\""):
        ac.capture(model, sequences())
    cross = ac.capture(model, sequences(), reading=ac.Reading(kind="cross"))
    assert cross.queries is not None
    said = ac.TokenLayout.text(torch.ones(2, LENGTH))
    assert torch.equal(ac.capture(model, sequences(), reading=ac.Reading(tokens=said)).maps(), cross.maps())


def test_windows_are_refused_unless_said_to_be_chains() -> None:
    model = wakened(Windows())
    with pytest.raises(ac.AttentionError, match=r"(?s)within a batch of 4, and the model was given \(2, 8, 24\).*of batch 4"):
        ac.capture(model, sequences(length=8))
    store = ac.capture(model, sequences(length=8), reading=ac.Reading(tokens=ac.TokenLayout.image(4, (2, 2))))
    assert (store.batch, store.tokens.grid) == (4, (2, 2))


def test_an_argument_of_the_models_that_is_called_tokens() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Own()

        def forward(self, tokens: Tensor) -> Tensor:
            return self.inner(tokens)

    model = wakened(Named())
    assert torch.equal(ac.capture(model, tokens=IDS).maps(), ac.capture(model, IDS).maps())


def test_padding_given_as_a_float_mask() -> None:
    model = wakened(Own())
    floats = torch.zeros(2, LENGTH).masked_fill(ABSENT, float("-inf"))
    assert torch.equal(ac.capture(model, IDS, floats).tokens.roles, ac.capture(model, IDS, ABSENT).tokens.roles)


@pytest.mark.parametrize("option", ["add_bias_kv", "add_zero_attn"])
def test_an_extra_key_is_refused(option: str) -> None:
    with pytest.raises(ac.AttentionError, match=r"attention.0 .*cannot be read: \w+ adds a key that is not a token"):
        ac.capture(wakened(Own(**{option: True})), IDS)


def test_models_of_other_frameworks_are_left_to_their_adapters() -> None:
    import transformers

    config = transformers.SiglipVisionConfig(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=32, image_size=32, patch_size=16
    )
    wrapper = nn.Sequential(transformers.SiglipVisionModel(config)).eval()
    store = ac.capture(wrapper, torch.randn(1, 3, 32, 32))
    assert store.metadata["adapter"] == "transformers"
    assert store.names == ["0.encoder.layers.0.self_attn"], "and not the pooling head, an nn.MultiheadAttention"


def test_factors_are_not_to_be_had() -> None:
    with pytest.raises(ac.AttentionError, match='keep="factors": this model computes attention without the fused call'):
        ac.capture(encoder(), sequences(), keep="factors")
    entropies = ac.capture(encoder(), sequences(), keep=[ac.Entropies()])
    assert entropies["entropy"].shape[:3] == (2, 2, HEADS)


@pytest.mark.parametrize(("name", "reason"), TORCHVISION.items())
def test_torchvisions_windows_are_refused(name: str, reason: str) -> None:
    with torch.device("meta"):
        model = torchvision.models.get_model(name)
    with pytest.raises(ac.AttentionError, match=rf"torchvision\.models\..* {reason}"):
        ac.capture(model, torch.rand(1, 3, 224, 224))


def test_a_module_alone_is_called_by_its_class() -> None:
    module, x = wakened(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)), sequences()
    store = ac.capture(module, x, x, x)
    assert store.names == ["MultiheadAttention"]
    assert torch.allclose(store[0].maps, module(x, x, x, average_attn_weights=False)[1], atol=1e-6)


def test_one_layer_is_recorded_alone() -> None:
    model = encoder()
    last = ac.capture(model, sequences(), layers=-1)
    assert last.names == LAYERS[-1:]
    assert torch.allclose(last[0].maps, ac.capture(model, sequences())[-1].maps, atol=1e-5)


def test_a_module_used_twice_is_two_layers() -> None:
    model = wakened(Own())
    model.attention[1] = model.attention[0]
    proof = ac.prove(model, IDS)
    assert (proof.holds, proof.store.names) == (True, ["attention.0[0]", "attention.0[1]"])
    assert torch.allclose(proof.store[1].maps, asked_for(model, IDS)[1], atol=1e-6)
    assert ac.capture(model, IDS, layers="attention.0[1]").names == ["attention.0[1]"]


def state(model: nn.Module) -> dict[str, Any]:
    seen: dict[str, Any] = {"call": F.multi_head_attention_forward, "grad": torch.is_grad_enabled()}
    for name, module in model.named_modules():
        hooks = len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._forward_hooks_always_called)
        seen[name] = (module.training, hooks, sorted(vars(module)))
    seen["requires_grad"] = [parameter.requires_grad for parameter in model.parameters()]
    return seen


@every_model
def test_the_model_is_left_as_it_was(name: str) -> None:
    build, arguments, layers = MODELS[name]
    model = build()
    before = state(model)
    ac.capture(model, **arguments)
    assert state(model) == before

    def fail(*_: object) -> None:
        raise RuntimeError("the model's own trouble")

    with model.get_submodule(layers[-1]).register_forward_hook(fail):
        before = state(model)
        with pytest.raises(RuntimeError, match="the model's own trouble"):
            ac.capture(model, **arguments)
        assert state(model) == before


@pytest.mark.parametrize("name", ["encoder", "own", "torchvision"])
def test_train_mode_with_dropout_is_refused(name: str) -> None:
    build, arguments, layers = MODELS[name]
    model = build()
    model.get_submodule(layers[0]).dropout = 0.1
    ac.capture(model, **arguments)
    with pytest.raises(ac.AttentionError, match=r"(?s)train mode with dropout .*model\.eval\(\)"):
        ac.capture(model.train(), **arguments)


def test_any_module_is_recognised() -> None:
    assert adapter.recognises(nn.Linear(2, 2))
    assert not adapter.recognises("vit")
    assert adapter.recognises(nn.MultiheadAttention(4, 2))


def test_torchvisions_models_are_loaded_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.models.get_model", lambda name, weights: vision().train())
    loaded = adapter.load("vit_b_16")
    assert not loaded.model.training
    assert tuple(loaded.sample["x"].shape) == (1, 3, 32, 32)
    adapter.capture(loaded.model, (), loaded.sample, CaptureRequest(StoreCollector()))


class HeadsFirst(nn.Module):
    """Attention whose map is (head, batch, query, key)."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first, self.words, self.qkv = first, nn.Embedding(20, WIDTH), nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        heads = self.qkv(self.words(ids)).unflatten(-1, (3, HEADS, -1)).permute(2, 3, 0, 1, 4)
        query, key, value = heads if self.first else heads.transpose(1, 2)
        mixed = (2 * query @ key.mT).softmax(-1) @ value
        return (mixed if self.first else mixed.transpose(0, 1)).movedim(0, 2).flatten(2)


@pytest.mark.parametrize("batch", [3, HEADS])
def test_heads_before_examples_are_refused_also_where_there_are_as_many(batch: int) -> None:
    torch.manual_seed(0)
    ids = torch.randint(0, 20, (batch, LENGTH))
    with pytest.raises(ac.AttentionError, match=r"which comes first is not known|batch of 4|not laid out|batch of \d"):
        ac.capture(HeadsFirst(True).eval(), ids)
    model = HeadsFirst(False).eval()
    together = ac.capture(model, ids)
    for example in range(batch):
        alone = ac.capture(model, ids[example : example + 1])
        assert torch.allclose(alone[0].maps[0], together[0].maps[example], atol=1e-6)


def test_cross_attention_is_no_chain_where_lengths_coincide() -> None:
    model, x = wakened(nn.Transformer(WIDTH, HEADS, 1, 1, 32, batch_first=True)), sequences()
    cross = ac.capture(model, x, sequences() + 1, reading=ac.Reading(kind="cross"))
    assert cross.maps().shape[-2] == cross.maps().shape[-1]
    for method in (ac.TokenRank(), ac.Rollout(), ac.MultiBounce(), ac.ColumnSum(), ac.RawAttention()):
        with pytest.raises(ac.AttentionError, match=r"(?s)from 7 queries to 7 other tokens.*is not a chain.*starts of a walk"):
            method.score(cross)


ORDER = torch.tensor([3, 1, 0, 6, 4, 2, 5])


class Moving(nn.Module):
    """Attention of queries, keys and values that are moved, each in its own way, in one of two spellings."""

    def __init__(self, queries: Move, keys: Move, values: Move, fused: bool) -> None:
        super().__init__()
        self.moved, self.fused = (queries, keys, values), fused
        self.projections = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        pairs = zip(self.moved, self.projections, strict=True)
        q, k, v = (project(move(x)).unflatten(-1, (HEADS, -1)).transpose(1, 2) for move, project in pairs)
        mixed = F.scaled_dot_product_attention(q, k, v) if self.fused else (q @ k.mT).softmax(-1) @ v
        return x + mixed.transpose(1, 2).flatten(2)


MOVES: dict[str, Move] = {
    "turned": lambda x: x.flip(1),
    "shifted": lambda x: x.roll(2, 1),
    "chosen": lambda x: x[:, ORDER],
    "gathered": lambda x: x.gather(1, ORDER[None, :, None].expand_as(x)),
    "examples": lambda x: x[[2, 0, 1]],
}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("move", [*MOVES])
def test_keys_at_other_places_than_their_queries_make_no_chain(move: str, fused: bool) -> None:
    model, x = Moving(nn.Identity(), MOVES[move], MOVES[move], fused).eval(), torch.randn(3, LENGTH, WIDTH)
    for each in (model, torch.export.export(model, (x,)).module()):
        with pytest.raises(ac.AttentionError, match="its keys are sorted, shifted or turned, and its queries are not"):
            ac.capture(each, x)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("move", [*MOVES])
def test_scores_of_moved_tokens_are_not_laid_on_the_inputs(move: str, fused: bool) -> None:
    model, x = Moving(MOVES[move], MOVES[move], MOVES[move], fused).eval(), torch.randn(3, LENGTH, WIDTH)
    method = ac.TokenRank(model, maps="attention")
    alone = ac.TokenRank(Moving(nn.Identity(), nn.Identity(), nn.Identity(), fused).eval(), maps="attention")
    alone.forward_func.load_state_dict(model.state_dict())
    scores = method.attribute(x, output="tokens")
    torch.testing.assert_close(scores, MOVES[move](alone.attribute(x, output="tokens")[..., None])[..., 0])
    with pytest.raises(ac.AttentionError, match="tokens of the inputs at other places"):
        method.attribute(x)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    "move",
    [
        nn.Identity(),
        lambda x: x + x.roll(1, 1),  # a token and the one before it
        lambda x: x.roll(1, -1),  # features
        lambda x: x[:, torch.arange(LENGTH)],
        lambda x: x + torch.zeros(LENGTH, WIDTH)[ORDER],  # positions, which are learnt
    ],
)
def test_tokens_that_stay_where_they_are(move: Move, fused: bool) -> None:
    model, x = Moving(nn.Identity(), move, move, fused).eval(), torch.randn(3, LENGTH, WIDTH)
    assert ac.TokenRank(model, maps="attention").attribute(x).shape == x.shape


def test_layers_that_read_the_tokens_in_two_orders_are_no_sequence() -> None:
    class BothWays(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.there, self.back = (Moving(nn.Identity(), nn.Identity(), nn.Identity(), True) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            return self.back(self.there(x).flip(1)).flip(1)

    model, x = BothWays().eval(), torch.randn(2, LENGTH, WIDTH)
    with pytest.raises(ac.AttentionError, match=r"there \(7 tokens\); back \(7 tokens, sorted, shifted or turned\)"):
        ac.capture(model, x)
    assert "input" in ac.capture(model, x, layers=["back"]).metadata
    assert "input" not in ac.capture(model, x, layers=["there"]).metadata
