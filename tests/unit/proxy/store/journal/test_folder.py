import subprocess
import sys
from pathlib import Path

from proxy.store.journal.folder import DAMAGED, Folder, orphans

HOLD = """
import sys
from pathlib import Path
from proxy.store.journal.folder import Folder
folder = Folder.made(Path(sys.argv[1]), "other")
print("held", flush=True)
sys.stdin.read()
"""


def test_nobody_takes_over_what_lives_and_anybody_what_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert list(orphans(tmp_path)) == []
        assert Folder.claimed(tmp_path / "other") is None
        other.kill()
    [orphan] = orphans(tmp_path)
    assert orphan.path == tmp_path / "other"
    assert list(orphans(tmp_path)) == [], "one owner"
    orphan.release()
    [again] = orphans(tmp_path)
    again.delete()
    assert list(tmp_path.iterdir()) == []


def test_who_made_a_folder_owns_it(tmp_path: Path) -> None:
    folder = Folder.made(tmp_path / "deep" / "journal", "a")
    assert folder.path.is_dir()
    assert Folder.claimed(folder.path) is None
    folder.release()


def test_a_folder_deleted_meanwhile_is_nobodys(tmp_path: Path) -> None:
    assert Folder.claimed(tmp_path / "gone") is None
    assert list(orphans(tmp_path / "nowhere")) == []


def test_what_is_kept_aside_is_no_folder(tmp_path: Path) -> None:
    folder = Folder.made(tmp_path, "a")
    aside = folder.keep_aside("1", [b"x\n", b"y\n"])
    assert aside.read_bytes() == b"x\ny\n"
    assert aside.parent.name == DAMAGED
    folder.release()
    [left] = orphans(tmp_path)
    assert left.path == folder.path
    left.release()
