"""TokenRank and its siblings inside an nnsight trace: the maps of each layer are reduced as they pass.

    with model.trace(prompt):
        ranks = nnsight.save(token_rank(model))

`reduce_layers` goes through the attention modules in forward order and hands their chains, some heads at a time, to plain
functions such as `stationary`. To run remotely this package travels with the request (`register`), so it imports torch and the
standard library alone.
"""

from importlib import import_module

from attnchain_adapters.tracing.functionals import balance, bounce, column_sum, entropy, second_eigenvalue, stationary
from attnchain_adapters.tracing.reducing import TRIED, reduce_layers, token_rank, warn_of_untried
from attnchain_adapters.tracing.shown_attention import attention_modules

__all__ = [
    "TRIED",
    "attention_modules",
    "balance",
    "bounce",
    "column_sum",
    "entropy",
    "reduce_layers",
    "register",
    "second_eigenvalue",
    "stationary",
    "token_rank",
    "warn_of_untried",
]


def register() -> None:
    """Makes this package travel with remote requests: called once, before `model.trace(…, remote=True)`.

    Raises:
        ImportError: nnsight is not installed; the message has the install line.
    """
    try:
        nnsight = import_module("nnsight")
    except ImportError as error:
        raise ImportError(f"{error}. Install it with: pip install 'attnchain-interp[nnsight]'") from error
    nnsight.register(__name__)
