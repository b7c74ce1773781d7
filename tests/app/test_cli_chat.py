"""`dsv4 chat` with a file of questions, and with a file for what the answer makes."""

import pytest

from app.cli import main
from app.commands import make
from app.commands.turns import read_turns
from dsv4 import EchoStudio
from dsv4.chat_format import Call
from dsv4.results import ChatStream, Reply
from tests.app.studios import Calling
from tests.conftest import ROOT


@pytest.fixture
def calling(monkeypatch) -> None:
    """A model that draws what it is asked to draw."""
    monkeypatch.setattr(make, "_load", lambda args: Calling())


def test_a_conversation_from_a_file_is_printed_and_what_it_makes_is_kept(calling, tmp_path, capsys):
    (tmp_path / "asked.txt").write_text("hello\n\ndraw a tiger\n")
    assert main(["chat", "--turns", str(tmp_path / "asked.txt"), "-o", str(tmp_path / "made")]) == 0
    said = capsys.readouterr().out
    assert "1. **hello**" in said and "2. **draw a tiger**\n   svg: a tiger" in said
    assert (tmp_path / "made" / "02.svg").read_text().startswith("<svg")


def test_the_transcript_is_what_was_printed_with_headings_and_what_was_made(calling, tmp_path, capsys):
    (tmp_path / "asked.txt").write_text("# Greetings\nhello\n# Drawings\n\ndraw a <b>\n")
    assert main(["chat", "--turns", str(tmp_path / "asked.txt"), "-o", str(tmp_path / "made")]) == 0
    said = capsys.readouterr().out
    written = (tmp_path / "made" / "transcript.md").read_text()
    assert written == said and written.startswith("**Greetings**\n\n1. **hello**\n   ")
    assert "\n\n**Drawings**\n\n2. **draw a <b>**" in written
    assert '[<img src="02.png" width="128" alt="svg: a &lt;b&gt;">](02.svg)' in written
    assert (tmp_path / "made" / "02.png").read_bytes()[1:4] == b"PNG"


def test_a_clip_is_kept_as_mp4_and_shown_as_gif(monkeypatch, tmp_path):
    class Filming(Calling):
        def chat(self, prompt, *pictures, **settings):
            call = Call(kind="video", prompt="a ball")
            reply = Reply(text=call.text, provenance={}, call=call)
            return ChatStream(lambda stop: iter([call.text]), lambda text, stopped: reply)

    (tmp_path / "asked.txt").write_text("a ball please\n")
    monkeypatch.setattr(make, "_load", lambda args: Filming())
    assert main(["chat", "--turns", str(tmp_path / "asked.txt"), "-o", str(tmp_path)]) == 0
    assert '<img src="01.gif" width="128" alt="video: a ball">](01.mp4)' in (tmp_path / "transcript.md").read_text()
    assert (tmp_path / "01.gif").read_bytes()[:3] == b"GIF" and (tmp_path / "01.mp4").stat().st_size > 0


def test_the_questions_of_the_documents_are_twenty_over_five_themes():
    lines = read_turns(str(ROOT / "docs" / "turns.txt"))
    headings = [number for number, line in enumerate(lines) if line.startswith("# ")]
    assert headings == [0, 5, 10, 15, 20] and len(lines) == 25


def test_every_turn_is_told_what_was_said_before(monkeypatch, tmp_path, capsys):
    seen = []

    class Listening(EchoStudio):
        def chat(self, prompt, *pictures, **settings):
            seen.append([message.text for message in settings["history"]])
            return super().chat(prompt, *pictures, **settings)

    monkeypatch.setattr(make, "_load", lambda args: Listening())
    (tmp_path / "asked.txt").write_text("one\ntwo\nthree\n")
    assert main(["chat", "--turns", str(tmp_path / "asked.txt")]) == 0
    assert [len(before) for before in seen] == [0, 2, 4] and seen[2][0] == "one"
    assert capsys.readouterr().out.count("**") == 6


def test_what_a_reply_asks_the_hands_for_is_written_to_the_file(calling, tmp_path, capsys):
    assert main(["chat", "draw a tiger", "-o", str(tmp_path / "tiger.svg")]) == 0
    assert (tmp_path / "tiger.svg").read_text().startswith("<svg")
    assert main(["chat", "draw a tiger", "-o", str(tmp_path / "tiger.txt")]) == 0
    assert (tmp_path / "tiger.txt").read_text() == "svg: a tiger\n"
    assert main(["chat", "draw a tiger", "-o", str(tmp_path / "tiger.mp4")]) == 2
    assert "mp4" in capsys.readouterr().err
    assert main(["chat", "hello", "-o", str(tmp_path / "hello.svg")]) == 2  # it was answered in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--turns", "nowhere.txt"], "cannot read"),
        (["hello", "--turns", "asked.txt"], "takes no prompt"),
        (["--turns", "asked.txt", "--json"], "takes no json"),
        (["hello", "-o", "answer.docx"], "unknown answer format"),
        ([], "empty"),
    ],
)
def test_what_does_not_go_together_is_said(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "asked.txt").write_text("hello\n")
    assert main(["chat", *arguments, "--model", "echo"]) == 2
    assert words in capsys.readouterr().err
