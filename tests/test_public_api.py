"""The names and signatures that other people's programs rely on; what changes here goes into CHANGELOG.md."""

from __future__ import annotations

import importlib
import inspect

import pytest

import dsv4

NAMES = ["EchoStudio", "InputError", "Message", "Studio", "document", "image", "load", "repo", "video"]

VERBS = {
    "chat": "(self, prompt, *pictures, mode='tiny', history=(), seed=0, temperature=0.0, max_tokens=160, "
    "correct=True, cancelled=None)",
    "svg": "(self, prompt='', *, picture=None, trace='auto', seed=0, temperature=0.0, max_tokens=1200, candidates=1, "
    "correct=True, on_progress=None, cancelled=None)",
    "image": "(self, prompt, *, seed=0, size=128, steps=8, guidance=None, correct=True, on_progress=None, "
    "cancelled=None)",
    "video": "(self, prompt, *, seconds=2.0, seed=0, steps=8, guidance=None, first_frame=None, after=None, "
    "correct=True, on_progress=None, cancelled=None)",
    "read": "(self, source, *, mode='gundam', pages=(), task='markdown', find='', tiles=None, max_tokens=4096, "
    "on_page=None, cancelled=None)",
    "batch": "(self, jobs, *, out)",
}

FUNCTIONS = {
    "dsv4.load": "(name=None, *, placement=None)",
    "dsv4.messages.image": "(source)",
    "dsv4.messages.document": "(source, *, pages=(), turn=0)",
    "dsv4.messages.video": "(source, *, frames=4)",
    "dsv4.messages.repo": "(source, *, budget=None, ignore=())",
    "dsv4.batch.run_batch": "(studio, jobs, *, out, retry_failed=False, on_row=None, cancelled=None, seed=None, "
    "batch_size=None, backend='local', workers=None, local_files=True)",
    "dsv4.batch.read_rows": "(jobs, *, local_files=True)",
    "dsv4.batch.batch_status": "(out)",
}

FIELDS = {
    "Reply": ["text", "provenance", "thought", "stopped", "usage", "call"],
    "Svg": ["text", "provenance", "raw", "usage"],
    "Picture": ["array", "provenance"],
    "Clip": ["frames", "fps", "provenance"],
    "Progress": ["step", "total", "preview", "text_delta", "usage"],
    "BatchReport": ["done", "failed", "total", "out"],
    "Usage": ["read", "written", "pictures", "cached"],
}


def plain(function) -> str:
    """A signature without its annotations."""
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def test_the_public_names_are_these_and_each_is_there():
    assert dsv4.__all__ == NAMES
    assert all(getattr(dsv4, name) is not None for name in NAMES)
    assert set(NAMES) <= set(dir(dsv4))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Studdio'"):
        _ = dsv4.Studdio


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("studio", ["Studio", "EchoStudio"])
def test_both_studios_have_the_pinned_verbs(studio, verb):
    assert plain(getattr(getattr(dsv4, studio), verb)) == VERBS[verb]


@pytest.mark.parametrize("studio", ["Studio", "EchoStudio"])
def test_both_studios_have_no_other_public_method(studio):
    cls = getattr(dsv4, studio)
    public = {name for name, value in vars(cls).items() if callable(value) and not name.startswith("_")}
    assert public - {"connect", "perform"} == set(VERBS)


def test_the_studio_is_loaded_by_name():
    assert plain(dsv4.Studio.load) == "(name='nano', *, placement=None)"
    assert plain(dsv4.Studio.perform) == "(self, call, *, seed=0, on_progress=None, cancelled=None)"
    assert plain(dsv4.Studio.connect) == "(url, *, model=None, key=None)"


@pytest.mark.parametrize("path", FUNCTIONS)
def test_functions_are_as_pinned(path):
    module, _, name = path.rpartition(".")
    assert plain(getattr(importlib.import_module(module), name)) == FUNCTIONS[path]


@pytest.mark.parametrize("name", FIELDS)
def test_results_hold_the_pinned_fields(name):
    cls = getattr(importlib.import_module("dsv4.results"), name)
    assert list(cls.__dataclass_fields__) == FIELDS[name]
    if "provenance" in FIELDS[name]:
        assert plain(cls.save) == ("(self, path)" if name == "Reply" else "(self, path, *, provenance=True)")


def test_a_chat_is_an_iterator_that_can_be_cancelled():
    from dsv4.results import ChatStream

    assert {"__iter__", "__next__", "cancel", "reply"} <= set(vars(ChatStream))
