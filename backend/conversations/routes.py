"""The routes that read conversations. The routes that change them are in the workspace, because they also end runs."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query

from backend.api_router import api_router
from backend.conversations.repository import ConversationRepository, MessageRepository
from backend.conversations.schemas import (
    ConversationId,
    ConversationSeen,
    ConversationsListed,
    ConversationWithMessages,
    MessageSeen,
    cursor_after,
    place_of,
)
from backend.identity.caller import Caller
from backend.limits.fair_share import FairShare
from backend.plain_text import ONE_LINE
from backend.postgres.database import Database, Scope

MOST_MESSAGES = 500
ModelsOf = Callable[[Scope, set[str]], dict[str, str]]
"""Returns, by run id, the name of the model that answered in each of these runs."""


def conversation_routes(
    database: Database, signed_in: Callable[..., Any], *, models_of: ModelsOf, share: FairShare
) -> APIRouter:
    """Return the routes that read conversations. `share` limits how many requests each user can have in progress."""
    router = api_router(signed_in, prefix="/api/conversations", tags=["conversations"])
    SignedInCaller = Annotated[Caller, Depends(signed_in)]
    ConversationInPath = Annotated[ConversationId, Path()]

    @router.get("", summary="List conversations, the last changed first")
    async def list_conversations(
        caller: SignedInCaller,
        query: Annotated[Annotated[str, ONE_LINE] | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> ConversationsListed:
        before = place_of(cursor)

        def listed() -> ConversationsListed:
            with database.scope(caller.user_id, caller.zone) as scope:
                found = ConversationRepository(scope).all(query=query, before=before, limit=limit + 1)
                page = found[:limit]
                return ConversationsListed(
                    conversations=[ConversationSeen.of(conversation) for conversation in page],
                    next_cursor=cursor_after(page[-1]) if len(found) > limit else None,
                )

        return await share.run(caller.user_id, listed)

    @router.get("/{conversation_id}", summary="Show a conversation with its messages")
    async def show_conversation(
        conversation_id: ConversationInPath,
        caller: SignedInCaller,
        last: Annotated[int, Query(ge=1, le=MOST_MESSAGES, description="How many messages, from the end.")] = 200,
    ) -> ConversationWithMessages:
        def shown() -> ConversationWithMessages:
            with database.scope(caller.user_id, caller.zone) as scope:
                conversation = ConversationRepository(scope).get(conversation_id)
                messages = MessageRepository(scope).all(conversation_id, last=last)
                models = models_of(scope, {message.run_id for message in messages if message.run_id})
                return ConversationWithMessages(
                    **ConversationSeen.of(conversation).model_dump(),
                    messages=[MessageSeen.of(message, model=models.get(message.run_id or "")) for message in messages],
                )

        return await share.run(caller.user_id, shown)

    return router
