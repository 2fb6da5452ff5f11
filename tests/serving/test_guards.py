"""What a server refuses, and how: the right status, a place, and no traceback."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hybridflow import HybridRegressor


def refused(reply: Any, *said: str) -> None:
    """Check the body of an error."""
    assert set(reply) == {"error_code", "message", "request_id"}
    text = json.dumps(reply)
    assert "Traceback" not in text
    assert 'File \\"' not in text
    for word in said:
        assert word in reply["message"], reply["message"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[]", "a list"),
        (b"3", "a number"),
        (b"null", "null"),
        (b"{}", "none of them"),
        (b'{"instances": [], "inputs": []}', "exactly one"),
        (b'{"rows": [], "instances": []}', "'rows'"),
        (b'{"instances": 3}', "a list of rows"),
        (b'{"instances": [3]}', "row 0 is a number"),
        (b'{"instances": []}', "no rows"),
        (b'{"instances": [], "instances": []}', "repeated: 'instances'"),
        (b'{"dataframe_split": []}', "dataframe_split"),
        (b'{"dataframe_split": {"columns": [1], "data": []}}', "list of names"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [3]}}', "row 0 is a number"),
        (b'{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}', "repeated: 'a'"),
        (b'{"inputs": {"a": 3}}', "column 'a' is a number"),
        (b'{"inputs": {"a": [3], "b": []}}', "column 'b' has 0 cells"),
        (b'{"instances": [[1, 2]]}', "by name"),
        (b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too deeply"),
        (b'{"instances": [{"height": NaN}]}', "NaN"),
        (b'{"instances": [{"height": -Infinity}]}', "-Infinity"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_body_that_is_no_table(server: Any, body: bytes, said: str) -> None:
    status, reply = server.post(body)
    assert status == 400
    refused(reply, said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"height": None}, ["'height'", "row 1", "null"]),
        ({"height": "tall"}, ["'height'", "row 1", "'tall'"]),
        ({"height": True}, ["'height'", "row 1", "a number"]),
        ({"height": [1]}, ["'height'", "row 1", "a number"]),
        ({"height": 10**400}, ["'height'", "row 1", "too large"]),
        ({"height": 1e300}, ["'height'", "deviations"]),
        ({"city": 3}, ["'city'", "row 1", "text"]),
        ({"married": "yes"}, ["'married'", "row 1", "true or false"]),
        ({"married": None}, ["'married'", "row 1", "null"]),
        ({"colour": "red"}, ["'colour'", "does not know"]),
    ],
    ids=str,
)
def test_a_cell_that_cannot_be(
    server: Any, row: dict[str, Any], change: dict[str, Any], said: list[str]
) -> None:
    status, reply = server.post({"instances": [row, row | change]})
    assert status == 400
    refused(reply, *said)


@pytest.mark.parametrize("absent", ["height", "married"])
def test_a_column_that_is_missing(server: Any, row: dict[str, Any], absent: str) -> None:
    less = {name: cell for name, cell in row.items() if name != absent}
    status, reply = server.post({"instances": [less]})
    assert status == 400
    refused(reply, f"missing: '{absent}'")
    status, reply = server.post({"instances": [row, less]})
    assert status == 400
    refused(reply, f"'{absent}' is missing at row 1")


def test_a_column_that_was_renamed(server: Any, row: dict[str, Any]) -> None:
    renamed = {("heigth" if name == "height" else name): cell for name, cell in row.items()}
    status, reply = server.post({"instances": [renamed]})
    assert status == 400
    refused(reply, "did you mean 'heigth'")


def test_rows_of_different_lengths(server: Any) -> None:
    split = {"columns": ["height", "age", "married"], "data": [[1, 2, True], [1, 2]]}
    status, reply = server.post({"dataframe_split": split})
    assert status == 400
    refused(reply, "row 1 has 2 cells")


def test_a_number_beyond_floats(server: Any, row: dict[str, Any]) -> None:
    body = json.dumps({"instances": [row]}).replace("170.0", "1e999").encode()
    status, reply = server.post(body)
    assert status == 400
    refused(reply, "'height'", "too large")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ([], "an object"),
        ({"coverage": 2}, "coverage"),
        ({"rejection": "no"}, "rejection"),
        ({"output": "weather"}, "'weather'"),
        ({"colour": 1}, "colour"),
    ],
    ids=str,
)
def test_params_that_cannot_be(server: Any, row: dict[str, Any], params: Any, said: str) -> None:
    status, reply = server.post({"instances": [row], "params": params})
    assert status == 400
    refused(reply, said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("height,age,married\n", "no rows"),
        ("height,age,married\n1,2\n", "row 0 has 2 cells"),
        ("height,height,married\n1,2,true\n", "repeated"),
        ("height,age,married\nx,2,true\n", "'height', row 0"),
        ("height,age,married\nnan,2,true\n", "not finite"),
        ("height,age,married\n,2,true\n", "null at row 0"),
        ("height,age,married\n1,2,yes\n", "true or false"),
        ('height,age,married\n"1,2,true\n', "line"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_csv_that_cannot_be(server: Any, text: str, said: str) -> None:
    status, reply = server.post(text.encode(), "text/csv")
    assert status == 400
    refused(reply, said)


@pytest.mark.parametrize(
    "kind",
    [None, "text/plain", "application/xml", "application/json; charset=latin-1", "garbage"],
    ids=str,
)
def test_a_type_that_is_not_taken(server: Any, kind: str | None) -> None:
    status, reply = server.post(b"{}", kind)
    assert status == 415
    refused(reply, "application/json" if "charset" not in str(kind) else "UTF-8")


def test_a_compressed_body(server: Any) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    status, reply, _ = server.ask("POST", "/invocations", b"{}", headers)
    assert status == 415
    refused(reply, "not compressed")


def test_too_many_rows(server: Any, row: dict[str, Any]) -> None:
    status, reply = server.post({"instances": [row] * 501})
    assert status == 413
    refused(reply, "501 rows", "500")


def talk(server: Any, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send parts of a request, and return all that comes back until the connection ends."""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=30)) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(pause)
        found = b""
        try:
            while part := connection.recv(2**16):
                found += part
        except ConnectionResetError:  # closed with bytes unread, after the reply
            pass
        return found


