"""The container: what is written comes back, atomically, whatever fails."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from hybridflow import __version__
from hybridflow.atomic import atomic_write
from hybridflow.container import read_container, read_document, write_container
from hybridflow.errors import ModelFileError, ResourceLimitError, UnsafePathError

DOCUMENT = {
    "name": 'Zürich \ud800 \u2028 "quoted" \\ \x00 \x7f',
    "history": {"loss": [1.5, -0.0, 1e-320, 1e300], "empty": []},
    "none": None,
    "deep": {"a": [{"b": [[True]]}]},
    "big": 2**70,
}


def example() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "members.0.weight": torch.randn(5, 3, generator=generator),
        "members.0.bias": torch.randn(5, generator=generator, dtype=torch.float64),
        "count": torch.tensor(7),
    }


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".hybridflow-")]


@contextlib.contextmanager
def without_root() -> Iterator[Path]:
    """Give a folder, and the rights of an ordinary user while it is open."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.geteuid() != 0:
            yield folder
            return
        os.chown(folder, 65534, -1)
        try:
            os.seteuid(65534)
        except PermissionError:
            pytest.skip("root here may not become an ordinary user, and may write anywhere")
        try:
            yield folder
        finally:
            os.seteuid(0)


class TestRoundTrip:
    def test_document(self, tmp_path: Path) -> None:
        write_container(tmp_path / "a", DOCUMENT, example())
        document, _ = read_container(tmp_path / "a")
        added = {"format_version": 1, "hybridflow_version": __version__}
        assert len(document.pop("sha256")) == 64
        assert document == DOCUMENT | added
        assert str(document["history"]["loss"][1]) == "-0.0"

    @pytest.mark.parametrize(
        "tensor",
        [
            torch.tensor([1.0, -0.0, 1e-45, 3e38]),
            torch.tensor([[1e-310], [2.0]], dtype=torch.float64),
            torch.tensor([1.5, -2.0], dtype=torch.float16),
            torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
            torch.tensor([2**62, -1]),
            torch.tensor([-7], dtype=torch.int32),
            torch.tensor([-7], dtype=torch.int16),
            torch.tensor([-7], dtype=torch.int8),
            torch.tensor([255], dtype=torch.uint8),
            torch.tensor([True, False, True]),
            torch.tensor(3.0),
            torch.zeros(0, 4),
            torch.arange(12.0).reshape(3, 4).T,
            torch.arange(12.0)[::3],
            torch.ones(1).expand(4),
            torch.ones(2, requires_grad=True),
        ],
        ids=lambda tensor: f"{tensor.dtype}-{tuple(tensor.shape)}-{tensor.stride()}",
    )
    def test_tensor(self, tensor: torch.Tensor, tmp_path: Path) -> None:
        write_container(tmp_path / "a", {}, {"before": torch.ones(1), "t": tensor})
        _, tensors = read_container(tmp_path / "a")
        back = tensors["t"]
        assert back.dtype == tensor.dtype
        assert back.shape == tensor.shape
        assert torch.equal(back, tensor)
        assert torch.equal(torch.signbit(back), torch.signbit(tensor))

    def test_tensors_that_share_memory(self, tmp_path: Path) -> None:
        weight = torch.arange(6.0)
        write_container(tmp_path / "a", {}, {"all": weight, "same": weight, "part": weight[2:4]})
        _, tensors = read_container(tmp_path / "a")
        assert torch.equal(tensors["same"], weight)
        assert torch.equal(tensors["part"], weight[2:4])

    def test_no_tensors(self, tmp_path: Path) -> None:
        write_container(tmp_path / "a", {"a": 1}, {})
        document, tensors = read_container(tmp_path / "a")
        assert document["a"] == 1
        assert tensors == {}

    def test_same_content_same_bytes(self, tmp_path: Path) -> None:
        write_container(tmp_path / "a", {"a": 1, "b": 2}, example())
        backwards = dict(reversed(example().items()))
        write_container(tmp_path / "b", {"b": 2, "a": 1}, backwards)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_any_safetensors_reader_can_open_it(self, tmp_path: Path) -> None:
        write_container(tmp_path / "a", {"a": 1}, example())
        with safe_open(tmp_path / "a", "pt") as file:
            assert json.loads(file.metadata()["hybridflow"])["a"] == 1
            assert torch.equal(file.get_tensor("count"), torch.tensor(7))

    def test_written_again_from_what_was_read(self, tmp_path: Path) -> None:
        write_container(tmp_path / "a", DOCUMENT, example())
        document, tensors = read_container(tmp_path / "a")
        rest = {name: document[name] for name in DOCUMENT}
        write_container(tmp_path / "b", rest, tensors)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_values_do_not_alias_each_other_or_the_writer(self, tmp_path: Path) -> None:
        write_container(tmp_path / "a", {}, example())
        _, first = read_container(tmp_path / "a")
        first["members.0.weight"].zero_()
        _, second = read_container(tmp_path / "a")
        assert torch.equal(second["members.0.weight"], example()["members.0.weight"])


