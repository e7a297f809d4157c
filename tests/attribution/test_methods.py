"""Each method beside a dense replica of its formula."""

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore, Role, TokenLayout


def test_token_rank_is_the_eigenvector_of_the_damped_patch_chain(store: AttentionStore, logits: Tensor) -> None:
    P = 0.9 * logits[..., 1:, 1:].softmax(-1).mean((0, 2)) + 0.1 / 4
    scores = ac.TokenRank(damping=0.9).score(store)
    for row in range(2):
        power = torch.linalg.matrix_power(P[row], 200)
        assert torch.allclose(scores[row, 1:], power[0])
    assert not scores[:, 0].any()


def test_token_rank_with_a_personalization(store: AttentionStore) -> None:
    v = torch.tensor([0, 1.0, 0, 0, 0], dtype=torch.float64)
    P = store.chain().matrix[0, 1:, 1:]
    scores = ac.TokenRank(damping=0.5, personalization=v).score(store)[0, 1:]
    series = sum(0.5 * 0.5**n * torch.linalg.matrix_power(P, n)[0] for n in range(60))
    assert torch.allclose(scores, torch.as_tensor(series))


def test_multi_bounce_from_the_class_token(store: AttentionStore, logits: Tensor) -> None:
    """The class token's row over the patches, then steps among patches only."""
    P = logits[2, ..., 1:, 1:].softmax(-1).mean(1)
    entry = logits[2, :, :, 0, 1:].softmax(-1).mean(1)
    expected = entry[:, None] @ P @ P
    scores = ac.MultiBounce(steps=3, layers=-1).score(store)
    assert torch.allclose(scores[:, 1:], expected[:, 0])
    assert torch.equal(ac.MultiBounce(steps=0).score(store)[0], torch.eye(5, dtype=torch.float64)[0])


def test_many_bounces_tend_to_token_rank(store: AttentionStore) -> None:
    assert torch.allclose(ac.MultiBounce(steps=300).score(store), ac.TokenRank(damping=1).score(store), atol=1e-6)


def test_multi_bounce_from_distributions(store: AttentionStore) -> None:
    each = torch.tensor([[0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 1]])
    scores = ac.MultiBounce(steps=1, start=each).score(store)
    P = store.chain().matrix
    assert torch.allclose(scores[0], (P[0, 1] + P[0, 2]) / 2)
    assert torch.allclose(scores[1], P[1, 4])
    assert torch.allclose(ac.MultiBounce(steps=1, start=each, heads="each").score(store).mean(1), scores, atol=1e-12)
    assert torch.allclose(ac.MultiBounce(steps=1, start="uniform").score(store), ac.ColumnSum().score(store))


def test_column_sum(store: AttentionStore, logits: Tensor) -> None:
    expected = logits[..., 1:, 1:].softmax(-1).mean((0, 2)).sum(1) / 4
    assert torch.allclose(ac.ColumnSum().score(store)[:, 1:], expected)


def test_raw_rows_and_columns(store: AttentionStore) -> None:
    maps = store.maps()
    assert torch.allclose(ac.RawAttention().score(store), maps[..., 0, :].mean((1, 2)))
    assert torch.allclose(ac.RawAttention(layers=-1, heads="each").score(store), maps[:, -1, :, 0, :])
    assert torch.allclose(ac.RawAttention(token=2, layers=0).score(store), maps[:, 0].mean(1)[:, 2, :])
    assert torch.allclose(ac.RawAttention(token="center", layers=-1).score(store), maps[:, -1].mean(1)[:, 4, :])
    column = ac.RawAttention(token=-1, select="column", layers=-1, heads=[2]).score(store)
    assert torch.allclose(column, maps[:, -1, 2, :, -1])


def test_rollout_beside_a_dense_replica(store: AttentionStore) -> None:
    """R = Â_L ⋯ Â_1 with Â = rownorm(mean_h A + I), as an explicit product of matrices."""
    product = torch.eye(5, dtype=torch.float64).expand(2, 5, 5)
    for layer in range(3):
        mixed = store.maps()[:, layer].mean(1) + torch.eye(5, dtype=torch.float64)
        product = mixed / mixed.sum(-1, keepdim=True) @ product
    assert torch.allclose(ac.Rollout().score(store), product[:, 0])
    assert torch.allclose(ac.Rollout(start=3).score(store), product[:, 3])
    assert torch.allclose(ac.Rollout(start="uniform").score(store), product.mean(1))
    assert torch.allclose(ac.Rollout(layers=[2, 1, 0]).score(store), product[:, 0]), "in the order of the model"
    captured = ac.Rollout(lambda _: store, layers=[2, 1, 0]).attribute(torch.zeros(2, 3, 4, 4), output="tokens")
    assert torch.allclose(captured.to(product), product[:, 0], atol=1e-6)


