"""The laws of the house hold for every file, and each law can tell a breach."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import laws
import pytest
from laws import LAWS, MAY_IMPORT, NO_JAX, PACKAGE, ROOT, SOURCES, TOP_LEVEL, Source, imports


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law):
    broken = [f"{source.path}:{line}: {what}" for source in SOURCES for line, what in law(source)]
    assert not broken, f"{law.__doc__}\n" + "\n".join(broken)


@pytest.mark.parametrize(
    ("law", "path", "text"),
    [
        (
            laws.rooms_are_joined_only_by_the_pipeline,
            "heimdall_jax/models/a.py",
            "def f():\n    from heimdall_jax.training.step import Trainer",
        ),
        (laws.rooms_are_joined_only_by_the_pipeline, "heimdall_jax/training/a.py", "from heimdall_jax import export"),
        (laws.rooms_are_joined_only_by_the_pipeline, "heimdall_jax/attic/a.py", ""),
        (laws.only_named_doors_import_their_library, "heimdall_jax/pipeline.py", "import mlflow.onnx"),
        (
            laws.only_named_doors_import_their_library,
            "scripts/train.py",
            "import importlib\nimportlib.import_module('boto3')",
        ),
        (laws.rooms_without_jax_import_none, "heimdall_jax/sources/a.py", "def f():\n    import jax.numpy as jnp"),
        (laws.features_and_models_do_no_io, "heimdall_jax/models/a.py", "from pathlib import Path"),
        (laws.features_and_models_do_no_io, "heimdall_jax/features/a.py", "open('x')"),
        (laws.features_and_models_do_no_io, "heimdall_jax/features/a.py", "np.load('x')"),
        (laws.constants_and_degrees_have_one_home, "heimdall_jax/features/a.py", "c = 299792458.0"),
        (laws.files_and_functions_fit, "heimdall_jax/models/a.py", "\n" * 301),
        (laws.files_and_functions_fit, "tests/test_a.py", "def f():\n" + "    1\n" * 40),
        (laws.names_say_what_is_inside, "tests/helpers.py", ""),
        (laws.scripts_hold_no_logic, "scripts/train.py", "[print(x) for x in y]"),
        (laws.nothing_is_left_unfinished, "heimdall_jax/models/a.py", "raise NotImplementedError"),
    ],
)
def test_each_law_finds_a_breach(law, path, text):
    assert list(law(Source(path, text)))


def test_imports_go_one_way():
    """The flow: no module needs, directly or not, itself."""
    modules = {source.module for source in SOURCES if source.inner}
    needs: dict[str, set[str]] = {}
    for source in SOURCES:
        for_types = [node for node in ast.walk(source.tree) if isinstance(node, ast.If)]
        for_types = [node for node in for_types if ast.unparse(node.test).endswith("TYPE_CHECKING")]
        lines = {line for node in for_types for line in range(node.lineno, (node.end_lineno or 0) + 1)}
        names = {name for line, name in imports(source) if line not in lines} if source.inner else set()
        targets = {name if name in modules else name.rpartition(".")[0] for name in names}
        needs[source.module] = (targets & modules) - {PACKAGE}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(f"modules that import each other: {' <- '.join(error.args[1])}")


def test_rooms_without_jax_start_without_it():
    """Law 1, for what they import in turn: a fresh interpreter that has imported them has no JAX, nor MLflow."""
    modules = [source.module for source in SOURCES if source.inner and source.room in NO_JAX]
    program = f"""
import importlib, sys
for name in {modules!r}:
    importlib.import_module(name)
    found = {{"jax", "flax", "tensorflow", "mlflow"}} & sys.modules.keys()
    if found:
        sys.exit(f"importing {{name}} brings {{sorted(found)}}")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_training_starts_without_scipys_parts():
    """They take half a second to import; `import scipy` imports each when it is first used."""
    program = "import sys, heimdall_jax.pipeline; sys.exit(str(found) if (found := PARTS & sys.modules.keys()) else 0)"
    parts = {"scipy.linalg", "scipy.ndimage", "scipy.optimize", "scipy.sparse", "scipy.spatial", "scipy.special"}
    done = subprocess.run(
        [sys.executable, "-c", program.replace("PARTS", repr(parts))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_entry_has_its_place():
    """What is committed at the top is what the house knows, and tests mirror the rooms."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    strangers = {path.split("/")[0] for path in listed.stdout.splitlines()} - TOP_LEVEL
    assert not strangers
    rooms = {source.path.split("/")[1] for source in SOURCES if re.match(r"tests/\w+/", source.path)}
    assert rooms <= {*MAY_IMPORT, "scripts", "fuzz", "chaos"}
