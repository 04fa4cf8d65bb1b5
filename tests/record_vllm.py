"""
Record what a real vLLM replica answers, as test data: run by hand against a replica that serves the model `demo`.

    python tests/record_vllm.py 127.0.0.1:8201 tests/data/vllm-0.32.0
    python tests/record_vllm.py 127.0.0.1:8201 tests/data/vllm-0.32.0 --only overload
    python tests/record_vllm.py 127.0.0.1:8201 tests/data/vllm-0.32.0 --only abort-by-id
    python tests/record_vllm.py 127.0.0.1:8201 tests/data/vllm-0.32.0 --end abort --pid API_SERVER
    python tests/record_vllm.py 127.0.0.1:8201 tests/data/vllm-0.32.0 --end crash --pid ENGINE_CORE

One JSON file per case: the request as it was sent, the response head, and the body as the list of its HTTP chunks, so
that a test can see the framing that a client library hides. Cases run in file-name order; some depend on the ones
before them (the prefix cache). A stream that is recorded for its end keeps its first and last chunks only: `elided`
says how many were left out, and after how many of the kept ones.

It speaks HTTP/1.1 itself: no library, nothing between the socket and the file.
"""

import argparse
import asyncio
import json
import os
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

HELLO = [{"role": "user", "content": "hello world"}]
PARAGRAPH = "the people of this world made a long way down to the water and back again in one day, so they said. "
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
CONTINUOUS = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
CHANCE = {"temperature": 1, "seed": 7}
KEPT_AT_EACH_END = 4
DEADLINE_S = 40


@dataclass(frozen=True)
class Case:
    """One request to record; `raw` stands for a body that is not JSON."""

    name: str
    method: str
    path: str
    body: dict[str, Any] | None = None
    raw: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def payload(self) -> bytes:
        """Return the bytes of the body."""
        return (self.raw or (json.dumps(self.body) if self.body is not None else "")).encode()


def chat(name: str, **extra: Any) -> Case:
    """Return a chat case: eight tokens, none of them chance, unless told otherwise."""
    body = {"model": "demo", "messages": HELLO, "max_tokens": 6, "temperature": 0, "ignore_eos": True} | extra
    return Case(name, "POST", "/v1/chat/completions", body)


def completion(name: str, **extra: Any) -> Case:
    """Return a completions case."""
    body = {"model": "demo", "prompt": "hello world", "max_tokens": 6, "temperature": 0, "ignore_eos": True} | extra
    return Case(name, "POST", "/v1/completions", body)


@dataclass(frozen=True)
class ById:
    """A request that is aborted by its ids, while it runs or before its first token."""

    case: Case
    ids: tuple[str, ...]
    held: bool


def by_id(case: Case, *ids: str, held: bool = False) -> ById:
    """Return a case with the request id `r`, to be aborted by the ids that vLLM makes of it."""
    return ById(replace(case, headers={"X-Request-Id": "r"}), ids, held)


def abort_of(name: str, *ids: str) -> Case:
    """Return the case that aborts requests by their ids."""
    return Case(name, "POST", "/abort_requests", {"request_ids": ids})


LONG = [{"role": "user", "content": PARAGRAPH * 3}]
TOO_LONG = [{"role": "user", "content": "zq" * 4000}]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]

