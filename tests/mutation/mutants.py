"""Small changes to a module, each of which some test should notice."""

import ast
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeVar

Node = TypeVar("Node")
Change = tuple[ast.AST, str, ast.AST, ast.AST]
"""A node, the name of the field to change in it, what stands there, and what is to stand there."""

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.Continue: ast.Break,
    ast.Break: ast.Continue,
}
_NOT_MUTATED = {"annotation", "returns", "decorator_list", "type_params"}
_ANY: frozenset[int] = frozenset()
_SHOWN = 80
_WORDS = re.compile(r"\s")


@dataclass(frozen=True)
class Mutant:
    """One change to one module.

    Attributes:
        number: Which of the module's changes it is.
        line: Where it is.
        text: What it is, for people.
        uses: The lines that run differently because of it; none when that could be any.
    """

    number: int
    line: int
    text: str
    uses: frozenset[int]


def mutants(source: str) -> list[Mutant]:
    tree = ast.parse(source)
    uses = _uses(tree)
    return [
        Mutant(number, _lines(old)[0], _difference(ast.unparse(old), ast.unparse(new)), uses.get(_lines(old)[0], _ANY))
        for number, (_, _, old, new) in enumerate(_changes(tree))
    ]


def mutated(source: str, number: int) -> ast.Module:
    tree = ast.parse(source)
    node, field, old, new = list(_changes(tree))[number]
    held = getattr(node, field)
    if isinstance(held, list):
        held[next(index for index, each in enumerate(held) if each is old)] = new
    else:
        setattr(node, field, new)
    return ast.fix_missing_locations(tree)


def _changes(node: ast.AST) -> Iterator[Change]:
    for field, held in ast.iter_fields(node):
        if field in _NOT_MUTATED or isinstance(node, ast.JoinedStr | ast.MatchValue):
            continue
        for child in held if isinstance(held, list) else [held]:
            if isinstance(child, ast.AST) and not _is_type(child):
                yield from ((node, field, child, ast.copy_location(new, child)) for new in _instead(child, field))
                yield from _changes(child)


def _instead(node: ast.AST, field: str) -> Iterator[ast.AST]:
    """What could stand in a node's place."""
    match node:
        case ast.Compare() | ast.BoolOp() | ast.BinOp() | ast.AugAssign():
            yield from _other_operators(node)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Constant():
            yield from map(ast.Constant, _other_values(node.value))
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield ast.Return(ast.Constant(None))
        case ast.Dict():
            rows = range(len(node.keys)) if len(node.keys) > 1 else ()
            yield from (ast.Dict(_without(node.keys, row), _without(node.values, row)) for row in rows)
        case ast.Set() if len(node.elts) > 1:
            yield from (ast.Set(_without(node.elts, row)) for row in range(len(node.elts)))
        case ast.Continue() | ast.Break():
            yield _SWAPS[type(node)]()
    is_statement = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant | ast.Yield)
    if is_statement or isinstance(node, ast.Raise | ast.AugAssign):
        yield ast.Pass()
    if field in {"test", "ifs"} and isinstance(node, ast.expr) and not isinstance(node, ast.Compare | ast.UnaryOp):
        yield ast.UnaryOp(ast.Not(), node)


def _other_operators(node: ast.Compare | ast.BoolOp | ast.BinOp | ast.AugAssign) -> Iterator[ast.AST]:
    operators = node.ops if isinstance(node, ast.Compare) else [node.op]
    for index, operator in enumerate(operators):
        if other := _SWAPS.get(type(operator)):
            changed = deepcopy(node)
            if isinstance(changed, ast.Compare):
                changed.ops[index] = other()  # type: ignore[call-overload]
            else:
                changed.op = other()  # type: ignore[assignment]
            yield changed


def _other_values(value: object) -> Iterator[bool | float | str]:
    match value:
        case bool():
            yield not value
        case int() | float():
            yield value + 1
            if value == 1:
                yield 0
        case str() if not _WORDS.search(value):  # a sentence is for people
            yield f"other {value}"


def _difference(old: str, new: str) -> str:
    """Both, from where they differ on when they are long."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
    start = max(0, same - _SHOWN // 4) if len(old) > _SHOWN else 0
    return f"{old[start:][:_SHOWN]}  ->  {new[start:][:_SHOWN]}"


def _without(row: list[Node], number: int) -> list[Node]:
    return row[:number] + row[number + 1 :]


def _is_type(node: ast.AST) -> bool:
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    literal = isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal"
    return docstring or literal


def _lines(node: ast.AST) -> range:
    return range(node.lineno, node.end_lineno + 1)  # type: ignore[attr-defined]


def _uses(tree: ast.Module) -> dict[int, frozenset[int]]:
    """Lines of the module, and which are run because of each: its statement's, or those that read its constant."""
    uses: dict[int, frozenset[int]] = {}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in (each for part in function.body for each in ast.walk(part) if isinstance(each, ast.stmt)):
                body = getattr(statement, "body", None)
                head = range(statement.lineno, body[0].lineno) if body else _lines(statement)
                uses |= dict.fromkeys(head, frozenset(head))
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
            made = {node.id for node in names if node.lineno in _lines(statement) and isinstance(node.ctx, ast.Store)}
            read = (node.lineno for node in names if node.id in made and isinstance(node.ctx, ast.Load))
            uses |= dict.fromkeys(_lines(statement), frozenset(read))
    return uses
