"""From what a file imports to the files that it means, by the rules of each language."""

from __future__ import annotations

import json
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dsv4.repository.facts import Facts, Import

SCRIPT_ENDS = (".ts", ".tsx", ".d.ts", ".js", ".jsx", ".mjs", ".cjs", ".mts", ".cts")
THROUGH = 8  # re-exports followed


@dataclass(frozen=True, kw_only=True)
class Target:
    """A file that an import means, the names taken, and whether a package only passed them on."""

    path: str
    names: tuple[str, ...] = ()
    through: bool = False


class Resolver:
    """Knows every file of a repository; `python`, `script` and so on give the targets of one import."""

    def __init__(self, facts: Mapping[str, Facts], texts: Mapping[str, str], name: str) -> None:
        self.facts = facts
        self.modules: dict[str, str] = {}
        self.module_of: dict[str, str] = {}
        for path in sorted(facts):
            if path.endswith(".py"):
                dotted = _dotted(path, facts, name)
                self.module_of[path] = dotted
                self.modules.setdefault(dotted, path)
        for path in sorted(facts):  # scripts and folders without __init__.py are also known by where they lie
            if path.endswith(".py"):
                self.modules.setdefault(_plain(path), path)
        self.by_folder: dict[str, list[str]] = defaultdict(list)
        self.by_tail: dict[str, list[str]] = defaultdict(list)
        self.by_package: dict[str, list[str]] = defaultdict(list)
        for path in sorted(facts):
            self.by_folder[posixpath.dirname(path)].append(path)
            self.by_tail[posixpath.basename(path)].append(path)
            self.by_package[facts[path].package].append(path)
        self.go = [(posixpath.dirname(path), found[1]) for path, text in sorted(texts.items())
                   if posixpath.basename(path) == "go.mod"
                   and (found := re.search(r"^module\s+(\S+)", text, flags=re.M))]  # fmt: skip
        self.aliases = [row for path, text in sorted(texts.items())
                        if posixpath.basename(path) in ("tsconfig.json", "jsconfig.json")
                        for row in _aliases(posixpath.dirname(path), text)]  # fmt: skip

    def targets(self, path: str, language: str, one: Import) -> Iterator[Target]:
        """The files that one import of `path` means; nothing for what lies outside the repository."""
        if language == "python":
            yield from self._python(path, one)
        else:
            found = {"go": self._go, "rust": self._rust, "java": self._java, "c": self._include, "cpp": self._include}
            for other in found.get(language, self._script)(path, one.module):
                if other != path:
                    yield Target(path=other)

    def python_base(self, path: str, one: Import) -> str:
        """The absolute module that an import in `path` names, dots counted."""
        if not one.level:
            return one.module
        parts = self.module_of.get(path, _plain(path)).split(".")
        up = one.level - (1 if path.endswith("__init__.py") else 0)
        parts = parts[: len(parts) - up] if up else parts
        return ".".join([*parts, one.module] if one.module else parts)

    def _python(self, path: str, one: Import) -> Iterator[Target]:
        base = self.python_base(path, one)
        if one.whole:
            parts = base.split(".")
            for length in range(len(parts), 0, -1):
                found = self._module(path, ".".join(parts[:length]))
                if found:
                    if found != path:
                        yield Target(path=found)
                    return
            return
        home = self._module(path, base)
        for name in one.names:
            inner = self._module(path, f"{base}.{name}")
            if inner:
                if inner != path:
                    yield Target(path=inner, names=(name,))
            elif home and home != path:
                yield Target(path=home, names=(name,))
                definer = self._definer(home, name)
                if definer not in (None, home, path):
                    yield Target(path=definer, names=(name,), through=True)

    def _module(self, path: str, dotted: str) -> str | None:
        folder = posixpath.dirname(path)
        if folder and f"{folder}/__init__.py" not in self.facts:  # a script sees what lies beside it first
            beside = self.modules.get(f"{folder.replace('/', '.')}.{dotted}")
            if beside:
                return beside
        return self.modules.get(dotted)

    def _definer(self, path: str, name: str) -> str | None:
        """The file that defines a name which `path` may only pass on."""
        for _ in range(THROUGH):
            step = None
            for one in self.facts[path].imports:
                if not one.whole and name in one.names:
                    base = self.python_base(path, one)
                    step = self._module(path, f"{base}.{name}") or self._module(path, base)
            if step is None or step == path:
                return path
            path = step
        return path

    def _script(self, path: str, said: str) -> list[str]:
        places = []
        if said.startswith("."):
            places = [posixpath.normpath(posixpath.join(posixpath.dirname(path), said))]
        else:
            for prefix, suffix, target in self.aliases:
                if said.startswith(prefix) and said.endswith(suffix):
                    middle = said[len(prefix) : len(said) - len(suffix) or None]
                    places.append(posixpath.normpath(target.replace("*", middle)))
        for place in places:
            # TypeScript names the .js that a .ts will become.
            stems = [place, re.sub(r"\.[mc]?jsx?$", "", place)]
            for stem in stems:
                for candidate in (stem, *(stem + e for e in SCRIPT_ENDS), *(f"{stem}/index{e}" for e in SCRIPT_ENDS)):
                    if candidate in self.facts:
                        return [candidate]
        return []

    def _go(self, path: str, said: str) -> list[str]:
        for folder, module in self.go:
            if said == module or said.startswith(module + "/"):
                inside = posixpath.normpath(posixpath.join(folder, said[len(module) + 1 :]))
                files = self.by_folder["" if inside == "." else inside]
                return [one for one in files if one.endswith(".go") and not one.endswith("_test.go")]
        return []

    def _java(self, path: str, said: str) -> list[str]:
        said = said.removeprefix("static ").strip()
        if said.endswith(".*"):
            return [one for one in self.by_package[said[:-2]] if one.endswith(".java")]
        parts = said.split(".")
        for length in range(len(parts), 1, -1):  # a static or nested name has its class further left
            package, name = ".".join(parts[: length - 1]), parts[length - 1]
            found = [one for one in self.by_package[package] if posixpath.basename(one) == f"{name}.java"]
            if found:
                return found[:1]
        return []

    def _include(self, path: str, said: str) -> list[str]:
        said = said.strip("<>")
        beside = posixpath.normpath(posixpath.join(posixpath.dirname(path), said))
        if beside in self.facts:
            return [beside]
        # An include path is not known, so the end of the path decides, and only when one file has it.
        tails = [one for one in self.by_tail[posixpath.basename(said)] if f"/{one}".endswith(f"/{said}")]
        return tails if len(tails) == 1 else []

    def _rust(self, path: str, said: str) -> list[str]:
        folder, stem = posixpath.split(path[:-3])
        own = folder if stem in ("mod", "lib", "main") else posixpath.join(folder, stem)
        if said.startswith("mod "):
            return self._rust_file(own, [said[4:]], least=1)
        found = []
        for parts in _rust_paths(said):
            base, least = own, 1
            if parts[0] in ("crate", "self", "super"):
                least = 0  # what is not a file of its own is in the module that was named
            if parts[0] == "crate":
                base, parts = self._crate(path), parts[1:]
            elif parts[0] in ("self", "super"):
                while parts and parts[0] in ("self", "super"):
                    base = posixpath.dirname(base) if parts[0] == "super" else base
                    parts = parts[1:]
            found += self._rust_file(base, parts, least=least)
        return sorted(set(found))

    def _crate(self, path: str) -> str:
        folder = posixpath.dirname(path)
        while folder and not any(posixpath.join(folder, root) in self.facts for root in ("lib.rs", "main.rs")):
            folder = posixpath.dirname(folder)
        return folder

    def _rust_file(self, base: str, parts: list[str], *, least: int) -> list[str]:
        for length in range(len(parts), least - 1, -1):
            stem = posixpath.join(base, *parts[:length])
            for candidate in (f"{stem}.rs", f"{stem}/mod.rs", f"{stem}/lib.rs", f"{stem}/main.rs"):
                if candidate in self.facts:
                    return [candidate]
        return []


