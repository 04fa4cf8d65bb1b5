"""What a scrape of a gateway says."""

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families


def samples(text: str, of: str = "") -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield the name, labels and value of each sample of an exposition whose name begins with `of`."""
    # The library reads some 20,000 lines a second: it is given what is asked for.
    asked = "".join(f"{line}\n" for line in text.split("\n") if line.startswith(of)) if of else text
    for family in text_string_to_metric_families(asked):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def total(text: str, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples that carry these labels."""
    return sum(value for known, has, value in samples(text, of=name) if known == name and labels.items() <= has.items())
