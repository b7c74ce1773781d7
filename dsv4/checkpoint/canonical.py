"""The canonical ids that released memory is hashed over, made from a tokenizer file.

Source: Engram's official demonstration and V4.1: tokens whose text is the same but for case, accents, width and the
kind and number of spaces share an id; ids count in order of first appearance. Pieces of characters stand for
themselves. 129,280 tokens of V4.1 become 99,092.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dsv4.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LONE_SPACE = "\ue000"  # stands for a single space while spaces at the ends are taken off


def canonical_ids(tokenizer: Tokenizer) -> list[int]:
    """For each id of the vocabulary, added tokens included, the id that stands for it in memory."""
    from tokenizers import Regex, normalizers

    plain = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.NFD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[ \t\r\n]+"), " "),
            normalizers.Replace(Regex(r"^ $"), LONE_SPACE),
            normalizers.Strip(),
            normalizers.Replace(LONE_SPACE, " "),
        ]
    )
    first: dict[str, int] = {}
    found: list[int] = []
    for number in range(tokenizer.get_vocab_size(with_added_tokens=True)):
        text = tokenizer.decode([number], skip_special_tokens=False)
        key = tokenizer.id_to_token(number) if "\ufffd" in text else plain.normalize_str(text) or text
        found.append(first.setdefault(str(key), len(first)))
    return found


def of_folder(folder: Path, *, vocabulary: int, expected: int | None) -> list[int]:
    """Of the `tokenizer.json` in a checkpoint folder, one id a token.

    InputError where there is none, or where it makes another number of ids than the checkpoint was trained with:
    hashes depend on it.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"{folder} has no tokenizer.json, and rows of its memory are found through the tokens' texts")
    ids = canonical_ids(Tokenizer.from_file(str(path)))
    made = max(ids) + 1
    if expected is not None and made != expected:
        raise InputError(f"{path} makes {made} canonical ids, but the memory was trained with {expected}")
    if len(ids) > vocabulary:
        raise InputError(f"{path} has {len(ids)} tokens, more than the vocabulary of the model ({vocabulary})")
    return ids + [ids[-1]] * (vocabulary - len(ids))  # rows of the embedding that stand for no token