def _dotted(path: str, facts: Mapping[str, Facts], name: str) -> str:
    """The module's name: from the highest folder above it that is a package, which may be the root itself."""
    folder = posixpath.dirname(path)
    top = folder
    while top and f"{top}/__init__.py" in facts:
        top = posixpath.dirname(top)
    inside = path[len(top) + 1 :] if top else path
    dotted = _plain(inside)
    if not top and "__init__.py" in facts:  # the root is a package: gradio/ as it is installed
        return f"{name}.{dotted}" if dotted else name
    return dotted


def _plain(path: str) -> str:
    dotted = path.removesuffix(".py").replace("/", ".")
    return dotted.removesuffix("__init__").rstrip(".")


def _aliases(folder: str, text: str) -> list[tuple[str, str, str]]:
    """(before the star, after it, target) of a tsconfig's `paths`; a file with comments is read without them."""
    try:
        options = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.M)).get("compilerOptions", {})
        base = posixpath.join(folder, options.get("baseUrl", "."))
        rows = [(key, value) for key, values in options.get("paths", {}).items() for value in values]
        return [(*_star(key), posixpath.join(base, value)) for key, value in rows]
    except (ValueError, AttributeError, TypeError):
        return []


def _star(pattern: str) -> tuple[str, str]:
    before, _, after = pattern.partition("*")
    return before, after


def _rust_paths(said: str) -> list[list[str]]:
    """`a::{b, c::d}` as [a, b] and [a, c, d]; renames are dropped."""
    said = re.sub(r"\s+as\s+\w+", "", said)
    found = re.fullmatch(r"(.*?)\{(.*)\}", said, flags=re.S)
    if not found:
        return [[part for part in re.split(r"\s*::\s*", said.strip()) if part and part != "*"] or ["self"]]
    depth, piece, pieces = 0, "", []
    for sign in found[2]:
        depth += (sign == "{") - (sign == "}")
        if sign == "," and not depth:
            pieces.append(piece)
            piece = ""
        else:
            piece += sign
    return [path for one in [*pieces, piece] if one.strip() for path in _rust_paths(found[1] + one.strip())]
