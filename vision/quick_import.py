"""Import timm and open_clip without torch's compiler, which they ask for two names: half of the time to the first word.

torchvision wants `torch._dynamo.utils.is_compile_supported` and timm `torch._dynamo.disable`, both for functions that
no encoder calls. While they are imported, stand-ins answer that fetch the real ones when they are called.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

_NAMES = ("torch._dynamo", "torch._dynamo.utils")


@contextlib.contextmanager
def without_compiler() -> Iterator[None]:
    """Within it, imports see the stand-ins; where the compiler is loaded already, nothing changes."""
    if any(name in sys.modules for name in _NAMES):
        yield
        return
    compiler, utils = (ModuleType(name) for name in _NAMES)
    compiler.__path__ = []
    compiler.__dict__.update(utils=utils, disable=_disable)
    utils.__dict__.update(is_compile_supported=_is_compile_supported)
    sys.modules.update(zip(_NAMES, (compiler, utils), strict=True))
    try:
        yield
    finally:
        for name, module in zip(_NAMES, (compiler, utils), strict=True):
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _is_compile_supported(device: Any) -> bool:
    return importlib.import_module("torch._dynamo.utils").is_compile_supported(device)


def _disable(fn: Callable[..., Any] | None = None, *args: Any, **options: Any) -> Any:
    if fn is None:
        return functools.partial(_disable, **options)

    @functools.wraps(fn)
    def called(*values: Any, **named: Any) -> Any:
        return importlib.import_module("torch._dynamo").disable(fn, *args, **options)(*values, **named)

    return called