def test_rollout_without_a_class_token_starts_everywhere(logits: Tensor) -> None:
    store = AttentionStore.from_maps(list(logits.softmax(-1)), TokenLayout.text(torch.ones(2, 5)))
    assert torch.allclose(ac.Rollout().score(store), ac.Rollout(start="uniform").score(store))


def test_random_rankings_follow_the_seed(store: AttentionStore) -> None:
    first = ac.RandomRanking(seed=1).score(store)
    assert torch.equal(first, ac.RandomRanking(seed=1).score(store))
    assert not torch.equal(first, ac.RandomRanking(seed=2).score(store))
    assert not first[:, 0].any()


def test_a_constant_added_to_a_row_of_logits_changes_nothing(store: AttentionStore, logits: Tensor) -> None:
    shifted = AttentionStore.from_maps(list((logits + 3 * logits[..., :1]).softmax(-1)), store.tokens)
    for method in (ac.TokenRank(), ac.MultiBounce(), ac.Rollout(), ac.ColumnSum(), ac.RawAttention()):
        assert torch.allclose(method.score(shifted), method.score(store))


def test_permuting_patches_permutes_scores(store: AttentionStore) -> None:
    order = torch.tensor([0, 3, 1, 4, 2])
    moved = AttentionStore.from_maps([layer.maps[..., order, :][..., order] for layer in store], store.tokens)
    for method in (ac.TokenRank(heads="lambda2"), ac.MultiBounce(), ac.Rollout(), ac.ColumnSum(), ac.RawAttention()):
        assert torch.allclose(method.score(moved), method.score(store)[:, order], atol=1e-9)


@pytest.mark.parametrize("method", [ac.MultiBounce(start="class"), ac.RawAttention()])
def test_a_class_token_that_is_not_there(method: ac.AttentionAttribution, logits: Tensor) -> None:
    store = AttentionStore.from_maps(list(logits.softmax(-1)))
    with pytest.raises(ac.AttentionError, match='0 class tokens; "class" needs exactly one'):
        method.score(store)


def test_where_walks_start_when_nothing_is_said(logits: Tensor, causal: AttentionStore, store: AttentionStore) -> None:
    """At the class token; where there is none at the last token of a decoder, and everywhere else in any other model."""
    plain = AttentionStore.from_maps(list(logits.softmax(-1)))
    assert (plain.causal, causal.causal, store.causal) == (False, True, False)
    for build in (ac.MultiBounce, ac.Rollout, ac.AttentionFlow):
        for found, start in ((plain, "uniform"), (causal, "last"), (store, "class")):
            assert torch.equal(build().score(found), build(start=start).score(found))
    last = ac.MultiBounce(steps=1, start="last").score(causal)
    assert torch.allclose(last, causal.maps().mean((1, 2))[:, -1])


def test_metastable_states_are_numbered_from_the_one_that_attention_stays_in_most() -> None:
    """A class token and two groups of patches that attend to themselves; the second group is attended to more."""
    group = torch.tensor([0, 1, 0, 1, 1, 1])
    P = torch.where(group[:, None] == group, 0.95, 0.05 + 0.02 * group) * (1 + torch.arange(6) / 10)
    maps = torch.full((2, 2, 7, 7), 1 / 7)
    maps[..., 1:, 0], maps[..., 1:, 1:] = 0.1, 0.9 * P / P.sum(-1, keepdim=True)
    store = AttentionStore.from_maps([maps, maps], TokenLayout.image(2, (2, 3), [Role.CLASS]))
    method = ac.MetastableStates(k=2)
    assert method.score(store).tolist() == [[0, 2, 1, 2, 1, 1, 1]] * 2
    assert torch.equal(ac.MetastableStates(heads="each").score(store)[:, 1], method.score(store)), "the gap says 2"
    chi = method.memberships(store)
    assert chi.shape == (2, 7, 2)
    assert torch.allclose(chi, ac.metastable_states(store.chain(), 2))
    assert ac.MetastableStates(heads="each", layers=0).memberships(store).shape == (2, 2, 7, 2)
    with pytest.raises(ac.AttentionError, match=r"chain \[0\]: k is 7, and the chain has 6 states"):
        ac.MetastableStates(k=7).score(store)


