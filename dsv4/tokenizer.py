"""Byte-level BPE with named control tokens and a block of SVG tokens at the end of the vocabulary.

Shape letters: V vocabulary. What people type is read as text only: a control string in it stays plain text.
Source: DeepSeek-V3 report §4.1 (byte-level BPE, digits apart); Engram §2.2 (canonical ids by NFKC and case folding).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dsv4.errors import InputError, unknown

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer as Backend

CONTROLS = (
    "<|bos|>",
    "<|eos|>",
    "<|pad|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|image|>",
    "<|svg|>",
    "<|paint|>",
    "<|film|>",
    "<|query|>",
    "<think>",
    "</think>",
    "<|ref|>",
    "<|/ref|>",
    "<|det|>",
    "<|/det|>",
    "<|grounding|>",
)
# Letters with one space before them, each digit alone, runs of signs, and space.
_SPLIT = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


class Tokenizer:
    """A thin wrapper over a `tokenizers` file whose last tokens are `CONTROLS` and then the SVG tokens."""

    def __init__(self, backend: Backend) -> None:
        # Without this the backend would cut control strings out of ordinary text.
        backend.encode_special_tokens = True
        self._backend = backend
        self.vocab_size: int = backend.get_vocab_size()
        added = {token.content: number for number, token in backend.get_added_tokens_decoder().items()}
        missing = [name for name in CONTROLS if name not in added]
        if missing:
            raise InputError(f"not a tokenizer of ours: the control tokens {', '.join(missing)} are missing")
        self._controls = added
        self.svg_offset: int = added[CONTROLS[-1]] + 1
        self.svg_size: int = self.vocab_size - self.svg_offset

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int, svg_tokens: Sequence[str] = ()) -> Tokenizer:
        """Learn merges from texts so that everything together makes at most `vocab_size` tokens.

        Raises InputError when `vocab_size` leaves no room for the 256 bytes.
        """
        from tokenizers import AddedToken, Regex, models, pre_tokenizers, trainers
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders as decode

        room = vocab_size - len(CONTROLS) - len(svg_tokens)
        if room < 256:
            raise InputError(f"a vocabulary of {vocab_size} leaves {room} places for text; at least 256 are needed")
        backend = Backend(models.BPE())
        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_SPLIT), "isolated"), bytes_only])
        backend.decoder = decode.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(vocab_size=room, initial_alphabet=alphabet, show_progress=False)
        backend.train_from_iterator(texts, trainer)
        names = [*CONTROLS, *(f"<s:{name}>" for name in svg_tokens)]
        backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
        return cls(backend)

    @classmethod
    def from_file(cls, path: str | Path) -> Tokenizer:
        """Read a tokenizer.json; InputError when it is missing or not one of ours."""
        from tokenizers import Tokenizer as Backend

        path = Path(path)
        if not path.is_file():
            raise InputError(f"there is no tokenizer at '{path}'; `dsv4 data build` writes one")
        try:
            backend = Backend.from_file(str(path))
        except Exception as error:
            raise InputError(f"'{path}' is not a tokenizer file: {error}") from error
        return cls(backend)

    def save(self, path: str | Path) -> None:
        """Write tokenizer.json, whole or not at all."""
        path = Path(path)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        os.close(handle)
        try:
            self._backend.save(name, pretty=False)
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; control strings in it stay text."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many plain texts, faster than one by one."""
        return [found.ids for found in self._backend.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; control and SVG tokens are left out, broken UTF-8 becomes the replacement character."""
        return self._backend.decode([int(number) for number in ids], skip_special_tokens=True)

    def id_of(self, name: str) -> int:
        """The id of a control token or an SVG token such as `<|svg|>`; InputError names the nearest."""
        if name not in self._controls:
            raise unknown("control token", name, CONTROLS)
        return self._controls[name]

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of the whole vocabulary; data made with one tokenizer fits only models that have the same."""
        return hashlib.blake2b(self._backend.to_str().encode(), digest_size=8).hexdigest()

    @cached_property
    def canonical_ids(self) -> np.ndarray:
        """For each id the first id that reads the same but for case, width and one space before it; int64 [V].

        Control tokens, SVG tokens and pieces of characters stand for themselves.
        """
        import numpy as np

        ids_V = np.arange(self.vocab_size, dtype=np.int64)
        first: dict[str, int] = {}
        for number in range(self.svg_offset - len(CONTROLS)):
            text = self._backend.decode([number], skip_special_tokens=False)
            if "\ufffd" in text:
                continue
            key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
            ids_V[number] = first.setdefault(key[1:] if key[:1] == " " and len(key) > 1 else key, number)
        return ids_V
