"""The shape of the project, read from its source: who imports whom, how long things are, what no file may hold."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("app", "dsv4", "vision", "generation")
SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FILE_LINES, FUNCTION_LINES = 500, 60

# Inside dsv4 an import points to a lower line of this table, or stays inside its own folder.
LAYERS = (
    ("_parts", "errors"),
    ("limits", "ops", "grounding", "forecast"),
    ("messages", "model_input"),
    ("pictures_in", "results", "tokenizer", "core", "quant", "spelling"),
    ("chat_format", "checkpoint", "engine", "reading"),
    ("repository", "plan"),
    ("processor", "batch"),
    ("model", "data"),
    ("instructions",),
    ("finish", "scene_parts"),
    ("together", "ocr", "redraw"),
    ("echo", "remote"),
    ("studio",),
    ("eval", "bench"),
    ("tiers", "rack"),
    ("train",),
    ("__init__", "__main__"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# What each package may import of ours by its full name. Leaves are reached through `dsv4._parts.part`.
ABSOLUTE = {"app": {"dsv4"}, "dsv4": {"dsv4"}, "vision": set(), "generation": set()}
CORE_LIBRARIES = {"torch", "numpy", "triton"} | set(sys.stdlib_module_names)
HEAVY = ("torch", "torchvision", "timm", "open_clip", "diffusers", "transformers", "gradio", "av", "fastapi")


def modules_named(path: Path, *, typing_too: bool = False) -> list[str]:
    """Every module that a file imports, absolute; imports for the type checker only are left out unless asked for."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set()
    if not typing_too:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                skipped |= {id(inner) for statement in node.body for inner in ast.walk(statement)}
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
    found = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append(node.module or "")
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            found += [".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names]
            found.append(".".join([*above, *filter(None, [node.module])]))
    return found


def lines_of_functions(path: Path) -> list[tuple[str, int]]:
    """(name, lines) of every function in a file."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(n.name, n.end_lineno - n.lineno + 1) for n in ast.walk(tree) if isinstance(n, kinds)]


def place_in_dsv4(module: str) -> str | None:
    """The first name below `dsv4`, or None for the package itself and for names that are no module."""
    parts = module.split(".")
    if parts[0] != "dsv4" or len(parts) < 2:
        return None
    return parts[1] if parts[1] in RANK else None


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_in_one_direction(package):
    wrong = []
    for path in (ROOT / package).rglob("*.py"):
        for module in modules_named(path):
            top = module.split(".")[0]
            relative = top == package and package != "dsv4"
            if top in PACKAGES and not relative and top not in ABSOLUTE[package]:
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong


@pytest.mark.parametrize("package", ["app", "vision", "generation"])
def test_bundled_packages_name_themselves_only_relatively(package):
    """In a wheel they are `dsv4.vision` and so on, where an absolute name would find a stranger."""
    wrong = []
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            wrong += [f"{path.relative_to(ROOT)}: {name}" for name in names if name.split(".")[0] == package]
    assert not wrong


def test_every_module_of_dsv4_has_a_layer():
    present = {path.stem if path.is_file() else path.name for path in (ROOT / "dsv4").iterdir() if is_module(path)}
    assert present <= set(RANK), f"give a layer to {sorted(present - set(RANK))}"


def is_module(path: Path) -> bool:
    """Whether a path is a module or a package with source in it."""
    return path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))


def test_imports_inside_dsv4_point_downwards():
    wrong = []
    for path in (ROOT / "dsv4").rglob("*.py"):
        own = path.relative_to(ROOT / "dsv4").parts[0].removesuffix(".py")
        for module in modules_named(path):
            other = place_in_dsv4(module)
            if other is not None and other != own and RANK[other] >= RANK[own]:
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong


def test_the_core_knows_only_the_operators():
    wrong = []
    for folder in ("core", "ops"):
        for path in (ROOT / "dsv4" / folder).rglob("*.py"):
            for module in modules_named(path, typing_too=True):
                top = module.split(".")[0]
                ours = place_in_dsv4(module) in ({"core", "ops"} if folder == "core" else {"ops"})
                if not (ours or module == "dsv4" or top in CORE_LIBRARIES):
                    wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong


def test_no_file_is_in_a_cycle():
    graph = {name_of(path): set() for path in SOURCES}
    for path in SOURCES:
        for module in modules_named(path):
            if module in graph and module != name_of(path) and not is_ancestor(module, name_of(path)):
                graph[name_of(path)].add(module)
    assert not cycle(graph)


def name_of(path: Path) -> str:
    """The dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_ancestor(package: str, module: str) -> bool:
    """Whether `module` lies in `package`: naming the own package is how a sibling is reached."""
    return module.startswith(f"{package}.")


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Some cycle of the graph, or nothing."""
    state: dict[str, int] = {}

    def visit(node: str, trail: list[str]) -> list[str]:
        state[node] = 1
        for other in sorted(graph[node]):
            if state.get(other) == 1:
                return [*trail, node, other]
            if other not in state and (found := visit(other, [*trail, node])):
                return found
        state[node] = 2
        return []

    for start in sorted(graph):
        if start not in state and (found := visit(start, [])):
            return found
    return []


def test_the_cycle_finder_finds_a_cycle():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_files_and_functions_stay_short():
    long = [f"{p.relative_to(ROOT)}: {n} lines" for p in [*SOURCES, *TESTS] if (n := count_lines(p)) > FILE_LINES]
    for path in SOURCES:
        for name, lines in lines_of_functions(path):
            if lines > FUNCTION_LINES:
                long.append(f"{path.relative_to(ROOT)}: {name} has {lines} lines")
    assert not long


def count_lines(path: Path) -> int:
    """Lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def test_every_module_says_what_it_is():
    trees = {path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert not [str(path) for path, tree in trees.items() if tree.body and not ast.get_docstring(tree)]


def test_importing_is_light():
    """A library that people import in a script, and a command that answers `--help` at once."""
    code = (
        "import sys, json, dsv4, vision, generation, dsv4.echo, dsv4.batch, app.cli;"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == []


# Spelt with gaps so that this file does not hold what it forbids.
PIECES = ("/wor", "k/"), ("/tmp/bo", "ot"), ("/roo", "t/"), (r"pypi\.o", "rg"), ("pythonhos", "ted"), ("index-u", "rl=")
FORBIDDEN = re.compile("|".join(left + right for left, right in PIECES))


def test_no_file_holds_a_path_of_a_machine_or_a_registry():
    kinds = {".py", ".md", ".toml", ".in", ".lock", ".js", ".css", ".html", ".yaml", ".yml", ".json", ".txt", ""}
    places = [ROOT / name for name in (*PACKAGES, "tests", "docs", "bench", ".ci", "assets", "deploy")]
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    wrong = []
    for path in files:
        if path.suffix in kinds and "__pycache__" not in path.parts and path.stat().st_size < 1_000_000:
            text = path.read_text(encoding="utf-8", errors="replace")
            wrong += [f"{path.relative_to(ROOT)}: {found[0]}" for found in FORBIDDEN.finditer(text)]
    assert not wrong


def test_the_lock_has_a_hash_for_every_package_and_no_address():
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", text.strip())
    pinned = {block.split("==")[0].lower().replace("_", "-") for block in blocks}
    assert all(re.match(r"[\w.-]+==\S+", block) and "--hash=sha256:" in block for block in blocks)
    wanted = re.findall(r"^[A-Za-z0-9_.-]+", (ROOT / "requirements.in").read_text(), flags=re.M)
    assert {name.lower().replace("_", "-") for name in wanted} <= pinned


def test_the_project_file_needs_nothing_that_the_lock_lacks():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.match(r"[A-Za-z0-9_.-]+", one)[0].lower().replace("_", "-") for one in wanted}
    lock = (ROOT / "requirements.lock").read_text().lower().replace("_", "-")
    assert not [name for name in names if not re.search(rf"^{re.escape(name)}==", lock, flags=re.M)]
