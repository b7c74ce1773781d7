"""Decoding replayed as CUDA graphs: a token of every sequence is one launch (two where memory lies on the host).

Launching the kernels of a small core one by one takes many times as long as running them (docs/gpu.md). Graphs are
captured as they are needed, one for every doubling of what is looked at, and all of one `Replay` share their memory.
`DSV4_REPLAY` switches it (ops/switches.py); docs/gpu_h200.md has its timings. Without CUDA the very same steps run
unreplayed, for tests. Shape letters: B sequences, V vocabulary, L layers, R rows a token, Y numbers or bytes a row.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dsv4.core.cache import Cache
    from dsv4.core.model import LanguageCore
    from dsv4.core.static import StaticStep

LEAST = 1024  # entries that the shortest graph looks at
KEPT = 2  # replays that are kept, each with a cache of its own


class Steps(Protocol):
    """A cache to read a prompt into, and steps of one token on from there; `begin` stands between."""

    cache: Cache

    def begin(self) -> None: ...

    def step(self, ids_B1: Tensor) -> Tensor: ...


class EagerSteps:
    """Each step as the core does it: the reference."""

    def __init__(self, core: LanguageCore, batch: int, capacity: int, device: torch.device) -> None:
        self.core, self.cache, self.device = core, core.new_cache(batch, capacity), device

    def begin(self) -> None:
        """Nothing to prepare."""

    def step(self, ids_B1: Tensor) -> Tensor:
        """Logits [B, 1, V] after one more token of every sequence."""
        import torch

        with torch.inference_mode():
            return self.core(ids_B1.to(self.device), cache=self.cache, last_only=True).logits_BTV


class _Graph(NamedTuple):
    front: Callable[[], Any]
    back: Callable[[], Any]
    logits: Callable[[], Tensor]


class Replay:
    """Steps over one cache of `batch` sequences and `capacity` tokens; the logits are overwritten by the next step.

    A step that cannot be captured (a part waits for the host, memory is short) says so once in a warning, and this and
    all later ones are eager.
    """

    def __init__(self, core: LanguageCore, batch: int, capacity: int) -> None:
        import torch

        from dsv4.core.static import StaticCache, StaticStep

        device = core.embedding.weight.device
        self.core, self.cache = core, core.new_cache(batch, capacity)
        self.eager, self.cuda = False, device.type == "cuda"
        self._inputs = torch.zeros(1 + batch, dtype=torch.long, device=device)  # the place, then the ids
        self._static = StaticCache(self.cache, self._inputs[:1])
        self._away = AwayRows(core, batch, device)
        self._step = StaticStep(core, self._static, self._away.buffers)
        self._graphs: dict[int, _Graph] = {}
        self._pool = torch.cuda.graph_pool_handle() if self.cuda else None

    def begin(self) -> None:
        """Go on from what was read into `cache`."""
        import torch

        with torch.inference_mode():
            self._static.begin()
            self._away.begin(self.cache)

    def step(self, ids_B1: Tensor) -> Tensor:
        """Logits [B, 1, V] after one more token of every sequence."""
        import torch

        self.cache.check(self.cache.batch, 1)
        place = self.cache.length
        reach = min(self.cache.capacity, max(LEAST, 1 << place.bit_length()))
        with torch.inference_mode():
            if self.eager:
                return self._eagerly(ids_B1)
            try:
                return self._run(reach, place, ids_B1)
            except RuntimeError as error:
                warnings.warn(f"this step is not replayed: {error}", stacklevel=2)
                self.eager, self._graphs = True, {}
                self._static.settle()
                return self._eagerly(ids_B1)

    def _eagerly(self, ids_B1: Tensor) -> Tensor:
        return self.core(ids_B1.to(self._inputs.device), cache=self.cache, last_only=True).logits_BTV

    def _run(self, reach: int, place: int, ids_B1: Tensor) -> Tensor:
        self._inputs[:1].fill_(place)
        self._inputs[1:].copy_(ids_B1[:, 0], non_blocking=True)
        if reach not in self._graphs:
            self._static.reach = reach
            self._away.fetch(ids_B1)
            self._graphs[reach] = _captured(self._step, self._inputs[1:, None], self._pool)
        graph = self._graphs[reach]
        graph.front()
        self._away.fetch(ids_B1)  # on the host, while the card is at the first blocks
        graph.back()
        self._away.seen(ids_B1)
        self.cache.advance(1)
        return graph.logits()


def _captured(step: StaticStep, ids_B1: Tensor, pool: Any) -> _Graph:
    """The two halves of a step, as graphs on CUDA. Doing it once beforehand compiles kernels; it may be done again."""
    import torch

    reach, held = step.cache.reach, {}

    def front() -> None:
        step.cache.reach = reach
        held["given"] = step.front(ids_B1)

    def back() -> None:
        held["logits"] = step.back(*held["given"])

    if ids_B1.device.type != "cuda":
        return _Graph(front, back, lambda: held["logits"])
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            front()
            back()
    torch.cuda.current_stream().wait_stream(stream)
    halves = []
    for work in (front, back) if step.rows else (lambda: (front(), back()),):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            work()
        halves.append(graph.replay)
    logits = held["logits"]
    return _Graph(halves[0], halves[1] if step.rows else _nothing, lambda: logits)


def _nothing() -> None:
    pass


class AwayRows:
    """Rows of Engram's tables that lie on the host: found from ids there, sent through pinned memory to `buffers`."""

    def __init__(self, core: LanguageCore, batch: int, device: torch.device) -> None:
        import torch

        self.core, self.buffers, self.pinned = core, {}, {}
        self._side = self._sent = None
        self._modules = {layer: module for layer, module in core._engrams() if module.table.home != "device"}
        for layer, module in self._modules.items():
            shape = (batch, 1, sum(map(len, module.primes)), module.table.weight.shape[1])
            kind = module.table.weight.dtype
            self.pinned[layer] = torch.zeros(shape, dtype=kind, pin_memory=device.type == "cuda")
            self.buffers[layer] = torch.zeros(shape, dtype=kind, device=device)
        if self._modules:
            self._canonical = core.canonical_ids.cpu()
            self._side = torch.cuda.Stream() if device.type == "cuda" else None
            self._sent = torch.cuda.Event() if device.type == "cuda" else None

    def begin(self, cache: Cache) -> None:
        """Remember the last memory ids of every sequence."""
        import torch

        if self._modules:
            assert cache._memory_ids is not None and self.core.config.engram is not None
            back = self.core.config.engram.max_order - 1
            known_BL = cache._memory_ids.get(slice(max(0, cache.length - back), cache.length))[..., 0].cpu()
            pads = known_BL.new_full((cache.batch, back - known_BL.shape[1]), self.core.pad_id)
            self._before_BL = torch.cat((pads, known_BL), 1)

    def fetch(self, ids_B1: Tensor) -> None:
        """Bring the rows of these tokens; work that is given to the device later finds them there."""
        import torch

        from dsv4.ops.hashing import blocked, ngram_rows

        if not self._modules:
            return
        known_B1 = self._canonical[ids_B1.cpu()]
        shifts = [known_B1, *self._before_BL.flip(1).split(1, 1)]
        if self._sent is not None:
            self._sent.synchronize()  # what was sent last has left the pinned memory
        for layer, module in self._modules.items():
            given = blocked(shifts, self.core.pad_id) if module.part.form == "fused" else shifts
            rows_B1R, _ = ngram_rows(given, module.multipliers, module.primes)
            kept = self.pinned[layer]
            torch.index_select(module.table.weight.detach(), 0, rows_B1R.flatten(), out=kept.view(-1, kept.shape[-1]))
            module.table.meter.rows += rows_B1R.numel()
            module.table.meter.bytes += kept.numel() * kept.element_size()
        self._send()

    def _send(self) -> None:
        import torch

        if self._side is None or self._sent is None:
            for layer, buffer in self.buffers.items():
                buffer.copy_(self.pinned[layer])
            return
        # The step before has read its rows: its logits were looked at to choose these tokens.
        with torch.cuda.stream(self._side):
            for layer, buffer in self.buffers.items():
                buffer.copy_(self.pinned[layer], non_blocking=True)
            self._sent.record()
        torch.cuda.current_stream().wait_event(self._sent)

    def seen(self, ids_B1: Tensor) -> None:
        """These tokens are before the next ones."""
        import torch

        if self._modules:
            self._before_BL = torch.cat((self._before_BL[:, 1:], self._canonical[ids_B1.cpu()]), 1)


