"""`tollway usage` before it reaches a ledger: its options, and what it says when it cannot."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.main import tollway


def run(*args: str) -> Result:
    return CliRunner().invoke(tollway, ["usage", *args])


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--from", "yesterday"], "'yesterday' is not a day such as 2026-11-01"),
        (["--from", "2026-11-02", "--to", "2026-11-02"], "must be before --to"),
        (["--group-by", "tenant,colour"], "is not some of tenant,user,model"),
        (["--group-by", "user,user"], "each once"),
        (["--group-by", ""], "is not some of tenant,user,model"),
        (["--format", "parquet"], "'parquet' is not one of 'table', 'csv', 'json'"),
    ],
)
def test_a_wrong_option_is_told_and_ends_with_2(args: list[str], told: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert told in result.output


def test_the_help_has_examples() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "tollway usage --from 2026-11-01 --to 2026-12-01" in result.output


def test_without_the_embedded_redis_it_says_how_to_start_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLWAY__REDIS__DATA_DIR", str(tmp_path))
    result = run()
    assert result.exit_code == 1
    assert "is not running; `tollway up` starts it" in result.output
    assert "Traceback" not in result.output


def test_a_redis_that_does_not_answer_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLWAY__REDIS__URL", f"unix://{tmp_path}/nobody.sock")
    result = run()
    assert result.exit_code == 1
    assert result.output == "Error: Redis does not answer, so there is no report; look at [redis] in the config\n"