class TestDocumentAlone:
    def test_equals_the_whole_reading(self, tmp_path: Path) -> None:
        write_container(tmp_path / "a", DOCUMENT, example())
        assert read_document(tmp_path / "a") == read_container(tmp_path / "a")[0]

    def test_needs_no_torch(self, tmp_path: Path) -> None:
        write_container(tmp_path / "a", DOCUMENT, example())
        code = (
            "import sys; from hybridflow.container import read_document;"
            "read_document(sys.argv[1]); print('torch' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "a")],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "False"


class TestRefusedToWrite:
    @pytest.mark.parametrize(
        "document",
        [
            {"a": float("nan")},
            {"a": [float("inf")]},
            {"a": object()},
            {"a": {1, 2}},
            {("a", "b"): 1},
            {1: "a", "1": "b"},
            {"sha256": "0"},
            {"format_version": 2},
        ],
        ids=["nan", "inf", "object", "set", "tuple-key", "keys-that-coincide", "sha", "version"],
    )
    def test_document(self, document: dict[str, object], tmp_path: Path) -> None:
        with pytest.raises(ModelFileError):
            write_container(tmp_path / "a", document, example())
        assert list(tmp_path.iterdir()) == []

    def test_document_nested_without_end(self, tmp_path: Path) -> None:
        document: dict[str, object] = {}
        document["self"] = document
        with pytest.raises(ModelFileError):
            write_container(tmp_path / "a", document, {})

    @pytest.mark.parametrize(
        "tensor",
        [
            torch.tensor([1.0, float("nan")]),
            torch.tensor(float("inf"), dtype=torch.float64),
            torch.tensor([float("-inf")], dtype=torch.bfloat16),
            torch.tensor([1j]),
        ],
        ids=["nan", "inf", "minus-inf", "complex"],
    )
    def test_tensor(self, tensor: torch.Tensor, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError, match="'poisoned'"):
            write_container(tmp_path / "a", {}, {"poisoned": tensor})
        assert list(tmp_path.iterdir()) == []

    def test_description_too_large_to_read_back(self, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError):
            write_container(tmp_path / "a", {"a": "x" * (17 * 2**20)}, {})
        with pytest.raises(ResourceLimitError):
            write_container(tmp_path / "a", {"a": [0] * 1_000_001}, {})
        assert list(tmp_path.iterdir()) == []


class TestAtomic:
    def test_mode_of_a_new_file_follows_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            write_container(tmp_path / "a", {}, {})
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640

    def test_mode_of_a_replaced_file_is_kept(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("old")
        (tmp_path / "a").chmod(0o600)
        write_container(tmp_path / "a", {}, {})
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
        read_container(tmp_path / "a")

    def test_a_link_stays_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "link").symlink_to("folder/real")
        write_container(tmp_path / "link", {"a": 1}, {})
        assert (tmp_path / "link").is_symlink()
        assert read_document(tmp_path / "folder" / "real")["a"] == 1

    def test_longest_name(self, tmp_path: Path) -> None:
        name = "ü" * 127
        write_container(tmp_path / name, {}, {})
        read_container(tmp_path / name)

    @pytest.mark.parametrize(
        "error", [RuntimeError("stop"), KeyboardInterrupt(), OSError(errno.ENOSPC, "no space")]
    )
    def test_old_file_survives_a_failing_writer(self, error: BaseException, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_text("old")

        def writer(file: object) -> None:
            file.write(b"half")  # type: ignore[attr-defined]
            raise error

        with pytest.raises(type(error)):
            atomic_write(path, writer)
        assert path.read_text() == "old"
        assert left_behind(tmp_path) == []

    @pytest.mark.parametrize("call", ["os.fsync", "os.replace", "os.open"])
    def test_old_file_survives_a_failing_system_call(
        self, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "model.hflow"
        path.write_text("old")

        def fail(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(call, fail)
        with pytest.raises(OSError, match=r"Input/output error.*model\.hflow"):
            write_container(path, {}, example())
        monkeypatch.undo()
        assert path.read_text() == "old"
        assert left_behind(tmp_path) == []

    def test_folder_that_cannot_be_synced_is_no_failure(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced = os.fsync

        def only_files(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not here")
            synced(descriptor)

        monkeypatch.setattr("os.fsync", only_files)
        write_container(tmp_path / "a", {"a": 1}, {})
        assert read_document(tmp_path / "a")["a"] == 1

    def test_over_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        with pytest.raises(IsADirectoryError, match="folder"):
            write_container(tmp_path / "folder", {}, {})

    def test_over_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UnsafePathError, match="pipe"):
            write_container(tmp_path / "pipe", {}, {})
        assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)

    def test_in_a_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"missing/a'"):
            write_container(tmp_path / "missing" / "a", {}, {})

    def test_in_a_file_as_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError, match=r"file/a'"):
            write_container(tmp_path / "file" / "a", {}, {})


class TestNoOverwriting:
    def test_existing_file_is_kept(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("old")
        with pytest.raises(FileExistsError, match="overwrite=True"):
            write_container(tmp_path / "a", {}, example(), overwrite=False)
        assert (tmp_path / "a").read_text() == "old"
        assert left_behind(tmp_path) == []

    def test_new_file_is_written(self, tmp_path: Path) -> None:
        write_container(tmp_path / "a", {"a": 1}, {}, overwrite=False)
        assert read_document(tmp_path / "a")["a"] == 1
        assert (tmp_path / "a").stat().st_nlink == 1
        assert left_behind(tmp_path) == []

    @pytest.mark.parametrize("links", [True, False], ids=["hard-links", "no-hard-links"])
    @pytest.mark.parametrize("taken", [True, False], ids=["taken-meanwhile", "free"])
    def test_race(
        self, links: bool, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not links:

            def refuse(*_: object) -> None:
                raise PermissionError(errno.EPERM, "no hard links here")

            monkeypatch.setattr("os.link", refuse)

        def writer(file: object) -> None:
            file.write(b"mine")  # type: ignore[attr-defined]
            if taken:
                (tmp_path / "a").write_text("theirs")

        expected = pytest.raises(FileExistsError) if taken else contextlib.nullcontext()
        with expected:
            atomic_write(tmp_path / "a", writer, overwrite=False)
        assert (tmp_path / "a").read_text() == ("theirs" if taken else "mine")
        assert left_behind(tmp_path) == []


class TestM21:
    """Full disk, read-only folder: an OSError, and the old file intact."""

    def test_file_size_limit(self, tmp_path: Path) -> None:
        path = tmp_path / "model.hflow"
        write_container(path, {"a": "old"}, {})
        code = (
            "import sys, resource, torch; from hybridflow.container import write_container\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
            "try: write_container(sys.argv[1], {}, {'w': torch.ones(100_000)})\n"
            "except OSError as error: print(error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
        )
        assert "File too large" in done.stdout
        assert "model.hflow" in done.stdout
        assert read_document(path)["a"] == "old"
        assert left_behind(tmp_path) == []

    @pytest.mark.skipif(
        not Path("/dev/full").exists(), reason="the device that is always full is not here"
    )
    def test_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The temporary file's bytes go to a device that is always full."""
        path = tmp_path / "model.hflow"
        path.write_text("old")
        opened = os.open

        def full(name: str, flags: int, mode: int = 0o777) -> int:
            os.close(opened(name, flags, mode))
            return opened("/dev/full", os.O_WRONLY)

        monkeypatch.setattr("os.open", full)
        with pytest.raises(OSError, match=r"No space left.*model\.hflow") as caught:
            write_container(path, {}, example())
        monkeypatch.undo()
        assert caught.value.errno == errno.ENOSPC
        assert path.read_text() == "old"
        assert left_behind(tmp_path) == []

    def test_read_only_folder(self) -> None:
        with without_root() as folder:
            path = folder / "model.hflow"
            write_container(path, {"a": "old"}, {})
            folder.chmod(0o555)
            with pytest.raises(PermissionError, match=r"model\.hflow"):
                write_container(path, {"a": "new"}, {})
            folder.chmod(0o755)
            assert read_document(path)["a"] == "old"


WRITER = """
import sys, torch
from hybridflow.container import write_container
path, name, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
value = {"one": 1.0, "two": 2.0}[name]
for _ in range(times):
    write_container(path, {"writer": name}, {"w": torch.full((5_000,), value)})
"""


@pytest.mark.parametrize("tries", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_m20_two_writers_and_a_reader(tries: int, tmp_path: Path) -> None:
    path = tmp_path / "model.hflow"
    write_container(path, {"writer": "one"}, {"w": torch.full((5_000,), 1.0)})
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, str(tries)])
        for name in ("one", "two")
    ]
    seen = {"one": 0, "two": 0}
    try:
        while any(writer.poll() is None for writer in writers) or sum(seen.values()) < tries:
            document, tensors = read_container(path)
            expected = {"one": 1.0, "two": 2.0}[document["writer"]]
            assert torch.all(tensors["w"] == expected)
            seen[document["writer"]] += 1
    finally:
        for writer in writers:
            writer.wait()
    assert all(writer.returncode == 0 for writer in writers)
    assert min(seen.values()) > 0
    assert left_behind(tmp_path) == []


def test_peak_memory_of_reading_is_twice_the_file(tmp_path: Path) -> None:
    size = 96 * 2**20
    write_container(tmp_path / "a", {}, {"w": torch.zeros(size // 8), "v": torch.ones(size // 8)})
    code = (
        "import sys, resource, torch, safetensors.torch\n"
        "from hybridflow.container import read_container\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); kept = read_container(sys.argv[1]); print((peak() - before) * 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 2 * size + 20 * 2**20
