"""`tollway sim`: one simulated vLLM replica, alone. Imports the simulation only when it runs."""

import click


@click.command(epilog="Example: tollway sim --port 8201 --model demo --decode-ms-per-token 20 --max-num-seqs 16")
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="Port to listen on; 0 takes any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("demo",),
    show_default=True,
    help="Served model name; repeat it for aliases, answers carry the first.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed and prompt, same text.")
@click.option("--max-num-seqs", type=click.IntRange(1), default=64, show_default=True, help="Sequences run at once.")
@click.option(
    "--max-num-queued-reqs",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Answer 503 once this many wait; 0 never does.",
)
@click.option("--max-model-len", type=click.IntRange(2), default=8192, show_default=True, help="Context, in tokens.")
@click.option(
    "--prefill-us-per-token",
    type=click.IntRange(0),
    default=50,
    show_default=True,
    help="Microseconds per prompt token that is not cached.",
)
@click.option(
    "--decode-ms-per-token",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    help="Milliseconds per generated token.",
)
@click.option(
    "--slowdown-per-mille",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    help="Thousandths by which each further running sequence stretches these times.",
)
@click.option("--block-size", type=click.IntRange(1), default=16, show_default=True, help="Tokens per cache block.")
@click.option("--num-blocks", type=click.IntRange(0), default=4096, show_default=True, help="Blocks of prefix cache.")
@click.option(
    "--natural-tokens", type=click.IntRange(1), default=64, show_default=True,
    help="Mean length of a completion that nothing cuts.",
)  # fmt: skip
def sim(host: str, port: int, decode_ms_per_token: float, **size: int | tuple[str, ...]) -> None:
    """
    Run one simulated vLLM replica until Ctrl-C or SIGTERM.

    Prints "ready http://host:port" when it listens. Faults are set while it runs: POST /sim/faults.
    """
    from engine.sim.config import SimConfig
    from engine.sim.server import serve

    serve(SimConfig(decode_us_per_token=round(decode_ms_per_token * 1000), **size), host, port)  # type: ignore[arg-type]
