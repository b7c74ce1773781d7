"""Questions put together by chance from an opening, a way of asking, and an ending, so that no part of them is fixed.

Whole sentences teach a model with hashed n-grams the sentences: what stands behind "What is" is the word. Where what
stands around a word changes all the time, only the word itself is left to go by (docs/log.md, 2026-11-29).
"""

from __future__ import annotations

import random

OPENINGS = (
    "", "please ", "hey, ", "can you ", "could you ", "would you ", "can you please ", "I would like you to ", "now ",
    "do me a favour and ", "quickly ", "go on, ", "so, ", "would you kindly ", "will you ",
)  # fmt: skip
# What follows an opening; `{}` is the bare word, `{a}` has its article.
TELLING = (
    "explain {}", "explain {a}", "explain the word {}", "explain what {a} is", "explain what {} means", "define {}",
    "define the word {}", "tell me about {a}", "tell me what {a} is", "tell me what {} means", "say what {} means",
    "say what {a} is", "give the meaning of {}", "give me the meaning of {}", "give a definition of {}", "describe {a}",
    "look up {}", "put {} into other words", "help me understand {}", "teach me what {} means", "remind me what {a} is",
)  # fmt: skip
# Questions of their own, behind which an opening of these may stand.
ASKING = (
    "what is understood by {}", "what do people mean by {}", "what does one understand by {}",
    "what is the meaning of {}", "what is the sense of {}", "what exactly is {a}",
    "what on earth is {a}", "what would be {a}", "what might {} mean", "what can {} mean", "what does {} stand for",
    "what is this thing, {a}", "how would you define {}", "how do you explain {}", "which meaning has {}",
    "what is {a} supposed to be", "what is it that {} means",
)  # fmt: skip
WONDERING = (
    "",
    "",
    "",
    "so ",
    "and ",
    "well, ",
    "hello, ",
    "hi, ",
    "do you know ",
    "I wonder ",
    "I want to know ",
    "one question: ",
)
ENDINGS = ("", "", "", "?", "?", ".", " please", " please?", ", thanks", " for me", " in short", " to me")


def asked_by_chance(rng: random.Random, word: str, with_article: str) -> str:
    """A question for what a word means, of parts chosen by chance; never a phrasing that is kept for judging."""
    if rng.random() < 0.5:
        begun, said = rng.choice(OPENINGS), rng.choice(TELLING)
    else:
        begun, said = rng.choice(WONDERING), rng.choice(ASKING)
    return begun + said.format(word, a=with_article) + rng.choice(ENDINGS)
