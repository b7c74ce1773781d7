"""The list of words behind `dsv4.spelling`: names that a model was taught, words of texts and phrasings, good English.

Names come from the tables of a data folder, phrasings from the modules that make requests, other good words (synonyms
that are not taught) from the dictionary's source.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from dsv4.data.sources import read_rows
from dsv4.data.store import load_table
from dsv4.spelling import ALIEN, ASKED, FILE, ICON, SHORTEST, THING, WORD, packed_list
from dsv4.tokenizer import Tokenizer

# Whose lists of phrasings people's requests are made of, as far as training can foresee them.
PHRASED = ("openings", "talk", "refusals", "facts", "captions", "documents", "knowledge", "language", "wishes", "icons")
# What people type and no dictionary leads with: small words, irregular forms, names, contractions without their mark.
SPOKEN = """
    about albeit alright although amid among amongst another anybody anyone anything anyway anywhere around aside
    because been before behind being below beneath beside besides between beyond both cannot could despite does
    doing done down during each either else enough even ever every everybody everyone everything everywhere except
    from gonna gotta hadn have having hello hence here hers herself himself however inside instead into itself just
    kinda least less lets like maybe might mine more moreover most much must myself near neither nobody none nothing
    nowhere okay once only onto other others ought ours ourselves outside over perhaps please quite rather really
    same several shall should since some somebody somehow someone something sometimes somewhat somewhere soon still
    such than thank thanks that their theirs them themselves then there therefore these they thing things this those
    though through throughout thus till together toward towards unless until upon usually very wanna want were what
    whatever when whenever where whereas wherever whether which whichever while whilst whoever whole whom whose will
    with within without would yeah your yours yourself yourselves aint arent cant couldnt didnt doesnt dont hadnt
    hasnt havent hows isnt itll ive mustnt shes shouldnt thats theres theyll theyre theyve wasnt werent whats wheres
    whos wont wouldnt youd youll youre youve arose awoke became befell began begun bent bitten bled blew blown bore
    born bought bound bred broke broken brought built burnt came caught chose chosen clung crept dealt drank drawn
    dreamt drew driven drove drunk dwelt eaten fallen fell felt fled fleeing flew flown flung forbade forbore
    forgave forgiven forgot forgotten forsook fought found froze frozen gave given gone gotten grew grown hanged
    heard held hidden hove hung kept knelt knew known laid lain leapt learnt left lent made meant misgave mistook
    mown overcame overran paid proven quit ridden risen rode rang rose rung said sang sank sawn seen sent sewn
    shaken shaved shone shook shot shown shrank shrunk slain slept slid slung smelt sold sought sown spat sped spelt
    spent spied spilt spoke spoken sprang sprung spun stank stole stolen stood strewn stricken striven strode struck
    strung stuck stung stunk sung sunk swam swept swollen swore sworn swum swung taken taught tore torn threw thrown
    told took trod trodden understood undertook upheld went wept withdrew woke woken wore worn wound wove woven
    written wrote wrung alumni automata criteria curricula lads passersby spokesmen gassed picnicked hamstrung cafe
    codec django emoji nike mario shrek barbie postgres selfie wifi yeet
""".split()  # fmt: skip
_WORDS = re.compile(rf"[a-z]{{{SHORTEST},}}")


def spelling_lines(data_dir: Path, dictionary: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """Marks and names of a data folder, sorted; `dictionary` has rows of the words' source, for good words not taught.

    Raises InputError for a folder that is not a data folder.
    """
    tables = {name: load_table(data_dir / f"{name}.npz") for name in ("words", "icons", "things", "facts")}
    words, icons, things = tables["words"], tables["icons"], tables["things"]
    marks: dict[str, int] = {}
    for mark, names in (
        (WORD, words["word"]), (ICON, icons["name"]), (ICON, icons["synonym"]), (THING, things["name"]),
        (THING, things["alias"]), (ASKED, asked_words()),
    ):  # fmt: skip
        for name in names:
            marks[name] = marks.get(name, 0) | mark
    marks.pop("", None)
    named = {part for name in marks for part in re.findall(r"[^\W_]+", name.lower())}
    taught = _words_of(_texts(data_dir, tables)) - named
    aliens = {lemma for row in dictionary for lemma in row["words"] if _WORDS.fullmatch(lemma)} - named - taught
    lines = [f"{mark:x}{name}" for name, mark in marks.items()]
    return sorted([*lines, *(f"0{word}" for word in taught), *(ALIEN + word for word in aliens)])


def asked_words() -> list[str]:
    """Every longer word of the phrasings that requests are made of, and SPOKEN."""
    found = set(SPOKEN)
    for name in PHRASED:
        module = import_module(f"dsv4.data.{name}")
        found |= _words_of(text for value in vars(module).values() for text in _strings(value))
    return sorted(found)


def write_spelling(data_dir: Path, dictionary: Iterable[Mapping[str, Any]] = ()) -> str:
    """Write the list of a data folder beside its tables; returns a line for people."""
    lines = spelling_lines(data_dir, dictionary)
    (data_dir / FILE).write_bytes(packed_list(lines))
    return f"spelling: {len(lines)} names and words"


def packed_of(data_dir: Path) -> bytes:
    """The list of a data folder as a model's folder holds it, b"" for one without tables.

    It is made from the tables where the folder was built before there were lists.
    """
    if (data_dir / FILE).is_file():
        return (data_dir / FILE).read_bytes()
    return packed_list(spelling_lines(data_dir)) if (data_dir / "words.npz").is_file() else b""


def _texts(data_dir: Path, tables: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """All that is answered and asked with words of the tables."""
    words, icons, facts = tables["words"], tables["icons"], tables["facts"]
    tokenizer = Tokenizer.from_file(data_dir / "tokenizer.json")
    yield from (tokenizer.decode([int(token) for token in answer]) for answer in words["answer"])
    for column in ("example", "broader", "opposite", "parts", "categories"):
        yield from words[column]
    for texts in (icons["set"], icons["style"], facts["questions"], facts["answer"]):
        yield from texts


def main() -> int:
    """`python -m dsv4.data.spelling_list --data build/data --sources DIR --out assets/nano`: write a list anew."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", required=True, metavar="DIR", help="made by `dsv4 data build`")
    parser.add_argument("--sources", metavar="DIR", help="what it was made from, for good words that are not taught")
    parser.add_argument("--out", required=True, metavar="DIR", help="the model's folder")
    args = parser.parse_args()
    rows = read_rows(Path(args.sources), "words.jsonl.zst") if args.sources else None
    packed = packed_of(Path(args.data)) if rows is None else packed_list(spelling_lines(Path(args.data), rows))
    (Path(args.out) / FILE).write_bytes(packed)
    print(f"{Path(args.out) / FILE}: {len(packed):,} bytes")
    return 0


def _words_of(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in _WORDS.findall(text.lower())}


def _strings(value: Any) -> Iterator[str]:
    """Every text inside constants of a module: tuples, sets, dictionaries and records of ours."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for pair in value.items() for one in pair for text in _strings(one))
    elif isinstance(value, Sequence | frozenset | set):
        yield from (text for one in value for text in _strings(one))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from (text for field in fields(value) for text in _strings(getattr(value, field.name)))


if __name__ == "__main__":
    raise SystemExit(main())
