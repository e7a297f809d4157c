"""The scores of the input, one row for each output token: of decoders and of encoder–decoders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import tqdm

from attnchain_interp.attribution.embeddings import embedding_of
from attnchain_interp.attribution.method import Method
from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.text.contexts import contexts, together
from attnchain_interp.capture import Reading, capture, of_this_thread
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients import AttentionGradients, SeveralScores, logits_kept, logits_of
from attnchain_interp.operators import float32_or_wider
from attnchain_interp.operators.shared_setting import SharedSetting
from attnchain_interp.store import AttentionStore, TokenLayout, known_sinks, states_of

_UNFUSED: Final = SharedSetting(partial(sdpa_kernel, SDPBackend.MATH))
_TOGETHER: Final = 2**18  # entries of a map of all output tokens that are differentiated together


class Rows(NamedTuple):
    """What is known of each output token, and of the tokens.

    Attributes:
        scores: (output token, token).
        probabilities: (output token,), the model's.
        policy: of the method, in words.
        sinks: a text about each attention sink, by its position. See `sinks_of`.
        from_position: whether walks start or jump at the position that predicts the output token.
    """

    scores: Tensor
    probabilities: Tensor
    policy: str
    sinks: dict[int, str]
    from_position: bool


def decoder_rows(method: Method, model: nn.Module, ids: Tensor, first: int, size: int | None, progress: bool = False) -> Rows:
    """Returns the rows of the output tokens ids[0, first:], each over the tokens before it, and zero from it on.

    Args:
        method: scores each context.
        model: a causal language model.
        ids: prompt and output (1, token).
        first: the position of the first output token.
        size: how many output tokens are differentiated together, where the method explains them. None: fewer for long texts.
        progress: show a progress bar.

    Raises:
        AttentionError: a model that attends to later tokens, and the errors of the method.
    """
    if method.reads_contexts:
        return _context_rows(method, model, ids, first, progress)
    lengths = torch.arange(first, ids.shape[1], device="cpu")
    scores = torch.zeros(len(lengths), ids.shape[1] - 1, dtype=torch.float64, device="cpu")
    inputs = model_inputs(method, model, ids[:, :-1])  # the attention of the last token predicts none of the output
    found, started, sinks = [], None, {}
    size = (size or max(1, _TOGETHER // len(scores[0]) ** 2)) if method.explains_target else len(lengths)
    for part in tqdm(lengths.split(size), f"{method.get_name()} of output tokens", disable=not progress):
        batched = method.explains_target and 1 < len(part) <= _TOGETHER // len(scores[0]) ** 2
        one_backward = _UNFUSED if batched else nullcontext()  # fused kernels take one score at a time
        with first_logits(model) as seen, last_tokens(model) as last, one_backward:
            target = None
            if method.explains_target:
                tokens = partial(_first_of, last, ids.shape[1] - int(part[0]))
                target = SeveralScores(_log_probabilities(ids, part), tokens)
            kept = logits_kept(method.forward_func, ids.shape[1] - int(part[0]))
            source = method.read(Call(inputs, target, options=kept))
        store = _store(source)
        check_read(store.tokens, inputs, model)
        check_causal(store, model)
        sinks = sinks if found else sinks_of(source)
        found.append(probabilities(seen[0], ids, int(part[0]))[: len(part)])
        states = states_of(store, method.tokens)[:1]
        with torch.no_grad():
            for some in part.split(together(method, store)):
                before, stop = contexts(source, some, int(some[0] - part[0])), int(some[-1])
                started = method.started_at("last" if method.allows_padding else stop - 1, _store(before))
                reading = (started or method).restricted_to(
                    states[:, :stop].expand(len(some), -1) & _store(before).tokens.mask
                )
                scores[some - first, :stop] = reading.scores(before, int(some[0]) - first).to(scores)
    begin = None if started is None else "position"
    return Rows(scores, torch.cat(found), method.text_policy(begin), sinks, method.walks_from_position(begin))


def sinks_of(source: Any) -> dict[int, str]:
    """Returns a text about each attention sink of the first example, by its position; none where values are not known."""
    if not isinstance(source, AttentionStore | AttentionGradients):
        return {}
    found = known_sinks(_store(source))
    return {} if found is None else found.described()


def _context_rows(method: Method, model: nn.Module, ids: Tensor, first: int, progress: bool) -> Rows:
    """Returns the rows of a method that reads the context of each output token by itself."""
    scores, found = torch.zeros(ids.shape[1] - first, ids.shape[1] - 1, dtype=torch.float64, device="cpu"), []
    lengths = range(first, ids.shape[1])
    for k, length in enumerate(tqdm(lengths, f"{method.get_name()} of output tokens", disable=not progress)):
        inputs = model_inputs(method, model, ids[:, :length])
        with first_logits(model) as seen:
            source = method.read(Call(inputs, [(length - 1, int(ids[0, length]))]))
        check_read(source.tokens, inputs, model)
        found.append(probabilities(seen[0], ids[:, : length + 1], length))
        scores[k, :length] = method.scores(source, k)[0]
    return Rows(scores, torch.cat(found), method.text_policy(None), {}, method.walks_from_position(None))


def check_read(tokens: TokenLayout, inputs: Tensor, model: nn.Module) -> None:
    """Refuses a model that reads other tokens than those of its inputs (batch, token, …)."""
    if len(tokens) != inputs.shape[1]:
        raise AttentionError(
            f"{type(model).__name__} reads {len(tokens)} tokens of {inputs.shape[1]} in its input: it adds tokens of its own"
            " (soft prompts), or leaves some out.",
            "Score all tokens that it reads: method.score(capture(model, ids)).",
        )


def check_causal(store: AttentionStore, model: nn.Module) -> None:
    """Refuses a layer in which a token attends to later tokens."""
    if not store.causal:
        layer = next(layer for layer in store if not layer.causal(store.tokens.mask))
        raise AttentionError(
            f"layer {layer.name!r} of {type(model).__name__} attends to later tokens, so the context of an output token"
            " depends on the tokens after it.",
            'Attribute one prediction of the whole text: attribute(ids, target=(position, token), output="tokens").',
        )


@contextmanager
def first_logits(model: nn.Module) -> Iterator[list[Tensor]]:
    """Gathers the logits of the model's first forward while open."""
    seen: list[Tensor] = []

    def remember(_: nn.Module, __: Any, output: Any) -> None:
        if not seen:
            seen.append(logits_of(output, "Load the model with its language-model head.").detach())

    with model.register_forward_hook(of_this_thread(remember)):
        yield seen