@pytest.fixture
def causal() -> AttentionStore:
    """Two causal layers of two heads; the second example begins with two pads."""
    raw = 2 * torch.randn(2, 2, 2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.tensor([[1] * 6, [0, 0, 1, 1, 1, 1]])
    allowed = torch.ones(6, 6, dtype=torch.bool).tril() & mask.bool()[:, None, None]
    return AttentionStore.from_maps(list(raw.masked_fill(~allowed, -torch.inf).softmax(-1)), TokenLayout.text(mask))


def test_causal_policies_beside_their_formulas(causal: AttentionStore) -> None:
    maps = causal.maps().mean((1, 2))
    for row, first in ((0, 0), (1, 2)):
        P = maps[row, first:, first:]
        n = len(P)
        damped = torch.linalg.matrix_power(0.9 * P + 0.1 / n, 300)[0]
        assert torch.allclose(ac.TokenRank(damping=0.9, causal="damp").score(causal)[row, first:], damped)

        end = torch.eye(n, dtype=torch.float64)[-1]
        restarted = torch.linalg.matrix_power(0.5 * P + 0.5 * end, 300)[0]
        for method in (ac.TokenRank(), ac.TokenRank(causal="last"), ac.TokenRank(damping=0.5, causal="last")):
            assert torch.allclose(method.score(causal)[row, first:], restarted), "what a decoder gets unless told otherwise"

        heads = causal.maps()[row, ..., first + 1 :, first + 1 :]
        later = (heads / heads.sum(-1, keepdim=True)).mean((0, 1))
        dropped = torch.linalg.matrix_power(0.9 * later + 0.1 / (n - 1), 300)[0]
        scores = ac.TokenRank(damping=0.9, causal="drop-first").score(causal)[row]
        assert torch.allclose(scores[first + 1 :], dropped)
        assert not scores[: first + 1].any()

        backward = (P / P.sum(0)).T
        reverse = torch.linalg.matrix_power(0.9 * backward + 0.1 / n, 300)[0]
        assert torch.allclose(ac.TokenRank(damping=0.9, causal="reverse").score(causal)[row, first:], reverse)

        visits = torch.full((n - 1,), 1 / (n - 1), dtype=torch.float64) @ torch.linalg.inv(
            torch.eye(n - 1).double() - P[1:, 1:]
        )
        scores = ac.TokenRank(causal="absorb").score(causal)[row]
        assert torch.allclose(scores[first + 1 :], visits / visits.sum())
        assert not scores[: first + 1].any()


def test_causal_policies_that_are_refused(causal: AttentionStore) -> None:
    with pytest.raises(ac.AttentionError, match="causal='first' is unknown"):
        ac.TokenRank(causal="first")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="says where jumps lead, and so does personalization"):
        ac.TokenRank(causal="last", personalization=torch.ones(6) / 6)
    with pytest.raises(ac.AttentionError, match="causal='absorb' has its own direction"):
        ac.TokenRank(causal="absorb", direction="outgoing")
    with pytest.raises(ac.AttentionError, match="reducible"):
        ac.TokenRank(damping=1).score(causal)
    with pytest.raises(ac.AttentionError, match="selects nothing in an example"):
        ac.TokenRank(causal="drop-first", tokens=[3]).score(causal)


def test_a_personalization_for_every_head(causal: AttentionStore) -> None:
    v = torch.zeros(2, 6, dtype=torch.float64)
    v[:, 4] = 1
    each = ac.TokenRank(heads="each", layers=0, personalization=v, damping=0.5).score(causal)
    assert each.shape == (2, 2, 6)
    assert torch.allclose(each[:, 1], ac.TokenRank(heads=[1], layers=0, personalization=v, damping=0.5).score(causal))
    began = ac.TokenRank(causal="absorb", personalization=v).score(causal)
    assert not began[:, 5].any(), "walks begin at token 4 and only go back"
