"""Prompts that begin alike are read once: whole snapshots at fixed places, in memory and on disk within budgets.

A prompt is always read in the same pieces, which follow from its tokens alone: up to the end of each turn, and at most
`every` tokens. So going on from a snapshot does the very operations that a cold reading does, and gives the same bits.
Shape letters: B batch (1), T tokens, D hidden, V vocabulary.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dsv4.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from dsv4.core.cache import Cache
    from dsv4.core.model import LanguageCore
    from dsv4.engine.generate import Prompt

EVERY = 512
RAM = 256_000_000
DISK = 2_000_000_000
LOGITS = "logits"


@dataclass(kw_only=True)
class Meter:
    """Tokens of prompts so far, how many of them were not read again, and what is held."""

    asked: int = 0
    reused: int = 0
    prompts: int = 0
    hits: int = 0
    ram: int = 0
    disk: int = 0

    @property
    def rate(self) -> float:
        """Share of prompt tokens that came from a snapshot."""
        return self.reused / max(1, self.asked)


class PrefixCache:
    """Snapshots of one model by everything that was read before them.

    fingerprint: of model, quantisation and tokenizer; another one never hits. closers: token ids that end a turn.
    runs: ids that stand many times in a row, as a picture's places do; the end of a run is kept too.
    folder: where snapshots also go on disk, to be found by the next process. ram, disk: bytes, oldest out first.
    """

    def __init__(
        self,
        fingerprint: str,
        *,
        closers: frozenset[int] = frozenset(),
        runs: frozenset[int] = frozenset(),
        every: int = EVERY,
        ram: int = RAM,
        folder: Path | str | None = None,
        disk: int = DISK,
    ) -> None:
        if every < 1 or ram < 0 or disk < 0:
            raise InputError(f"every must be at least 1 and budgets at least 0, got {every}, {ram} and {disk}")
        self.fingerprint, self.closers, self.runs, self.every = fingerprint, closers, runs, every
        self.ram, self.disk = ram, disk
        self.folder = None if folder is None else Path(folder)
        self.meter = Meter()
        self._held: OrderedDict[str, dict[str, Tensor]] = OrderedDict()
        self._lock = threading.Lock()
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._shrink_disk()

    def read(self, core: LanguageCore, prompt: Prompt, cache: Cache) -> tuple[Tensor, int]:
        """Read a prompt into an empty cache; the logits [1, 1, V] after it, and how many tokens were not read again."""
        import torch

        from dsv4.core.snapshot import put_back, take

        keys, ends = contents(prompt), self.pieces(prompt.token_ids_BT[0].tolist())
        names = [self._name(core, cache, keys[:end]) for end in ends]
        reused, logits = 0, None
        for end, name in zip(reversed(ends), reversed(names), strict=True):
            found = self._find(name)
            if found is not None:
                logits = found[LOGITS].to(prompt.token_ids_BT.device)
                held = {key: tensor.to(cache._device) for key, tensor in found.items() if key != LOGITS}
                put_back(cache, held, end)
                reused = end
                break
        start = reused
        for end, name in zip(ends, names, strict=True):
            if end <= reused:
                continue
            ids_BT, embeds_BTD, memory_BT = (
                None if part is None else part[:, start:end]
                for part in (prompt.token_ids_BT, prompt.embeds_BTD, prompt.memory_ids_BT)
            )
            with torch.inference_mode():
                output = core(ids_BT, cache=cache, embeds_BTD=embeds_BTD, memory_ids_BT=memory_BT, last_only=True)
                logits = output.logits_BTV.clone()
                self._keep(name, {**take(cache), LOGITS: logits})
            start = end
        assert logits is not None
        with self._lock:
            self.meter.prompts += 1
            self.meter.hits += reused > 0
            self.meter.asked += ends[-1]
            self.meter.reused += reused
        return logits, reused

    def pieces(self, ids: list[int]) -> list[int]:
        """Where a prompt is cut: behind a token that ends a turn, a run, `every` tokens without these, and its end.

        Cuts of a prompt are also cuts of every longer one that begins with it, except its end where none of these is.
        """
        ends: list[int] = []
        last = 0
        for place, token in enumerate(ids, start=1):
            run = token in self.runs and ids[place : place + 1] != [token]
            if token in self.closers or run or place - last == self.every or place == len(ids):
                ends.append(place)
                last = place
        return ends

    def _name(self, core: LanguageCore, cache: Cache, keys_T: np.ndarray) -> str:
        kind = [self.fingerprint, str(core.embedding.weight.dtype), cache.rewind, str(cache._form), core.sparse]
        kind += [core._memory_open, [engram.table.packed for _, engram in core._engrams()]]
        kind.append([str(rows.dtype) for rows in cache._index_keys if rows is not None])
        return hashlib.sha256(repr(kind).encode() + keys_T.tobytes()).hexdigest()

    def _find(self, name: str) -> dict[str, Tensor] | None:
        with self._lock:
            if name in self._held:
                self._held.move_to_end(name)
                return self._held[name]
        path = None if self.folder is None else self.folder / f"{name}.safetensors"
        if path is None or not path.is_file():
            return None
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            found = load_file(path)
            os.utime(path)  # the oldest use goes first
        except (OSError, SafetensorError):  # another process let go of it, or it is broken: read the prompt instead
            return None
        self._hold(name, found)
        return found

    def _keep(self, name: str, held: dict[str, Tensor]) -> None:
        held = {key: tensor.detach().cpu().clone() for key, tensor in held.items()}
        self._hold(name, held)
        if self.folder is None or _bytes(held) > self.disk:
            return
        from safetensors.torch import save_file

        beside = self.folder / f"{name}.{os.getpid()}.{threading.get_ident()}.tmp"
        save_file(held, beside)
        os.replace(beside, self.folder / f"{name}.safetensors")
        self._shrink_disk()

    def _hold(self, name: str, held: dict[str, Tensor]) -> None:
        with self._lock:
            self._held[name] = held
            self._held.move_to_end(name)
            self.meter.ram = sum(map(_bytes, self._held.values()))
            while self.meter.ram > self.ram:
                self.meter.ram -= _bytes(self._held.popitem(last=False)[1])

    def _shrink_disk(self) -> None:
        assert self.folder is not None
        found = []
        for path in self.folder.glob("*.safetensors"):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            found.append((stat.st_mtime_ns, stat.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.disk:
                break
            path.unlink(missing_ok=True)
            total -= size
        self.meter.disk = total


def contents(prompt: Prompt) -> np.ndarray:
    """Eight bytes a place that say what stands there: the token, or the picture's features where memory is closed."""
    keys_T = prompt.token_ids_BT[0].cpu().numpy().astype(np.int64)
    if prompt.embeds_BTD is None:
        return keys_T
    seen_T = prompt.memory_ids_BT[0].cpu() < 0 if prompt.memory_ids_BT is not None else None
    rows = prompt.embeds_BTD[0].float().cpu().numpy()
    keys_T = keys_T.copy()
    for place in range(len(keys_T)) if seen_T is None else seen_T.nonzero()[:, 0].tolist():
        digest = hashlib.blake2b(rows[place].tobytes(), digest_size=8).digest()
        keys_T[place] = int.from_bytes(digest, "little", signed=True)
    return keys_T


def _bytes(held: dict[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in held.values())
