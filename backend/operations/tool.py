"""A tool: a typed function, with the information about it that models, clients and the ledger need."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, ParamSpec, TypeVar, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from backend.errors import FieldProblem, InvalidInput, for_people, plainly
from backend.idempotency import IdempotencyKey
from backend.identity.caller import AccessScope
from backend.postgres.database import Scope

Params = ParamSpec("Params")
Result = TypeVar("Result", bound=BaseModel)

KEY_ARGUMENT = "idempotency_key"
DRY_RUN = "dry_run"
"""The argument that makes a tool only report what it would change."""


class _Prepared:
    """Marks a parameter whose value is computed before the transaction. No caller can set this value."""


PREPARED = _Prepared()
"""Marks a parameter, as in `Annotated[Vector, PREPARED]`. Its value comes from the `Call` or the tool's preparation."""

_NOT_FOR_MODELS = ("title", "default", "minLength", "maxLength", "pattern", "format")
_NOT_FOR_CLIENTS = ("title", "description", "default", "format", "required")


@dataclass(frozen=True, eq=False)
class Tool(Generic[Params, Result]):
    """A tool. Calling it calls its function; its attributes describe it."""

    function: Callable[Params, Result]
    title: str
    writes: bool
    destructive: bool
    idempotent: bool
    published: bool
    """Whether models and MCP clients see the tool. An unpublished tool is only for REST."""
    keyed: bool
    """Whether the tool takes an `idempotency_key`. `perform` reads the key; the function does not get it."""
    returns_documents: bool
    """Whether the result may contain document text, which anybody may have written. Such a result has a method
    `document_ids_read`, which returns the documents' ids."""

    def __call__(self, *args: Params.args, **kwargs: Params.kwargs) -> Result:
        """Call the function directly, without checks and without a ledger row."""
        return self.function(*args, **kwargs)

    @property
    def name(self) -> str:
        """The name that models and the ledger use."""
        return self.function.__name__

    @property
    def scope(self) -> AccessScope:
        """The scope that the caller's credential must have."""
        return "write" if self.writes else "read"

    @cached_property
    def description(self) -> str:
        """The function's docstring, which is written for models."""
        return inspect.cleandoc(self.function.__doc__ or "")

    @cached_property
    def result_model(self) -> type[BaseModel]:
        """The type of the function's result."""
        return cast(type[BaseModel], get_type_hints(self.function)["return"])

    @cached_property
    def arguments_model(self) -> type[BaseModel]:
        """The model that checks the arguments.

        Its fields are the parameters that a caller may set; it rejects any others.
        """
        hints = get_type_hints(self.function, include_extras=True)
        fields: dict[str, Any] = {
            name: (hints[name], ... if parameter.default is parameter.empty else parameter.default)
            for name, parameter in inspect.signature(self.function).parameters.items()
            if hints[name] is not Scope and name != self.prepared
        }
        if self.keyed:
            fields[KEY_ARGUMENT] = (IdempotencyKey | None, None)
        return create_model(self.name, __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **fields)

    @cached_property
    def prepared(self) -> str | None:
        """The name of the parameter whose value is computed before the transaction, or None."""
        hints = get_type_hints(self.function, include_extras=True)
        return next((name for name, hint in hints.items() if PREPARED in getattr(hint, "__metadata__", ())), None)

    def changes(self, arguments: dict[str, Any]) -> bool:
        """Return whether a call with these checked arguments can change anything."""
        if not self.writes:
            return False
        field = self.arguments_model.model_fields.get(DRY_RUN)
        return not (field and arguments.get(DRY_RUN, field.default))

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        """The arguments' JSON schema for models, with only the keywords that every provider accepts.

        An optional argument is simply not listed as required. Lengths and patterns are checked but not in the schema,
        because OpenAI's strict mode, Gemini and Anthropic accept different keywords for them.
        """
        schema = _plain(self.arguments_model.model_json_schema())
        return {
            "type": "object",
            "properties": schema.get("properties", {}),
            "required": schema.get("required", []),
            "additionalProperties": False,
        }

    @cached_property
    def output_schema(self) -> dict[str, Any]:
        """The result's JSON schema, shortened. A write's result also has the number of the write's operation."""
        schema = _short(self.result_model.model_json_schema(mode="serialization"))
        if self.writes:
            schema["properties"]["operation_id"] = {"type": "integer"}
        return schema

    def checked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments in the types that the function takes. A null argument counts as missing.

        Raises:
            InvalidInput: An argument is invalid. The error lists the wrong fields and never quotes an input value.
        """
        known = self.arguments_model.model_fields
        given = {name: value for name, value in arguments.items() if value is not None or name not in known}
        try:
            checked = self.arguments_model.model_validate(given)
        except ValidationError as error:
            problems = explained(error)
            named = " ".join(f"{problem.field}: {problem.message}" for problem in problems)
            hint = f"{named} {self.name} takes: {', '.join(known)}."
            raise InvalidInput(for_people(error.errors(include_url=False)), hint=hint, problems=problems) from None
        return {name: getattr(checked, name) for name in checked.model_fields_set}


def tool(
    *,
    title: str,
    writes: bool = False,
    destructive: bool = False,
    idempotent: bool = True,
    published: bool = True,
    keyed: bool = False,
    returns_documents: bool = False,
) -> Callable[[Callable[Params, Result]], Tool[Params, Result]]:
    """Return a decorator that makes a function a tool."""

    def made(function: Callable[Params, Result]) -> Tool[Params, Result]:
        return Tool(function, title, writes, destructive, idempotent, published, keyed, returns_documents)

    return made


def only(*names: str) -> Callable[[dict[str, Any]], None]:
    """Return a `json_schema_extra` that shows only these fields in a result's schema.

    The result itself has all fields.
    """

    def prune(schema: dict[str, Any]) -> None:
        schema["properties"] = {name: schema["properties"][name] for name in names}
        schema.pop("required", None)

    return prune


def explained(error: ValidationError) -> tuple[FieldProblem, ...]:
    """Return at most ten of pydantic's errors as `FieldProblem`s, without input values and links."""
    complaints = error.errors(include_url=False, include_input=False)[:10]
    return tuple(
        FieldProblem(
            ".".join(str(part) for part in complaint["loc"])[:100] or "input", plainly(dict(complaint), "argument")
        )
        for complaint in complaints
    )


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    definitions = schema.get("$defs", {})

    def simplified(node: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in node:
            target = definitions[node["$ref"].rsplit("/", 1)[-1]]
            node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
        if "anyOf" in node:
            [only] = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
            node = {**only, **{key: value for key, value in node.items() if key != "anyOf"}}
        node = {key: value for key, value in node.items() if key not in _NOT_FOR_MODELS}
        if "properties" in node:
            node["properties"] = {name: simplified(item) for name, item in node["properties"].items()}
        if "items" in node:
            node["items"] = simplified(node["items"])
        return node

    return simplified(schema)


def _short(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a result's schema without descriptions, references and required fields.

    The list of all tools may take at most 24 KB, so the schemas must be short.
    """
    definitions = schema.pop("$defs", {})

    def shortened(node: Any) -> Any:
        if isinstance(node, list):
            return [shortened(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return shortened(definitions[node["$ref"].rsplit("/", 1)[-1]])
        short = {
            key: {name: shortened(item) for name, item in value.items()} if key == "properties" else shortened(value)
            for key, value in node.items()
            if key not in _NOT_FOR_CLIENTS
        }
        match short.get("anyOf"):
            case [{"type": str(), **only}, {"type": "null"}] if "enum" not in only:
                short |= only | {"type": [short.pop("anyOf")[0]["type"], "null"]}
        return short

    return cast(dict[str, Any], shortened(schema))
