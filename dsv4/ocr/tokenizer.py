"""The tokenizer of a released OCR model, from its `tokenizer.json`; what people type never becomes a control token."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsv4.errors import InputError, unknown

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

IMAGE, GROUNDING = "<image>", "<|grounding|>"
NEEDED = (IMAGE, GROUNDING, "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>")
TABLE_TAGS = ("<td>", "</td>", "<tr>", "</tr>")
# Released files name these two with full-width bars; configurations without them use the numbers 0 and 1.
_BEGIN, _END = "<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>"


class ReleasedTokenizer:
    """A thin wrapper over `tokenizers`: text to ids, ids to text with the marks of boxes kept, control ids by name."""

    def __init__(self, backend: Backend, *, bos: int, eos: int) -> None:
        backend.encode_special_tokens = True  # otherwise control strings would be cut out of ordinary text
        self._backend, self.bos, self.eos = backend, bos, eos
        self.vocab_size: int = backend.get_vocab_size()
        missing = [name for name in NEEDED if backend.token_to_id(name) is None]
        if missing:
            raise InputError(f"not the tokenizer of an OCR model: the tokens {', '.join(missing)} are missing")
        self._hidden = frozenset((bos, eos, self.id_of(IMAGE)))

    @classmethod
    def from_folder(cls, folder: str | Path) -> ReleasedTokenizer:
        """Read `tokenizer.json`, and first and last token from `config.json`; InputError when that cannot be done."""
        from tokenizers import Tokenizer

        path = Path(folder) / "tokenizer.json"
        if not path.is_file():
            raise InputError(f"there is no tokenizer.json in '{folder}'")
        try:
            backend = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more exact
            raise InputError(f"'{path}' is not a tokenizer that can be read: {error}") from error
        ends = [_end(backend, name, number, Path(folder), key) for name, number, key in _ENDS]
        return cls(backend, bos=ends[0], eos=ends[1])

    def id_of(self, name: str) -> int:
        """The id of a control token; raises InputError that names the nearest."""
        found = self._backend.token_to_id(name)
        if found is None:
            raise unknown("control token", name, (*NEEDED, *TABLE_TAGS))
        return found

    def ids_of(self, names: Sequence[str]) -> list[int]:
        """The ids of those of `names` that this tokenizer has."""
        return [found for name in names if (found := self._backend.token_to_id(name)) is not None]

    def encode(self, text: str) -> list[int]:
        """Ids of ordinary text."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids: marks of boxes and table tags are kept; first, last and picture tokens are left out."""
        return self._backend.decode([number for number in ids if number not in self._hidden], skip_special_tokens=False)


_ENDS = ((_BEGIN, 0, "bos_token_id"), (_END, 1, "eos_token_id"))


def _end(backend: Backend, name: str, number: int, folder: Path, key: str) -> int:
    settings: dict[str, Any] = {}
    path = folder / "config.json"
    if path.is_file():
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"'{path}' is not JSON: {error}") from error
    told = settings.get(key) if isinstance(settings, dict) else None
    if isinstance(told, int):
        return told
    found = backend.token_to_id(name)
    return number if found is None else found
