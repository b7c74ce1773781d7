"""Where the parts of a model are to lie, and what parts that lie elsewhere have cost: words and numbers, no weights."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsv4.errors import InputError, unknown

if TYPE_CHECKING:
    from pathlib import Path

    from dsv4.core.model import LanguageCore

EXPERTS = ("resident", "host", "mapped")
ENGRAM = ("device", "host", "mapped")
WEIGHTS = ("open", "packed")
PLENTY = 1 << 62


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Homes for the parts of a core; InputError for unknown ones.

    experts: resident, host (with a hot cache where they are computed), or mapped from their files. memory: bytes of
    that cache, or with mapped all that the process may take; 0 is no limit. engram: device, host, or mapped. weights:
    open packed weights when they are loaded, or compute from them as they are.
    """

    experts: str = "resident"
    memory: int = 0
    engram: str = "device"
    weights: str = "open"

    def __post_init__(self) -> None:
        checked = (("home for experts", self.experts, EXPERTS), ("home for Engram", self.engram, ENGRAM),
                   ("form of weights", self.weights, WEIGHTS))  # fmt: skip
        for what, value, allowed in checked:
            if value not in allowed:
                raise unknown(what, value, allowed)
        if self.memory < 0:
            raise InputError(f"memory is a number of bytes from 0, got {self.memory}")

    @property
    def usual(self) -> bool:
        """Whether everything lies where it does when nothing is said."""
        return self == Placement()


def check_can_be_placed(name: str) -> None:
    """InputError for a name whose weights are not here, or not in a folder of ours."""
    from pathlib import Path

    if name == "echo" or name.startswith(("http://", "https://")):
        raise InputError(f"'{name}' has no weights here, so there is nothing to place")
    if (Path(name) / "config.json").is_file() and not (Path(name) / "model.json").is_file():
        raise InputError(f"{name} is no folder of the studio's own models; see `dsv4.checkpoint.placed.load_placed`")


def load_at(folder: Path, placement: Placement) -> LanguageCore:
    """The core of a checkpoint folder with its parts where they are to lie, for use in float32 where that can be."""
    import torch

    from dsv4.checkpoint.placed import load_placed
    from dsv4.checkpoint.pretrained import load_core

    if placement.experts == "resident":
        core = load_core(folder, dtype=torch.float32, packed=placement.weights == "packed")
    else:
        memory = placement.memory or PLENTY
        core = load_placed(folder, experts=placement.experts, memory=memory, dtype=torch.float32).core
    put_memory(core, placement.engram)
    return core


def place(core: LanguageCore, placement: Placement) -> None:
    """Move the parts of a core that was loaded whole. InputError for what only files can give."""
    from dsv4.checkpoint.placed import put_on_host

    if placement.experts == "mapped" or placement.weights == "packed":
        raise InputError(
            "this model keeps its core in one piece: its experts cannot be mapped nor stay packed. Write it by "
            "`dsv4 quantize MODEL -o FOLDER --tier q8 --method round`, and use that folder"
        )
    if placement.experts == "host":
        put_on_host(core, placement.memory or PLENTY)
    put_memory(core, placement.engram)


def put_memory(core: LanguageCore, home: str) -> None:
    """Move Engram's rows; files of mapped ones go when the core does."""
    if core.config.engram is None or home == "device":
        return
    if home == "mapped":
        folder = tempfile.TemporaryDirectory(prefix="dsv4-rows-")
        core.place_memory("mapped", folder.name)
        core.__dict__["_rows_folder"] = folder
    else:
        core.place_memory(home)


def meters(core: LanguageCore) -> dict[str, dict[str, Any]]:
    """What experts and rows that lie elsewhere have cost so far; empty where everything is resident."""
    from dsv4.core.memory import MemoryTable
    from dsv4.core.placed import HereStore, HostStore, PlacedExperts

    found: dict[str, dict[str, Any]] = {}
    for module in core.modules():
        if isinstance(module, PlacedExperts) and not isinstance(module.store, HereStore):
            meter = module.store.meter  # one for all layers
            found["experts"] = {
                "home": "host" if isinstance(module.store, HostStore) else "mapped", "used": meter.used,
                "hits": meter.hits, "bytes_fetched": meter.bytes_fetched, "waited": meter.waited,
            }  # fmt: skip
        if isinstance(module, MemoryTable) and module.home != "device":
            before = found.get("engram", {"rows": 0, "bytes_fetched": 0, "waited": 0.0})
            found["engram"] = {
                "home": module.home, "rows": before["rows"] + module.meter.rows,
                "bytes_fetched": before["bytes_fetched"] + module.meter.bytes,
                "waited": before["waited"] + module.meter.waited,
            }  # fmt: skip
    return found
