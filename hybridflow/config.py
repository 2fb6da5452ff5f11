"""Configs: frozen, strict descriptions of one component, with its search space."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from hybridflow.errors import ConfigError, closest


@dataclass(frozen=True)
class Int:
    """A whole number to search from `low` to `high`, both included.

    Parameters
    ----------
    low, high : int
    log : bool, default=False
        Whether ratios count, not differences.

    Examples
    --------
    >>> from hybridflow.config import Int
    >>> Int(16, 256, log=True)
    Int(low=16, high=256, log=True)
    """

    low: int
    high: int
    log: bool = False


@dataclass(frozen=True)
class Float:
    """A real number to search from `low` to `high`.

    Parameters
    ----------
    low, high : float
    log : bool, default=False
        Whether ratios count, not differences.

    Examples
    --------
    >>> from hybridflow.config import Float
    >>> Float(1e-4, 1e-2, log=True)
    Float(low=0.0001, high=0.01, log=True)
    """

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """One of a few values to search.

    Parameters
    ----------
    options : tuple of bool, int, float or str

    Examples
    --------
    >>> from hybridflow.config import Choice
    >>> Choice(("hidden", "identity"))
    Choice(options=('hidden', 'identity'))
    """

    options: tuple[bool | int | float | str, ...]


Search = Int | Float | Choice


@dataclass(frozen=True)
class When:
    """Marks a field that matters only where another field has one of these values.

    Elsewhere a search leaves it alone.

    Parameters
    ----------
    field : str
        The other field of the same config.
    values : tuple of bool, int, float or str

    Examples
    --------
    >>> from hybridflow.config import When
    >>> When("basis", ("hidden",))
    When(field='basis', values=('hidden',))
    """

    field: str
    values: tuple[bool | int | float | str, ...]


class Config(BaseModel):
    """Base class of all configs: defaults, bounds, JSON schema and search space.

    A config is immutable and strict: unknown fields, wrong types and values
    out of bounds raise `ConfigError`. Fields that are worth tuning carry an
    `Int`, `Float` or `Choice` in their annotation.

    Raises
    ------
    ConfigError
        If a field is unknown, missing, of the wrong type or out of bounds.

    Examples
    --------
    >>> from typing import Annotated
    >>> from pydantic import Field
    >>> from hybridflow.config import Config, Int
    >>> class Stack(Config):
    ...     layers: Annotated[int, Field(ge=1), Int(2, 8)] = 4
    >>> Stack(layers=6)
    Stack(layers=6)
    >>> Stack.space()
    {'layers': Int(low=2, high=8, log=False)}
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**{name: _python_scalar(value) for name, value in values.items()})
        except ValidationError as error:
            raise ConfigError(_message(type(self), error)) from None

    # As pydantic marks its own: reading JSON then fills the fields without
    # coming through here, and so stays in JSON mode (lists become tuples).
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> None:
        raise ConfigError(
            f"{type(self).__name__} cannot be changed: use its replace({name}={value!r}), "
            "which returns a copy"
        )

    @classmethod
    def space(cls) -> dict[str, Search]:
        """Return the fields worth tuning and the range of each.

        Returns
        -------
        dict of str to Int, Float or Choice
            In the order of the fields.
        """
        return {
            name: note
            for name, field in cls.model_fields.items()
            for note in field.metadata
            if isinstance(note, Int | Float | Choice)
        }

    @classmethod
    def conditions(cls) -> dict[str, When]:
        """Return the fields that matter only under a condition, and the condition of each.

        Returns
        -------
        dict of str to When
        """
        return {
            name: note
            for name, field in cls.model_fields.items()
            for note in field.metadata
            if isinstance(note, When)
        }

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Build the config from what ``model_dump(mode="json")`` returned.

        Raises
        ------
        ConfigError
            If the document does not describe a valid config of this class.
        """
        try:
            return cls.model_validate_json(json.dumps(document, allow_nan=False))
        except ValidationError as error:
            raise ConfigError(_message(cls, error)) from None
        except (TypeError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{cls.__name__}: not plain JSON: {error}") from None

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, validated anew."""
        return type(self)(**{**self.get_params(), **changes})

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the fields by name, so that scikit-learn lists ``flow__layers``."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    def __sklearn_clone__(self) -> Self:
        return self


def _python_scalar(value: Any) -> Any:
    """Turn numpy scalars, as grid searches produce them, into Python ones."""
    if type(value) is tuple:
        return tuple(_python_scalar(part) for part in value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return value


def _message(config: type[Config], error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_url=False):
        name = ".".join(str(part) for part in item["loc"])
        text = item["msg"].removeprefix("Value error, ")
        text = text[0].lower() + text[1:]
        if item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
            known = list(config.model_fields)
            text = (
                f"unknown parameter; known are {', '.join(known) or 'none'}{closest(name, known)}"
            )
        elif name:  # an error of the config as a whole says itself what does not fit
            text = f"{text}, got {item['input']!r}"
        lines.append(f"{config.__name__}: {name}: {text}" if name else f"{config.__name__}: {text}")
    return "\n".join(lines)
