"""What a model that talks is told of a conversation, and what becomes of a reply that calls the hands."""

import pytest
from PIL import Image as PilImage

from dsv4 import image
from dsv4.chat_format import TASKS, Call, chat_ids
from dsv4.messages import Message
from dsv4.processor import TURNS, Processor
from dsv4.studio import Studio

HEART = Call(kind="svg", prompt="red heart icon")


@pytest.fixture(scope="module")
def studio() -> Studio:
    """Nano, told that it talks; what it says is put into its mouth by `saying`."""
    made = Studio.load("nano")
    made.model.about["talks"] = True
    made.processor = Processor(made.model.tokenizer, talks=True)
    return made


def saying(studio: Studio, monkeypatch: pytest.MonkeyPatch, ids: list[int]) -> list:
    """Let the model answer with these tokens; returns the list that its constraints are put into."""
    constraints: list = []

    def generate(ready, max_tokens, temperature, seed, constraint, stop, answer):
        constraints.append(constraint)
        yield from ids

    monkeypatch.setattr(studio, "_generate", generate)
    return constraints


def conversation(*turns: tuple[str, str]) -> tuple[Message, ...]:
    return tuple(
        Message.said(role, text) for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)
    )


def test_a_reply_may_call_the_hands_and_is_carried_out(studio, monkeypatch):
    of = studio.model.tokenizer.id_of
    script = [of(TASKS[HEART.kind]), *studio.model.tokenizer.encode(HEART.prompt)]
    closed = saying(studio, monkeypatch, script)
    stream = studio.chat("draw a red heart icon")
    pieces = list(stream)
    assert "".join(pieces) == stream.reply.text == HEART.text and stream.reply.call == HEART
    monkeypatch.undo()
    assert studio.perform(stream.reply.call).text == studio.svg("red heart icon").text
    assert len(closed) == 1


def test_words_that_look_like_a_call_are_words(studio, monkeypatch):
    saying(studio, monkeypatch, studio.model.tokenizer.encode("svg: a kind of file"))
    assert studio.chat("what is svg").reply.call is None


def test_a_thought_may_stand_before_a_call(studio, monkeypatch):
    of, encode = studio.model.tokenizer.id_of, studio.model.tokenizer.encode
    script = [of("<think>"), *encode("A tiger."), of("</think>"), of("<|paint|>"), *encode("a tiger")]
    saying(studio, monkeypatch, script)
    reply = studio.chat("paint this").reply
    assert reply.thought == "A tiger." and reply.call == Call(kind="image", prompt="a tiger")


def test_the_turns_before_are_told_as_they_were_trained(studio):
    tokenizer = studio.model.tokenizer
    turns = [("draw a heart icon", "svg: heart icon"), ("thanks", "You are welcome.")]
    given = studio.processor.chat("now make it red", (), mode="tiny", history=conversation(*turns))
    assert given.token_ids_BT[0].tolist() == chat_ids(tokenizer, "now make it red", history=turns)
    many = [(f"What is {number}?", f"{number}.") for number in range(20)]
    given = studio.processor.chat("and now?", (), mode="tiny", history=conversation(*many))
    assert given.token_ids_BT[0].tolist() == chat_ids(tokenizer, "and now?", history=many[-TURNS:])


def test_a_picture_stays_before_the_question_that_it_came_with(studio):
    shown = image(PilImage.new("RGB", (64, 64), "red"))
    history = (
        *conversation(("hello", "Hello!")),
        Message.said("user", "what is this?", shown),
        Message.said("assistant", "A red square."),
    )
    given = studio.processor.chat("where is it?", (), mode="tiny", history=history)
    turns = [("what is this?", "A red square.")]
    wanted = chat_ids(
        studio.model.tokenizer, "where is it?", image_tokens=(given.views[0].tokens,), history=turns, shown_at=0
    )
    assert given.token_ids_BT[0].tolist() == wanted and given.image_spans[0][0] == 2
    again = studio.processor.chat("and this?", (shown,), mode="tiny", history=history)
    assert again.token_ids_BT[0].tolist() == chat_ids(
        studio.model.tokenizer, "and this?", image_tokens=(again.views[0].tokens,)
    )


def test_what_the_hands_made_is_known_by_its_words_and_not_looked_at(studio):
    made = image(PilImage.new("RGB", (64, 64), "red"))
    history = (Message.said("user", "paint a tiger"), Message.said("assistant", "image: a tiger", made))
    given = studio.processor.chat("let it spin", (), mode="tiny", history=history)
    assert not given.views
    older = Processor(studio.model.tokenizer).chat("let it spin", (), mode="tiny", history=history)
    assert len(older.views) == 1  # a model that was not taught to talk looks at it instead
    assert older.token_ids_BT[0].tolist() == chat_ids(
        studio.model.tokenizer, "let it spin", image_tokens=(older.views[0].tokens,)
    )