CASES = [
    Case("001-health", "GET", "/health"),
    Case("002-version", "GET", "/version"),
    Case("003-models", "GET", "/v1/models"),
    Case("004-not-found", "GET", "/v1/nothing"),
    Case("005-method-not-allowed", "GET", "/v1/chat/completions"),
    chat("100-chat"),
    chat("101-chat-n2", n=2, **CHANCE),
    chat("102-chat-logprobs", max_tokens=2, logprobs=True, top_logprobs=2),
    chat("103-chat-stop", stop=["\n\n\n"], max_tokens=40, ignore_eos=False),
    Case("104-chat-request-id", "POST", "/v1/chat/completions", chat("").body, headers={"X-Request-Id": "r"}),
    chat("105-chat-parts", messages=[{"role": "user", "content": [{"type": "text", "text": "hello world"}]}]),
    chat("106-chat-max-completion-tokens", max_completion_tokens=2),
    chat("107-chat-min-tokens", min_tokens=3, max_tokens=4, ignore_eos=False),
    chat("108-chat-tool-choice-none", tools=TOOLS, tool_choice="none", max_tokens=2),
    chat("109-chat-no-model", model=None, max_tokens=2),
    chat("120-chat-stream", stream=True),
    chat("121-chat-stream-usage", **USAGE),
    chat("122-chat-stream-continuous", **CONTINUOUS),
    chat("123-chat-stream-n2-continuous", n=2, max_tokens=3, **CHANCE, **CONTINUOUS),
    chat("124-chat-stream-n2", n=2, max_tokens=3, stream=True, **CHANCE),
    chat("125-chat-stream-logprobs", max_tokens=2, logprobs=True, top_logprobs=2, **USAGE),
    chat("126-chat-stream-stop", stop=["\n\n\n"], max_tokens=40, ignore_eos=False, **CONTINUOUS),
    chat("127-chat-stream-continuous-alone", stream=True, stream_options={"continuous_usage_stats": True}),
    chat("128-chat-stream-usage-false", stream=True, stream_options={"include_usage": False}),
    chat("129-chat-stream-one-token", max_tokens=1, **CONTINUOUS),
    Case("130-chat-stream-request-id", "POST", "/v1/chat/completions", chat("", max_tokens=2, **USAGE).body,
         headers={"X-Request-Id": "r"}),
    chat("140-chat-cold", messages=LONG, max_tokens=2),
    chat("141-chat-cached", messages=LONG, max_tokens=2),
    chat("142-chat-stream-cached", messages=LONG, max_tokens=2, **CONTINUOUS),
    chat("143-chat-salted", messages=LONG, max_tokens=2, cache_salt="other"),
    completion("200-completion"),
    completion("201-completion-token-ids", prompt=[300, 301, 302, 303]),
    completion("202-completion-list-n2", prompt=["hello", "hello world and them"], n=2, max_tokens=3, **CHANCE),
    completion("203-completion-default-max", prompt="hello", max_tokens=None, temperature=0),
    completion("204-completion-logprobs", logprobs=2, max_tokens=2),
    completion("205-completion-token-id-lists", prompt=[[300, 301], [302, 303, 304]], max_tokens=2),
    completion("206-completion-block-multiple-cold", prompt=list(range(400, 464)), max_tokens=2),
    completion("207-completion-block-multiple-cached", prompt=list(range(400, 464)), max_tokens=2),
    completion("220-completion-stream", stream=True),
    completion("221-completion-stream-usage", **USAGE),
    completion("222-completion-stream-continuous", **CONTINUOUS),
    completion("223-completion-stream-list-n2-continuous", prompt=["hello", "hello world and them"], n=2, max_tokens=2,
               **CHANCE, **CONTINUOUS),
    completion("224-completion-stream-logprobs", logprobs=2, max_tokens=2, **USAGE),
    completion("225-completion-stream-list-cached", prompt=[list(range(400, 464)), [300, 301]], max_tokens=2,
               **CONTINUOUS),
    chat("300-unknown-model", model="nobody"),
    chat("301-unknown-model-stream", model="nobody", stream=True),
    Case("302-broken-json", "POST", "/v1/chat/completions", raw='{"model": "demo", "messages": [',
         headers={"content-type": "application/json"}),
    chat("303-prompt-too-long", messages=TOO_LONG),
    chat("304-prompt-too-long-stream", messages=TOO_LONG, stream=True),
    chat("305-max-tokens-zero", max_tokens=0),
    chat("306-max-tokens-over", max_tokens=100_000),
    chat("307-stream-options-without-stream", stream_options={"include_usage": True}),
    chat("308-bad-logprobs", logprobs=True, top_logprobs=30),
    chat("309-bad-logprobs-stream", logprobs=True, top_logprobs=30, stream=True),
    Case("310-wrong-content-type", "POST", "/v1/chat/completions", chat("").body,
         headers={"content-type": "text/plain"}),
    Case("311-no-messages", "POST", "/v1/chat/completions", {"model": "demo"}),
    completion("312-completion-bad-logprobs-stream", logprobs=30, stream=True),
    completion("313-completion-prompt-too-long", prompt="zq" * 4000),
    completion("314-completion-no-prompt", prompt=None),
    completion("315-completion-max-tokens-zero", max_tokens=0),
    chat("316-bad-temperature", temperature=-1),
    chat("317-bad-n", n=0),
    chat("318-bad-type", max_tokens="six"),
    chat("319-bad-temperature-stream", temperature=-1, stream=True),
    completion("320-completion-stream-options-without-stream", stream_options={"include_usage": True}),
    completion("321-completion-unknown-model", model="nobody"),
    chat("322-empty-messages", messages=[]),
    chat("323-min-over-max", min_tokens=9),
    completion("324-completion-empty-prompt", prompt=""),
    chat("325-greedy-n2", n=2),
    chat("326-tool-choice-auto", tools=TOOLS),
    Case("327-body-is-a-list", "POST", "/v1/chat/completions", raw="[]"),
    Case("330-embeddings-on-a-generator", "POST", "/v1/embeddings", {"model": "demo", "input": "hello world"}),
]  # fmt: skip

