"""`dsv4 completion`: the line that a shell needs, and the words that it asks for at every Tab."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from dsv4.errors import unknown

SCRIPTS = {
    "bash": """\
_dsv4() {
    local IFS=$'\\n'
    COMPREPLY=($(dsv4 completion --words "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _dsv4 dsv4
""",
    "zsh": """\
_dsv4() {
    local -a found=("${(@f)$(dsv4 completion --words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    [[ -n "$found" ]] && compadd -- $found || _files
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _dsv4 dsv4
""",
    "fish": """\
complete -c dsv4 -a '(dsv4 completion --words (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
""",
}


def completion(args: argparse.Namespace) -> int:
    """Print the script of a shell, or, for that script, what may come next."""
    if args.words is not None:
        from ..cli import build_parser

        print("\n".join(next_words(build_parser(), args.words or [""])))
        return 0
    shell = args.shell or Path(os.environ.get("SHELL", "bash")).name
    if shell not in SCRIPTS:
        raise unknown("shell", shell, SCRIPTS)
    print(SCRIPTS[shell], end="")
    return 0


def next_words(parser: argparse.ArgumentParser, words: list[str]) -> list[str]:
    """What the last of `words` can become: commands, or flags once it begins with a dash; empty where files may be."""
    *before, last = words
    for word in before:
        commands = _commands(parser)
        if word in commands:
            parser = commands[word]
    if last.startswith("-"):
        shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
        found = [flag for action in shown for flag in action.option_strings]
        return sorted(flag for flag in found if flag.startswith(last) and (flag.startswith("--") or len(last) < 2))
    return [name for name in _commands(parser) if name.startswith(last)]


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}
