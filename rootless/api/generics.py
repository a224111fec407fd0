"""Stand in for typing's Generic and type variables at run time, because typing is slow to import."""

from __future__ import annotations

from types import GenericAlias


class Generic:
    """Let a class take parameters, as in `Sandbox[str]`, which have no meaning at run time."""

    __class_getitem__ = classmethod(GenericAlias)  # type: ignore[var-annotated]


AnyStr = Output = Generic
