"""What a tool is: one typed function, with what models, clients and the ledger need to know of it."""

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
"""The argument with which a tool that writes only says what it would do."""


class _Prepared:
    """The mark of a parameter that is worked out before the transaction, and that no caller can give."""


PREPARED = _Prepared()
"""Marks a parameter, `Annotated[Vector, PREPARED]`, whose value comes from the tool's preparation or the `Call`."""

_NOT_FOR_MODELS = ("title", "default", "minLength", "maxLength", "pattern", "format")
_NOT_FOR_CLIENTS = ("title", "description", "default", "format", "required")


@dataclass(frozen=True, eq=False)
class Tool(Generic[Params, Result]):
    """A tool: calling it calls its function; everything else describes it."""

    function: Callable[Params, Result]
    title: str
    writes: bool
    destructive: bool
    idempotent: bool
    published: bool
    """Whether models and MCP clients see it; REST alone uses the others."""
    keyed: bool
    """Whether it takes an `idempotency_key`, which `perform` reads and the function does not see."""
    returns_documents: bool
    """Whether its result may hold text of documents, which anybody may have written; `document_ids_read` names them."""

    def __call__(self, *args: Params.args, **kwargs: Params.kwargs) -> Result:
        """Call the function itself: no checks, no ledger."""
        return self.function(*args, **kwargs)

    @property
    def name(self) -> str:
        """The name that models and the ledger use."""
        return self.function.__name__

    @property
    def scope(self) -> AccessScope:
        """What a credential must allow."""
        return "write" if self.writes else "read"

    @cached_property
    def description(self) -> str:
        """The function's docstring, which is written for models."""
        return inspect.cleandoc(self.function.__doc__ or "")

    @cached_property
    def result_model(self) -> type[BaseModel]:
        """What the function returns."""
        return cast(type[BaseModel], get_type_hints(self.function)["return"])

    @cached_property
    def arguments_model(self) -> type[BaseModel]:
        """The arguments as they are checked: the function's parameters without its scope, and no others."""
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
        """The name of the parameter that is worked out before the transaction, if there is one."""
        hints = get_type_hints(self.function, include_extras=True)
        return next((name for name, hint in hints.items() if PREPARED in getattr(hint, "__metadata__", ())), None)

    def changes(self, arguments: dict[str, Any]) -> bool:
        """Tell whether a call with these checked arguments changes anything."""
        if not self.writes:
            return False
        field = self.arguments_model.model_fields.get(DRY_RUN)
        return not (field and arguments.get(DRY_RUN, field.default))

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        """The arguments as models read them, in the words that every provider takes.

        An optional argument is one that is not required; lengths and patterns are checked and not told, because
        OpenAI's strict mode, Gemini and Anthropic agree on neither.
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
        """The result's JSON schema, in few words."""
        return _short(self.result_model.model_json_schema(mode="serialization"))

    def checked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments as the function takes them; null stands for "not given".

        Raises:
            InvalidInput: With the fields that are wrong, in sentences that hold nothing of the input's values.
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
    """Make a function a tool."""

    def made(function: Callable[Params, Result]) -> Tool[Params, Result]:
        return Tool(function, title, writes, destructive, idempotent, published, keyed, returns_documents)

    return made


def only(*names: str) -> Callable[[dict[str, Any]], None]:
    """Return what makes a result's schema, as `json_schema_extra`, name these fields alone; the result has them all."""

    def prune(schema: dict[str, Any]) -> None:
        schema["properties"] = {name: schema["properties"][name] for name in names}
        schema.pop("required", None)

    return prune


def explained(error: ValidationError) -> tuple[FieldProblem, ...]:
    """Return pydantic's complaints as ours: at most ten, without the input's values and without links."""
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
    """Return a result's schema without words, references and what is required: the list of tools has 24 KB for all."""
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
