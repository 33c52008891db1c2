"""Receive a request's files, and keep them as documents, one after the other."""

from dataclasses import replace
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import anyio
from fastapi import Request

from backend.documents.quota import KeepingRules
from backend.documents.repository import DocumentRepository
from backend.documents.upload.file_types import kind_of
from backend.documents.upload.form import ReceivedFile, UploadLimits, received
from backend.documents.upload.keep import DocumentKept, Original, keep_upload
from backend.idempotency import hash_of
from backend.identity.caller import Caller
from backend.operations.perform import Call, Operations
from backend.plain_text import storable
from backend.postgres.database import Database

LONGEST_ORIGINAL_NAME = 1_000


class Uploads:
    """Receives files and keeps them as documents."""

    def __init__(self, operations: Operations, database: Database, limits: UploadLimits, rules: KeepingRules) -> None:
        self._operations = operations
        self._database = database
        self._limits = limits
        self._rules = rules
        self._turns: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()

    async def accept(self, request: Request, caller: Caller, key: str | None) -> list[DocumentKept]:
        """Keep a request's files as documents. If the type of one file is refused, no file is kept."""
        caller.require("write")
        most = self._rules.most_of(is_guest=caller.kind == "guest")
        limits = replace(self._limits.within(most), room=partial(self._room, caller))
        async with received(request.scope, request.receive, limits) as files:
            # A user's uploads run one after the other. They wait here and not in the database, where each wait would
            # hold a connection and fail after a few seconds.
            turn = self._turns.setdefault(caller.user_id, anyio.Lock())
            async with turn:
                # All files share one slot, which may be waited for patiently. With a slot for each file, the second
                # file could be refused after the first one was kept.
                work = partial(self._keep, files, caller, key)
                return await self._operations.share.run(caller.user_id, work, is_patient=True)

    def _keep(self, files: list[ReceivedFile], caller: Caller, key: str | None) -> list[DocumentKept]:
        wanted = [_described(file) for file in files]
        together = hash_of({"files": wanted}) if len(wanted) > 1 else None
        kept = []
        for number, (file, arguments) in enumerate(zip(files, wanted, strict=True)):
            call = Call(idempotency_key=_key_of(key, number), prepared=Original(file, self._rules))
            outcome = self._operations.perform(keep_upload, {**arguments, "sent_together": together}, caller, call)
            kept.append(DocumentKept.model_validate(outcome.result))
        return kept

    def _room(self, caller: Caller) -> int | None:
        with self._database.scope(caller.user_id, caller.zone) as scope:
            used = DocumentRepository(scope).used_bytes()
        return self._rules.left_of(used, is_guest=caller.kind == "guest")


def _described(file: ReceivedFile) -> dict[str, Any]:
    kind = kind_of(file.sent_name, file.file)
    return {
        "filename": storable(kind.filename),
        "original_filename": storable(file.sent_name)[:LONGEST_ORIGINAL_NAME],
        "content_type": kind.content_type,
        "file_size": file.size,
        "sha256": file.sha256,
    }


def _key_of(key: str | None, number: int) -> str | None:
    """Return the idempotency key for one file of a request. The first file has the request's own key."""
    return key if key is None or number == 0 else hash_of({"key": key, "file": number})
