"""
A table of hostile requests against a gateway as it runs: each gets its error, none a 500, and the next one works.

The shapes of heads and framing that the guard refuses have a table of their own in `tests/integration/test_guard.py`;
here stand some of each kind, and what comes behind them: paths, tokens, bodies, parameters.
"""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.gateway import Running
from tests.raw_http import RawClient, connected

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
SAID = {"role": "user", "content": "hi"}
TOKEN = b"@TOKEN@"
"""Stands for a sound token."""


def http(
    *fields: bytes,
    body: bytes = b"",
    path: bytes = b"/v1/chat/completions",
    method: bytes = b"POST",
    bearer: bytes | None = TOKEN,
) -> bytes:
    token = [] if bearer is None else [b"Authorization: Bearer " + bearer]
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: here", *token, *fields]
    framed = any(field.lower().startswith((b"content-length", b"transfer-encoding")) for field in fields)
    if not framed:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


def chat(**fields: Any) -> bytes:
    """Ask with these fields besides or instead; None leaves one out."""
    return raw(json.dumps({key: value for key, value in (CHAT | fields).items() if value is not None}).encode())


def raw(body: bytes, path: bytes = b"/v1/chat/completions") -> bytes:
    return http(b"Content-Type: application/json", body=body, path=path)


def completion(**fields: Any) -> bytes:
    return raw(json.dumps({"model": "demo", "prompt": "hi", "max_tokens": 1} | fields).encode(), b"/v1/completions")


def part(**fields: Any) -> bytes:
    return chat(messages=[{"role": "user", "content": [fields]}])


