"""Who imports whom in a repository, and which files matter: edges, PageRank, and an order in which to read.

An edge goes from the file that imports to the file that it imports. `through` edges go on to where a name is defined
when a package only passes it on; they rank and order files but are no import statements.
Source: Page et al. 1998, the PageRank citation ranking (personalised form, section 6).
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dsv4.errors import InputError
from dsv4.repository.facts import Facts, python_facts
from dsv4.repository.grammars import GRAMMARS, grammar_facts
from dsv4.repository.resolve import Resolver
from dsv4.repository.walk import File, Note, walk

DAMPING, STEPS = 0.85, 40


@dataclass(frozen=True, kw_only=True)
class Edge:
    """`source` imports `target`, taking `names` (none for a whole module)."""

    source: str
    target: str
    names: tuple[str, ...] = ()
    through: bool = False


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A repository's files with what they import and define."""

    name: str
    files: Mapping[str, File]
    facts: Mapping[str, Facts]
    edges: tuple[Edge, ...]
    notes: tuple[Note, ...]

    @cached_property
    def imports(self) -> tuple[Edge, ...]:
        """The edges that are import statements."""
        return tuple(edge for edge in self.edges if not edge.through)

    @cached_property
    def resolver(self) -> Resolver:
        """What finds the targets of imports."""
        texts = {path: file.text for path, file in self.files.items()}
        return Resolver(self.facts, texts, self.name)

    def rank(self, wanted: Mapping[str, float] | None = None) -> dict[str, float]:
        """PageRank of every file; `wanted` (path to weight) says where a reader starts, everywhere alike without."""
        paths = sorted(self.files)
        if not paths:
            return {}
        weights = {path: max(0.0, (wanted or {}).get(path, 0.0)) for path in paths}
        whole = sum(weights.values())
        # A tenth of the starts stays everywhere, so that nothing has rank zero.
        start = {p: 0.1 / len(paths) + 0.9 * weights[p] / whole if whole else 1 / len(paths) for p in paths}
        out: dict[str, list[tuple[str, float]]] = {}
        for edge in self.edges:
            out.setdefault(edge.source, []).append((edge.target, 1.0 + len(edge.names) ** 0.5))
        rank = dict(start)
        for _ in range(STEPS):
            loose = sum(rank[path] for path in paths if path not in out)
            following = {path: ((1 - DAMPING) + DAMPING * loose) * start[path] for path in paths}
            for source, targets in out.items():
                total = sum(weight for _, weight in targets)
                for target, weight in targets:
                    following[target] += DAMPING * rank[source] * weight / total
            rank = following
        return rank

    def reading_order(self, rank: Mapping[str, float]) -> list[str]:
        """What is imported comes before what imports it; inside a cycle the higher rank comes first."""
        import networkx

        graph = networkx.DiGraph()
        graph.add_nodes_from(sorted(self.files))
        graph.add_edges_from((edge.target, edge.source) for edge in self.edges)
        groups = [sorted(group, key=lambda path: (-rank[path], path))
                  for group in networkx.strongly_connected_components(graph)]  # fmt: skip
        groups.sort()
        number = {path: index for index, group in enumerate(groups) for path in group}
        condensed = networkx.DiGraph()
        condensed.add_nodes_from(range(len(groups)))
        condensed.add_edges_from(
            (number[edge.target], number[edge.source])
            for edge in self.edges
            if number[edge.target] != number[edge.source]
        )
        order = networkx.lexicographical_topological_sort(condensed, key=lambda index: groups[index][0])
        return [path for index in order for path in groups[index]]

    def broken(self) -> Iterator[tuple[str, int, str]]:
        """(file, line, what is wrong) of Python imports that name something the repository should have and has not."""
        tops = {dotted.split(".")[0] for dotted in self.resolver.modules if dotted}
        for path, facts in sorted(self.facts.items()):
            if self.files[path].language != "python":
                continue
            for one in facts.imports:
                base = self.resolver.python_base(path, one)
                if not one.level and base.split(".")[0] not in tops:
                    continue
                yield from self._broken_import(path, one, base)

    def _broken_import(self, path: str, one, base: str) -> Iterator[tuple[str, int, str]]:
        modules = self.resolver.modules
        home = modules.get(base)
        if one.whole:
            if home is None and not any(known.startswith(f"{base}.") for known in modules):
                yield path, one.line, f"there is no module {base}"
            return
        for name in one.names:
            if name == "*" or f"{base}.{name}" in modules:
                continue
            if home is None:
                if not any(known.startswith(f"{base}.") for known in modules):
                    yield path, one.line, f"there is no module {base}"
                    return
                yield path, one.line, f"{base} has no module {name}"
            elif not self.facts[home].open and name not in self.facts[home].defines:
                yield path, one.line, f"{base} defines no {name}"


def read_graph(root: str | os.PathLike[str], *, ignore: Sequence[str] = ()) -> Graph:
    """Walk a folder, read every file's facts, and resolve its imports; InputError when it is not a folder."""
    found = walk(root, ignore=ignore)
    if not found.files and not found.notes:
        raise InputError(f"'{root}' holds no files, or ignores them all")
    return graph_of({file.path: file for file in found.files}, name=name_of(found.root), notes=found.notes)


def name_of(root: Path) -> str:
    """What a repository is called: its folder."""
    return root.resolve().name or "repository"


def graph_of(files: Mapping[str, File], *, name: str, notes: Sequence[Note] = ()) -> Graph:
    """The graph of files that are already read."""
    facts, told = {}, list(notes)
    collecting = gc.isenabled()
    gc.disable()  # millions of short-lived syntax nodes otherwise set the collector off again and again
    try:
        for path, file in sorted(files.items()):
            facts[path] = _facts(file)
            if facts[path].trouble:
                told.append(Note(path=path, why=facts[path].trouble))
    finally:
        if collecting:
            gc.enable()
    made = Graph(name=name, files=files, facts=facts, edges=(), notes=tuple(told))
    edges = tuple(_edges(made))
    return Graph(name=name, files=files, facts=facts, edges=edges, notes=tuple(told))


def _facts(file: File) -> Facts:
    if file.language == "python":
        return python_facts(file.text)
    return grammar_facts(file.text, file.language) if file.language in GRAMMARS else Facts()


def _edges(graph: Graph) -> Iterator[Edge]:
    for path in sorted(graph.files):
        taken: dict[tuple[str, bool], set[str]] = {}
        for one in graph.facts[path].imports:
            for target in graph.resolver.targets(path, graph.files[path].language, one):
                taken.setdefault((target.path, target.through), set()).update(target.names)
        for (target, through), names in sorted(taken.items()):
            if not (through and (target, False) in taken):
                yield Edge(source=path, target=target, names=tuple(sorted(names)), through=through)
