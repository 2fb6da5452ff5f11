"""The small reader of version ranges agrees with the `packaging` library."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from hybridflow.registry.versions import canonical, excluding

VERSIONS = [
    "0.1", "0.1.0", "0.1.0.dev1", "0.1.0a1", "0.1.0a2.dev3", "0.1.0-beta.2", "0.1.0rc1",
    "0.1.0.post1", "0.1.0.post1.dev2", "0.1.1", "0.2", "0.2.10", "1", "1.0.0", "1.0rc1", "1.0c2",
    "1.4.5", "2.0.dev0", "2.0+local.1", "2.0", "1!0.5", "10.2", "v1.2", "1.0-1", "1.0rev3",
]  # fmt: skip
RANGES = [
    "", ">=0.1", ">=0.1.0,<1", "<0.1", "<=0.1", ">0.1", ">0.1.0.post0", "==0.1", "==0.1.*",
    "!=0.1.0", "!=0.1.*", "~=0.1.0", "~=0.1", "~=1.4.5", "~=1.4.5a1", "==1.0rc1", "<1.0",
    "<1.0rc1", ">=1.0rc1", ">=1.0.dev1", "===0.1.0", "==2.0", "==2.0+local.1", "!=2.0+local.1",
    "==2.*", ">=2,<3", "==1!0.*", ">=1!0", "~=1!0.4", "<2.0.dev0", ">2.0", ">1.0", ">1.0.post1",
    ">1.0rc1", "<1.0.post2", "== 0.1.0 , != 0.2",
]  # fmt: skip


@pytest.mark.parametrize("text", RANGES, ids=lambda text: text or "any")
def test_a_range_admits_what_packaging_says(text: str) -> None:
    for version in VERSIONS:
        admitted = excluding([f"hybridflow{text}"], "hybridflow", version) is None
        expected = SpecifierSet(text).contains(version, prereleases=True)
        assert admitted == expected, f"{version} in {text!r}"


@pytest.mark.parametrize(
    ("requirement", "version", "excluded"),
    [
        ("hybridflow", "0.1.0", None),
        ("HybridFlow >=2", "0.1.0", ">=2"),
        ("hybridflow (>=2)", "0.1.0", ">=2"),
        ("hybridflow[mlflow,onnx]>=2", "0.1.0", ">=2"),
        ("hybridflow>=2; extra == 'all'", "0.1.0", None),
        ("hybridflow-extras>=2", "0.1.0", None),
        ("torch>=2", "0.1.0", None),
    ],
)
def test_the_range_is_the_one_on_hybridflow(
    requirement: str, version: str, excluded: str | None
) -> None:
    Requirement(requirement)  # the case itself is well-formed
    assert excluding([requirement], "hybridflow", version) == excluded


@pytest.mark.parametrize("text", ["=>1", ">=1.x", "~~1", ">=1 <2", "~=1", ">="])
def test_a_range_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="cannot read the version"):
        excluding([f"hybridflow{text}"], "hybridflow", "0.1.0")


@pytest.mark.parametrize("name", ["Hybrid.Flow_x", "hybrid--flow-X", "hybrid-flow-x"])
def test_names_compare_in_their_canonical_form(name: str) -> None:
    assert canonical(name) == "hybrid-flow-x"
