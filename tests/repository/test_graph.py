"""Walking, facts and edges: against what was written down by hand, and against another reading of real packages."""

from __future__ import annotations

import ast
import importlib.util
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from dsv4 import InputError
from dsv4.repository import read_graph
from dsv4.repository.draw import draw
from dsv4.repository.facts import python_facts
from dsv4.repository.skeleton import skeleton
from dsv4.repository.walk import walk

PACKAGES = Path(importlib.util.find_spec("fastapi").origin).parents[1]


def test_ignored_files_are_not_read_and_troubles_are_named(shop):
    found = walk(shop)
    paths, notes = [file.path for file in found.files], {note.path: note.why for note in found.notes}
    assert paths == sorted(paths, key=lambda path: path.split("/")) or len(set(paths)) == len(paths)
    assert "keep.log" in paths and "shop/sub/deep.py" in paths
    assert not {"debug.log", "build/out.py", "shop/sub/secret_a.py", ".env"} & set(paths)
    for path, why in {
        "blob.bin": "binary", "huge.py": "huge: 1,200,000 bytes", "bundle.js": "made by a program",
        "shop/loop": "a link", "dangling": "a link", "pipe": "not a regular file", ".env": "secret",
        "latin.py": "not UTF-8 from byte 9", "wide.txt": "UTF-16", "package-lock.json": "a lock file",
        "docs/screen.png": "a picture",
    }.items():  # fmt: skip
        assert why in notes[path]
    texts = {file.path: file.text for file in found.files}
    assert texts["wide.txt"] == "two bytes each" and "K\ufffdse" in texts["latin.py"]


def test_more_patterns_can_be_ignored_and_a_missing_folder_is_one_error(shop):
    assert not [file for file in walk(shop, ignore=["web/", "*.md"]).files if file.path.startswith(("web", "README"))]
    with pytest.raises(InputError, match="no folder at"):
        walk(shop / "missing")
    with pytest.raises(InputError, match="no folder at"):
        walk(shop / "README.md")


EDGES = {
    ("shop/__init__.py", "shop/prices.py"), ("shop/prices.py", "shop/tax.py"), ("shop/tax.py", "shop/prices.py"),
    ("shop/app.py", "shop/tax.py"), ("shop/app.py", "shop/__init__.py"), ("shop/sub/deep.py", "shop/prices.py"),
    ("shop/sub/deep.py", "shop/tax.py"), ("tests/test_shop.py", "tests/helpers.py"),
    ("tests/test_shop.py", "shop/__init__.py"), ("web/src/index.ts", "web/src/draw.ts"),
    ("web/src/index.ts", "web/src/types/index.ts"), ("web/src/index.ts", "web/lib/util.ts"),
    ("go/main.go", "go/money/money.go"), ("rust/src/lib.rs", "rust/src/cart/mod.rs"),
    ("rust/src/lib.rs", "rust/src/cart/item.rs"), ("rust/src/cart/mod.rs", "rust/src/cart/item.rs"),
    ("rust/src/cart/item.rs", "rust/src/cart/mod.rs"), ("java/A.java", "java/D.java"),
    ("c/main.c", "c/include/list.h"),
}  # fmt: skip


def test_edges_of_seven_languages_are_those_written_down(shop):
    graph = read_graph(shop)
    assert {(edge.source, edge.target) for edge in graph.imports} == EDGES
    through = {(edge.source, edge.target) for edge in graph.edges if edge.through}
    assert through == {("shop/app.py", "shop/prices.py")}
    names = {(edge.source, edge.target): edge.names for edge in graph.edges}
    assert names["shop/prices.py", "shop/tax.py"] == ("RATE", "tax")
    assert any(note.path == "broken.py" and "does not parse" in note.why for note in graph.notes)


