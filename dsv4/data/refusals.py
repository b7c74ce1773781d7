"""What nano cannot do, asked for in many ways, and the kind answer to each; some requests are kept for judging.

The answers are those of `facts.MANNERS`, so that a refusal always says what can be asked for instead.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from dsv4.data.language import held_out

NOT_MY_WORLD = "I cannot do that: my world is drawings, pictures, clips and the meanings of words."
NOT_NOW = "I do not know what happens in the world now. Ask me about a word or for a drawing."
NO_ADVICE = "I cannot advise you: I know drawings and the meanings of words. Ask me for one of these."
NOT_A_PERSON = "I do not know you. I keep nothing of what is said."
UNKNOWN_THING = "I do not know that thing, so I cannot draw it. Ask for one that I know: a tiger, a rocket, a house."
ANSWERS = (NOT_MY_WORLD, NOT_NOW, NO_ADVICE, NOT_A_PERSON, UNKNOWN_THING)

_PLACES = ("Paris", "London", "Berlin", "Tokyo", "New York", "my town", "Rome", "Madrid", "Cairo", "Sydney")
_TONGUES = ("French", "German", "Spanish", "Italian", "Chinese", "Latin", "Japanese", "Russian", "Greek", "Arabic")
_PEOPLE = ("my mother", "my boss", "a friend", "my teacher", "my sister", "the police", "my neighbour", "my doctor")
_FORMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (NOT_MY_WORLD, (
        "write {text} about {a}", "write me {text} about {a}", "can you write {text} for {person}?", "write {text}",
        "translate {noun} into {tongue}", "how do you say {noun} in {tongue}?", "say something in {tongue}",
        "call {person}", "send {text} to {person}", "remind me to buy {a}", "order {a} for me",
        "book {a} for {person}",
        "buy {a} online", "play {noun} music", "sing about {a}", "tell me a joke about {a}",
        "tell me a story about {a}",
        "write a program that prints {noun}", "fix my code", "open {noun}.com", "search the web for {noun}",
        "multiply {big} by {big}", "what is {big} times {big}?", "solve {big}x = {big}", "summarise this book",
        "plan my trip to {place}", "set a timer for {big} minutes", "turn on the light", "cook {a} for {person}",
        "record a song about {a}", "make a 3d model of {a}", "compose music for {a}", "what is the plot of hamlet?",
        "read {text} aloud", "dictate {text} to {person}", "post {text} about {a}", "print {text}", "download {a}",
        "correct my {tongue}", "teach me {tongue}", "spell {noun} in {tongue}", "what is {noun} in {tongue}?",
        "divide {big} by {big}", "what is the square root of {big}?", "how much is {big} divided by {big}?",
        "convert {big} dollars into euros", "run this script", "debug this program", "install {noun} on my computer",
        "start the {noun} app", "sort this list", "make a spreadsheet of {noun}", "email {person}", "text {person}",
        "ring {person}", "invite {person}", "rent {a} for me", "reserve a table in {place}", "get me a taxi",
        "show me the way to {place}", "find a hotel in {place}", "wake me up at seven", "take a note about {a}",
        "whistle a tune", "dance for {person}", "hum {noun}", "play chess with me", "roll a die", "flip a coin",
        "pretend to be {person}", "who wrote {noun}?", "summarise {text} about {a}", "rhyme with {noun}",
        "write {a} review for {place}", "rewrite {text}", "shorten {text}", "continue {text}",
        "{learn} {tongue}", "{learn} some {tongue}", "teach {person} {tongue}", "teach me to {do}", "can you {do}?",
        "{do} for me", "show me how to {do}", "learn to {do} with me", "do you speak {tongue}?",
    )),
    (NOT_NOW, (
        "what is the weather in {place}?", "will it rain in {place} tomorrow?", "what time is it in {place}?",
        "what is the news from {place}?", "who is the mayor of {place}?", "how much is {a} today?",
        "what is the price of {noun}?", "who won the match in {place}?", "is {place} open today?",
        "when does the next train to {place} leave?", "what is on television tonight?", "how old is the president?",
        "what happened in {place} yesterday?", "how many people live in {place}?", "what is trending now?",
        "is it cold in {place}?", "how warm is it in {place}?", "what is today's date?", "what month is it?",
        "who governs {place}?", "who is the king of {place}?", "what is the latest from {place}?", "any news?",
        "what does {a} cost?", "how expensive is {a}?", "is {noun} cheaper now?", "who leads the race in {place}?",
        "what is the score?", "when is the concert in {place}?", "which films are on in {place}?",
        "how is the traffic in {place}?", "is there a storm in {place}?", "what is happening in {place}?",
        "how late is it?", "when does {place} wake up?", "what time does the sun rise in {place}?",
        "will it {weather} in {place}?", "will it {weather} {when}?", "is it going to {weather} in {place}?",
        "does it {weather} in {place} {when}?", "may it {weather} {when}?", "will there be {sky} in {place} {when}?",
        "when does the {next} {ride} to {place} {start}?", "when will the {ride} from {place} {start}?",
        "when does {a} {start} in {place}?", "at what time does the {next} {ride} {start}?",
        "which {ride} goes to {place}?", "is the {ride} to {place} late?", "will {person} be in {place} {when}?",
    )),
    (NO_ADVICE, (
        "should I buy {a}?", "should I marry {person}?", "what should I cook with {noun}?", "am I ill?",
        "is {noun} safe?",
        "how do I lose weight?", "what should I say to {person}?", "which {noun} is the best?",
        "should I trust {person}?",
        "how can I get rich?", "what gift should I get for {person}?", "my head hurts, what should I do?",
        "how do I repair {a}?", "how do I make {a}?", "where can I buy {a}?", "what do you think of {person}?",
        "is it wise to buy {a}?", "would you buy {a}?", "shall I call {person}?", "shall I go to {place}?",
        "what should I wear in {place}?", "what should I read about {noun}?", "how can I please {person}?",
        "what is good against {noun}?", "do I need {a}?", "may I eat {noun}?", "how much {noun} is too much?",
        "is {a} worth it?", "which is better, {a} or {a}?", "how do I get rid of {noun}?", "how do I clean {a}?",
        "how do I win {person} back?", "what would you do with {a}?", "I feel sad, what now?", "can I trust {a}?",
        "give me advice about {noun}", "help me choose {a}", "what is your favourite {noun}?",
        "do I {want} {a}?", "do we {want} {a}?", "does {person} {want} {a}?", "must I {want} {a}?", "is {a} for me?",
        "will I {want} {a} {when}?", "could I {want} {a}?", "do you {want} {a}?", "did I {want} {a}?",
    )),
    (NOT_A_PERSON, (
        "do you love me?", "where do I live?", "what did I say yesterday?", "do you remember {person}?",
        "guess my name",
        "how old is {person}?", "what is the name of {person}?", "what did we talk about last week?", "am I tall?",
        "do you know {person}?", "where is {person}?", "what is my job?", "when is my birthday?",
        "what do I look like?",
        "who is my best friend?", "what did {person} say?", "have we met?", "did {person} call?", "what do I like?",
        "is {person} at home?", "where did I put my {noun}?", "where is my {noun}?", "do I own {a}?",
        "am I in {place}?",
        "what is {person} doing?", "do you miss me?", "what is my address?", "how tall is {person}?",
        "where did I {leave} my {noun}?", "where did {person} {leave} my {noun}?", "when did I {leave} my {noun}?",
        "where have I {left} my {noun}?", "who {left} my {noun}?", "what did I do with my {noun}?",
    )),
)  # fmt: skip
_TEXTS = ("a poem", "an essay", "a letter", "a speech", "a song", "a story", "an email", "a report", "a review")
# What a name in braces is filled with by chance: whichever word stands there is not what the request turns on.
_SLOTS = {
    "text": _TEXTS, "person": _PEOPLE, "tongue": _TONGUES, "place": _PLACES,
    "learn": ("learn", "practise", "help me learn", "speak", "study", "help me with", "train me in", "coach me in"),
    "do": ("swim", "drive", "cook rice", "juggle", "sew", "knit", "do the dishes", "type", "dive", "bake", "whistle",
           "solve puzzles", "play cards", "count money", "do my homework", "mow the lawn", "repair the sink"),
    "weather": ("snow", "freeze", "hail", "be sunny", "be warm", "be cold", "get dark", "storm", "be windy", "drizzle",
                "be foggy", "clear up"),
    "sky": ("snow", "sun", "fog", "a storm", "wind", "clouds", "thunder", "ice", "frost"),
    "when": ("today", "tonight", "this week", "next week", "on Monday", "this evening", "at noon", "soon", "now",
             "in May", "at the weekend", "next year"),
    "next": ("last", "first", "night", "early", "late", "morning", "fast"),
    "ride": ("bus", "plane", "ferry", "tram", "boat", "coach", "flight", "ship", "taxi", "underground"),
    "start": ("start", "go", "arrive", "come", "depart", "stop", "set out", "get in", "open", "close", "end", "begin"),
    "want": ("want", "like", "have to buy", "have to get", "really want", "miss", "deserve", "use", "require", "lack",
             "have to have"),
    "leave": ("leave", "lose", "hide", "keep", "drop", "park", "bury", "forget", "see", "lay", "throw"),
    "left": ("left", "lost", "hidden", "kept", "dropped", "parked", "taken", "forgotten", "seen", "thrown"),
}  # fmt: skip
_UNKNOWN = ("draw a {word}", "paint a {word}", "make a picture of a {word}", "show me a {word}", "a clip of a {word}",
            "draw me a {word} please", "a {word} icon", "can you draw a {word}?", "animate a {word}", "film a {word}",
            "let me see a {word}", "a drawing of a {word}", "make a clip of a {word}", "I need a picture of a {word}",
            "sketch a {word}", "an svg of a {word}")  # fmt: skip


def refusal(rng: random.Random, nouns: Sequence[tuple[str, str]], word: str, *, held: bool = False) -> tuple[str, str]:
    """(request, answer): something that nano cannot do.

    nouns: (bare, with its article) to fill requests with; word: one that does not exist, for what cannot be drawn;
    held: only requests that training never asks (one form in ten, and one filling in ten).
    """
    while True:
        if rng.random() < 0.25:
            answer, form = UNKNOWN_THING, rng.choice(_UNKNOWN)
        else:
            answer, forms = rng.choice(_FORMS)
            form = rng.choice(forms)
        bare, with_article = rng.choice(nouns)
        said = form.replace("{a}", with_article).replace("{noun}", bare).replace("{word}", word)
        for name, choices in _SLOTS.items():
            said = said.replace(f"{{{name}}}", rng.choice(choices))
        while "{big}" in said:
            said = said.replace("{big}", str(rng.randint(60, 9999)), 1)
        if (held_out("refused", form) or held_out("refused", said)) == held:
            return said, answer
