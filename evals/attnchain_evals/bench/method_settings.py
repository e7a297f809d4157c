"""The settings of a method that a user wrote as text, checked against the annotations of its class.

pydantic reads the annotations, which the classes have anyway; jsonschema would need each signature a second time.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from attnchain_interp import AttentionError

_STRICT = ConfigDict(arbitrary_types_allowed=True, strict=True)


def check_settings(spec: str, kind: type[Any], settings: Mapping[str, Any]) -> None:
    """Refuses settings that the class does not have, or whose type it does not take."""
    parameters = inspect.signature(kind).parameters
    known = [name for name in parameters if name != "forward_func"]
    for name, value in settings.items():
        if name not in known:
            raise AttentionError(
                f"method {spec!r} has no setting {name!r}.",
                f"Its settings are {', '.join(known) or 'none'}.",
            )
        try:
            TypeAdapter(get_type_hints(kind.__init__)[name], config=_STRICT).validate_python(value)
        except ValidationError as error:
            allowed = " or ".join(dict.fromkeys(each["msg"].removeprefix("Input should be ") for each in error.errors()))
            raise AttentionError(
                f"method {spec!r}: {name} is {value!r}; it must be {allowed}.", f"The default is {parameters[name].default!r}."
            ) from error
