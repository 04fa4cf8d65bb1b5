"""What comments, docstrings and documents mention of the tree: files, folders, dotted names, and whether they exist."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
ROOMS = "proxy|engine|policies|tests|dashboards|deploy"
_FILE = re.compile(r"(?<![\w/.@:-])(?:\.?[\w-]+/)*[\w-]+\.(?:py|lua|md|toml|yml|yaml|json|jsonl|sh|c)\b(?![-/]|\.\w)")
_FOLDER = re.compile(rf"(?<![\w/.@:-])(?:{ROOMS})/[\w./-]*\w")
_DOTTED = re.compile(r"(?<![\w/.@:-])(?:proxy|engine|policies|tests)(?:\.\w+)+")
_TRIPLE = re.compile(r'[rbf]*"""')

NOT_OURS = {
    "chat_completion/serving.py",
    "completion/serving.py",
    "docs/coding/two-phase-transfers.md",
    "entrypoints/openai/chat_completion/protocol.py",
    "entrypoints/openai/chat_completion/serving.py",
    "entrypoints/openai/completion/protocol.py",
    "entrypoints/pooling/embed/protocol.py",
    "renderers/chat_utils.py",
    "uvicorn/protocols/http/httptools_impl.py",
    "vllm/envs.py",
    "vllm/v1/core/kv_cache_manager.py",
}
"""Sources: files of vLLM, uvicorn and TigerBeetle."""
MADE_LATER = {"my.toml", "tollway.toml", "table.md", "results.json"}
"""Files that somebody has after a command, or writes."""


def _listed() -> Iterator[str]:
    """Yield the checkout's files: those of its rooms, and those beside them."""
    yield from (path.name for path in sorted(ROOT.iterdir()) if path.is_file())
    for room in (*ROOMS.split("|"), ".ci"):
        for path in sorted((ROOT / room).rglob("*")):
            if path.is_file() and not {"__pycache__", "build"} & set(path.parts):
                yield path.relative_to(ROOT).as_posix()


FILES = [*_listed()]
PLACES = set(FILES) | {parent.as_posix() for name in FILES for parent in PurePosixPath(name).parents}
COMMENT_OF = {".lua": "--", ".toml": "#", ".yml": "#", ".yaml": "#", ".sh": "#", "": "#"}
SAYING = [name for name in FILES if not name.startswith("tests/data/") and name not in ("LICENSE", ".gitignore")]


def prose(name: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that speak to people, each with its number."""
    suffix = PurePosixPath(name).suffix
    if suffix == ".py":
        yield from prose_of_python((ROOT / name).read_text())
    elif suffix == ".md":
        yield from enumerate((ROOT / name).read_text().splitlines(), 1)
    elif suffix in COMMENT_OF:
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            yield number, line.partition(COMMENT_OF[suffix])[2]


def prose_of_python(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and _TRIPLE.match(token.string)):
            yield from enumerate(token.string.splitlines(), token.start[0])


def mentioned(name: str) -> Iterator[tuple[str, str]]:
    """Yield where a file mentions what."""
    for number, line in prose(name):
        for pattern in (_FILE, _FOLDER, _DOTTED):
            yield from ((f"{name}:{number}", found) for found in pattern.findall(line))


def exists(mention: str, where: str) -> bool:
    """Tell whether a mention leads somewhere: from the root, or from a folder above where it stands."""
    above = PurePosixPath(where).parents
    return mention in NOT_OURS | MADE_LATER or any((folder / mention).as_posix() in PLACES for folder in above)


def is_named(mention: str) -> bool:
    """Tell whether a dotted name is a module's, or stands in the module that it begins with."""
    parts = mention.split(".")
    for end in range(len(parts), 0, -1):
        path = "/".join(parts[:end])
        module = next((file for file in (f"{path}.py", f"{path}/__init__.py") if file in PLACES), None)
        if module is not None:
            said = (ROOT / module).read_text()
            return all(re.search(rf"\b{part}\b", said) for part in parts[end:])
        if path in PLACES:
            return end == len(parts)
    return False
