"""Imports and definitions of languages besides Python, by their tree-sitter grammars.

The grammars are wheels of their own (`pip install 'dsv4-studio[repo]'`); without one, files of its language are packed
without edges, and a note says so. Source: tree-sitter's query language, and each grammar's node types.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from dsv4.repository.facts import Facts, Import, Symbol

_SCRIPT = """
(import_statement source: (string) @import)
(export_statement source: (string) @import)
(call_expression function: (import) arguments: (arguments . (string) @import))
((call_expression function: (identifier) @_f arguments: (arguments . (string) @import)) (#eq? @_f "require"))
(function_declaration) @def
(generator_function_declaration) @def
(class_declaration) @def
(method_definition) @def
(program (lexical_declaration) @def)
(export_statement (lexical_declaration) @def)
"""
_TYPED = (
    _SCRIPT + "(interface_declaration) @def (type_alias_declaration) @def (enum_declaration) @def "
    "(abstract_class_declaration) @def"
)
_C = "(preproc_include path: (_) @import) (function_definition) @def (struct_specifier body: (_)) @def "
_C += "(enum_specifier body: (_)) @def (type_definition) @def"
# Module of the wheel, the function that gives the language, and the query.
GRAMMARS: dict[str, tuple[str, str, str]] = {
    "javascript": ("tree_sitter_javascript", "language", _SCRIPT),
    "typescript": ("tree_sitter_typescript", "language_typescript", _TYPED),
    "tsx": ("tree_sitter_typescript", "language_tsx", _TYPED),
    "go": (
        "tree_sitter_go", "language",
        "(import_spec path: (_) @import) (function_declaration) @def (method_declaration) @def (type_spec) @def",
    ),
    "rust": (
        "tree_sitter_rust", "language",
        "(use_declaration argument: (_) @import) (mod_item !body) @mod (function_item) @def (struct_item) @def "
        "(enum_item) @def (trait_item) @def (impl_item) @def (mod_item body: (_)) @def (type_item) @def",
    ),
    "java": (
        "tree_sitter_java", "language",
        "(import_declaration) @import (package_declaration) @package (class_declaration) @def "
        "(interface_declaration) @def (enum_declaration) @def (record_declaration) @def (method_declaration) @def "
        "(constructor_declaration) @def",
    ),
    "c": ("tree_sitter_c", "language", _C),
    "cpp": ("tree_sitter_cpp", "language", _C + "(class_specifier body: (_)) @def"),
}  # fmt: skip


@cache
def _grammar(language: str) -> Any:
    """(parser, query), or None when the wheel is not installed."""
    module, function, query = GRAMMARS[language]
    try:
        from tree_sitter import Language, Parser, Query

        spoken = Language(getattr(import_module(module), function)())
    except ImportError:
        return None
    return Parser(spoken), Query(spoken, query)


def grammar_facts(text: str, language: str) -> Facts:
    """Imports as they are written, without quotes or brackets, and definitions; the errors in a file are skipped."""
    found = _grammar(language)
    if found is None:
        return Facts(trouble=f"no grammar for {language}: pip install 'dsv4-studio[repo]'")
    from tree_sitter import QueryCursor

    parser, query = found
    source = text.encode()
    tree = parser.parse(source)
    nodes = QueryCursor(query).captures(tree.root_node)
    imports = [_import(node) for node in nodes.get("import", ())]
    imports += [Import(module=f"mod {_name(node)}", line=_line(node)) for node in nodes.get("mod", ())]
    symbols = [_symbol(node) for node in nodes.get("def", ()) if _is_definition(node)]
    package = [_words(node).removeprefix("package").strip(" ;\n") for node in nodes.get("package", ())]
    return Facts(
        imports=tuple(sorted(imports, key=lambda one: (one.line, one.module))),
        symbols=tuple(sorted(symbols, key=lambda one: (one.first, -one.last, one.name))),
        package=package[0] if package else "",
    )


def _import(node: Any) -> Import:
    words = _words(node).removeprefix("import").strip(" ;\n\"'`")
    return Import(module=words if words.startswith("<") else words.strip('"'), line=_line(node))


def _is_definition(node: Any) -> bool:
    """`const f = () => ...` defines a function; `const fs = require(...)` does not."""
    if node.type != "lexical_declaration":
        return True
    values = [child.child_by_field_name("value") for child in node.named_children]
    return any(value is not None and value.type in ("arrow_function", "function_expression") for value in values)


def _symbol(node: Any) -> Symbol:
    first, last = _line(node), node.end_point[0] + 1
    body = node.child_by_field_name("body")
    head = body.start_point[0] + 1 if body is not None else min(last, first + 5)
    if node.type == "lexical_declaration":
        head = first
    return Symbol(name=_name(node), first=first, head=min(head, last), last=last)


def _name(node: Any) -> str:
    for _ in range(8):
        fields = (node.child_by_field_name(field) for field in ("name", "declarator", "type"))
        found = next((child for child in fields if child is not None), None)
        if found is None:
            declared = [child for child in node.named_children if child.type == "variable_declarator"]
            if not declared:
                break
            found = declared[0]
        node = found
    return _words(node)[:80].split("\n")[0]


def _line(node: Any) -> int:
    return node.start_point[0] + 1


def _words(node: Any) -> str:
    return node.text.decode("utf-8", errors="replace")
