"""Small changes of source code that a good test notices: found in the syntax tree, made in the text."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

NAMES = {
    "min": "max",
    "minimum": "maximum",
    "amin": "amax",
    "argmin": "argmax",
    "floor": "ceil",
    "any": "all",
    "cumsum": "cumprod",
}
SWAPPED_NAMES = NAMES | {new: old for old, new in NAMES.items()}
BINARY = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.BitAnd: "|", ast.BitOr: "&"}
PAIRS = ("height width", "h w", "x y", "sx sy", "row column", "rows columns", "top left", "x1 y1", "x2 y2", "dx dy")
PAIRS += ("low high", "min_size max_size", "positive negative", "precision recall", "before after", "a b", "one two")
SWAPPED_PAIRS = {frozenset(pair.split()) for pair in PAIRS}
AXIS_ARGUMENTS = {
    "permute",
    "transpose",
    "unflatten",
    "gather",
    "reshape",
    "view",
    "expand",
    "index_select",
    "new_full",
}
AXIS_ARGUMENTS |= {
    "scatter_",
    "scatter_reduce",
    "scatter_reduce_",
    "unsqueeze",
    "squeeze",
    "repeat",
    "size",
    "index_add_",
}
COMPARED = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
AXIS_CALLS = {"sum", "mean", "cat", "stack", "argsort", "sort", "amax", "amin", "max", "min", "all", "any", "argmax"}
AXIS_CALLS |= {"flatten", "cumsum", "softmax", "unbind", "split", "chunk", "log_softmax", "logsumexp"}


@dataclass
class Mutation:
    """One change of one file, the tests that should notice it, and what came of it.

    Attributes:
        file: path below src/sightline.
        old, new: text to be replaced, and what replaces it.
        tests: arguments of pytest.
        line: where `old` is expected; the nearest occurrence to it is replaced.
        kind: "named", or the automatic kind.
        area: the part of the package, for the table.
        result: "killed", "survived", "timeout", "equivalent", or "" before a run.
        note: why a mutation is equivalent, or what it is in words.
        seconds: wall time of its tests.
        seed: of the sample it was drawn in.
    """

    file: str
    old: str
    new: str
    tests: list[str]
    line: int = 0
    kind: str = "named"
    area: str = ""
    result: str = ""
    note: str = ""
    seconds: float = field(default=0.0)
    seed: int = 0

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    def apply(self, text: str) -> str:
        """The file's text with the change.

        Raises:
            LookupError: `old` is not in the text: the file has been rewritten since.
        """
        places = [found.start() for found in re.finditer(re.escape(self.old), text)]
        if not places:
            raise LookupError(f"{self.file} has no {self.old!r} any more")
        start = min(places, key=lambda place: abs(text.count("\n", 0, place) + 1 - self.line))
        return text[:start] + self.new + text[start + len(self.old) :]


def candidates(path: Path, file: str) -> list[Mutation]:
    """Every automatic change of one file; messages, docstrings, annotations and `__repr__` are left alone."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    found = []
    for node, kind, edits in _changes(ast.parse(text), text):
        del node
        rows = {row for row, *_ in edits}
        if len(rows) != 1:  # a change of one line can be shown and found again
            continue
        row = rows.pop()
        old = new = lines[row - 1]
        for _, begin, end, replacement in sorted(edits, key=lambda edit: -edit[1]):
            begin, end = (len(old.encode()[:place].decode()) for place in (begin, end))
            new = new[:begin] + replacement + new[end:]
        if new != old:
            found.append(Mutation(file, old, new, [], row, kind))
    return found


def choose(found: list[Mutation], count: int, seed: int) -> list[Mutation]:
    """`count` of the candidates: files in turn, kinds mixed, at most one change of a line."""
    chance = random.Random(seed)
    by_file: dict[str, list[Mutation]] = {}
    for mutation in found:
        by_file.setdefault(mutation.file, []).append(mutation)
    for mutations in by_file.values():
        chance.shuffle(mutations)
    files, taken, chosen = sorted(by_file), set(), []
    chance.shuffle(files)
    while len(chosen) < count and any(by_file.values()):
        for name in files:
            while by_file[name]:
                mutation = by_file[name].pop()
                if (name, mutation.line) not in taken:
                    taken.add((name, mutation.line))
                    mutation.seed = seed
                    chosen.append(mutation)
                    break
            if len(chosen) == count:
                break
    return chosen


Edit = tuple[int, int, int, str]  # row, first and last byte of the row, replacement


