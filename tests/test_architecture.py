"""The house holds: imports point downwards, files and functions stay small, every test file belongs to a room."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = {
    "types": 0, "config": 0,
    "media": 1, "faces": 1, "audio": 1, "models": 1, "diffusion": 1,
    "losses": 2, "data": 2, "hub": 2,
    "pipelines": 3, "evaluation": 3, "training": 3,
    "cli": 4, "__main__": 4,
}  # fmt: skip
RECIPES = ("train", "benchmarks", "inference.py")  # layer 4: they compose rooms and nobody imports them
LAZY = {"cv2", "decord", "mediapipe", "wandb"}
OTHER_TESTS = {"architecture", "wheel", "recipes", "benchmarks"}
MAX_FILE, MAX_FUNCTION, SHORT_FUNCTION, SHORT_SHARE = 400, 60, 30, 0.9  # lines, lines, lines, share of functions


def python_files(*places: str) -> list[Path]:
    found = []
    for place in places:
        path = ROOT / place
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path] if path.exists() else []
    return found


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


PACKAGE_FILES = python_files("latentsync")
PRODUCT_FILES = [*PACKAGE_FILES, *python_files(*RECIPES)]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PRODUCT_FILES}


def room_of(path: Path) -> str:
    """`latentsync/media/probe.py` -> media, `latentsync/hub.py` -> hub, `latentsync/__init__.py` -> "" ."""
    parts = path.relative_to(ROOT / "latentsync").with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imported_modules(path: Path) -> Iterator[tuple[str, int]]:
    """Every absolute module name that a file imports anywhere, inside functions too, with its line."""
    package = (*path.relative_to(ROOT).parent.parts,)
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            anchor = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (anchor, node.module) if part)
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def rooms_used(path: Path) -> Iterator[tuple[str, int]]:
    for module, line in imported_modules(path):
        parts = module.split(".")
        if parts[0] == "latentsync" and len(parts) > 1 and parts[1] not in ("__version__", "DubbingPipeline"):
            yield parts[1], line


def test_every_room_has_a_layer():
    rooms = {room_of(path) for path in PACKAGE_FILES} - {""}
    assert rooms <= set(LAYERS), f"give these rooms a layer or a home: {sorted(rooms - set(LAYERS))}"


def test_imports_point_to_lower_layers_only():
    wrong = []
    for path in PACKAGE_FILES:
        room = room_of(path)
        if not room:
            continue
        for used, line in rooms_used(path):
            sideways = LAYERS.get(used) == LAYERS[room] and LAYERS[room] in (1, 3)
            upwards = LAYERS.get(used, 99) > LAYERS[room]
            if used != room and (sideways or upwards):
                wrong.append(f"{label(path)}:{line} {room} (layer {LAYERS[room]}) imports {used}")
    assert not wrong, "\n".join(wrong)


def test_the_package_itself_loads_only_the_pipeline_and_only_when_asked():
    path = ROOT / "latentsync" / "__init__.py"
    assert {room for room, _ in rooms_used(path)} == {"pipelines"}
    assert not [module for module in eager_imports(path) if module.startswith("latentsync")]


def eager_imports(path: Path) -> list[str]:
    """Modules imported by merely importing the file: not inside functions, not under TYPE_CHECKING."""
    names, pending = [], list(TREES[path].body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            pending += ast.iter_child_nodes(node)
    return names


def test_nobody_imports_the_recipes():
    names = {Path(recipe).stem for recipe in RECIPES}
    wrong = [
        f"{label(path)}:{line} imports {module}"
        for path in PACKAGE_FILES
        for module, line in imported_modules(path)
        if module.split(".")[0] in names
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", ["latentsync", "latentsync.cli"])
def test_importing_loads_no_heavy_optional_library(module):
    code = f"import sys, {module}; print(*sorted({LAZY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_libraries_that_may_be_absent_are_imported_lazily():
    wrong = [
        f"{label(path)} imports {module} at its top"
        for path in PACKAGE_FILES
        for module in eager_imports(path)
        if module.split(".")[0] in LAZY
    ]
    assert not wrong, "\n".join(wrong)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in ast.walk(TREES[path]) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def test_files_are_small():
    sizes = {label(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PRODUCT_FILES}
    assert not {name: size for name, size in sizes.items() if size >= MAX_FILE}


def test_functions_are_short():
    sizes = {f"{label(path)}:{f.lineno} {f.name}": lines_of(f) for path in PRODUCT_FILES for f in functions(path)}
    assert not {name: size for name, size in sizes.items() if size > MAX_FUNCTION}
    short = sum(size < SHORT_FUNCTION for size in sizes.values())
    assert short >= SHORT_SHARE * len(sizes), f"only {short} of {len(sizes)} functions are under {SHORT_FUNCTION} lines"


def test_public_functions_say_what_they_take_and_give():
    wrong = []
    for path in PACKAGE_FILES:
        public = (node for node in TREES[path].body if isinstance(node, ast.FunctionDef) and node.name[0] != "_")
        for function in public:
            arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            typed = all(argument.annotation for argument in arguments) and function.returns is not None
            if not typed or not ast.get_docstring(function):
                wrong.append(f"{label(path)}:{function.lineno} {function.name}")
    assert not wrong, "type hints or docstring are missing:\n" + "\n".join(wrong)


def test_every_module_says_what_it_is_for():
    empty_ok = {path for path in PRODUCT_FILES if path.name == "__init__.py" and not TREES[path].body}
    assert not [label(path) for path in PRODUCT_FILES if path not in empty_ok and not ast.get_docstring(TREES[path])]


def test_no_error_is_swallowed():
    """A handler that does nothing names a narrow error and says why nothing is to be done."""
    wrong = []
    for path in PRODUCT_FILES:
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in (node for node in ast.walk(TREES[path]) if isinstance(node, ast.ExceptHandler)):
            idle = all(isinstance(statement, (ast.Pass, ast.Continue)) for statement in node.body)
            broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            explained = any("#" in line for line in lines[node.lineno - 1 : node.end_lineno])
            if idle and (broad or not explained):
                wrong.append(f"{label(path)}:{node.lineno}")
    assert not wrong, "errors are swallowed without a word:\n" + "\n".join(wrong)


def test_weights_are_data_and_commands_are_lists():
    """Nothing that is loaded may run code, and no command goes through a shell."""
    wrong = []
    for path in PRODUCT_FILES:
        for call in (node for node in ast.walk(TREES[path]) if isinstance(node, ast.Call)):
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            name = ast.unparse(call.func)
            unsafe_load = name == "torch.load" and keywords.get("weights_only") != "True"
            unsafe_array = name in ("np.load", "numpy.load") and keywords.get("allow_pickle", "False") != "False"
            shell = keywords.get("shell", "False") != "False" or name == "os.system"
            unpickles = re.match(r"(pickle|dill|joblib)\.(load|loads|Unpickler)$", name)
            if unsafe_load or unsafe_array or shell or unpickles:
                wrong.append(f"{label(path)}:{call.lineno} {ast.unparse(call)}")
    assert not wrong, "\n".join(wrong)


def test_every_test_file_belongs_to_a_room():
    """`test_<room>[_<topic>].py`, and helpers `<room>_<topic>.py`."""
    allowed = set(LAYERS) | OTHER_TESTS
    names = {path.stem.removeprefix("test_") for path in (ROOT / "tests").rglob("*.py")} - {"conftest"}
    strays = sorted(name for name in names if name.split("_")[0] not in allowed)
    assert not strays, f"these files of tests/ are nobody's: {strays}"