HEAD = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def test_a_body_that_says_it_is_too_long_is_not_read(server: Any) -> None:
    said = talk(server, HEAD + b"Content-Length: 2000000\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 413")
    assert b"longer than the 1,048,576 bytes" in said


def test_a_body_in_chunks_that_goes_on_and_on(server: Any) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    said = talk(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 20)
    assert said.startswith(b"HTTP/1.1 413")


def test_a_body_that_does_not_come(server: Any) -> None:
    said = talk(server, HEAD + b"Content-Length: 100\r\n\r\n", b'{"inst')
    assert said.startswith(b"HTTP/1.1 408")
    refused(json.loads(said.partition(b"\r\n\r\n")[2]), "1 seconds")


@pytest.mark.parametrize(
    "parts",
    [[], [b"POST /invo"], [b"GET /ping HTTP/1.1\r\n", b"Host: x\r\n", b"A: b\r\n"]],
    ids=len,
)
def test_a_head_that_does_not_come(server: Any, parts: list[bytes]) -> None:
    assert talk(server, *parts, pause=0.2).startswith(b"HTTP/1.1 408")


def test_a_second_request_that_stops_in_its_head(server: Any) -> None:
    said = talk(server, b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /pi", pause=0.2)
    assert said.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 408" in said


def test_a_client_that_hangs_up_in_its_body(server: Any, row: dict[str, Any]) -> None:
    with closing(socket.create_connection(("127.0.0.1", server.port))) as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
    assert server.post({"instances": [row]})[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/invocations", 405),
        ("PUT", "/invocations", 405),
        ("GET", "/nothing", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/invocations/..%2f..%2fetc/passwd", 404),
        ("POST", "/ping", 405),
    ],
    ids=str,
)
def test_paths_and_methods_that_there_are_not(
    server: Any, method: str, path: str, status: int
) -> None:
    found, reply, headers = server.ask(method, path)
    assert found == status
    refused(reply)
    assert headers["x-request-id"] == reply["request_id"]


def test_every_reply_has_an_identity(server: Any, row: dict[str, Any]) -> None:
    body = json.dumps({"instances": [row]}).encode()
    headers = {"Content-Type": "application/json"}
    first, second = (
        server.ask("POST", "/invocations", body, headers)[2]["x-request-id"] for _ in range(2)
    )
    assert first != second


BROKEN = """
import sys
from hybridflow.answering import Answerer
def answer(self, X, params=None):
    raise RuntimeError("a secret of the model")
Answerer.answer = answer
from hybridflow.cli import main
main(sys.argv[1:])
"""


def test_a_model_that_raises_is_a_500_and_the_server_lives(
    serving: Any, regressor: HybridRegressor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "broken.py"
    script.write_text(BROKEN)
    with serving(regressor, tmp_path, program=[str(script)]) as server:
        for _ in range(2):
            status, reply = server.post({"instances": [[0.0, 0.0, 0.0]]})
            assert status == 500
            refused(reply, "the log of the server")
            assert "secret" not in json.dumps(reply)
        assert server.ask("GET", "/ping")[0] == 200
    log = "".join(server.said)
    assert "a secret of the model" in log
    assert reply["request_id"] in log


def test_stopped_while_a_request_comes_in(
    serving: Callable[..., Any], regressor: HybridRegressor, tmp_path: Path
) -> None:
    with serving(regressor, tmp_path) as server:
        body = b'{"instances": [[0.0, 0.0, 0.0]]}'
        address = ("127.0.0.1", server.port)
        with closing(socket.create_connection(address, timeout=30)) as connection:
            head = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body[:10])
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            connection.sendall(body[10:])
            said = b""
            while part := connection.recv(2**16):
                said += part
        assert said.startswith(b"HTTP/1.1 200")
        assert server.process.wait(30) == 0
