"""What a scrape of a gateway says."""

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families


def samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield each sample of an exposition: its name, labels and value."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def total(text: str, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples that carry these labels."""
    return sum(value for known, has, value in samples(text) if known == name and labels.items() <= has.items())
