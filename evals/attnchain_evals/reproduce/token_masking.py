"""Token masking: the accuracy without the tokens that a criterion ranks highest, or lowest."""

from __future__ import annotations

from attnchain_evals.bench.class_numbers import check_labels
from attnchain_evals.bench.names import build_metrics
from attnchain_evals.bench.tables import table
from attnchain_evals.reproduce.experiment import Settings, measure, write_page
from attnchain_evals.reproduce.reported import TOKEN_MASKING
from attnchain_interp import AttentionError

TITLE = "Token masking"
METHODS = (
    *("plain TokenRank", "plain TokenRank(direction='outgoing')", "ColumnSum", "plain MultiBounce(steps=2)"),
    *("class row", "class column", "centre row", "centre column", "RandomRanking"),
)
HIGHEST, LOWEST = "token-masking(target='label')", "token-masking/lowest(target='label')"


def token_masking(settings: Settings) -> str:
    """Measures and returns the page.

    The authors' code names these criteria: steady state, column sum, and the row and the column of the class token and of the
    centre patch. Patches are dropped from the sequence. The label of the data decides whether an answer is right.
    """
    where = settings.set_up()
    if "logits" not in where.given:
        raise AttentionError(
            f"token masking asks whether the answer stays right, and {settings.model} outputs no logits.",
            f'Take a model with classes, or train some: `attnchain bench run --probe FOLDER --metrics "{HIGHEST},{LOWEST}"`.',
        )
    metrics = build_metrics([HIGHEST, LOWEST])
    check_labels(where.data, where.model, metrics)
    result = measure(settings, where, METHODS, metrics)
    head = ["criterion", "highest first: area ↓", "lowest first: area ↑", "accuracy, nothing masked"]
    column = result.metrics[HIGHEST].columns.index("0")
    rows = []
    for method in result.methods:
        scores, clean = result.scores[method], result.figures(method, HIGHEST)[:, column].mean()
        rows.append([method, str(scores[HIGHEST]), str(scores[LOWEST]), f"{clean:.3f}"])
    return write_page(settings, TITLE, result, table(head, rows), TOKEN_MASKING)