BUSY = chat("", max_tokens=1500, stream=True)
OVERLOAD = [
    chat("400-overload", max_tokens=2),
    chat("401-overload-stream", max_tokens=2, **CONTINUOUS),
    completion("402-overload-completion-stream", max_tokens=2, stream=True),
]
"""Need a replica with `--max-num-seqs 1 --max-num-queued-reqs 1`."""

BY_ID = [
    by_id(chat("420-by-id-stream", max_tokens=2000, **CONTINUOUS), "chatcmpl-r"),
    by_id(chat("421-by-id", max_tokens=2000), "chatcmpl-r"),
    by_id(chat("422-by-id-stream-n2", max_tokens=1500, n=2, **CHANCE, **CONTINUOUS), "chatcmpl-r"),
    by_id(completion("423-by-id-completion-stream", max_tokens=2000, **CONTINUOUS), "cmpl-r-0"),
    by_id(completion("424-by-id-completion-list-n2", prompt=["hello", "hello world and them"], max_tokens=1500, n=2,
                     **CHANCE), "cmpl-r-0", "cmpl-r-1"),
    by_id(chat("425-by-id-held-stream", **CONTINUOUS), "chatcmpl-r", held=True),
    by_id(chat("426-by-id-held", n=2, **CHANCE), "chatcmpl-r", held=True),
    by_id(completion("427-by-id-held-completion-stream", prompt=["hello", "hello world and them"], **CONTINUOUS),
          "cmpl-r-0", "cmpl-r-1", held=True),
]  # fmt: skip
"""Need a replica with `VLLM_SERVER_DEV_MODE=1`; the last of them are met before their first token."""

BY_ID_ANSWERS = [
    abort_of("430-by-id-unknown", "chatcmpl-nobody", "cmpl-nobody-0"),
    Case("431-by-id-broken-json", "POST", "/abort_requests", raw="{"),
    Case("432-by-id-list", "POST", "/abort_requests", raw="[]"),
]

ENDS = {"abort": signal.SIGTERM, "crash": signal.SIGKILL}
"""SIGTERM goes to the API server, SIGKILL to its EngineCore: name that one with `--pid`."""