def _changes(tree: ast.Module, text: str) -> Iterator[tuple[ast.AST, str, list[Edit]]]:
    lines = [line.encode() for line in text.splitlines()]
    quiet = _places(tree)
    for node in _running_code(tree):
        if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
            edit = _operator(lines, node.left, node.right, BINARY[type(node.op)])
            if edit and not _is_type(node) and not _is_text(node):
                yield node, "operator", [edit]
                if isinstance(node.op, ast.Add | ast.Sub) and node.left.end_lineno == node.right.end_lineno:
                    drop = (edit[0], node.left.end_col_offset or 0, node.end_col_offset or 0, "")
                    yield node, "term dropped", [drop]
        elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARED:
            edit = _operator(lines, node.left, node.comparators[0], COMPARED[type(node.ops[0])])
            if edit:
                yield node, "comparison", [edit]
        elif isinstance(node, ast.BoolOp) and len(node.values) == 2:
            edit = _operator(lines, node.values[0], node.values[1], "or" if isinstance(node.op, ast.And) else "and")
            if edit:
                yield node, "and/or", [edit]
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert | ast.USub):
            if isinstance(node.operand, ast.Constant):  # -1 is a place more often than a number
                continue
            yield node, "sign", [(node.lineno, node.col_offset, node.operand.col_offset, "")]
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float) and node not in quiet:
            new = repr(node.value * 2) if node.value else "1"
            yield node, "constant", [(node.lineno, node.col_offset, node.end_col_offset or 0, new)]
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value in (0, 1):
            place = node.slice
            yield node, "index", [(place.lineno, place.col_offset, place.end_col_offset or 0, str(1 - place.value))]
        elif isinstance(node, ast.Call):
            yield from _call(node, lines)
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.ctx, ast.Load):
            yield from _swapped(node, lines)


def _call(node: ast.Call, lines: list[bytes]) -> Iterator[tuple[ast.AST, str, list[Edit]]]:
    function = node.func
    name = (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
    end = function.end_col_offset or 0
    if name in SWAPPED_NAMES and function.end_lineno == function.lineno:
        yield node, "function", [(function.lineno, end - len(name), end, SWAPPED_NAMES[name])]
    if name in AXIS_CALLS:
        for value in node.args[-1:] + [k.value for k in node.keywords if k.arg in ("dim", "axis")]:
            if isinstance(value, ast.Constant) and value.value in (0, 1) and type(value.value) is int:
                place = (value.lineno, value.col_offset, value.end_col_offset or 0, str(1 - value.value))
                yield node, "axis", [place]
    if len(node.args) == 2 and not any(isinstance(a, ast.Starred) for a in node.args):
        yield from _swapped(node, lines)


def _swapped(node: ast.Tuple | ast.Call, lines: list[bytes]) -> Iterator[tuple[ast.AST, str, list[Edit]]]:
    a, b = node.elts if isinstance(node, ast.Tuple) else node.args
    if a.lineno == b.end_lineno and frozenset(map(ast.unparse, (a, b))) in SWAPPED_PAIRS:
        line = lines[a.lineno - 1]
        first, second = ((x.lineno, x.col_offset, x.end_col_offset or 0) for x in (a, b))
        yield (
            node,
            "swapped",
            [(*first, line[second[1] : second[2]].decode()), (*second, line[first[1] : first[2]].decode())],
        )


def _places(tree: ast.AST) -> set[ast.AST]:
    """Constants that say an axis, an index or a shape: doubled, nearly all of them end in an error at once."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            found.update(ast.walk(node.slice))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            found.add(node.operand)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if name in AXIS_ARGUMENTS:
                found.update(place for a in node.args for place in ast.walk(a))
            if name in AXIS_CALLS:
                found.update(node.args)
            found.update(k.value for k in node.keywords if k.arg in ("dim", "axis", "padding", "kernel", "stride"))
    return found


def _operator(lines: list[bytes], left: ast.expr, right: ast.expr, new: str) -> Edit | None:
    """The edit of the operator between two operands on one row."""
    if left.end_lineno != right.lineno:
        return None
    begin, end = left.end_col_offset or 0, right.col_offset
    found = re.search(rb"[^\s()]+", lines[right.lineno - 1][begin:end])
    return found and (right.lineno, begin + found.start(), begin + found.end(), new)


def _is_type(node: ast.BinOp) -> bool:
    return isinstance(node.op, ast.BitOr) and any(
        isinstance(x, ast.Constant) and x.value is None for x in (node.left, node.right)
    )


def _is_text(node: ast.BinOp) -> bool:
    """Whether texts or paths are joined."""
    names = {"folder", "out", "root", "home", "place", "base", "parent"}
    return any(
        isinstance(part, ast.JoinedStr)
        or (isinstance(part, ast.Constant) and isinstance(part.value, str))
        or (isinstance(node.op, ast.Div) and isinstance(part, ast.Name | ast.Attribute) and _last(part) in names)
        for part in ast.walk(node)
    )


def _last(node: ast.Name | ast.Attribute) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id


def _running_code(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that compute something: no annotations, messages, decorators, docstrings or text for people."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if not isinstance(node, ast.AST) or isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert | ast.Import):
                continue
            if isinstance(node, ast.FunctionDef) and node.name in ("__repr__", "extra_repr", "__str__"):
                continue
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                continue
            yield node
            yield from _running_code(node)
