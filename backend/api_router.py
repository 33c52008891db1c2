"""The router for routes under `/api`. It sets the order in which each route checks a request."""

from collections.abc import Callable, Collection, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor

from backend.errors import FieldProblem, InvalidInput

OURS = ("auth", "conversations", "documents", "operations", "runs", "tasks", "tokens")
"""The segments directly after `/api/` that our own routes use. A user's path never matches them, so no user id can hide
one of our routes."""


OPERATION_HEADER = "Operation-Id"
"""The response header with the number of the operation that a request made. A client needs the number to undo the
operation."""


class UserConvertor(Convertor[str]):
    """Converts the path parameter `{user_id:user}`, which names a user. It does not match the segments in `OURS`."""

    regex = rf"(?!(?:{'|'.join(OURS)})(?:/|$))[^/]+"

    def convert(self, value: str) -> str:
        """Return the name unchanged."""
        return value

    def to_string(self, value: str) -> str:
        """Return the name unchanged."""
        return value


register_url_convertor("user", UserConvertor())


async def _named_user(user_id: Annotated[str, Path(description="Your own id, or your identity's `sub`.")]) -> None:
    """Add the path parameter to the API's documentation. `signed_in` checks that it names the caller."""


NAMED_USER = Depends(_named_user)
"""The dependency for routes whose path names the user."""


def api_router(signed_in: Callable[..., Any], **options: Any) -> APIRouter:
    """Return a router whose routes authenticate a request before they check anything else.

    A route that depends on `signed_in` calls `signed_in` first. That call answers 401 without a valid token, and 404 if
    the path names another user. The route then rejects unknown query parameters. Last, it checks the body and all other
    values.
    """

    class ApiRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            answer = super().get_route_handler()
            known = [field.alias for field in self.dependant.query_params]
            asks_who = signed_in in [dependency.call for dependency in self.dependant.dependencies]

            async def in_order(request: Request) -> Response:
                if asks_who:
                    await signed_in(request)
                _refuse_unknown(request, known)
                return await answer(request)

            return in_order

    return APIRouter(route_class=ApiRoute, **options)


def _refuse_unknown(request: Request, known: Collection[str]) -> None:
    """Raise InvalidInput if a query parameter is not declared by the route, or is given more than once."""
    names = [name for name, _ in request.query_params.multi_items()]
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    repeated = [name for name in known if names.count(name) > 1]
    if not unknown and not repeated:
        return
    address = f"{request.method} {request.scope['route'].path_format}"
    taken = f"these query parameters: {', '.join(known)}" if known else "no query parameters"
    if unknown:
        sentence = (
            f"{_shown(unknown)} not known at this address, so nothing was done. Check the spelling, or leave it out."
        )
    else:
        sentence = f"{_shown(repeated)} given more than once, so nothing was done. Give each only once."
    problems = [FieldProblem(_plain(name), "This parameter does not exist.") for name in unknown]
    problems += [FieldProblem(name, "This parameter may be given only once.") for name in repeated]
    raise InvalidInput(sentence, hint=f"{address} takes {taken}.", problems=tuple(problems[:10]))


def _shown(names: list[str]) -> str:
    quoted = [f'"{_plain(name)[:50]}"' for name in names[:3]]
    return f"{', '.join(quoted)} {'is' if len(quoted) == 1 else 'are'}"


def _plain(name: str) -> str:
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name[:100]) or "(without a name)"