@contextmanager
def last_tokens(model: Any) -> Iterator[list[Tensor]]:
    """Gathers what the model's forward gives to its language-model head while open: (batch, token, width), of each token."""
    seen: list[Tensor] = []
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if not isinstance(head, nn.Linear):
        yield seen
        return
    with head.register_forward_pre_hook(of_this_thread(lambda _, given: seen.append(given[0]))):
        yield seen


def _first_of(last: list[Tensor], count: int) -> tuple[Tensor, int] | None:
    """Returns the tokens that the head read, if it read them once, and the number of the first of the last `count`."""
    known = len(last) == 1 and last[0].ndim == 3 and last[0].requires_grad
    return (last[0], last[0].shape[1] - count) if known else None


def probabilities(logits: Tensor, ids: Tensor, first: int) -> Tensor:
    """Returns the probability (output token,) of each of ids[0, first:] by logits (…, token, vocabulary), on the CPU."""
    predicted = float32_or_wider(logits[0, first - ids.shape[1] :]).softmax(-1).cpu()
    return predicted.gather(1, ids[0, first:, None].cpu())[:, 0]


def model_inputs(method: Method, model: Any, ids: Tensor) -> Tensor:
    """Returns the token ids, or their embeddings where the method calls the model with embeddings."""
    return embedding_of(model)(ids).detach() if method.reads_embeddings else ids


def _log_probabilities(ids: Tensor, lengths: Tensor) -> Callable[[Any], Tensor]:
    """Returns the target of several contexts: the log-probability (context,) of the token ids[0, length] after each."""

    def log_probabilities(output: Any) -> Tensor:
        predicted = float32_or_wider(logits_of(output)[0, lengths - ids.shape[1]]).log_softmax(-1)
        return predicted.gather(1, ids[0, lengths, None].to(predicted.device))[:, 0]

    return log_probabilities


def _store(source: AttentionStore | AttentionGradients) -> AttentionStore:
    return source.store if isinstance(source, AttentionGradients) else source


def encoder_decoder_rows(method: Method, model: nn.Module, prompt: Tensor, ids: Tensor, first: int) -> Rows:
    """Returns the rows of the output tokens ids[0, first:], each over the encoder's tokens.

    Args:
        method: starts walks, and explains no target.
        model: an encoder–decoder with a language-model head.
        prompt: the token ids of the encoder (1, token).
        ids: the token ids of the decoder (1, token): its start, then the output.
        first: the position of the first output token.

    Raises:
        AttentionError: a method that explains a target or has no start, and the errors of the method.
    """
    name = type(method).__name__
    if method.explains_target:
        raise AttentionError(
            f"{name} explains a score, and attribute_text has no rules for the cross-attention of an encoder–decoder.",
            "Use a method that reads attention alone: MultiBounce, Rollout, TokenRank. GradientAttention(model).attribute(ids,"
            " (position, token), additional_forward_args=(mask, decoder_ids)) explains one output token.",
        )
    with first_logits(model) as seen:
        cross = capture(method.forward_func, reading=Reading(kind="cross"), input_ids=prompt, decoder_input_ids=ids[:, :-1])
    source = method.read(Call(prompt, options={"reading": Reading(kind="encoder"), "decoder_input_ids": ids[:, :-1]}))
    check_read(source.tokens, prompt, model)
    attended = torch.stack([float32_or_wider(layer.maps)[0].mean(0) for layer in cross]).mean(0)[first - 1 :]
    rows = []
    with torch.no_grad():
        for k, row in enumerate(attended):
            started = method.started_at(row / row.sum(), source)
            if started is None:
                raise AttentionError(
                    f"{name} has no start, so it scores the encoder's tokens alike for every output token.",
                    "Use a method that cross-attention can start: MultiBounce, Rollout, RawAttention, AttentionFlow, or"
                    " TokenRank, which restarts there. Or score the encoder alone:"
                    ' score(capture(model, …, reading=Reading(kind="encoder"))).',
                )
            rows.append(started.scores(source, k)[-1].cpu().double())
    policy = method.text_policy("cross-attention")
    return Rows(torch.stack(rows), probabilities(seen[0], ids, first), policy, sinks_of(source), False)
