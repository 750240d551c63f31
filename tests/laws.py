"""The laws of the house as functions: a source file in, the lines that break the law out.

A law about a module holds from the day the module exists. `test_architecture.py` applies them.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "heimdall_jax"

BASE = {
    "errors",
    "outside",
    "patience",
    "progress",
    "credentials",
    "stopping",
    "store_settings",
    "types",
    "config",
    "worlds",
    "feature_settings",
    "propagation",
    "geodesy",
}
EVERYTHING = None
MAY_IMPORT: dict[str, set[str] | None] = {
    # One direction: sources, features, models, training, evaluation, export, registry.
    "errors": set(),
    "outside": {"errors"},
    "patience": {"errors"},
    "progress": set(),
    "flags": {"errors"},
    "credentials": {"errors"},
    "stopping": set(),
    "launch": set(),
    "hosts": {"errors", "launch", "stopping"},
    "compilations": set(),
    "types": {"errors"},
    "trees": {"errors"},
    "worlds": set(),
    "propagation": set(),
    "feature_settings": set(),
    "store_settings": set(),
    "export_settings": {"errors"},
    "config": {
        "errors",
        "outside",
        "credentials",
        "trees",
        "worlds",
        "feature_settings",
        "propagation",
        "export_settings",
        "store_settings",
    },
    "geodesy": {"errors"},
    "store_s3": {"errors", "patience", "progress"},
    "store": BASE | {"store_s3"},
    "revision": set(),
    "history": {"errors", "outside"},
    "tracking": BASE,
    "run_folder": {"errors", "outside", "export"},
    "run_lock": {"errors", "outside"},
    "publishing": BASE | {"export", "registry", "run_folder", "store", "tracking"},
    "handover": BASE | {"run_folder", "run_lock", "revision", "export", "tracking", "publishing", "registry"},
    "display": BASE,
    "memory": set(),
    "cores": set(),
    "sources": BASE | {"store", "trees"},
    "simulation": BASE,
    "features": {"errors", "types", "config", "geodesy", "cores"},
    "models": BASE,
    "training": BASE | {"features", "models", "tracking"},
    "evaluation": BASE | {"simulation", "history"},
    "export": BASE | {"features", "models", "memory"},
    "pages": BASE | {"evaluation"},
    "registry": BASE | {"store", "tracking", "export"},
    # Only these join rooms: pipeline and the parts it is made of.
    "pipeline": EVERYTHING,
    "datasets": EVERYTHING,
    "assessment": EVERYTHING,
    "mapping": EVERYTHING,
    "fitting": EVERYTHING,
    "bad_batches": EVERYTHING,
    "doubts": EVERYTHING,
    "delivery": EVERYTHING,
    "shrinking": EVERYTHING,
    "detecting": EVERYTHING,
    "conditions": EVERYTHING,
    "faults": EVERYTHING,
    "report": EVERYTHING,
    "examples": EVERYTHING,
    "seeds": EVERYTHING,
    "preparation": EVERYTHING,
    "locate": EVERYTHING,
    "run": EVERYTHING,
    "benchmarks": EVERYTHING,
    "command": BASE | {"pipeline", "launch", "display", "flags", "memory"},
    "jobs": BASE
    | {"pipeline", "delivery", "publishing", "run", "run_folder", "run_lock", "export", "registry"}
    | {"command", "memory", "store", "trees"},
}
DOORS = {
    "mlflow": "tracking/",
    "orbax": "training/checkpoints.py",
    "jax2onnx": "export/onnx.py",
    "boto3": "store",
    "botocore": "store",
    "sqlalchemy": "sources/catalogue",
    "celery": "jobs/",
    "apache_beam": "sources/beam.py",
}
NO_JAX = (
    *("sources", "registry", "types", "errors", "outside", "config", "worlds", "feature_settings", "propagation"),
    *("trees", "geodesy", "export_settings", "store_settings"),
    *("store", "store_s3", "patience", "credentials", "revision", "tracking", "history"),
    *("run_folder", "run_lock", "publishing", "handover", "stopping", "launch", "jobs"),
)
JAX = {"jax", "flax", "optax", "orbax", "grain", "jax2onnx"}
PURE = ("features", "models")
IO_MODULES = {"os", "io", "pathlib", "shutil", "tempfile", "subprocess", "socket", "urllib", "http", "requests"} | {
    *("pickle", "sqlite3", "csv", "json", "yaml", "logging", "rich")
}
IO_CALLS = {"open", "print", "input"}
IO_METHODS = {"write_text", "write_bytes", "read_text", "read_bytes", "tofile", "fromfile", "memmap", "loadtxt"} | {
    *("savetxt", "savez", "genfromtxt")
}
TOP_LEVEL = {
    *(".ci", ".gitignore", ".mkdocs.yml", "LICENSE", "README.md", "constraints.txt", "docs"),
    *(PACKAGE, "pyproject.toml", "scripts", "tests"),
}
VAGUE = re.compile(r"(^|_)(util|utils|helper|helpers|common|misc)($|_|\.)")
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
LONGEST_FILE, LONGEST_FUNCTION, LONGEST_LOOP, LONGEST_SCRIPT = 300, 40, 120, 60


@dataclass(frozen=True)
class Source:
    """A Python file: its path below the root, and its text."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def inner(self) -> str:
        """Path inside the package; empty for files outside it."""
        return self.path.removeprefix(f"{PACKAGE}/") if self.path.startswith(f"{PACKAGE}/") else ""

    @property
    def room(self) -> str:
        return self.inner.split("/")[0].removesuffix(".py")

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


