"""A chat model behind an OpenAI-compatible address, as a function from prompt to answer.

Source: the chat completions shape, POST {url}/chat/completions.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable

from dsv4.errors import InputError

KEY = "DSV4_API_KEY"  # the variable that holds the key, if the server wants one
SECONDS = 600.0
LARGEST = 64 << 20


def remote_chat(url: str, model: str, *, seconds: float = SECONDS) -> Callable[[str], str]:
    """Ask `model` at `url`, for example http://127.0.0.1:8000/v1; InputError says what the server answered."""
    if not url.startswith(("http://", "https://")):
        raise InputError(f"an address begins with http:// or https://, got '{url}'")
    address = url.rstrip("/") + "/chat/completions"

    def ask(prompt: str) -> str:
        body = {"model": model, "temperature": 0, "messages": [{"role": "user", "content": prompt}]}
        headers = {"Content-Type": "application/json"}
        if os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {os.environ[KEY]}"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                found = json.loads(answer.read(LARGEST))
            text = found["choices"][0]["message"]["content"]
        except urllib.error.HTTPError as error:
            said = error.read(300).decode(errors="replace")
            raise InputError(f"{address} answered {error.code}: {said}") from error
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(f"{address} gave no chat answer: {error}") from error
        if not isinstance(text, str):
            raise InputError(f"{address} gave an answer without text")
        return text

    return ask
