"""Does a requirement such as ``hybridflow>=0.1,<1`` admit a version?

The rules are those of PEP 440 and PEP 508, for the one requirement that the
registry reads. The `packaging` library knows them all, but none of the core
dependencies brings it, and the tests hold this module to its verdicts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*\(?(?P<range>[^;()]*)\)?\s*(?P<marker>;.*)?"
)
_CLAUSE = re.compile(r"(?P<operator>===|==|!=|~=|<=|>=|<|>)\s*(?P<version>[^\s,]+)")
_VERSION = re.compile(
    r"v?((?P<epoch>\d+)!)?(?P<release>\d+(\.\d+)*)"
    r"([-_.]?(?P<stage>alpha|beta|preview|pre|rc|a|b|c)[-_.]?(?P<pre>\d*))?"
    r"(-(?P<bare_post>\d+)|[-_.]?(?P<post_word>post|rev|r)[-_.]?(?P<post>\d*))?"
    r"([-_.]?(?P<dev_word>dev)[-_.]?(?P<dev>\d*))?"
    r"(\+(?P<local>[a-z0-9]+([-_.][a-z0-9]+)*))?",
    re.IGNORECASE,
)
_STAGES = {"a": 0, "alpha": 0, "b": 1, "beta": 1, "c": 2, "rc": 2, "pre": 2, "preview": 2}
_FINAL = (3, 0)

_Key = tuple[int, tuple[int, ...], tuple[int, int], int, float]


def canonical(name: str) -> str:
    """Return a distribution's name as registries compare it (PEP 503).

    Examples
    --------
    >>> canonical("HybridFlow_Extra.Flows")
    'hybridflow-extra-flows'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def excluding(requirements: Iterable[str], name: str, version: str) -> str | None:
    """Return the range on `name` that does not admit `version`, if there is one.

    A requirement with an environment marker (an extra, an interpreter) is not
    a plugin's general range and is left to the installer.

    Parameters
    ----------
    requirements : iterable of str
        The ``Requires-Dist`` lines of a distribution.
    name : str
        The distribution whose range is looked for.
    version : str
        The installed version of it.

    Returns
    -------
    str or None
        The range, for instance ``">=2"``, or None if all admit the version.

    Raises
    ------
    ValueError
        If a requirement on `name` or a version cannot be read.

    Examples
    --------
    >>> excluding(["numpy>=2", "hybridflow>=2,<3"], "hybridflow", "0.1.0")
    '>=2,<3'
    """
    for requirement in requirements:
        match = _REQUIREMENT.fullmatch(requirement.strip())
        if match is None or canonical(match["name"]) != name or match["marker"]:
            continue
        if not _admits(match["range"].strip(), version):
            return match["range"].strip()
    return None


def _admits(clauses: str, version: str) -> bool:
    for clause in filter(None, (part.strip() for part in clauses.split(","))):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise ValueError(f"cannot read the version range {clause!r}")
        if not _satisfies(version, match["operator"], match["version"]):
            return False
    return True


def _satisfies(version: str, operator: str, bound: str) -> bool:
    if operator == "===":
        return version.lower() == bound.lower()
    if operator == "~=":
        parts = _parse(bound)
        if "." not in parts["release"]:
            raise ValueError(f"cannot read the version range '~={bound}'")
        prefix = f"{parts['epoch'] or 0}!{parts['release'].rpartition('.')[0]}.*"
        return _satisfies(version, ">=", bound) and _satisfies(version, "==", prefix)
    if operator == "!=":
        return not _satisfies(version, "==", bound)
    if operator == "==" and bound.endswith(".*"):
        wanted, found = _key(bound[:-2], trimmed=False), _key(version, trimmed=False)
        release = found[1] + (0,) * (len(wanted[1]) - len(found[1]))
        return wanted[0] == found[0] and wanted[1] == release[: len(wanted[1])]
    left, right = _key(version), _key(bound)
    if operator == "==":
        local = _parse(bound)["local"]
        return left == right and (not local or local == _parse(version)["local"])
    if operator == ">=":
        return left >= right
    if operator == "<=":
        return left <= right
    early = right[2] != _FINAL or right[4] != float("inf")
    if operator == "<":  # a pre-release of the bound is not below it
        return left < (right if early else _key(f"{bound}.dev0"))
    if right[3] < 0 and right[4] == float("inf"):  # nor is a post-release of it above it
        return left[:3] > right[:3]
    return left > right


def _parse(version: str) -> dict[str, str]:
    match = _VERSION.fullmatch(version.strip())
    if match is None:
        raise ValueError(f"cannot read the version {version!r}")
    return {name: (text or "").lower() for name, text in match.groupdict().items()}


def _key(version: str, trimmed: bool = True) -> _Key:
    """Return what versions sort by: epoch, release, stage, post, dev; not the local label."""
    parts = _parse(version)
    release = tuple(int(number) for number in parts["release"].split("."))
    while trimmed and len(release) > 1 and release[-1] == 0:
        release = release[:-1]
    dev = float(parts["dev"] or 0) if parts["dev_word"] else float("inf")
    post = int(parts["bare_post"] or parts["post"] or 0)
    post = post if parts["bare_post"] or parts["post_word"] else -1
    if parts["stage"]:
        stage = (_STAGES[parts["stage"]], int(parts["pre"] or 0))
    elif parts["dev_word"] and post < 0:
        stage = (-1, 0)  # 1.0.dev1 comes before 1.0a1
    else:
        stage = _FINAL
    return int(parts["epoch"] or 0), release, stage, post, dev