class Replays:
    """Replays of one core, kept for the next prompt of as many sequences and about as many tokens."""

    def __init__(self, core: LanguageCore) -> None:
        self.core = core
        self._free: OrderedDict[tuple[int, int], Replay] = OrderedDict()

    @contextmanager
    def steps(self, batch: int, capacity: int) -> Iterator[Steps]:
        """Steps for this many tokens at least; whoever asks meanwhile gets others."""
        size = max(LEAST, 1 << (capacity - 1).bit_length())
        replay = self._free.pop((batch, size), None) or Replay(self.core, batch, size)
        replay.cache.truncate(0)
        try:
            yield replay
        finally:
            self._free[batch, size] = replay
            while len(self._free) > KEPT:
                self._free.popitem(last=False)


def replays_of(core: LanguageCore) -> Replays | None:
    """Replays of a core on CUDA whose kind has static steps; None elsewhere, and where `DSV4_REPLAY=0` says so."""
    from dsv4.core.static import can_be_static
    from dsv4.ops.switches import taken_on

    device = core.embedding.weight.device
    wanted = taken_on(device, "DSV4_REPLAY") and taken_on(device, "DSV4_GROUPED")
    return Replays(core) if wanted and can_be_static(core.config) else None


@contextmanager
def steps_of(
    core: LanguageCore, batch: int, capacity: int, replays: Replays | None, device: torch.device
) -> Iterator[Steps]:
    """Replayed steps where there are `replays`, eager ones on `device` elsewhere."""
    if replays is None:
        yield EagerSteps(core, batch, capacity, device)
        return
    with replays.steps(batch, capacity) as steps:
        yield steps
