"""A trace written again with two invokes: one intervenes, the other reads the same batch in forward order."""

from __future__ import annotations

import ast
import copy
import sys
from textwrap import indent
from typing import Any

REMOTE = {"backend", "blocking", "job_id", "remote", "verbose"}  # arguments of a trace that are not inputs
HEADER = 4  # the line on which nnsight 0.7 puts the first statement of a block
WITHOUT_SOURCE = """\
with model.trace() as tracer:
    with tracer.invoke(prompt):
        ...  # the interventions
    with tracer.invoke():
        ranks = nnsight.save(token_rank(model))"""


def two_invokes() -> str:
    """Returns the code of the trace that runs now, with the statement that runs now in a second invoke.

    The names are those of the user's code; where its source is not at hand (in a remote request), they are general ones.
    """
    block, line = running_block()
    call = next((item for item in block.items if traces(item.context_expr)), None) if block else None
    rest, moved = split(block.body, line) if block and call else ([], [])
    if block is None or call is None or not rest or not moved:
        return WITHOUT_SOURCE
    trace: Any = copy.deepcopy(call.context_expr)
    if trace.func.attr == "invoke":
        second = ast.Call(trace.func, [], [])
        return "\n".join([written([ast.withitem(trace)], rest), written([ast.withitem(second)], moved)])
    tracer = call.optional_vars or ast.Name("tracer")
    invoke = ast.Attribute(tracer, "invoke")
    inputs = ast.Call(invoke, trace.args, [each for each in trace.keywords if each.arg not in REMOTE])
    trace.args, trace.keywords = [], [each for each in trace.keywords if each.arg in REMOTE]
    items = [ast.withitem(trace, tracer) if item is call else item for item in block.items]
    first, second = ast.With([ast.withitem(inputs)], rest), ast.With([ast.withitem(ast.Call(invoke, [], []))], moved)
    return written(items, [first, second])


def running_block() -> tuple[ast.With | None, int]:
    """Returns the with block of the trace that runs now, and the line in it; None where nnsight does not hold its source."""
    frame, line = sys._getframe(1), 0
    while frame is not None:
        held = frame.f_locals
        info = held.get("__nnsight_tracing_info__")  # nnsight 0.7
        node = getattr(held.get("self") if frame.f_code.co_name == "_run" else info, "node", None)
        if isinstance(node, ast.With):
            return node, line if info is None else frame.f_lineno - HEADER + node.body[0].lineno
        line, frame = frame.f_lineno, frame.f_back
    return None, 0


def traces(call: ast.expr) -> bool:
    method = call.func if isinstance(call, ast.Call) else None
    return isinstance(method, ast.Attribute) and method.attr in ("trace", "generate", "invoke", "pipe")


def split(body: list[ast.stmt], line: int) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """Returns the statements without the one at a line, and that one with those that use its names.

    A loop around it is written in both.
    """
    rest: list[ast.stmt] = []
    moved: list[ast.stmt] = []
    bound: set[str] = set()
    for statement in body:
        whole: Any = statement
        if not moved and statement.lineno <= line <= (statement.end_lineno or 0):
            outside, inside = split(getattr(whole, "body", []), line)
            rest += [with_body(whole, outside)] if inside and outside else []
            moved.append(with_body(whole, inside) if inside else statement)
        elif bound & names(statement, ast.Load):
            moved.append(statement)
        else:
            rest.append(statement)
            continue
        bound |= names(moved[-1], ast.Store)
    return rest, moved


def with_body(statement: Any, body: list[ast.stmt]) -> ast.stmt:
    copied = copy.copy(statement)
    copied.body = body
    return copied


def names(statement: ast.stmt, used: type[ast.expr_context]) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, used)}


def written(items: list[ast.withitem], body: list[Any]) -> str:
    return ast.unparse(ast.fix_missing_locations(ast.With(items, body)))


def indented(code: str) -> str:
    """Returns code as the last lines of a message."""
    return "\n\n" + indent(code, "    ")
