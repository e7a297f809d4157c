"""Modes that a user has switched on around a call do not change the numbers: autocast, default types and devices, others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore, Role, TokenLayout, attribution, chain
from attnchain_interp.chain import as_chain, coarse_grained_stationary, leading_eigenvalues, reversible

from .attribution import small_models as small


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def precision_of_products(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


STATES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "float64 by default": lambda: default_dtype(torch.float64),
    "bfloat16 by default": lambda: default_dtype(torch.bfloat16),
    "another device by default": lambda: torch.device("meta"),  # a tensor that is made without a device fails there
    "inference mode": torch.inference_mode,
    "deterministic": deterministic,
    "anomaly": partial(torch.autograd.set_detect_anomaly, True),
    "products of high precision": lambda: precision_of_products("high"),
    "products of medium precision": lambda: precision_of_products("medium"),  # bfloat16, where the processor has it
}
every_state = pytest.mark.parametrize("state", STATES.values(), ids=STATES)


def random_maps(*shape: int, causal: bool = False) -> Tensor:
    logits = 3 * torch.randn(*shape, shape[-1], generator=torch.Generator().manual_seed(0))
    ahead = torch.ones(shape[-1], shape[-1], dtype=torch.bool).triu(1)
    return (logits.masked_fill(ahead, -torch.inf) if causal else logits).softmax(-1)


def random_factors(**options: Any) -> ac.Factors:
    """Of more tokens than are multiplied out."""
    query, key = torch.randn(2, 1, 2, 600, 8, generator=torch.Generator().manual_seed(1))
    return ac.Factors(query, key, **options)


def of_factors(**options: Any) -> AttentionStore:
    return AttentionStore([ac.LayerAttention("a", random_factors(**options))], TokenLayout.text(torch.ones(1, 600)))


def mixed(P: Any) -> list[Tensor]:
    found = ac.mixing(P)
    return [found.stationary, found.residual, found.second_eigenvalue, found.converged, found.bound]


STORES = {
    "image": AttentionStore.from_maps([random_maps(2, 3, 50)] * 2, TokenLayout.image(2, (7, 7), prefix=[Role.CLASS])),
    "text": AttentionStore.from_maps([random_maps(2, 3, 30, causal=True)] * 2),
    "factors": of_factors(),
    "causal factors": of_factors(causal=True),
    "factors without a kernel": of_factors(softcap=5.0),
}
P, LONG, MASS = random_maps(2, 52), random_factors(), torch.full((1, 2, 600), 1 / 600)
SOME, FIRST, EARLY, EYE = torch.arange(52) > 20, torch.arange(52) == 0, torch.arange(600) < 3, torch.eye(52)
SHORT, LARGE = random_maps(2, 30), random_maps(2, 300)
CHAINS: dict[str, Callable[[], Any]] = {
    "absorb": lambda: ac.absorb(P, FIRST).matrix,
    "as_chain": lambda: [as_chain(LONG).matrix, as_chain(P.bfloat16()).matrix],
    "balance": lambda: [ac.balance(P).matrix, ac.balance(LONG, 0.5).step(MASS)],
    "bounce": lambda: [ac.bounce(P, 1, 3), ac.bounce(LONG, 1, 3)],
    "Chain": lambda: [as_chain(P).step(P[:, 0]), as_chain(LONG).step(MASS), as_chain(LONG).uniform],
    "coarse_grained_stationary": lambda: coarse_grained_stationary(P, EYE.expand(2, -1, -1)),
    "damp": lambda: [ac.damp(P, 0.9).matrix, ac.damp(LONG, 0.9).step(MASS)],
    "expected_visits": lambda: [ac.expected_visits(ac.absorb(P, FIRST)), ac.expected_visits(ac.absorb(LONG, EARLY))],
    "leading_eigenvalues": lambda: [leading_eigenvalues(P, 2).real, leading_eigenvalues(LONG, 2).real],
    "metastable_states": lambda: ac.metastable_states(P),
    "Mixing": lambda: mixed(SHORT),
    "mixing": lambda: [mixed(P), mixed(LONG)],
    "restrict": lambda: [ac.restrict(P, SOME).matrix, ac.restrict(LONG, ~EARLY).step(MASS)],
    "reverse": lambda: [ac.reverse(P).matrix, ac.reverse(LONG).step(MASS)],
    "reversible": lambda: [reversible(P).matrix, reversible(LONG).step(MASS)],
    "second_eigenvalue": lambda: [ac.second_eigenvalue(P), ac.second_eigenvalue(SHORT)],
    "stationary": lambda: [ac.stationary(P), ac.stationary(LONG), ac.stationary(P, 1.0), ac.stationary(LARGE)],
}
REDUCERS = [ac.StationaryVectors(), ac.SecondEigenvalues(), ac.Bounces(), ac.ColumnSums(), ac.ClassRows(), ac.Entropies()]


def methods(base: Any) -> dict[str, Any]:
    return {
        name: method
        for name in attribution.__all__
        if isinstance(method := getattr(attribution, name), type) and issubclass(method, base) and method is not base
    }


def scores(store: AttentionStore) -> dict[str, Tensor]:
    """The scores of every method, and of ways to weigh heads."""
    factored = isinstance(store[0].attention, ac.Factors)
    start: dict[str, Any] = {} if factored else {"start": 1}
    found = {
        name: method(token=1).score(store) if name == "RawAttention" else method().score(store)
        for name, method in methods(ac.AttentionAttribution).items()
        if not factored or name not in ("AttentionFlow", "MetastableStates")  # they multiply the map out, in seconds
    }
    found["lambda2"] = ac.TokenRank(heads="lambda2").score(store)
    found["outgoing"] = ac.MultiBounce(**start, heads=[0], direction="outgoing").score(store)
    found["absorb"] = ac.TokenRank(causal="absorb").score(store)
    found["weights"] = ac.head_weights(store, "inverse-lambda2")
    return found


def reduced(store: AttentionStore) -> dict[str, Tensor]:
    with_class = bool((store.tokens.roles == Role.CLASS).any())
    reducers = REDUCERS if with_class else [r for r in REDUCERS if not isinstance(r, ac.Bounces | ac.ClassRows)]
    found = ac.capture(lambda: store, keep=reducers)
    return {reducer.name: found[reducer.name] for reducer in reducers}


def tensors(found: Any) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
    else:
        for each in found.values() if isinstance(found, dict) else found:
            yield from tensors(each)


def check_same(found: Any, expected: Any) -> None:
    pairs = list(zip(tensors(found), tensors(expected), strict=True))
    assert pairs
    for one, other in pairs:
        assert (one.dtype, one.device) == (other.dtype, other.device)
        assert torch.equal(one, other)


def test_every_function_of_a_chain_is_here() -> None:
    assert CHAINS.keys() == set(chain.__all__)


@every_state
@pytest.mark.parametrize("name", CHAINS)
def test_functions_of_a_chain(name: str, state: Callable[[], AbstractContextManager[Any]]) -> None:
    expected = CHAINS[name]()
    with state():
        found = CHAINS[name]()
    check_same(found, expected)


@cache
def expected_of(name: str) -> tuple[Any, ...]:
    store = STORES[name]
    return scores(store), reduced(store), store.maps(), store.chain().matrix, store.chain(heads="each").matrix


@every_state
@pytest.mark.parametrize("name", STORES)
def test_scores_reducers_and_chains_of_a_store(name: str, state: Callable[[], AbstractContextManager[Any]]) -> None:
    expected = expected_of(name)
    with state():
        found = expected_of.__wrapped__(name)
    check_same(found, expected)


def float32(model: Any) -> Any:
    return model.float()


MODELS = {
    "vit": (lambda: float32(small.vit()), lambda: (small.images().float(),), 1),
    "vit, not fused": (lambda: float32(small.vit(fused=False)), lambda: (small.images().float(),), 1),
    "bert with padding": (lambda: float32(small.bert()), lambda: (small.ids(), torch.arange(7).expand(2, -1) < 5), 1),
    "llama": (lambda: float32(small.llama()), lambda: (small.ids(),), (3, 5)),
}
AUTOCAST = {name for name in STATES if name.startswith("autocast")}
NARROW = AUTOCAST | {name for name in STATES if name.startswith("products")}
every_model = pytest.mark.parametrize("name", MODELS)


def of_model(model: Any, inputs: Any, target: Any, gradients: bool) -> dict[str, Any]:
    first, extra = inputs[0], inputs[1:]
    found: dict[str, Any] = {
        "maps": ac.capture(model, *inputs, keep="maps").maps(),
        "rank": ac.TokenRank(model).attribute(first, None, extra, output="tokens"),
        "rollout of contributions": ac.Rollout(model, maps="alti").attribute(first, None, extra, output="tokens"),
        "contributions": ac.capture(model, *inputs, maps="alti").maps(),
        "proof": torch.tensor(ac.prove(model, *inputs).deviation, dtype=torch.float64, device="cpu"),
    }
    for method in (ac.GradientAttention, ac.LeGrad, ac.GradientTokenRank) if gradients else ():
        found[method.__name__] = method(model).attribute(first, target, extra, output="tokens")
    return found


@cache
def of_a_model(name: str, gradients: bool) -> dict[str, Any]:
    """In no state."""
    make, given, target = MODELS[name]
    return of_model(make(), given(), target, gradients)


@pytest.mark.parametrize("state", [name for name in STATES if name not in NARROW])
@every_model
def test_models(name: str, state: str) -> None:
    make, given, target = MODELS[name]
    gradients = state != "inference mode"
    expected = of_a_model(name, gradients)
    model, inputs = make(), given()
    with STATES[state]():
        found = of_model(model, inputs, target, gradients)
    assert found.keys() == expected.keys()
    check_same(found, expected)


def of_baselines(name: str, model: Any, inputs: Any) -> list[Tensor]:
    (first, *extra), target = inputs, MODELS[name][2]
    methods = [attribution.GradELLM(model), attribution.AttnLRP(model), attribution.LeaveOneOut(model)]
    methods += [attribution.ShapleyValues(model, n_samples=1), attribution.IntegratedGradients(model, n_steps=5)]
    methods += [] if "bert" in name.lower() else [ac.LogitTokenRank(model)]
    methods += [
        attribution.LeaveOneOut(model, removal=removal)
        for removal in ("token-delete", "mean-embedding")
        if not first.is_floating_point()
    ]
    return [method.attribute(first, target, tuple(extra), output="tokens") for method in methods]


@cache
def of_all_baselines(name: str) -> list[Tensor]:
    """In no state."""
    make, given, _ = MODELS[name]
    return of_baselines(name, make(), given())


@pytest.mark.parametrize("state", [name for name in STATES if name not in NARROW | {"inference mode"}])
@every_model
def test_baselines(name: str, state: str) -> None:
    make, given, _ = MODELS[name]
    expected = of_all_baselines(name)
    model, inputs = make(), given()
    with STATES[state]():
        found = of_baselines(name, model, inputs)
    check_same(found, expected)


@pytest.mark.parametrize("state", sorted(NARROW))
@every_model
def test_a_model_runs_in_narrow_arithmetic_and_its_chains_do_not(name: str, state: str) -> None:
    make, given, target = MODELS[name]
    model, inputs = make(), given()
    first, extra = inputs[0], inputs[1:]
    exact = ac.capture(model, *inputs)
    with STATES[state]():
        store = ac.capture(model, *inputs)
        rank = ac.TokenRank(model, maps="attention").attribute(first, None, extra, output="tokens")
        kept = ac.capture(model, *inputs, keep=[ac.StationaryVectors(), ac.SecondEigenvalues()])
        gradients = ac.capture_gradients(model, *inputs, target=target)
        scores = ac.GradientAttention(model).attribute(first, target, extra, output="tokens")
        contributed = ac.capture(model, *inputs, maps="alti")
        rolled = ac.Rollout().score(contributed)
    rounding = float((store.maps() - exact.maps()).abs().max())  # the model's own
    assert rounding < 0.1
    assert rounding > 0 or state not in AUTOCAST
    assert torch.equal(rank, ac.TokenRank().score(store))
    assert torch.equal(scores, ac.GradientAttention().score(gradients))
    assert torch.equal(rolled, ac.Rollout().score(contributed))
    outside = ac.capture(lambda: store, keep=[ac.StationaryVectors(), ac.SecondEigenvalues()])
    for reducer in ("stationary", "second_eigenvalue"):
        assert torch.allclose(kept[reducer], outside[reducer], atol=1e-6)
    plain = ac.capture_gradients(model, *inputs, target=target)
    for layer in range(len(plain)):
        found, expected = gradients[layer][1], plain[layer][1]
        seen = found != 0  # a probability that underflows in 16 bits has no gradient
        assert float((found - expected)[seen].abs().max()) < 0.15 * float(expected.abs().max())
    assert float((contributed.maps() - ac.capture(model, *inputs, maps="alti").maps()).abs().max()) < 0.1
