"""
What one worker of several may take: of the replicas, of connections and of memory for bodies.

Rules: what all workers use of a replica together is never more than its `sequences`, and each has at least one. Bounds
that protect the machine are shared out rounded up, so that none becomes 0. What a replica's room leaves over goes to
other workers than that of the replica before it.
"""

from collections.abc import Iterator

from proxy.fatal import Fatal
from proxy.settings import Settings
from proxy.settings.sections import ModelSection


class TooFewSequences(Fatal):
    """There are more workers than a replica has sequences; the message names each such replica."""


def shared_out(settings: Settings, workers: int) -> tuple[Settings, ...]:
    """
    Return the config of each worker.

    Raises: TooFewSequences.
    """
    narrow = [
        f"{replica.name} of {model.name} has {replica.sequences}"
        for model in settings.models
        for replica in model.replicas
        if replica.sequences < workers
    ]
    if narrow:
        raise TooFewSequences(f"{workers} workers need a sequence each on every replica: {', '.join(narrow)}")
    return tuple(_share(settings, workers, place) for place in range(workers))


def _share(settings: Settings, workers: int, place: int) -> Settings:
    listen, limits = settings.listen, settings.limits
    of_listen = {
        "connections_max": _rounded_up(listen.connections_max, workers),
        "connections_per_address_max": _rounded_up(listen.connections_per_address_max, workers),
    }
    # A worker that could not hold the largest body would refuse it for good.
    bodies = max(_rounded_up(limits.bodies_bytes_max, workers), min(limits.bodies_bytes_max, limits.body_bytes_max))
    return settings.model_copy(
        update={
            "listen": listen.model_copy(update=of_listen),
            "limits": limits.model_copy(update={"bodies_bytes_max": bodies}),
            "models": tuple(_narrowed(settings.models, workers, place)),
        }
    )


def _narrowed(models: tuple[ModelSection, ...], workers: int, place: int) -> Iterator[ModelSection]:
    left_over = 0
    for model in models:
        replicas = []
        for replica in model.replicas:
            each, rest = divmod(replica.sequences, workers)
            one_more = (place - left_over) % workers < rest
            replicas.append(replica.model_copy(update={"sequences": each + one_more}))
            left_over += rest
        yield model.model_copy(update={"replicas": tuple(replicas)})


def _rounded_up(total: int, workers: int) -> int:
    return -(-total // workers)