class Reader:
    """Reads one HTTP/1.1 response and keeps its chunks apart."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def head(self) -> tuple[int, list[list[str]]]:
        """Return the status and the header fields in their order."""
        status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        return int(status.split()[1]), [line.split(": ", 1) for line in lines]

    async def chunks(self, headers: list[list[str]], halfway: asyncio.Event) -> list[str]:
        """Return the body, its HTTP chunks or its one measured piece; tell when it is well under way."""
        fields = {name.lower(): value for name, value in headers}
        if "transfer-encoding" not in fields:
            return [(await self._reader.readexactly(int(fields.get("content-length", "0")))).decode()]
        chunks = []
        while size := int(await self._reader.readline(), 16):
            chunks.append((await self._reader.readexactly(size)).decode())
            await self._reader.readexactly(2)
            if len(chunks) > 2 * KEPT_AT_EACH_END:
                halfway.set()
        return chunks


async def send(address: str, case: Case) -> tuple[Reader, asyncio.StreamWriter]:
    """Open a connection and send the case's request."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
    payload = case.payload()
    fields = {"host": address, "connection": "close"}
    if case.method == "POST":
        fields |= {"content-type": "application/json", "content-length": str(len(payload))}
    fields |= case.headers
    lines = [f"{case.method} {case.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    writer.write("\r\n".join(lines).encode() + payload)
    return Reader(reader), writer


async def record(address: str, case: Case, halfway: asyncio.Event | None = None) -> dict[str, Any]:
    """Send one request and return its transcript."""
    reader, writer = await send(address, case)
    async with asyncio.timeout(DEADLINE_S):
        status, headers = await reader.head()
        response = {
            "status": status,
            "headers": headers,
            "chunks": await reader.chunks(headers, halfway or asyncio.Event()),
        }
    writer.close()
    request = {"method": case.method, "path": case.path, "headers": case.headers, "body": case.body, "raw": case.raw}
    return {"vllm": "0.32.0", "request": request, "response": response}


def save(folder: Path, name: str, transcript: dict[str, Any]) -> None:
    """Write one transcript."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(transcript, indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


async def record_overload(address: str, folder: Path) -> None:
    """Record what a full waiting queue answers, while two streams fill the replica."""
    busy = [await send(address, BUSY) for _ in range(2)]
    await asyncio.sleep(0.3)
    for case in OVERLOAD:
        save(folder, case.name, await record(address, case))
    for _, writer in busy:
        writer.close()


async def record_aborted(address: str, one: ById) -> dict[str, Any]:
    """Send one request, abort it by its ids, and return its transcript."""
    if one.held:
        await record(address, Case("", "POST", "/pause?mode=keep"))
    try:
        aborted = asyncio.create_task(record(address, one.case))
        # An abort that comes before the replica knows the request does nothing, so it is sent until the request ends.
        while not aborted.done():
            await asyncio.wait({aborted}, timeout=0.3)
            await record(address, abort_of("", *one.ids))
        return ends_of(await aborted)
    finally:
        if one.held:
            await record(address, Case("", "POST", "/resume"))


async def record_by_id(address: str, folder: Path) -> None:
    """Record what an aborted request answers, and what the abort does."""
    for one in BY_ID:
        save(folder, one.case.name, await record_aborted(address, one))
    for case in BY_ID_ANSWERS:
        save(folder, case.name, await record(address, case))


def ends_of(transcript: dict[str, Any]) -> dict[str, Any]:
    """Leave the first and the last chunks of a long stream."""
    response = transcript["response"]
    chunks = response["chunks"]
    if len(chunks) > 2 * KEPT_AT_EACH_END:
        response["elided"] = {"after": KEPT_AT_EACH_END, "count": len(chunks) - 2 * KEPT_AT_EACH_END}
        response["chunks"] = chunks[:KEPT_AT_EACH_END] + chunks[-KEPT_AT_EACH_END:]
    return transcript


async def record_end(address: str, folder: Path, end: str, pid: int) -> None:
    """Record how a stream and a plain request end when a signal meets the replica halfway."""
    stream = chat(f"41{list(ENDS).index(end) * 2}-{end}-stream", max_tokens=2000, **CONTINUOUS)
    plain = chat(f"41{list(ENDS).index(end) * 2 + 1}-{end}", max_tokens=2000)
    halfway = asyncio.Event()
    running = [asyncio.create_task(record(address, case, halfway)) for case in (plain, stream)]
    await halfway.wait()
    os.kill(pid, ENDS[end])
    for case, transcript in zip((plain, stream), await asyncio.gather(*running, return_exceptions=True), strict=True):
        if isinstance(transcript, BaseException):
            print(f"{case.name}: no answer ({transcript!r})")  # noqa: T201
            continue
        save(folder, case.name, ends_of(transcript))


async def main() -> None:
    """Record what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=["overload", "abort-by-id"])
    parser.add_argument("--end", choices=list(ENDS))
    parser.add_argument("--pid", type=int)
    asked = parser.parse_args()
    if asked.end:
        await record_end(asked.address, asked.folder, asked.end, asked.pid)
    elif asked.only == "abort-by-id":
        await record_by_id(asked.address, asked.folder)
    elif asked.only:
        await record_overload(asked.address, asked.folder)
    else:
        for case in CASES:
            save(asked.folder, case.name, await record(asked.address, case))


if __name__ == "__main__":
    asyncio.run(main())
