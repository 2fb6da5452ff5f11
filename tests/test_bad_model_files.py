"""Damaged, hostile and foreign files: every one ends in an error that says what it is."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save

from hybridflow import container
from hybridflow.container import read_container, read_document, write_container
from hybridflow.errors import (
    CorruptModelError,
    IncompatibleModelError,
    ModelFileError,
    ResourceLimitError,
    UnsafePathError,
    UnsupportedFormatError,
)
from hybridflow.header import Entry, canonical, digest

READERS = pytest.mark.parametrize("read", [read_container, read_document])
Reader = Callable[[Path], object]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a small file whose header is padded and whose tensors are of several dtypes."""
    path = tmp_path_factory.mktemp("bundle") / "a"
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "a": torch.randn(3, 4, generator=generator),
        "b": torch.randn(3, 4, generator=generator),
        "c": torch.randn(5, generator=generator, dtype=torch.float64),
        "flags": torch.tensor([True, False, True]),
        "empty": torch.zeros(0),
    }
    for filling in range(8):
        write_container(path, {"columns": ["x", "y"], "filling": "x" * filling}, tensors)
        data = path.read_bytes()
        if data[8 : 8 + header_length(data)].endswith(b"    "):
            break
    return data


def header_length(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header's fields and the tensors' bytes."""
    end = 8 + header_length(data)
    return json.loads(data[8:end]), data[end:]


def joined(fields: dict[str, Any] | bytes, payload: bytes) -> bytes:
    """Return a safetensors file with this header, which may be any bytes."""
    if isinstance(fields, dict):
        fields = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
        fields += b" " * (-len(fields) % 8)
    return len(fields).to_bytes(8, "little") + fields + payload


def forged(document: dict[str, Any], fields: dict[str, Any], payload: bytes = b"") -> bytes:
    """Return a file whose digest is right, as somebody with bad intentions would write it."""
    places = [(field["data_offsets"], name, field) for name, field in fields.items()]
    entries = [
        Entry(name, field["dtype"], tuple(field["shape"]), begin, end)
        for (begin, end), name, field in places
    ]
    full = {"format_version": 1, "hybridflow_version": "0.1.0", **document}
    full["sha256"] = digest(full, entries, lambda entry: [payload[entry.begin : entry.end]])
    return joined({"__metadata__": {"hybridflow": canonical(full)}, **fields}, payload)


def tensor(shape: list[Any], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def fails(data: bytes, folder: Path, error: type[Exception], match: str | None = None) -> str:
    """Check that both readers refuse the bytes alike, naming the path; return the message."""
    path = folder / "file.hflow"
    path.write_bytes(data)
    with pytest.raises(error, match=match) as caught:
        read_container(path)
    with pytest.raises(error, match=match):
        read_document(path)
    assert "file.hflow: " in str(caught.value)
    return str(caught.value)


def test_forged_files_are_otherwise_good(tmp_path: Path) -> None:
    """The helper makes files that read, so a refusal below has its stated cause."""
    path = tmp_path / "a"
    path.write_bytes(forged({"a": 1}, {"w": tensor([2], 0, 8)}, np.float32([1, 2]).tobytes()))
    document, tensors = read_container(path)
    assert document["a"] == 1
    assert torch.equal(tensors["w"], torch.tensor([1.0, 2.0]))


class TestM01:
    @READERS
    def test_missing(self, read: Reader, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"none\.hflow"):
            read(tmp_path / "none.hflow")

    @READERS
    def test_folder(self, read: Reader, tmp_path: Path) -> None:
        (tmp_path / "folder.hflow").mkdir()
        with pytest.raises(IsADirectoryError, match=r"folder\.hflow"):
            read(tmp_path / "folder.hflow")

    @READERS
    def test_no_permission(self, read: Reader, tmp_path: Path) -> None:
        path = tmp_path / "secret.hflow"
        path.touch()
        path.chmod(0o000)
        user = os.geteuid()
        if user == 0:
            try:
                os.seteuid(65534)
            except PermissionError:
                pytest.skip("root here may not become an ordinary user, and may read anything")
        try:
            with pytest.raises(PermissionError, match=r"secret\.hflow"):
                read(path)
        finally:
            os.seteuid(user)


def test_m02_empty(tmp_path: Path) -> None:
    fails(b"", tmp_path, CorruptModelError, "empty")


def test_m03_truncated(bundle: bytes, tmp_path: Path) -> None:
    length = len(bundle)
    sizes = {*range(40), *range(length - 40, length)}
    sizes |= set(random.Random(3).sample(sorted(set(range(length)) - sizes), 300))
    for size in sorted(sizes):
        fails(bundle[:size], tmp_path, CorruptModelError)


@pytest.mark.parametrize("more", [b"\0", b" ", b"\0" * 8, b"x" * 5000])
def test_m03_lengthened(more: bytes, bundle: bytes, tmp_path: Path) -> None:
    fails(bundle + more, tmp_path, CorruptModelError)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("part", ["start", "header", "padding", "payload"])
def test_m04_one_bit_flipped(part: str, bundle: bytes, tmp_path: Path) -> None:
    end = 8 + header_length(bundle)
    assert bundle[end - 4 : end] == b"    "
    rng = random.Random(4)
    bits = {
        "start": list(range(8 * 64)),
        "header": rng.sample(range(8 * 8, 8 * end), 200),
        "padding": list(range(8 * (end - 6), 8 * end)),
        "payload": rng.sample(range(8 * end, 8 * len(bundle)), 200),
    }[part]
    for bit in bits:
        fails(flipped(bundle, bit), tmp_path, CorruptModelError)


@pytest.mark.slow
def test_m04_every_bit_flipped(bundle: bytes, tmp_path: Path) -> None:
    for bit in range(8 * len(bundle)):
        fails(flipped(bundle, bit), tmp_path, CorruptModelError)


def test_m04_a_few_bytes_overwritten(bundle: bytes, tmp_path: Path) -> None:
    rng = random.Random(5)
    for _ in range(200):
        at, count = rng.randrange(len(bundle)), rng.randint(2, 64)
        changed = (bundle[:at] + rng.randbytes(count) + bundle[at + count :])[: len(bundle)]
        if changed != bundle:
            fails(changed, tmp_path, ModelFileError)


class TestM05:
    """Tensors or descriptions exchanged, with the digest left as it was."""

    def test_bytes_of_two_tensors_swapped(self, bundle: bytes, tmp_path: Path) -> None:
        fields, payload = parts(bundle)
        (a, b), (c, d) = fields["a"]["data_offsets"], fields["b"]["data_offsets"]
        assert b == c
        changed = payload[:a] + payload[c:d] + payload[a:b] + payload[d:]
        fails(joined(fields, changed), tmp_path, CorruptModelError, "SHA-256")

    def test_names_of_two_tensors_swapped(self, bundle: bytes, tmp_path: Path) -> None:
        fields, payload = parts(bundle)
        other = {"a": "b", "b": "a"}
        changed = {other.get(name, name): field for name, field in fields.items()}
        fails(joined(changed, payload), tmp_path, CorruptModelError, "SHA-256")

    def test_another_shape_of_the_same_size(self, bundle: bytes, tmp_path: Path) -> None:
        fields, payload = parts(bundle)
        fields["a"]["shape"] = [4, 3]
        fails(joined(fields, payload), tmp_path, CorruptModelError, "SHA-256")

    def test_another_dtype_of_the_same_size(self, bundle: bytes, tmp_path: Path) -> None:
        fields, payload = parts(bundle)
        fields["a"]["dtype"] = "I32"
        fails(joined(fields, payload), tmp_path, CorruptModelError, "SHA-256")

    def test_one_tensor_more(self, bundle: bytes, tmp_path: Path) -> None:
        fields, payload = parts(bundle)
        fields["more"] = tensor([1], len(payload), len(payload) + 4)
        fails(joined(fields, payload + b"\0" * 4), tmp_path, CorruptModelError, "SHA-256")

    def test_one_tensor_less(self, bundle: bytes, tmp_path: Path) -> None:
        fields, payload = parts(bundle)
        del fields["empty"]
        fails(joined(fields, payload), tmp_path, CorruptModelError, "SHA-256")

    def test_description_of_another_bundle(self, bundle: bytes, tmp_path: Path) -> None:
        fields, payload = parts(bundle)
        other, _ = parts(forged({"columns": ["x", "z"]}, {}))
        fields["__metadata__"] = other["__metadata__"]
        fails(joined(fields, payload), tmp_path, CorruptModelError, "SHA-256")


class TestM06:
    @pytest.mark.parametrize(
        "header",
        [
            b"not json",
            b'{"a": "\xff\xfe"}',
            b'{"a":NaN}',
            b'{"a":-Infinity}',
            b'{"a":1e999}',
            b'{"a":1,"a":1}',
            b'{"__metadata__":{"hybridflow":"{}","hybridflow":"{}"}}',
            b"[]",
            b"3",
            b"",
            b"{}{}",
            b'{"a":' * 100_000,
            b"[" * 100_000,
            b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b'{"a":' + b"9" * 5000 + b"}",
            '{"a":1}'.encode("utf-16"),
            b"\xef\xbb\xbf{}",
            b'{"__metadata__":"hybridflow"}',
            b'{"__metadata__":{"hybridflow":3}}',
            b'{"__metadata__":{"hybridflow":null}}',
            b'{"__metadata__":["hybridflow"]}',
        ],
        ids=lambda header: f"{len(header)}-{header[:24]!r}",
    )
    def test_header(self, header: bytes, tmp_path: Path) -> None:
        fails(joined(header, b""), tmp_path, CorruptModelError)

    @pytest.mark.parametrize(
        "text",
        [
            "not json",
            '{"a":NaN}',
            '{"a":1e999}',
            '{"a":1,"a":2}',
            '{"a":{"b":1,"b":1}}',
            "[]",
            "",
            "[" * 100_000,
            '{"a":' * 100_000 + "1" + "}" * 100_000,
            '{"a": 1}',
            '{"b":1,"a":2}',
            '{"a":1.50}',
            '{"a":"\u00e9"}',
        ],
        ids=lambda text: f"{len(text)}-{text[:24]}",
    )
    def test_description(self, text: str, tmp_path: Path) -> None:
        fields = {"__metadata__": {"hybridflow": text}}
        fails(joined(fields, b""), tmp_path, CorruptModelError)

    def test_description_with_millions_of_items(self, tmp_path: Path) -> None:
        text = '{"a":[' + "[]," * 1_000_000 + "[]]}"
        fields = {"__metadata__": {"hybridflow": text}}
        fails(joined(fields, b""), tmp_path, ResourceLimitError, "items")

    def test_200_megabytes(self, tmp_path: Path) -> None:
        path = tmp_path / "file.hflow"
        start = b'{"__metadata__":{"hybridflow":"'
        with path.open("wb") as file:  # the rest is a hole and takes no disk
            file.write((200 * 2**20).to_bytes(8, "little") + start)
            file.truncate(8 + 200 * 2**20)
        for read in (read_container, read_document):
            with pytest.raises(CorruptModelError, match="16777216"):
                read(path)


def torch_file(folder: Path, new: bool) -> bytes:
    torch.save({"w": torch.ones(2)}, folder / "t", _use_new_zipfile_serialization=new)
    return (folder / "t").read_bytes()


def joblib_file(folder: Path, compress: int | str) -> bytes:
    joblib.dump({"w": np.ones(100)}, folder / "j", compress=compress)
    return (folder / "j").read_bytes()


def numpy_file(folder: Path, archive: bool) -> bytes:
    path = folder / ("n.npz" if archive else "n.npy")
    np.savez(path, w=np.ones(3)) if archive else np.save(path, np.ones(3))
    return path.read_bytes()


def parquet(folder: Path) -> bytes:
    pl.DataFrame({"a": [1]}).write_parquet(folder / "p")
    return (folder / "p").read_bytes()


FOREIGN: dict[str, tuple[Callable[[Path], bytes], str]] = {
    **{
        f"pickle-{protocol}": (lambda _, p=protocol: pickle.dumps({"a": 1, "b": "x"}, p), "pickle")
        for protocol in range(6)
    },
    "pickle-large": (lambda _: pickle.dumps(list(range(100_000))), "pickle"),
    "pickle-class-0": (lambda _: pickle.dumps(os.getcwd, 0), "pickle"),
    "pickle-list-0": (lambda _: pickle.dumps([1, 2], 0), "pickle"),
    "torch": (lambda folder: torch_file(folder, True), "PyTorch"),
    "torch-old": (lambda folder: torch_file(folder, False), "PyTorch"),
    "joblib": (lambda folder: joblib_file(folder, 0), "joblib"),
    "joblib-zlib": (lambda folder: joblib_file(folder, 3), "joblib"),
    "joblib-lzma": (lambda folder: joblib_file(folder, "xz"), "xz"),
    "onnx": (
        lambda _: b"\x08\x0a\x12\x07pytorch\x1a\x062.13.0:\x0b\x12\x04main" + bytes(4),
        "ONNX",
    ),
    "html": (lambda _: b"\n<!DOCTYPE html>\n<html><body>Not found</body></html>", "HTML"),
    "xml": (lambda _: b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "XML"),
    "safetensors": (lambda _: save({"w": torch.ones(2)}), "safetensors"),
    "safetensors-metadata": (lambda _: save({"w": torch.ones(2)}, {"format": "pt"}), "safetensors"),
    "csv": (lambda _: b"a,b,target\n1,2,3\n", "CSV"),
    "csv-utf8": (lambda _: "größe,ü\n1,2\n".encode() * 1000, "CSV"),
    "json": (lambda _: b'{"model": "hybridflow"}', "JSON"),
    "parquet": (parquet, "Parquet"),
    "numpy": (lambda folder: numpy_file(folder, False), "numpy"),
    "numpy-archive": (lambda folder: numpy_file(folder, True), "numpy"),
    "zip": (lambda _: b"PK\x03\x04\x14\0\0\0\x08\0model.txt and so on", "zip"),
    "gzip": (lambda _: gzip.compress(b"model"), "gzip"),
    "git-lfs": (lambda _: b"version https://git-lfs\noid sha256:0\nsize 3\n", "Git LFS"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_m07_foreign(name: str, tmp_path: Path) -> None:
    make, kind = FOREIGN[name]
    message = fails(make(tmp_path), tmp_path, UnsupportedFormatError, kind)
    assert "bundle" in message


def test_m07_no_kind_is_guessed_for_noise(tmp_path: Path) -> None:
    noise = b"\xfe\xfd" + random.Random(7).randbytes(1000)
    fails(noise, tmp_path, CorruptModelError, "not a hybridflow bundle")


SPY = """
import sys, torch, safetensors.torch
from hybridflow.container import read_container, read_document
events = []
def hook(event, arguments):
    if event.startswith(("pickle.", "subprocess.", "os.system", "os.exec", "os.posix_spawn")):
        events.append((event, arguments))
    if event in ("exec", "compile") and "antigravity" in str(arguments):
        events.append((event, arguments))
    if event == "import" and arguments[0] in ("antigravity", "os.system", "evil"):
        events.append((event, arguments))
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & 3:
        events.append((event, arguments))
sys.addaudithook(hook)
read_document(sys.argv[1])
document, tensors = read_container(sys.argv[1])
print(events, sorted(tensors), document["flow"])
"""


def test_m08_nothing_is_unpickled_imported_or_written(tmp_path: Path) -> None:
    payload = pickle.dumps(os.getcwd)
    document = {
        "flow": "os.system",
        "base": "antigravity",
        "import": ["evil", "antigravity", {"__reduce__": ["os.system", "true"]}],
        "text": pickle.dumps(os.getcwd, 0).decode(),
        "!!python/object/apply:os.system": ["true"],
    }
    tensors = {
        "antigravity": torch.frombuffer(bytearray(payload), dtype=torch.uint8),
        "../../evil": torch.ones(1),
        "os.system": torch.ones(1),
    }
    write_container(tmp_path / "a", document, tensors)
    done = subprocess.run(
        [sys.executable, "-c", SPY, str(tmp_path / "a")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout.strip() == "[] ['../../evil', 'antigravity', 'os.system'] os.system"


class TestM10:
    @READERS
    def test_loop_of_links(self, read: Reader, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        with pytest.raises(UnsafePathError, match="loop"):
            read(tmp_path / "a")

    @READERS
    def test_pipe_without_a_writer(self, read: Reader, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UnsafePathError, match="pipe"):
            read(tmp_path / "pipe")

    @READERS
    @pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/urandom"])
    def test_device(self, read: Reader, device: str) -> None:
        with pytest.raises(UnsafePathError, match=device):
            read(Path(device))

    @READERS
    def test_exchanged_for_a_pipe_while_it_is_opened(
        self, read: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "a"
        path.touch()
        opened = os.open

        def exchange(name: str, flags: int) -> int:
            path.unlink()
            os.mkfifo(path)
            return opened(name, flags)

        monkeypatch.setattr("os.open", exchange)
        with pytest.raises(UnsafePathError, match="pipe"):
            read(path)

    @READERS
    def test_link_to_a_good_file_is_followed(
        self, read: Reader, bundle: bytes, tmp_path: Path
    ) -> None:
        (tmp_path / "real").write_bytes(bundle)
        (tmp_path / "link").symlink_to("real")
        read(tmp_path / "link")


class TestM12:
    @pytest.mark.parametrize(
        ("fields", "payload"),
        [
            ({"w": tensor([2], 0, 8), "v": tensor([2], 4, 12)}, 12),
            ({"w": tensor([2], 0, 8), "v": tensor([2], 0, 8)}, 8),
            ({"w": tensor([2], 0, 8), "v": tensor([2], 12, 20)}, 20),
            ({"w": tensor([2], 4, 12)}, 12),
            ({"w": tensor([2], 0, 8)}, 12),
            ({"w": tensor([3], 0, 8)}, 8),
            ({"w": tensor([2], 0, 4, "F16"), "v": tensor([2], 8, 0)}, 4),
            ({"w": tensor([2**62, 4], 0, 0)}, 0),
            ({"w": tensor([2**32, 2**32], 0, 0)}, 0),
            ({"w": tensor([2**63], 0, 8)}, 8),
            ({"w": tensor([-2, -1], 0, 8)}, 8),
            ({"w": tensor([2.0], 0, 8)}, 8),
            ({"w": tensor([True, 2], 0, 8)}, 8),
            ({"w": tensor(["2"], 0, 8)}, 8),
            ({"w": tensor([1] * 100 + [2], 0, 8)}, 8),
            ({"w": tensor([2], -8, 0)}, 8),
            ({"w": tensor([10**18], 0, 4 * 10**18)}, 8),
            ({"w": tensor([2], 0, 8, "F8_E4M3")}, 8),
            ({"w": tensor([2], 0, 8, "C64")}, 8),
            ({"w": tensor([2], 0, 8, "float32")}, 8),
            ({"w": tensor([2], 0, 8, "f32")}, 8),
            ({"w": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}, 8),
            ({"w": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}, 8),
            ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 8]}}, 8),
            ({"w": {"dtype": "F32", "shape": [2], "data_offsets": 8}}, 8),
            ({"w": {"dtype": "F32", "shape": [2]}}, 8),
            ({"w": {"shape": [2], "dtype": "F32", "data_offsets": [0, 8]}}, 8),
            ({"w": {**tensor([2], 0, 8), "more": 1}}, 8),
            ({"w": [1, 2]}, 8),
            ({"w": None}, 8),
        ],
        ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
    )
    def test_tensors(self, fields: dict[str, Any], payload: int, tmp_path: Path) -> None:
        document, _ = parts(forged({"a": 1}, {}))
        fails(joined(document | fields, bytes(payload)), tmp_path, CorruptModelError)

    def test_300_thousand_tensors(self, tmp_path: Path) -> None:
        document, _ = parts(forged({"a": 1}, {}))
        many = {f"{number:x}": tensor([0], 0, 0, "U8") for number in range(300_000)}
        fails(joined(document | many, b""), tmp_path, ModelFileError)

    def test_more_tensors_than_the_limit(self, tmp_path: Path) -> None:
        document, _ = parts(forged({"a": 1}, {}))
        many = {f"{number:x}": tensor([], number, number + 1, "U8") for number in range(65_537)}
        fails(joined(document | many, bytes(65_537)), tmp_path, ResourceLimitError, "65537 tensors")

    def test_header_over_the_limit(self, tmp_path: Path) -> None:
        document, _ = parts(forged({"a": "x" * 2**24}, {}))
        fails(joined(document, b""), tmp_path, CorruptModelError, "16777216")

    def test_file_over_the_limit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(container, "MAX_FILE_BYTES", 1000)
        data = forged({}, {"w": tensor([1000], 0, 1000, "U8")}, bytes(1000))
        fails(data, tmp_path, ResourceLimitError, "1000")

    def test_keys_in_another_order(self, bundle: bytes, tmp_path: Path) -> None:
        fields, payload = parts(bundle)
        changed = dict(reversed(fields.items()))
        fails(joined(changed, payload), tmp_path, CorruptModelError)

    def test_space_in_the_header(self, bundle: bytes, tmp_path: Path) -> None:
        fields, payload = parts(bundle)
        header = json.dumps(fields).encode()
        header += b" " * (-len(header) % 8)
        fails(joined(header, payload), tmp_path, CorruptModelError, "form")

    def test_second_key_in_the_metadata(self, bundle: bytes, tmp_path: Path) -> None:
        fields, payload = parts(bundle)
        fields["__metadata__"]["more"] = "x"
        fails(joined(fields, payload), tmp_path, CorruptModelError)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_m15_weights_that_are_not_finite(
    value: float, dtype: type[np.floating[Any]], tmp_path: Path
) -> None:
    payload = np.array([1, value, 2], dtype).tobytes()
    name = f"F{8 * dtype().itemsize}"
    (tmp_path / "a").write_bytes(forged({}, {"w": tensor([3], 0, len(payload), name)}, payload))
    with pytest.raises(CorruptModelError, match="'w' holds NaN or infinity"):
        read_container(tmp_path / "a")


class TestM17:
    def test_newer_format(self, tmp_path: Path) -> None:
        newer = {"format_version": 2, "hybridflow_version": "3.1.4"}
        data = forged(newer, {"w": tensor([2], 0, 8)}, bytes(8))
        fails(data, tmp_path, IncompatibleModelError, r"needs hybridflow >= 3\.1\.4")

    @pytest.mark.parametrize("version", [0, -1, 1.0, "1", None, True, []])
    def test_no_version_at_all(self, version: object, tmp_path: Path) -> None:
        fails(forged({"format_version": version}, {}), tmp_path, CorruptModelError, "version")

    @pytest.mark.parametrize("writer", [None, 1, "", "latest", "1; rm -rf", "1\x1b[31m", "9" * 99])
    def test_no_version_of_the_writer(self, writer: object, tmp_path: Path) -> None:
        data = forged({"format_version": 2, "hybridflow_version": writer}, {})
        fails(data, tmp_path, CorruptModelError, "version")
