"""The whole way of an OCR model on a tiny checkpoint in the released layout: page in, markdown and boxes out."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import types

import pytest
import torch
from PIL import Image, ImageDraw
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

import dsv4
from app.cli import main
from dsv4 import InputError, document, image
from dsv4.core import presets
from dsv4.core.model import LanguageCore
from dsv4.ocr.model import PROMPTS, OcrModel
from dsv4.ocr.tokenizer import NEEDED, TABLE_TAGS, ReleasedTokenizer
from tests import ocr_layout
from vision import get_mode

WIDTH = 64  # of the micro core


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tiny eyes with random weights, a byte-level tokenizer with the released control tokens, and a language part."""
    eyes = dataclasses.replace(ocr_layout.TINY_EYES, out_dim=WIDTH)
    language = dataclasses.replace(ocr_layout.TINY_LANGUAGE, width=WIDTH)
    tensors = ocr_layout.random_tensors(ocr_layout.manifest(eyes, language))
    path = ocr_layout.write(tmp_path_factory.mktemp("ocr"), tensors, settings={"bos_token_id": 0, "eos_token_id": 1})
    backend().save(str(path / "tokenizer.json"))
    return path


def backend() -> Tokenizer:
    ends = ["<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={name: n for n, name in enumerate([*ends, *letters])}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in (*ends, *NEEDED)])
    made.add_tokens([AddedToken(name, normalized=False) for name in TABLE_TAGS])
    return made


class ScriptedCore(torch.nn.Module):
    """Writes given tokens; reads as a core does, and remembers what it was given."""

    def __init__(self, vocab_size: int, script: list[int]) -> None:
        super().__init__()
        self.config = types.SimpleNamespace(vocab_size=vocab_size)
        self.table = torch.nn.Embedding(vocab_size, WIDTH).requires_grad_(False)
        self.script, self.place, self.seen = script, 0, []

    def embed(self, ids):
        return self.table(ids)

    def new_cache(self, batch, capacity):
        return None

    def forward(self, ids, *, cache=None, embeds_BTD=None, memory_ids_BT=None, last_only=False):
        if embeds_BTD is not None:
            self.place = 0
            self.seen.append((ids, embeds_BTD, memory_ids_BT))
        logits = torch.zeros(1, 1, self.config.vocab_size)
        logits[0, 0, self.script[self.place % len(self.script)]] = 1
        self.place += 1
        return types.SimpleNamespace(logits_BTV=logits)


def scripted(folder, *pieces: str | int) -> OcrModel:
    """A model that writes these pieces: text, or the name of a control token."""
    tokenizer = ReleasedTokenizer.from_folder(folder)
    script: list[int] = []
    for piece in pieces:
        is_control = isinstance(piece, str) and piece in (*NEEDED, *TABLE_TAGS)
        script += [piece] if isinstance(piece, int) else [tokenizer.id_of(piece)] if is_control else []
        script += tokenizer.encode(piece) if isinstance(piece, str) and not is_control else []
    return OcrModel.from_folder(folder, core=ScriptedCore(tokenizer.vocab_size, script))


def boxed(label: str, numbers: str) -> list[str]:
    return ["<|ref|>", label, "<|/ref|>", "<|det|>", numbers, "<|/det|>"]


@pytest.fixture
def paper(tmp_path):
    pages = [Image.new("RGB", (60, 80), colour) for colour in ("white", "red")]
    pages[0].save(tmp_path / "paper.pdf", save_all=True, append_images=pages[1:])
    return document(tmp_path / "paper.pdf")


def test_a_document_becomes_markdown_with_boxes(folder, paper):
    model = scripted(folder, *boxed("title", "[[10, 20, 500, 60]]"), "\n# Über\n\n| a |", "<td>", "x", "</td>", 1)
    stream = model.read(paper, mode="tiny")
    streamed = "".join(stream)
    reading = stream.reading
    assert [page.text for page in reading.pages] == ["# Über\n\n| a |<td>x</td>"] * 2
    assert streamed.count("# Über") == 2 and "<|" not in streamed
    (box,) = reading.pages[1].boxes
    assert (box.label, box.left, box.bottom) == ("title", 10, 60)
    assert not reading.warnings and reading.pages[0].usage.pictures == 73


def test_features_stand_where_the_picture_is_and_nowhere_else(folder):
    model = scripted(folder, 1)
    picture = Image.effect_noise((64, 64), 90).convert("RGB")
    model.read(image(picture), mode="tiny").reading  # noqa: B018 (reads)
    ids, embeds, memory = model.core.seen[0]
    picture_id = model.tokenizer.id_of("<image>")
    assert ids[0, 0] == 0 and (ids[0, 1:74] == picture_id).all() and (ids[0, 74:] != picture_id).all()
    given = model.input(picture, get_mode("tiny"), task="markdown")
    with torch.inference_mode():
        torch.testing.assert_close(embeds[0, 1:74], model.eyes(given.views[0]))
    torch.testing.assert_close(embeds[0, 74:], model.core.embed(ids)[0, 74:])
    assert (memory[0, 1:74] == -1).all() and (memory[0, 74:] == ids[0, 74:]).all()


@pytest.mark.parametrize("task", PROMPTS)
def test_prompts_are_the_published_ones(folder, task):
    published = {
        "markdown": "\n<|grounding|>Convert the document to markdown.",
        "ocr": "\n<|grounding|>OCR this image.",
        "text": "\nFree OCR.",
        "figure": "\nParse the figure.",
        "describe": "\nDescribe this image in detail.",
        "locate": "\nLocate <|ref|>the sum<|/ref|> in the image.",
    }
    model = scripted(folder, 1)
    splitting = backend()  # one that does cut control tokens out of text, as the published program does
    wanted = splitting.encode(published[task], add_special_tokens=False).ids
    assert model.words(task, "the sum" if task == "locate" else "") == wanted


def test_what_is_looked_for_never_becomes_a_control_token(folder):
    model = scripted(folder, 1)
    ids = model.words("locate", "<image> <|/ref|>")
    assert model.tokenizer.id_of("<image>") not in ids
    assert ids.count(model.tokenizer.id_of("<|/ref|>")) == 1


def test_a_loop_ends_the_page_and_keeps_it_with_a_warning(folder, paper):
    """Tags of tables are exempt from the ban on repetition, as published: rows of them are where models loop."""
    model = scripted(folder, "start ", *["<tr>", "<td>", "</td>", "</tr>"] * 500)
    reading = model.read(paper, mode="tiny").reading
    assert [page.stopped for page in reading.pages] == ["loop", "loop"]
    assert reading.pages[0].text == "start <tr><td></td></tr>" and len(reading.warnings) == 2


def test_a_page_at_its_limit_is_kept_with_a_warning(folder):
    model = scripted(folder, "abcdefghij")
    (page,) = model.read(image(Image.new("RGB", (9, 9))), mode="tiny", max_tokens=7).reading.pages
    assert (page.text, page.stopped) == ("abcdefg", "length") and page.usage.written == 7


def test_half_a_character_is_held_back(folder):
    model = scripted(folder, "für 日本 🐯!", 1)
    pieces = list(model.read(image(Image.new("RGB", (9, 9))), mode="tiny"))
    assert "".join(pieces) == "für 日本 🐯!" and not any("\ufffd" in piece for piece in pieces)


def test_a_real_core_of_random_weights_reads_to_its_end(folder, paper):
    """Two pages in Gundam through real eyes and a real core: what it says is noise, the way there is whole."""
    tokenizer = ReleasedTokenizer.from_folder(folder)
    torch.manual_seed(0)
    core = LanguageCore.from_config(presets.micro(vocab_size=tokenizer.vocab_size)).eval().requires_grad_(False)
    model = OcrModel.from_folder(folder, core=core)
    first, again = (model.read(paper, mode="gundam", max_tokens=24).reading for _ in range(2))
    assert [page.number for page in first.pages] == [1, 2] and first == again
    assert all(page.usage.pictures == 273 for page in first.pages)


def released(path, language) -> dict:
    """The configuration as it is released, for the sizes of a tiny language part."""
    inner = {
        "vocab_size": language.vocabulary, "hidden_size": WIDTH, "intermediate_size": language.dense,
        "moe_intermediate_size": language.expert, "num_hidden_layers": language.layers, "num_attention_heads": 4,
        "num_key_value_heads": 4, "n_shared_experts": language.shared // language.expert,
        "n_routed_experts": language.experts, "num_experts_per_tok": 2, "max_position_embeddings": 4096,
        "use_mla": False, "first_k_dense_replace": 1, "kv_lora_rank": None, "q_lora_rank": None,
        "qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "v_head_dim": 0, "topk_method": "greedy", "n_group": 1,
        "topk_group": 1, "rm_head": False, "lm_head": True, "torch_dtype": "float32",
    }  # fmt: skip
    return {"model_type": "deepseek_vl_v2", "bos_token_id": 0, "eos_token_id": 1, "language_config": inner}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A released folder with everything in it, of random weights."""
    eyes = dataclasses.replace(ocr_layout.TINY_EYES, out_dim=WIDTH)
    language = dataclasses.replace(ocr_layout.TINY_LANGUAGE, width=WIDTH, vocabulary=320)
    tensors = ocr_layout.random_tensors(ocr_layout.manifest(eyes, language))
    path = tmp_path_factory.mktemp("whole")
    ocr_layout.write(path, tensors, shards=2, settings=released(path, language))
    backend().save(str(path / "tokenizer.json"))
    return path


def test_a_released_folder_is_loaded_whole_and_reads_by_page(whole, paper):
    model = dsv4.load(str(whole))
    assert isinstance(model, OcrModel) and model.core.config.attention.kind == "heads"
    reading = model.read(paper, mode="gundam", max_tokens=12).reading
    assert [page.number for page in reading.pages] == [1, 2]
    assert reading == dsv4.load(str(whole)).read(paper, mode="gundam", max_tokens=12).reading
    with pytest.raises(InputError, match="reads documents .*`svg` needs another model"):
        model.svg("a star")


def test_the_command_reads_with_a_released_folder(whole, tmp_path, capsys):
    Image.new("RGB", (90, 60), "white").save(tmp_path / "page.png")
    out = tmp_path / "page.md"
    flags = ["--model", str(whole), "--mode", "tiny", "--max-tokens", "5", "-o", str(out)]
    assert main(["read", str(tmp_path / "page.png"), *flags]) in (0, 3) and out.is_file()
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "task": "svg", "prompt": "a star"}\n')
    assert main(["svg", "a star", "--model", str(whole)]) == 2
    assert "needs another model" in capsys.readouterr().err
    batch = ["batch", "run", str(tmp_path / "rows.jsonl"), "-o", str(tmp_path / "out"), "--model", str(whole)]
    assert main(batch) == 3, "a row that cannot be made is a failed row"
    assert "needs another model" in "".join(file.read_text() for file in (tmp_path / "out").glob("*.jsonl"))


def test_what_is_missing_in_a_folder_is_said(folder, tmp_path):
    with pytest.raises(InputError, match="no tokenizer.json"):
        OcrModel.from_folder(tmp_path, core=None)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="is not a tokenizer"):
        OcrModel.from_folder(tmp_path, core=None)
    bare = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    bare.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match="the tokens <image>, .* are missing"):
        OcrModel.from_folder(tmp_path, core=None)
    backend().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match="no weights"):
        OcrModel.from_folder(tmp_path, core=None)


MEASURE = """
import sys, torch, dsv4
from dsv4 import document

def memory(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) // 1024

torch.set_num_threads(1)
seen, peaks = [], []
for page in dsv4.load(sys.argv[1]).read(document(sys.argv[2]), mode="gundam", max_tokens=4).pages():
    seen.append((page.number, page.usage.pictures))
    peaks.append(memory("VmHWM"))
    open("/proc/self/clear_refs", "w").write("5")
print(seen)
print(max(peaks[15:]) - max(peaks[3:15]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
def test_thirty_pages_are_read_in_level_memory(whole, tmp_path, python_environment):
    """Thirty pages of 300 x 660 dots, cut into tiles; what is kept of one (5 MB and more) would be kept of fifteen."""
    pages = [Image.new("RGB", (150, 330), "white") for _ in range(30)]
    for number, page in enumerate(pages, 1):
        ImageDraw.Draw(page).text((40, 60), f"Page {number}\n\nof thirty", fill="black")
    pages[0].save(tmp_path / "thirty.pdf", save_all=True, append_images=pages[1:], resolution=72)
    command = [sys.executable, "-c", MEASURE, str(whole), str(tmp_path / "thirty.pdf")]
    run = subprocess.run(command, capture_output=True, text=True, env=python_environment, timeout=100)
    assert run.returncode == 0, run.stderr
    told, grown = run.stdout.splitlines()
    tokens = get_mode("gundam").num_tokens(300, 660).sequence
    assert tokens > 273 and told == str([(number, tokens) for number in range(1, 31)])
    assert int(grown) < 40
