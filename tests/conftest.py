"""What every test relies on: one thread, no network, no settings from outside."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Set before numpy or torch is imported, here and in the processes that tests start:
# several threads on busy cores are far slower than one, and change the last bits.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["MPLBACKEND"] = "Agg"
for _name in [name for name in os.environ if name.startswith("HYBRIDFLOW_")]:
    if _name != "HYBRIDFLOW_DATA":
        del os.environ[_name]


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """Keep torch to one thread, in the tests that have imported it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    """Close what displays have opened, in the tests that have drawn."""
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that connects to anything but this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise RuntimeError(f"a test tried to reach {address[0]}: tests do not use the network")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the larger data sets, beside the checkout or in HYBRIDFLOW_DATA."""
    folder = Path(os.environ.get("HYBRIDFLOW_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no shared data sets at {folder}; set HYBRIDFLOW_DATA to their folder")
    return folder