CHUNKED = b"Transfer-Encoding: chunked"
BAD, UNKNOWN, METHOD = "invalid_request", "not_found", "method_not_allowed"
TABLE: dict[str, tuple[bytes, int, str]] = {
    # --- heads and framing
    "length beside chunks": (http(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n"), 400, BAD),
    "two lengths": (http(b"Content-Length: 5", b"Content-Length: 6", body=b"12345"), 400, BAD),
    "identity, chunked": (http(b"Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n"), 400, BAD),
    "a space before the colon": (http(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), 400, BAD),
    "a folded line": (http(b"X: a\r\n b"), 400, BAD),
    "bare line feeds": (b"GET /v1/models HTTP/1.1\nHost: here\n\n", 400, BAD),
    "a NUL": (http(b"X: a\0b"), 400, BAD),
    "no host": (b"GET /v1/models HTTP/1.1\r\n\r\n", 400, BAD),
    "two hosts": (http(b"Host: there"), 400, BAD),
    "two tokens": (http(b"Authorization: Bearer x"), 400, BAD),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, BAD),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32), 400, BAD),
    "bytes": (bytes(range(256)) * 4, 400, BAD),
    "an absolute target": (http(path=b"http://here/v1/models", method=b"GET"), 400, BAD),
    "a large field": (http(b"X: " + b"a" * 40_000), 431, "headers_too_large"),
    "8 MB of fields": (http(*[b"X-%d: " % n + b"a" * 8_000 for n in range(1_000)]), 431, "headers_too_large"),
    "too many fields": (http(*[b"X-%d: a" % n for n in range(200)]), 431, "headers_too_large"),
    "a long target": (http(path=b"/v1/models?" + b"a" * 10_000, method=b"GET"), 414, "target_too_long"),
    "CONNECT": (http(path=b"here:80", method=b"CONNECT"), 405, METHOD),
    "TRACE": (http(method=b"TRACE"), 405, METHOD),
    "a bad chunk": (http(CHUNKED, body=b"zz\r\n"), 400, BAD),
    "an endless extension": (http(CHUNKED, body=b"1;" + b"a" * 500_000), 400, BAD),
    # --- paths and methods
    "two slashes": (http(path=b"//v1/models", method=b"GET"), 400, BAD),
    "dots": (http(path=b"/v1/../metrics", method=b"GET"), 400, BAD),
    "encoded dots": (http(path=b"/v1/%2e%2e/metrics", method=b"GET"), 400, BAD),
    "an encoded slash": (http(path=b"/v1%2Fmodels", method=b"GET"), 400, BAD),
    "an encoded NUL": (http(path=b"/v1/models/%00", method=b"GET"), 400, BAD),
    "a path of nobody": (http(path=b"/v1/nothing"), 404, UNKNOWN),
    "the root": (http(path=b"/", method=b"GET"), 404, UNKNOWN),
    "metrics": (http(path=b"/metrics", method=b"GET"), 404, UNKNOWN),
    "an engine's path": (http(path=b"/v1/load_lora_adapter"), 404, UNKNOWN),
    "another": (http(path=b"/tokenize"), 404, UNKNOWN),
    "sleep": (http(path=b"/sleep"), 404, UNKNOWN),
    "invocations": (http(path=b"/invocations"), 404, UNKNOWN),
    "capitals": (http(path=b"/V1/chat/completions"), 404, UNKNOWN),
    "a path parameter": (http(path=b"/v1/chat/completions;x=1"), 404, UNKNOWN),
    "GET": (http(method=b"GET"), 405, METHOD),
    "DELETE": (http(method=b"DELETE"), 405, METHOD),
    "PUT of models": (http(path=b"/v1/models", method=b"PUT"), 405, METHOD),
    "a model of nobody": (http(path=b"/v1/models/%F0%9F%98%80", method=b"GET"), 404, "model_not_found"),
    "a model with a path": (http(path=b"/v1/models/a%2F..%2Fdemo", method=b"GET"), 404, "model_not_found"),
    # --- tokens
    "no token": (http(bearer=None), 401, "invalid_api_key"),
    "an empty token": (http(bearer=b""), 401, "invalid_api_key"),
    "a word": (http(bearer=b"sk-anything"), 401, "invalid_api_key"),
    "dots alone": (http(bearer=b".."), 401, "invalid_api_key"),
    "alg none": (http(bearer=b"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0."), 401, "invalid_api_key"),
    "no JSON": (http(bearer=b"YQ.YQ.YQ"), 401, "invalid_api_key"),
    "a JSON list": (http(bearer=b"W10.W10.W10"), 401, "invalid_api_key"),
    "JSON null": (http(bearer=b"bnVsbA.bnVsbA.bnVsbA"), 401, "invalid_api_key"),
    "a large token": (http(bearer=b"a" * 20_000), 401, "invalid_api_key"),
    "dots without end": (http(bearer=b"." * 10_000), 401, "invalid_api_key"),
    "bytes beyond ASCII": (http(bearer=b"\xff\xfe\xe9"), 401, "invalid_api_key"),
    "a changed signature": (http(bearer=TOKEN + b"A"), 401, "invalid_api_key"),
    "another scheme": (http(b"Authorization: Basic YTpi", bearer=None), 401, "invalid_api_key"),
    # --- bodies
    "gzip": (http(b"Content-Encoding: gzip", body=b"x"), 415, "unsupported_media_type"),
    "a form": (http(b"Content-Type: application/x-www-form-urlencoded", body=b"model=demo"), 400, BAD),
    "multipart": (http(b"Content-Type: multipart/form-data; boundary=x", body=b"--x"), 400, BAD),
    "nothing": (raw(b""), 400, BAD),
    "a space": (raw(b" "), 400, BAD),
    "half an object": (raw(b'{"model":"demo"'), 400, BAD),
    "a list": (raw(b"[]"), 400, BAD),
    "null": (raw(b"null"), 400, BAD),
    "a number": (raw(b"1e999"), 400, BAD),
    "NaN": (raw(b'{"model":"demo","temperature":NaN}'), 400, BAD),
    "infinity": (raw(b'{"model":"demo","temperature":1e999}'), 400, BAD),
    "digits": (raw(b'{"model":"demo","n":' + b"9" * 100_000 + b"}"), 400, BAD),
    "two objects": (raw(b"{}{}"), 400, BAD),
    "no UTF-8": (raw(b'{"model":"\xff\xfe"}'), 400, BAD),
    "UTF-16": (raw('{"model":"demo"}'.encode("utf-16")), 400, BAD),
    "a byte order mark": (raw(b"\xef\xbb\xbf" + json.dumps(CHAT).encode()), 400, BAD),
    "half a surrogate": (raw(rb'{"model":"\ud800"}'), 400, BAD),
    "a NUL in JSON": (raw(b'{"model":"de\0mo"}'), 400, BAD),
    "depth": (raw(b'{"model":"demo","messages":' + b"[" * 5_000 + b"]" * 5_000 + b"}"), 400, BAD),
    "moderate depth": (raw(b'{"model":"demo","messages":' + b"[" * 100 + b"]" * 100 + b"}"), 400, BAD),
    "many lists": (raw(b'{"x":[' + b"[]," * 100_000 + b"1]}"), 400, BAD),
    "many strings": (raw(b'{"x":[' + b'"",' * 300_000 + b"1]}"), 400, BAD),
    "many numbers": (raw(b'{"x":[' + b"1," * 1_000_000 + b"1]}"), 400, BAD),
    "too large": (raw(b'{"x":"' + b"a" * 11_000_000 + b'"}'), 413, "request_too_large"),
    "declared too large": (http(b"Content-Length: 99999999999"), 413, "request_too_large"),
    # --- parameters
    "no model": (chat(model=None), 400, BAD),
    "a model's number": (chat(model=7), 400, BAD),
    "a model's list": (chat(model=["demo"]), 400, BAD),
    "an unknown model": (chat(model="nobody"), 404, "model_not_found"),
    "a model of control characters": (chat(model="\x00\r\nX: y"), 404, "model_not_found"),
    "a long model": (chat(model="x" * 100_000), 404, "model_not_found"),
    "a model of another plan": (chat(model="narrow"), 403, "model_not_allowed"),
    "no messages": (chat(messages=None), 400, BAD),
    "empty messages": (chat(messages=[]), 400, BAD),
    "messages' text": (chat(messages="hi"), 400, BAD),
    "messages' numbers": (chat(messages=[1]), 400, BAD),
    "a message of nobody": (chat(messages=[{"content": "hi"}]), 400, BAD),
    "a role's list": (chat(messages=[{"role": ["user"], "content": "hi"}]), 400, BAD),
    "a type's list": (part(type=["text"]), 400, BAD),
    "a type's object": (part(type={"text": 1}), 400, BAD),
    "a picture": (part(type="image_url", image_url={"url": "data:image/png;base64,AA"}), 400, BAD),
    "a picture by URL": (part(type="image_url", image_url={"url": "http://169.254.169.254/"}), 400, BAD),
    "a picture's file": (part(type="image_url", image_url={"url": "file:///etc/passwd"}), 400, BAD),
    "a picture's uuid": (part(type="image_url", image_url={"url": "x"}, uuid="x"), 400, BAD),
    "stream's text": (chat(stream="perhaps"), 400, BAD),
    "stream options alone": (chat(stream_options={"include_usage": True}), 400, BAD),
    "stream options' list": (chat(stream=True, stream_options=[]), 400, BAD),
    "n of nothing": (chat(n=0), 400, BAD),
    "n below nothing": (chat(n=-1), 400, BAD),
    "n of many": (chat(n=10**9), 400, BAD),
    "n beyond 64 bits": (chat(n=10**30), 400, BAD),
    "n in parts": (chat(n=1.5), 400, BAD),
    "n's untruth": (chat(n=False), 400, BAD),
    "no tokens": (chat(max_tokens=0), 400, BAD),
    "tokens' text": (chat(max_tokens="many"), 400, BAD),
    "tokens beyond the context": (chat(max_tokens=1_000_000), 400, "context_length_exceeded"),
    "tokens behind tokens": (chat(max_tokens=1, max_completion_tokens=1_000_000), 400, "context_length_exceeded"),
    "min tokens": (chat(min_tokens=-1), 400, BAD),
    "logprobs of many": (chat(logprobs=True, top_logprobs=1_000), 400, BAD),
    "all logprobs": (chat(logprobs=True, top_logprobs=-1), 400, BAD),
    "logprobs of a completion": (completion(logprobs=1_000), 400, BAD),
    "stops of many": (chat(stop=["a"] * 100), 400, BAD),
    "a long stop": (chat(stop="a" * 10_000), 400, BAD),
    "stop's object": (chat(stop={"a": "b"}), 400, BAD),
    "tools of many": (chat(tools=[{}] * 1_000), 400, BAD),
    "a large schema": (chat(response_format={"type": "json_schema", "x": "a" * 300_000}), 400, BAD),
    "a large grammar": (completion(structured_outputs={"grammar": "a" * 300_000}), 400, BAD),
    "biases of many": (chat(logit_bias={str(n): 1 for n in range(5_000)}), 400, BAD),
    "ids of many": (chat(stop_token_ids=list(range(5_000))), 400, BAD),
    "words of many": (chat(bad_words=["a"] * 5_000), 400, BAD),
    "prompts of many": (completion(prompt=["a"] * 1_000), 400, BAD),
    "an empty prompt list": (completion(prompt=[]), 400, BAD),
    "a mixed prompt": (completion(prompt=["a", 1]), 400, BAD),
    "prompts of floats": (completion(prompt=[1.5]), 400, BAD),
    "a prompt of ids beyond the context": (completion(prompt=[1] * 10_000), 400, "context_length_exceeded"),
    "a suffix's number": (completion(suffix=1), 400, BAD),
    "inputs' object": (raw(b'{"model":"demo","input":{}}', b"/v1/embeddings"), 400, BAD),
}
ORDINARY = chat()


