"""What kind of file some bytes look like, for messages about wrong files."""

from __future__ import annotations

_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a numpy array (.npy)"),
    (b"PAR1", "a Parquet table"),
    (b"ARROW1", "an Arrow or Feather table"),
    (b"%PDF-", "a PDF document"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"BZh", "bzip2-compressed data"),
    (b"\xfd7zXZ\x00", "xz-compressed data"),
    (b"\x28\xb5\x2f\xfd", "zstandard-compressed data"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x7fELF", "an executable"),
    (b"version https://git-lfs", "a Git LFS pointer: the file itself was not fetched"),
)

# The first opcodes of the number that torch.save wrote before it used archives.
_OLD_TORCH = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"


def looks_like(head: bytes, tail: bytes) -> str | None:
    """Name the kind of file, or return None where nothing is recognised.

    Parameters
    ----------
    head : bytes
        The first few thousand bytes.
    tail : bytes
        The last few bytes.

    Returns
    -------
    str or None
        With its article, as it reads after "this looks like".

    Examples
    --------
    >>> from hybridflow.filetype import looks_like
    >>> looks_like(b"a,b\\n1,2\\n", b"1,2\\n")
    'text, such as a CSV table'
    """
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head.startswith(b"PK\x03\x04"):
        return _archive(head)
    if _is_pickle(head, tail):
        return _pickle(head)
    # zlib, as joblib compresses with by default: 15-bit window, check bits right.
    if head[:1] == b"\x78" and head[1:2] in (b"\x01", b"\x5e", b"\x9c", b"\xda"):
        return "zlib-compressed data, such as joblib.dump writes"
    if _is_onnx(head):
        return "an ONNX model"
    return _text(head)


def _archive(head: bytes) -> str:
    if b"/data.pkl" in head or b"/version" in head or b"/byteorder" in head:
        return "a PyTorch file (torch.save)"
    if b".npy" in head:
        return "a numpy archive (.npz)"
    return "a zip archive"


def _is_pickle(head: bytes, tail: bytes) -> bool:
    if not tail.endswith(b"."):
        # The old torch format goes on after its first pickle.
        return head.startswith(b"\x80\x02" + _OLD_TORCH)
    binary = head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    # Protocols 0 and 1 have no mark: a container, or a global by name and line.
    old = head[:1] in b"(]}" and head[1:2] in b"dlpt" and b"\n" in head
    old = old or head[:3] in (b"}q\x00", b"]q\x00", b"(q\x00")
    by_name = head[:1] == b"c" and head.count(b"\n", 0, 200) >= 2
    return binary or old or by_name


def _pickle(head: bytes) -> str:
    if _OLD_TORCH in head[:16]:
        return "a PyTorch file (torch.save, old format)"
    if b"joblib" in head:
        return "a joblib file"
    return "a pickle"


def _is_onnx(head: bytes) -> bool:
    # Protocol buffer: field 1 (ir_version) a small number, then field 2 (producer)
    # or 7 (graph) with its length.
    return len(head) >= 16 and head[0] == 0x08 and 0 < head[1] < 0x20 and head[2] in (0x12, 0x3A)


def _text(head: bytes) -> str | None:
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # anything but a character cut at the end
            return None
        text = head[: error.start].decode("utf-8-sig")
    text = text.lstrip()
    if not text or any(character < " " and character not in "\t\r\n\f" for character in text):
        return None
    if text.lower().startswith(("<!doctype html", "<html", "<head", "<body")):
        return "an HTML page"
    if text.startswith("<"):
        return "an XML document"
    if text.startswith(("{", "[")):
        return "a JSON document"
    return "text, such as a CSV table"
