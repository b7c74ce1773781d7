"""What one source file says about itself: what it imports and what it defines, by line.

Lines count from 1. A symbol's head is what tells how it is used: its first line up to the line that opens its body.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

FIELD_LINES = 6  # a longer value is not worth its tokens in a skeleton


@dataclass(frozen=True, kw_only=True, slots=True)
class Symbol:
    """Something defined in lines `first` to `last`, of which `head` is the last line of its head, words included."""

    name: str
    first: int
    head: int
    last: int
    doc: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Import:
    """`module` as it is written (`level` leading dots taken off in Python), and the names taken from it."""

    module: str
    line: int
    level: int = 0
    names: tuple[str, ...] = ()
    whole: bool = True  # `import a.b`, not `from a import b`


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """A file's imports and symbols; `defines` are names at its top, `open` when it may have others; `trouble` or ''."""

    imports: tuple[Import, ...] = ()
    symbols: tuple[Symbol, ...] = ()
    defines: frozenset[str] = field(default_factory=frozenset)
    open: bool = True
    package: str = ""  # the package a file says it belongs to, where a language has that
    trouble: str = ""


def python_facts(text: str) -> Facts:
    """Read Python with `ast`; a file that does not parse has no facts and says why."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Facts(trouble=f"does not parse as Python: {str(error)[:120]}")
    imports = tuple(_imports(tree.body))
    defines, star = _defined(tree.body)
    opened = star or "__getattr__" in defines or "sys.modules[__name__]" in text
    return Facts(imports=imports, symbols=tuple(_symbols(tree.body, "")), defines=frozenset(defines), open=opened)


def _blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list):
            yield block
    for holder in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        yield holder.body


def _imports(body: list[ast.stmt]) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module=alias.name, line=node.lineno)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            yield Import(module=node.module or "", line=node.lineno, level=node.level, names=names, whole=False)
        else:
            for block in _blocks(node):
                yield from _imports(block)


def _defined(body: list[ast.stmt]) -> tuple[set[str], bool]:
    """Names that a module has at its top, and whether a star import brings more."""
    names: set[str] = set()
    star = False
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            star = star or any(alias.name == "*" for alias in node.names)
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        else:
            targets = [node] if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Expr) else []
            targets += [part for part in (getattr(node, "target", None),) if part is not None]
            targets += [item.optional_vars for item in getattr(node, "items", ()) if item.optional_vars]
            for part in targets:
                names |= {n.id for n in ast.walk(part) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            for block in _blocks(node):
                inner, inner_star = _defined(block)
                names |= inner
                star = star or inner_star
    return names, star


def _symbols(body: list[ast.stmt], inside: str) -> Iterator[Symbol]:
    for node in body:
        last = node.end_lineno or node.lineno
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            doc = ast.get_docstring(node, clean=True) or ""
            head = max(node.lineno, node.body[0].lineno - 1)
            if doc:
                start = node.body[0].lineno
                head = min(node.body[0].end_lineno or start, start + 2)
            yield Symbol(name=inside + node.name, first=first, head=min(head, last), last=last, doc=doc)
            if isinstance(node, ast.ClassDef):
                yield from _symbols(node.body, f"{inside}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign) and last - node.lineno < FIELD_LINES:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name):
                yield Symbol(name=inside + target.id, first=node.lineno, head=last, last=last)
        elif isinstance(node, ast.If | ast.Try):
            for block in _blocks(node):
                yield from _symbols(block, inside)
