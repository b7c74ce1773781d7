"""Judges of the correction: a request is judged as it is read, good ones that change count, made-up ones too."""

from types import SimpleNamespace

import pytest
import torch

from dsv4.data.documents import Documents
from dsv4.eval import spelled
from dsv4.eval.rows import Session
from dsv4.eval.text import cases
from dsv4.spelling import FILE, Corrected, Speller
from dsv4.tokenizer import Tokenizer


class Careful:
    """A core that answers what it was asked, as `asked` (ids of a request, of its answer) says, else with token 0."""

    def __init__(self, asked, vocab_size: int) -> None:
        self.asked, self.vocab_size = {tuple(ids): list(answer) for ids, answer in asked}, vocab_size

    def parameters(self):
        yield torch.zeros(1)

    def __call__(self, ids_BT):
        logits_BTV = torch.zeros(*ids_BT.shape, self.vocab_size)
        for row, ids in enumerate(ids_BT.tolist()):
            known = next((n for n in range(len(ids)) if tuple(ids[:n]) in self.asked), None)
            answer = self.asked[tuple(ids[:known])] if known else []
            for place, token in enumerate(answer):
                logits_BTV[row, known - 1 + place, token] = 1.0
        return SimpleNamespace(logits_BTV=logits_BTV)


class Told:
    """A speller that changes what it is told to."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def correct(self, text: str, drawing: bool = False) -> Corrected:
        changes = tuple((word, "x") for word in self.words if word in text.split())
        return Corrected(text, changes)


def session_of(text_world, speller, core=None, limit=12) -> Session:
    tokenizer = Tokenizer.from_file(text_world / "tokenizer.json")
    model = SimpleNamespace(tokenizer=tokenizer, core=core)
    return Session(studio=SimpleNamespace(model=model, speller=speller), data_dir=text_world, limit=limit)


def test_a_request_with_a_slip_is_judged_as_it_is_read(text_world):
    tokenizer = Tokenizer.from_file(text_world / "tokenizer.json")
    speller = Speller.of((text_world / FILE).read_bytes())
    found = cases(text_world, "mistyped", 12)
    meant = [(spelled.as_read(case, tokenizer, speller), case.answer_ids) for case in found]
    mended = sum(ids != list(case.prompt_ids) for (ids, _), case in zip(meant, found, strict=True))
    assert mended >= len(found) * 0.7, "most slips of the tiny world are found"
    for ids, case in zip((ids for ids, _ in meant), found, strict=True):
        assert (ids[0], ids[1], ids[-1]) == (case.prompt_ids[0], case.prompt_ids[1], case.prompt_ids[-1])
    core = Careful(meant, tokenizer.vocab_size)
    score = spelled.mistyped(session_of(text_world, speller, core))
    assert (score.hits, score.count) == (len(found), len(found))
    as_typed = spelled.mistyped(session_of(text_world, Speller.of(b""), core))
    assert as_typed.hits == len(found) - mended


def test_a_good_request_that_is_changed_counts_against_it(text_world):
    kept = spelled.left_alone(session_of(text_world, Told(), limit=4))
    assert kept.hits == kept.count >= 4 * len(spelled.GOOD) * 0.5
    assert spelled.left_alone(session_of(text_world, Told("icon"), limit=4)).hits < kept.count


def test_only_the_newest_question_is_looked_at(text_world):
    tokenizer = Tokenizer.from_file(text_world / "tokenizer.json")
    of, encode = tokenizer.id_of, tokenizer.encode
    ids = [of("<|bos|>"), of("<|user|>"), *encode("old one"), of("<|assistant|>"), *encode("yes"), of("<|eos|>")]
    ids += [of("<|user|>"), *encode("new one"), of("<|assistant|>")]
    assert spelled.changes_in(ids, tokenizer, Told("old", "yes", "new")) == (("new", "x"),)


@pytest.mark.parametrize(("changed", "hits"), [(0, 10), (1, 9)])
def test_made_up_words_that_are_changed_count_against_it(text_world, changed, hits):
    words = [Documents(text_world, seed=0).nonsense() for _ in range(1)][:changed]
    assert spelled.words_left_alone(session_of(text_world, Told(*words), limit=10)).hits == hits
