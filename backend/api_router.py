"""The routes under `/api`, and the order in which all of them judge a request."""

from collections.abc import Callable, Collection, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor

from backend.errors import FieldProblem, InvalidInput

OURS = ("auth", "conversations", "documents", "runs", "tasks", "tokens")
"""What follows `/api/` where addresses of our own go on. It names no user, so that none of them is shadowed."""


class UserConvertor(Convertor[str]):
    """The part of a path that names a user: `{user_id:user}`."""

    regex = rf"(?!(?:{'|'.join(OURS)})(?:/|$))[^/]+"

    def convert(self, value: str) -> str:
        """Return the name as it stands in the path."""
        return value

    def to_string(self, value: str) -> str:
        """Return the name as it stands in the path."""
        return value


register_url_convertor("user", UserConvertor())


async def _named_user(user_id: Annotated[str, Path(description="Your own id, or your identity's `sub`.")]) -> None:
    """Show the parameter in the API's description; `signed_in` has compared it."""


NAMED_USER = Depends(_named_user)
"""For routes whose path names the user."""


def api_router(signed_in: Callable[..., Any], **options: Any) -> APIRouter:
    """Return a router whose routes ask who sends a request before they look at what it says.

    A route that depends on `signed_in` calls it first: 401, and 404 where the path names somebody else. Unknown query
    parameters come next, and the body and all other values last.
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
    """Raise InvalidInput for a query parameter that the route does not take, or takes once and was given twice."""
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
