"""Asking a language model at an OpenAI-compatible chat endpoint: time limits, attempts, the key, and errors.

A request has a time limit and a largest number of attempts, so that nothing waits for ever. It goes to the
configured address alone, because redirections are not followed, and with the configured key alone. The key
stands in an environment variable; it is in no configuration, file or error.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from radscribe.errors import RadScribeError
from radscribe.ranges import Range, check_fields

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

#: Text before the name of a field of `EndpointConfig` in its dotted name.
FIELD = "system.observations.endpoint."

TEMPERATURE = 0.0
_OTHERWISE = "or choose --system.observations.policy labeller, which needs no endpoint"
#: Longest wait before a request is sent again, in seconds, whatever the endpoint asks for.
_LONGEST_WAIT = 60.0
#: Longest answer that is read. Labels take some 500 bytes; some servers send the model's reasoning as well.
_MAX_BYTES = 2**22
#: Status codes below 500 after which the same request may succeed; from 500 on, any may.
_TEMPORARY = (408, 409, 425, 429)
#: Status codes that are about one question, such as one that is too long or that a content filter stops.
_NOT_TAKEN = (400, 413, 422)


@dataclass(kw_only=True, slots=True)
class EndpointConfig:
    """An OpenAI-compatible chat endpoint. It gets the texts of reports, so a remote endpoint gets patient
    texts.

    Attributes:
        url: Base address of the chat endpoint, such as `http://localhost:8000/v1`; empty means none. Report
            texts are sent to it. If it is not one of your own machines, patient texts leave them, which the
            terms of your data must allow.
        model: Name of the language model at the endpoint.
        timeout_seconds: Time limit of one request to the endpoint, in seconds.
        attempts: How often a request is sent at most, if the endpoint is busy, fails or cannot be reached.
        cache: Directory where answers are kept by model and question, so that no question is asked twice;
            empty means that answers are not kept. It holds no report text and no key.
        key_variable: Name of the environment variable that holds the key of the endpoint, such as
            `OPENAI_API_KEY`; empty means that no key is sent.
    """

    url: str = ""
    model: str = ""
    timeout_seconds: float = 60.0
    attempts: int = 6
    cache: str = ""
    key_variable: str = ""

    def __post_init__(self) -> None:
        check_fields(self, FIELD, timeout_seconds=Range(0, 3600, above=True), attempts=Range(1, 100))
        # Neither message repeats the value, which may hold a key.
        if self.url and not _is_plain_address(self.url):
            raise ValueError(
                f"{FIELD}url must be an http or https address without a user name, a password or a query, "
                "such as http://localhost:8000/v1"
            )
        if self.key_variable and not re.fullmatch("[A-Z_][A-Z0-9_]*", self.key_variable):
            raise ValueError(
                f"{FIELD}key_variable must be the name of an environment variable in capital letters, such "
                "as OPENAI_API_KEY, and not the key itself"
            )


def _is_plain_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").encode("idna"), parts.port  # an impossible one raises
    except ValueError:
        return False
    plain = re.fullmatch(r"[!-~]+", url) and not re.search(r"[@?#\\]", url)
    return parts.scheme in ("http", "https") and bool(host) and bool(plain)


class _UnansweredError(Exception):
    """The endpoint did not answer as a chat endpoint; it may do so if it is asked again."""


class NotTakenError(RadScribeError):
    """The endpoint does not take a question; it may take others."""


class ChatEndpoint:
    """A language model that is asked one question at a time. It is connected at the first question.

    Args:
        config: Address of the endpoint, and how it is asked.

    Attributes:
        answered: Whether the endpoint has answered any question.

    Raises:
        RadScribeError: the configuration names no endpoint or no model.
    """

    def __init__(self, config: EndpointConfig):
        for name, example in (("url", "http://localhost:8000/v1"), ("model", "gpt-4")):
            if not getattr(config, name):
                raise RadScribeError(
                    f"{FIELD}{name} is empty, so that no endpoint can be asked for observation labels",
                    f"Name it, such as --{FIELD}{name} {example}, {_OTHERWISE}",
                )
        self.config = config
        self.answered = False
        self._client: OpenAI | None = None
        self._key = ""
        self._json_mode = True

    def answer(self, prompt: str) -> str:
        """The text that the model answers with, at temperature 0 and in JSON mode where the endpoint has it.

        A request is sent again if the endpoint is busy, fails, is too slow or cannot be reached. Between
        attempts it is left alone for 1, 2, 4 and more seconds or as long as it asks for, up to a minute.

        Args:
            prompt: The question; it is sent as the message of a user.

        Returns:
            The answer, which may be any text; empty if the model refused.

        Raises:
            NotTakenError: the endpoint does not take this question (status 400, 413 or 422).
            RadScribeError: all attempts failed, the endpoint denied access or does not know the model, the
                package `openai` is not installed, or the key is not set.
        """
        client = self._client = self._client or self._connected()
        import httpx2
        import openai

        cause = ""
        for attempt in range(self.config.attempts):
            wait = 2.0**attempt
            try:
                answer = self._request(client, prompt)
                self.answered = True
                return answer
            except _UnansweredError as error:
                cause = str(error)
            except openai.APIStatusError as error:
                if error.status_code < 500 and error.status_code not in _TEMPORARY:
                    raise self._denied(error) from None
                cause = f"it answered with status {error.status_code}{self._words(error)}"
                asked_for = _retry_after(error.response.headers)
                wait = wait if asked_for is None else asked_for
            except (openai.APITimeoutError, httpx2.TimeoutException):
                cause = f"it did not answer within {self.config.timeout_seconds:g} s"
            except (openai.APIConnectionError, httpx2.HTTPError, UnicodeError) as error:
                cause = self._without_key(f"the connection failed ({error.__cause__ or error})")
            if attempt + 1 < self.config.attempts:
                time.sleep(min(wait, _LONGEST_WAIT))
        raise self._failed(cause)

    def _connected(self) -> OpenAI:
        try:
            from openai import DefaultHttpx2Client, OpenAI
        except ImportError as error:
            raise RadScribeError(
                "asking an endpoint for observation labels needs openai, which is not installed",
                f"pip install 'radscribe[endpoint]', {_OTHERWISE}",
            ) from error
        self._key = self._read_key()
        return OpenAI(
            api_key=self._key or "none",  # without any, the library would take the key in OPENAI_API_KEY
            base_url=self.config.url,
            timeout=self.config.timeout_seconds,
            max_retries=0,
            http_client=DefaultHttpx2Client(follow_redirects=False),
        )

    def _read_key(self) -> str:
        name = self.config.key_variable
        key = os.environ.get(name, "").strip() if name else ""
        if name and not re.fullmatch("[!-~]+", key):
            wrong = "holds characters that no key has" if key else "is not set"
            raise RadScribeError(
                f"the environment variable {name}, which {FIELD}key_variable names, {wrong}",
                f"Type export {name}=KEY, or leave --{FIELD}key_variable empty if the endpoint needs no key",
            )
        return key

    def _request(self, client: OpenAI, prompt: str) -> str:
        """Send one question. If it is taken only without JSON mode, this mode is left out from now on."""
        import openai

        try:
            return self._send(client, prompt, json_mode=self._json_mode)
        except openai.APIStatusError as error:
            if not self._json_mode or error.status_code not in _NOT_TAKEN:
                raise
        answer = self._send(client, prompt, json_mode=False)
        self._json_mode = False
        return answer

    def _send(self, client: OpenAI, prompt: str, *, json_mode: bool) -> str:
        from openai import Omit

        question: dict[str, Any] = {
            "model": self.config.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": TEMPERATURE,
        }
        if not self._key:
            question["extra_headers"] = {"Authorization": Omit()}
        if json_mode:
            question["response_format"] = {"type": "json_object"}
        seconds = self.config.timeout_seconds
        end = time.monotonic() + seconds
        body = bytearray()
        # The library limits the time between two pieces of an answer, and some servers send blanks while a
        # question waits in their queue. So the time of the whole answer is limited here.
        with client.chat.completions.with_streaming_response.create(**question) as response:
            for piece in response.iter_bytes():
                body += piece
                if time.monotonic() > end:
                    raise _UnansweredError(f"its answer was not complete within {seconds:g} s")
                if len(body) > _MAX_BYTES:
                    raise _UnansweredError(f"its answer has more than {_MAX_BYTES:,} bytes")
        try:
            content = json.loads(body)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise _UnansweredError("its answer is no chat completion") from None
        return content if isinstance(content, str) else ""

    def _failed(self, cause: str) -> RadScribeError:
        """The error after the last attempt."""
        attempts, cache = self.config.attempts, self.config.cache
        kept = f"Answers so far are kept in '{cache}'" if cache else f"Keep answers with --{FIELD}cache DIR"
        return RadScribeError(
            f"the endpoint '{self.config.url}' gave no answer in {attempts} "
            f"attempt{'s' * (attempts > 1)}: {cause}",
            "See whether it runs, and whether its address is right, which mostly ends in /v1; raise "
            f"--{FIELD}timeout_seconds or --{FIELD}attempts, {_OTHERWISE}. {kept}",
        )

    def _denied(self, error: APIStatusError) -> RadScribeError:
        """The error for a status that will be the same if the request is sent again."""
        status, url = error.status_code, self.config.url
        if status in (401, 403):
            # The endpoint's own words are left out, because they may repeat a part of the key.
            request = f"the key in {self.config.key_variable}" if self._key else "requests without a key"
            return RadScribeError(
                f"the endpoint '{url}' denies access to {request} (status {status})",
                f"Name the variable that holds the right key: --{FIELD}key_variable NAME; {_OTHERWISE}",
            )
        if status == 404:
            return RadScribeError(
                f"the endpoint '{url}' does not know the address or the model '{self.config.model}' "
                f"(status 404{self._words(error)})",
                f"The address mostly ends in /v1. Correct --{FIELD}url or --{FIELD}model, {_OTHERWISE}",
            )
        if status < 400:
            return RadScribeError(
                f"the endpoint '{url}' redirects to another address (status {status}), which is not followed",
                f"Name the address that shall get the report texts: --{FIELD}url; {_OTHERWISE}",
            )
        kind = NotTakenError if status in _NOT_TAKEN else RadScribeError
        return kind(
            f"the endpoint '{url}' does not take the question (status {status}{self._words(error)})",
            f"See whether --{FIELD}model {self.config.model} is a chat model, {_OTHERWISE}",
        )

    def _words(self, error: APIStatusError) -> str:
        """What the endpoint says about an error, short and without the key; empty if it says nothing."""
        message = error.body.get("message") if isinstance(error.body, dict) else None
        if not isinstance(message, str) or not message.strip():
            return ""
        return f": {self._without_key(' '.join(message.split()))[:200]}"

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """How many seconds the endpoint asks to wait, as a number or until a date; None if it does not say."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
