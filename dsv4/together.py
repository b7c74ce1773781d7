"""The verbs for many requests at once: requests of like shape share every forward pass.

Answers and drawings choose the tokens that they would choose alone; pictures come out with the same bits as alone, on
processors whose products do not depend on the number of rows. Clips fill the machine by themselves and are made singly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dsv4 import limits
from dsv4._parts import part
from dsv4.engine.together import Row, generate_together
from dsv4.errors import InputError
from dsv4.finish import Answer, check_candidates, closed_in_answers, drawn, enlarged, to_uint8, well_formed
from dsv4.instructions import split_motion
from dsv4.results import Picture, Reply, Svg
from dsv4.scene_parts import DrawingPlan, planned
from dsv4.spelling import Corrected, Speller

if TYPE_CHECKING:
    from dsv4.model import Model
    from dsv4.model_input import ModelInput
    from dsv4.processor import Processor

MakeBy = Callable[..., Mapping[str, Any]]
Request = Mapping[str, Any]
CACHE_TOKENS = 65_536  # rows times length that one cache may hold; more rows go in turns

CHAT = {"pictures": (), "mode": "tiny", "history": (), "seed": 0, "temperature": 0.0, "max_tokens": 160,
        "correct": True}  # fmt: skip
SVG = {"seed": 0, "temperature": 0.0, "max_tokens": 1200, "candidates": 1, "correct": True}
IMAGE = {"seed": 0, "size": 128, "steps": 8, "guidance": None, "correct": True}


class Together:
    """`make` answers requests of one task; `shape` says which of them are alike."""

    def __init__(self, model: Model, processor: Processor, made_by: MakeBy, speller: Speller) -> None:
        from dsv4.engine.replay import replays_of

        self.model, self.processor, self.made_by, self.speller = model, processor, made_by, speller
        self._replays = replays_of(model.core)

    def shape(self, task: str, request: Request) -> tuple[Any, ...]:
        """Requests of equal shape share a pass; an empty shape has one that cannot be made, or is made alone."""
        try:
            if task == "chat":
                request = self._ask(CHAT, request)
                history = request["history"] if self.model.talks else ()
                words = self.processor.chat(request["prompt"], (), mode="tiny", history=history).length
                return (words, len(request.get("pictures", ())), request.get("mode", "tiny"))
            if task == "svg":
                return (self.processor.svg(split_motion(self._ask(SVG, request)["prompt"])[0]).length,)
            if task == "image":
                return (self.processor.image(self._ask(IMAGE, request)["prompt"]).length,)
        except InputError:
            pass
        return ()

    def make(self, task: str, requests: Sequence[Request]) -> list[Any]:
        """A result for every request, or the InputError that it would raise alone."""
        return _ANSWERS[task](self, requests)

    def _ask(self, usual: Request, request: Request) -> dict[str, Any]:
        """A request with what is usual filled in and its prompt as it is read, alone or in a conversation."""
        ask = {**usual, **request}
        ask["read"] = read = Corrected(ask["prompt"])
        if ask["correct"] is True and isinstance(read.text, str):
            if "history" in ask:
                read, ask["history"] = self.speller.conversation(read.text, ask["pictures"], ask["history"])
            else:
                read = self.speller.correct(read.text, drawing=True)
            ask |= {"read": read, "prompt": read.text}
        return ask

    def chat(self, requests: Sequence[Request]) -> list[Reply | InputError]:
        """Answers."""

        def prepare(ask: Request) -> tuple[ModelInput, Any]:
            limits.check_numbers(seed=ask["seed"], temperature=ask["temperature"], max_tokens=ask["max_tokens"])
            limits.check_correct(ask["correct"])
            limits.check_count("messages of history", ask["history"], limits.HISTORY_MESSAGES)
            given = self.processor.chat(ask["prompt"], ask["pictures"], mode=ask["mode"], history=ask["history"])
            return given, closed_in_answers(self.model.tokenizer, calls=self.model.talks)

        def finish(ask: Request, given: ModelInput, tokens: list[int]) -> Reply:
            answer = Answer(self.model.tokenizer)
            text = "".join([answer.push(token) for token in tokens])
            told = {"mode": ask["mode"], "temperature": ask["temperature"]}
            made_by = self.made_by("chat", ask["read"], ask["seed"], **told)
            return answer.reply(text, given, cancelled=False, max_tokens=ask["max_tokens"], made_by=made_by)

        return self._written([self._ask(CHAT, request) for request in requests], prepare, finish, room=0)

    def svg(self, requests: Sequence[Request]) -> list[Svg | InputError]:
        """Drawings; of a request for several candidates each is a row of its own, and so is each thing of a scene."""
        tokenizer = self.model.tokenizer
        asks = [self._ask(SVG, request) for request in requests]
        plans = [planned(ask["prompt"], ask["candidates"]) for ask in asks]

        def prepare(ask: Request) -> tuple[ModelInput, Any]:
            limits.check_correct(ask["correct"])
            limits.check_numbers(**{key: ask[key] for key in SVG if key != "correct"})
            check_candidates(ask["candidates"], ask["temperature"])
            self.processor.svg(ask["request"])  # refuses what is too long, which its parts may not be
            return self.processor.svg(ask["part"]), well_formed(tokenizer, ask["max_tokens"])

        def attempt(ask: Request, given: ModelInput, tokens: list[int]) -> tuple[ModelInput, list[int]]:
            return given, [token - tokenizer.svg_offset for token in tokens]

        rows, places = [], []
        for place, (ask, plan) in enumerate(zip(asks, plans, strict=True)):
            for turn in range(_turns(ask)):
                for one in plan.prompts:
                    rows.append({**ask, "seed": ask["seed"] + turn, "request": plan.request, "part": one})
                    places.append(place)
        made: list[list[Any]] = [[] for _ in asks]
        for place, found in zip(places, self._written(rows, prepare, attempt, room=1), strict=True):
            made[place].append(found)
        return [self._chosen(*one) for one in zip(asks, plans, made, strict=True)]

    def _chosen(self, ask: Request, plan: DrawingPlan, found: list[Any]) -> Svg | InputError:
        """One request's drawing from its attempts, or from its things, or what is wrong with it."""
        wrong = [one for one in found if isinstance(one, InputError)]
        if wrong:
            return wrong[0]
        drawings = [local for _, local in found]
        told = {key: ask[key] for key in ("temperature", "max_tokens", "candidates")} | plan.told
        made_by = self.made_by("svg", ask["read"], ask["seed"], **told)
        many = len(plan.prompts)
        attempts = [plan.together(drawings[begin : begin + many]) for begin in range(0, len(drawings), many)]
        read = sum(given.length for given, _ in found[:many])
        return drawn(attempts, read=read, prompt=ask["prompt"], made_by=made_by)

    def image(self, requests: Sequence[Request]) -> list[Picture | InputError]:
        """Pictures; those of equal steps, guidance, prompt length and painted size are painted in one pass."""
        asks = [self._ask(IMAGE, request) for request in requests]
        found: list[Any] = [None] * len(asks)
        alike: dict[tuple[Any, ...], list[int]] = {}
        ids: dict[int, Any] = {}
        for place, ask in enumerate(asks):
            try:
                limits.check_correct(ask["correct"])
                limits.check_size(ask["size"])
                limits.check_numbers(seed=ask["seed"], steps=ask["steps"])
                ask["guidance"] = limits.guidance_for(ask["steps"], ask["guidance"])
                ids[place] = self.processor.image(ask["prompt"]).token_ids_BT
                if self.model.head is None:
                    raise InputError("this model has no picture head, so it makes neither pictures nor clips")
            except InputError as error:
                found[place] = error
                continue
            side = limits.painted_size(ask["size"])
            alike.setdefault((ids[place].shape[1], side, ask["steps"], ask["guidance"]), []).append(place)
        for (_, side, steps, guidance), places in alike.items():
            painted = self._painted([ids[p] for p in places], [asks[p]["seed"] for p in places], side, steps, guidance)
            for place, picture_HW3 in zip(places, painted, strict=True):
                ask = asks[place]
                told = {key: ask[key] for key in ("size", "steps", "guidance")}
                told = {"size": told.pop("size"), "painted": side, **told}
                made_by = self.made_by("image", ask["read"], ask["seed"], **told)
                found[place] = Picture(array=enlarged(picture_HW3, ask["size"]), provenance=made_by)
        return found

    def _painted(self, ids: list[Any], seeds: list[int], side: int, steps: int, guidance: float) -> list[Any]:
        import torch

        head, generation = self.model.head, part("generation")
        assert head is not None
        head.half_precision()
        with torch.inference_mode():
            # The short passes over the prompts are made one by one: products of so few rows round by their number.
            told = [head.condition(self.model.taps(one), torch.ones_like(one, dtype=torch.bool)) for one in ids]
            frames_B3FHW = generation.sample_flow(
                head,
                type(told[0])(*(torch.cat(parts) for parts in zip(*told, strict=True))),
                shape=(1, side, side),
                steps=steps,
                guidance=guidance,
                seeds=seeds,
            )
        return [to_uint8(frames_3FHW)[0] for frames_3FHW in frames_B3FHW]

    def _written(self, asks: Sequence[Request], prepare: Any, finish: Any, *, room: int) -> list[Any]:
        """Tokens for all requests, those of one length together; `room` is for a token that ends what is written."""
        found: list[Any] = [None] * len(asks)
        alike: dict[int, list[tuple[int, ModelInput, Row]]] = {}
        for place, ask in enumerate(asks):
            try:
                given, constraint = prepare(ask)
            except InputError as error:
                found[place] = error
                continue
            row = self._row(ask, given, constraint, ask["max_tokens"] + room)
            alike.setdefault(given.length, []).append((place, given, row))
        stop = frozenset({self.model.tokenizer.id_of("<|eos|>")})
        for length, group in alike.items():
            longest = length + max(row.max_tokens for _, _, row in group)
            at_once = max(1, CACHE_TOKENS // longest)
            for begin in range(0, len(group), at_once):
                turn = group[begin : begin + at_once]
                rows = [row for _, _, row in turn]
                written = generate_together(self.model.core, rows, stop=stop, replays=self._replays)
                for (place, given, _), tokens in zip(turn, written, strict=True):
                    found[place] = finish(asks[place], given, tokens)
        return found

    def _row(self, ask: Request, given: ModelInput, constraint: Any, max_tokens: int) -> Row:
        import torch

        return Row(
            prompt=self.model.embed(given),
            max_tokens=max_tokens,
            temperature=ask["temperature"],
            generator=torch.Generator().manual_seed(ask["seed"]),
            constraint=constraint,
        )


def _turns(ask: Request) -> int:
    """How many rows a drawing takes; one where the number is wrong, which that row then says."""
    count = ask["candidates"]
    return count if isinstance(count, int) and 1 <= count <= limits.RANGES["candidates"].high else 1


_ANSWERS: dict[str, Callable[[Together, Sequence[Request]], list[Any]]] = {
    "chat": Together.chat,
    "svg": Together.svg,
    "image": Together.image,
}
