"""What differs between tasks stands in files of the tasks: nothing else names one, or tells targets apart by type."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import sightline
from sightline.data.kinds import KINDS
from sightline.tasks import TASKS

SOURCE = Path(sightline.__file__).parent

SCENE = ("dense_captions", "events", "scene_graphs", "cuboids", "meshes")
"""Files about the tasks that describe or reconstruct a scene."""
OF_THE_TASKS = (
    "tasks/",
    # what is counted: the measures, and the parts of detection's
    *(f"evaluation/{name}.py" for name in ("detection", "proposals", "segmentation", "classification")),
    *(f"evaluation/{name}.py" for name in ("_arrays", "coco", "errors", "packed", "shapes", "voc")),
    *(f"report/{name}.py" for name in ("detection", "proposals", "segmentation", "classification")),
    *(f"{part}/{name}.py" for part in ("evaluation", "report") for name in SCENE),
    "deploy/writers/",
    *(f"evaluation/{name}.py" for name in ("_cuboid_rows", "kitti")),
    "data/scenes/dataset.py",  # which kinds of label the renderer makes
    "data/scenes/folder.py",
    *("structures/fields.py", "data/scenes/scene.py"),  # "cuboids" and "meshes" are also names of fields
    "models/by_task.py",
    "models/detection/",
    "models/segmentation/",
    "models/classification/",
    "models/scene/",
    "models/spatial/",
    "models/darknet/",
)
"""Files that are about one task, which they may name."""

TYPES = {"Instances", "ClassMap", "ClassScores"}
RESULT = re.compile(r"(Detection|Proposal|Segmentation|Classification)Result")


def findings(code: str) -> Iterator[tuple[int, str]]:
    """(line, what) of each place that names a task or a kind of label to decide by, or asks for a type of target."""
    names = {"task": set(TASKS), "kind": set(KINDS)}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if asks_of_class(sides):
                yield node.lineno, f"asks for a type of target: {ast.unparse(node)}"
            for word, known in names.items():
                asked = any(re.search(rf"\b{word}\b", ast.unparse(side)) for side in sides)
                if asked and known & {name for side in sides for name in strings(side)}:
                    yield node.lineno, f"compares a {word} by name: {ast.unparse(node)}"
        elif isinstance(node, ast.Dict):
            for word, known in names.items():
                keys = {name for key in node.keys if key is not None for name in strings(key)}
                if len(known & keys) > 1:
                    yield node.lineno, f"a table by {word}: {', '.join(sorted(known & keys))}"
        elif isinstance(node, ast.Set | ast.Tuple | ast.List):
            named = names["task"] & strings(node)
            if len(named) > 1:
                yield node.lineno, f"a list of tasks: {', '.join(sorted(named))}"
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("TASKS"):
            if names["task"] & strings(node.slice):
                yield node.lineno, f"looks up a task by name: {ast.unparse(node)}"
        elif isinstance(node, ast.Match):
            cases = {name for case in node.cases for name in strings(case.pattern)}
            for word, known in names.items():
                if re.search(rf"\b{word}\b", ast.unparse(node.subject)) and known & cases:
                    yield node.lineno, f"matches a {word} by name: {ast.unparse(node.subject)}"
        elif isinstance(node, ast.MatchClass) and asks_for(node.cls):
            yield node.lineno, f"matches a type of target: {ast.unparse(node.cls)}"
        elif isinstance(node, ast.Call) and asks_of_type(node):
            yield node.lineno, f"asks for a type of target: {ast.unparse(node)}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = {name for argument in node.args for name in strings(argument)}
            if re.search(r"(\btask|TASKS)$", ast.unparse(node.func.value)) and known_to(given, names["task"]):
                yield node.lineno, f"asks for a task by name: {ast.unparse(node)}"


def asks_of_class(sides: list[ast.expr]) -> bool:
    """Whether the class of something, or its name, is compared with a type of target."""
    classes = any(re.search(r"\btype\(|\b__class__\b", ast.unparse(side)) for side in sides)
    named = {name for side in sides for name in strings(side)}
    return classes and (any(map(asks_for, sides)) or bool(named & TYPES) or any(map(RESULT.fullmatch, named)))


def known_to(given: set[str], names: set[str]) -> bool:
    """Whether a text is a name, or the beginning or end of one."""
    return any(len(text) > 2 and (name.startswith(text) or name.endswith(text)) for text in given for name in names)


def strings(node: ast.AST) -> set[str]:
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def asks_of_type(call: ast.Call) -> bool:
    return ast.unparse(call.func) in ("isinstance", "issubclass") and asks_for(call.args[1])


def asks_for(node: ast.AST) -> bool:
    named = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    named |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
    return bool(named & TYPES) or any(RESULT.fullmatch(name) for name in named)


def test_no_other_module_names_a_task_or_tells_targets_apart():
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        place = path.relative_to(SOURCE).as_posix()
        if not place.startswith(OF_THE_TASKS):
            found += [f"{place}:{line}: {what}" for line, what in findings(path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("if model.task == 'detection': pass", "compares a task"),
        ("if task in ('segmentation', 'classification'): pass", "compares a task"),
        ("x = {'detection': 1, 'segmentation': 2}[task]", "a table by task"),
        ("if data.kind != 'class_map': pass", "compares a kind"),
        ("if type(x) is Instances: pass", "asks for a type"),
        ("if x.__class__ in (int, structures.ClassMap): pass", "asks for a type"),
        ("if type(result).__name__ == 'DetectionResult': pass", "asks for a type"),
        ("DENSE = {'segmentation', 'classification'}", "a list of tasks"),
        ("tasks.TASKS['detection'].measure", "looks up a task"),
        ("TASKS.get('detection')", "asks for a task"),
        ("if model.task.startswith('det'): pass", "asks for a task"),
        ("match model.task:\n    case 'proposal': pass", "matches a task"),
        ("match target:\n    case ClassMap(): pass", "matches a type"),
        ("isinstance(x, Instances | str)", "asks for a type"),
        ("isinstance(x, (int, structures.ClassScores))", "asks for a type"),
        ("isinstance(x, DetectionResult)", "asks for a type"),
    ],
)
def test_what_is_found(code, words):
    assert [what for _, what in findings(code) if what.startswith(words)]


def test_what_is_not_found():
    code = """
    if kind.name == name or 'segmentation' in entry: pass
    losses = {'classification': a, 'box': b}
    isinstance(x, Dataset)
    TASKS[model.task]
    if type(x) is int or x.task.startswith(prefix): pass
    WRITES = ("instances", "class_map")
    TASKS.get(name, "")
    """
    assert not list(findings("if True:" + code))