SOURCES = [
    Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    for folder in (PACKAGE, "scripts", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
]

Violations = Iterator[tuple[int, str]]


def imports(source: Source) -> Violations:
    """Line and full name of everything imported, at any depth, by statement or by `import_module`."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{'.' * node.level}{node.module or ''}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}:
            yield from ((node.lineno, arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant))


def rooms_are_joined_only_by_the_pipeline(source: Source) -> Violations:
    """Law 1: which room may import which."""
    if not source.inner or source.inner == "__init__.py":
        return
    if source.room not in MAY_IMPORT:
        yield 1, f"{source.room} is no room of the house"
        return
    allowed = MAY_IMPORT[source.room]
    for line, name in imports(source):
        package, *rest = name.split(".")
        if package == "":
            yield line, f"relative import {name}"
        elif package == PACKAGE and rest and allowed is not None and rest[0] not in allowed | {source.room}:
            yield line, f"{source.room} imports {name}; it may import {sorted(allowed)}"


def only_named_doors_import_their_library(source: Source) -> Violations:
    """Law 1: one door for each outside system."""
    if source.path.startswith("tests/"):
        return
    for line, name in imports(source):
        door = DOORS.get(name.split(".")[0])
        if door is not None and not source.inner.startswith(door):
            yield line, f"imports {name}; its only door is {door}"


def rooms_without_jax_import_none(source: Source) -> Violations:
    """Law 1: sources and registry serve without JAX."""
    if source.room in NO_JAX and source.inner != "":
        yield from ((line, f"imports {name}") for line, name in imports(source) if name.split(".")[0] in JAX)


def features_and_models_do_no_io(source: Source) -> Violations:
    """Law 1: pure rooms."""
    if source.room not in PURE:
        return
    yield from ((line, f"imports {name}") for line, name in imports(source) if name.split(".")[0] in IO_MODULES)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in IO_CALLS or called.split(".")[-1] in IO_METHODS or re.fullmatch(r"j?np\.(load|save)", called):
                yield node.lineno, f"calls {called}"


def constants_and_degrees_have_one_home(source: Source) -> Violations:
    """Law 2 and the axis key: the speed of light and conversions of degrees are geodesy's."""
    if not source.inner or source.inner == "geodesy.py":
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and node.value == 299_792_458:
            yield node.lineno, "the speed of light is geodesy.SPEED_OF_LIGHT_M_PER_S"
        if isinstance(node, ast.Attribute) and node.attr in {"deg2rad", "rad2deg", "radians", "degrees"}:
            yield node.lineno, f"converts degrees ({node.attr}); geodesy does"


def files_and_functions_fit(source: Source) -> Violations:
    """Law 7: 300 lines a file, 40 a function (its docstring apart), 120 for the loop."""
    lines = source.text.count("\n")
    if lines > LONGEST_FILE:
        yield lines, f"{lines} lines; a file holds one idea in at most {LONGEST_FILE}"
    longest = LONGEST_LOOP if source.inner == "training/loop.py" else LONGEST_FUNCTION
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                length -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            if length > longest:
                yield node.lineno, f"{node.name} has {length} lines; a function fits a screen of {longest}"


def names_say_what_is_inside(source: Source) -> Violations:
    """Law 8: no vague names."""
    yield from ((1, f"{part} says nothing") for part in source.path.split("/") if VAGUE.search(part))


def scripts_hold_no_logic(source: Source) -> Violations:
    """Habit 2: parse, call one library function, exit code."""
    if not source.path.startswith("scripts/"):
        return
    if (lines := source.text.count("\n")) > LONGEST_SCRIPT:
        yield lines, f"{lines} lines; a script has at most {LONGEST_SCRIPT}"
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            yield node.lineno, "loops"


def nothing_is_left_unfinished(source: Source) -> Violations:
    """Brief: no notes to self, no stubs."""
    for number, line in enumerate(source.text.splitlines(), 1):
        if UNFINISHED.search(line):
            yield number, "unfinished"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Raise) and node.exc is not None and "NotImplemented" in ast.unparse(node.exc):
            yield node.lineno, "a stub"


LAWS: list[Callable[[Source], Violations]] = [
    rooms_are_joined_only_by_the_pipeline,
    only_named_doors_import_their_library,
    rooms_without_jax_import_none,
    features_and_models_do_no_io,
    constants_and_degrees_have_one_home,
    files_and_functions_fit,
    names_say_what_is_inside,
    scripts_hold_no_logic,
    nothing_is_left_unfinished,
]