def by_ast(root: Path) -> set[tuple[str, str]]:
    """Edges by another way: every import node, resolved by importlib's rule and by looking at the disk."""
    found = set()
    for path in root.rglob("*.py"):
        if "node_modules" in path.parts:
            continue
        here = path.relative_to(root).as_posix()
        package = ".".join(path.relative_to(root.parent).parts[:-1])

        def file_of(dotted: str) -> str | None:
            place = root.parent.joinpath(*dotted.split("."))
            for one in (place.with_suffix(".py") if dotted else place, place / "__init__.py"):
                if dotted.split(".")[0] == root.name and one.is_file():
                    return one.relative_to(root).as_posix()
            return None

        for node in ast.walk(ast.parse(path.read_bytes())):
            targets = []
            if isinstance(node, ast.Import):
                for alias in node.names:
                    parts = alias.name.split(".")
                    longest = (file_of(".".join(parts[:n])) for n in range(len(parts), 0, -1))
                    targets.append(next((one for one in longest if one), None))
            elif isinstance(node, ast.ImportFrom):
                dots = "." * node.level + (node.module or "")
                base = importlib.util.resolve_name(dots, package) if node.level else dots
                targets += [file_of(f"{base}.{alias.name}") or file_of(base) for alias in node.names]
            found |= {(here, target) for target in targets if target and target != here}
    return found


@pytest.mark.parametrize("name", ["fastapi", "gradio"])
def test_edges_of_real_packages_equal_those_of_ast(name):
    graph = read_graph(PACKAGES / name, ignore=["*.js", "*.pyi", "*.ts", "*.svelte"])
    ours = {(edge.source, edge.target) for edge in graph.imports if edge.source.endswith(".py")}
    truth = by_ast(PACKAGES / name)
    assert len(truth) > 100 and ours == truth


def test_rank_sums_to_one_and_follows_imports(shop):
    graph = read_graph(shop)
    rank = graph.rank()
    assert sum(rank.values()) == pytest.approx(1) and rank["shop/tax.py"] > rank["shop/app.py"]
    wanted = graph.rank({"c/main.c": 1.0})
    assert wanted["c/include/list.h"] > wanted["shop/tax.py"] and min(wanted.values()) > 0


def test_rank_of_two_files_is_the_formula(tmp_path):
    (tmp_path / "a.py").write_text("import b\n")
    (tmp_path / "b.py").write_text("X = 1\n")
    rank = read_graph(tmp_path).rank()
    # a = .15/2 + .85 b/2 ; b = .15/2 + .85 a + .85 b/2: b's rank goes everywhere, since it imports nothing.
    assert rank["a.py"] == pytest.approx(1 / 2.85, abs=1e-6)


def test_what_is_imported_is_read_first(shop):
    graph = read_graph(shop)
    order = graph.reading_order(graph.rank())
    assert sorted(order) == sorted(graph.files)
    for first, then in (("shop/prices.py", "shop/app.py"), ("tests/helpers.py", "tests/test_shop.py")):
        assert order.index(first) < order.index(then)


def test_symbols_heads_and_skeleton(shop):
    graph = read_graph(shop)
    facts = graph.facts["shop/tax.py"]
    assert [s.name for s in facts.symbols] == ["RATE", "late", "Ledger", "Ledger.name", "Ledger.close_books"]
    bones = skeleton(graph.files["shop/tax.py"].text, facts)
    assert "def close_books(self, year):" in bones and "Freeze every account" in bones and "return [year]" not in bones
    whole = skeleton(graph.files["shop/tax.py"].text, facts, [facts.symbols[-1]])
    assert "return [year]" in whole and "return prices" not in whole
    typed = graph.facts["web/src/draw.ts"]
    assert [s.name for s in typed.symbols] == ["draw"]
    assert "b += 1" not in skeleton(graph.files["web/src/draw.ts"].text, typed)
    assert {s.name for s in graph.facts["rust/src/cart/item.rs"].symbols} == {"Item", "new"}
    assert {s.name for s in graph.facts["java/A.java"].symbols} == {"A", "f"}
    assert {s.name for s in graph.facts["go/money/money.go"].symbols} == {"Add"}
    assert {s.name for s in graph.facts["c/main.c"].symbols} == {"main"}


def test_python_that_does_not_parse_has_a_reason():
    assert "does not parse" in python_facts("def (").trouble and "does not parse" in python_facts("a\0b").trouble


def test_the_drawing_is_svg_with_every_edge_and_the_same_twice(shop):
    graph = read_graph(shop)
    drawn = draw(graph)
    root = ElementTree.fromstring(drawn)
    curves = root.findall("{http://www.w3.org/2000/svg}path")
    assert len(curves) == len(graph.imports) and drawn == draw(read_graph(shop))
    with pytest.raises(InputError, match="from 2 to 120"):
        draw(graph, files=1)