def test_the_table_is_long_enough() -> None:
    assert len(TABLE) >= 100


async def test_every_hostile_request_gets_its_error_and_the_next_one_works(running: Running) -> None:
    token = running.token(user="mallory").encode()
    log = running.folder / "log"
    begun = log.stat().st_size
    found = {}
    for name, (request, _, _) in TABLE.items():
        async with connected(*running.address) as client:
            await send(client, request.replace(TOKEN, token))
            answer = await client.answer()
            found[name] = (answer.status, answer.code if answer.status >= 400 else "")
            assert len(answer.headers["x-request-id"]) == 26, name
            if answer.headers.get("connection") == "close":
                assert await client.closed() == b"", name
            else:
                assert (await client.ask(ORDINARY.replace(TOKEN, token))).status == 200, name
    async with connected(*running.address) as client:
        assert (await client.ask(ORDINARY.replace(TOKEN, token))).status == 200
    assert found == {name: (status, code) for name, (_, status, code) in TABLE.items()}
    logged = logged_since(log, begun)
    assert "Traceback" not in logged
    assert token.decode() not in logged


async def send(client: RawClient, request: bytes) -> None:
    """Write a request whose answer, and whose connection's end, may come before it is written."""
    client.writer.write(request)


def logged_since(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode("utf-8", "replace")


@pytest.mark.parametrize(
    "marks",
    ["a" + "\u0300\u0316" * 200_000, "\U0001d160" * 100_000, "\ufdfa" * 100_000],
    ids=["marks", "notes", "words"],
)
async def test_a_text_that_is_costly_to_normalize_stops_nobody(running: Running, marks: str) -> None:
    token = running.token(user="mallory").encode()
    async with connected(*running.address) as client:
        answer = await client.ask(chat(messages=[SAID | {"content": marks}]).replace(TOKEN, token))
        assert answer.status in (200, 400)
        assert (await client.ask(ORDINARY.replace(TOKEN, token))).status == 200


CANARY = "CANARY7Q"
SECRET: dict[str, Any] = {"type": "function", "function": {"name": CANARY, "parameters": {CANARY: CANARY}}}
TOLD_TO_STRANGERS: dict[str, bytes] = {
    "prompt": chat(messages=[SAID | {"content": CANARY}]),
    "a broken prompt": raw(b'{"model": "demo", "messages": "' + CANARY.encode() + b'\xff"}'),
    "a prompt of a wrong type": chat(messages=CANARY),
    "a role": chat(messages=[SAID | {"role": CANARY}]),
    "an image's host": part(type="image_url", image_url={"url": f"http://{CANARY}/x"}),
    "a tool": chat(tools=[SECRET]),
    "a broken tool": chat(tools=CANARY),
    "a stop": chat(stop=[CANARY] * 50),
    "a field": chat(**{CANARY: 1}),
    "a parameter": chat(temperature=CANARY),
    "a schema": chat(response_format={"type": "json_schema", "json_schema": {"name": CANARY, "schema": CANARY}}),
    "a header": http(b"X-Note: " + CANARY.encode(), b"X-Request-Id: " + CANARY.encode(), body=b"{"),
    "a path": http(path=b"/" + CANARY.encode() + b"?" + CANARY.encode(), method=b"GET"),
    "a token": http(bearer=CANARY.encode()),
    "a token's signature": http(bearer=TOKEN + CANARY.encode()),
    "a broken head": b"GET /v1/models HTTP/1.1\r\nHost: here\r\n" + CANARY.encode() + b" : x\r\n\r\n",
}


@pytest.mark.parametrize("name", TOLD_TO_STRANGERS)
async def test_what_a_tenant_sends_stands_in_no_log_and_no_metric_nor_in_an_error_of_ours(
    running: Running, name: str
) -> None:
    log = running.folder / "log"
    begun = log.stat().st_size
    async with connected(*running.address) as client:
        answer = await client.ask(TOLD_TO_STRANGERS[name].replace(TOKEN, running.token(user="canary").encode()))
        told = answer.body.decode() if answer.status in (401, 404) else ""  # a 400 may quote its own sender
        # Who sent a field that does not go on is told its name.
        told += str({name: value for name, value in answer.headers.items() if name != "x-tollway-ignored"})
        assert CANARY not in told
        assert await ordinary_status(running) == 200
    async with httpx.AsyncClient(timeout=10, verify=False) as operator:
        metrics = (await operator.get(f"{running.admin_url}/metrics")).text
    assert CANARY not in metrics + logged_since(log, begun)


async def ordinary_status(running: Running) -> int:
    """Make an ordinary request, so that whatever the one before left behind is written by now."""
    async with connected(*running.address) as client:
        return (await client.ask(ORDINARY.replace(TOKEN, running.token(user="canary").encode()))).status
