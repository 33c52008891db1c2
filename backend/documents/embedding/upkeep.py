"""Keeping the embedded database's vectors by the model that is wanted, and indexed for whoever has many."""

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog
from anyio.to_thread import run_sync
from sqlalchemy.exc import SQLAlchemyError

from backend.documents.embedding.build import UNDER_WAY_STATUS, Builds
from backend.documents.embedding.current import Embeddings
from backend.errors import DocuTalkError

log = structlog.get_logger()

BUILD: Sequence[str] = (sys.executable, "-m", "backend.cli", "embeddings", "build")
LOOK_AGAIN_SECONDS = 60.0
"""How soon after a look the next one may come, however many documents are added."""
TRY_AGAIN_SECONDS = 600.0
"""How soon a build that failed, since its provider was away, say, is tried again."""
NICE = 10
"""The priority of a build: whoever asks something meanwhile comes first."""


class Upkeep:
    """Runs the owner's command when it is due, for the embedded database, where the service is the owner."""

    def __init__(self, embeddings: Embeddings, wanted: str | None, *, data_dir: Path | None) -> None:
        """Take the model that is wanted, if any, and where the embedded database is; None for somebody's database."""
        self._embeddings = embeddings
        self._wanted = wanted
        self._data_dir = data_dir
        self._asked = asyncio.Event()

    def look(self) -> None:
        """Say that passages were added."""
        self._asked.set()

    async def run(self, url: str) -> None:
        """Choose the model at the start; in the embedded database build what is due, now and when passages were added.

        `url` is the owner's.
        """
        is_chosen = await self._choose()
        if self._data_dir is None:
            if not is_chosen:
                log.warning("embedding_model_not_in_use", wanted=self._wanted, advice="docutalk embeddings build")
            return
        self._asked.set()
        while True:
            await self._asked.wait()
            self._asked.clear()
            again = None
            try:
                if (await run_sync(Builds(url).due, self._wanted)).is_any:
                    again = await self._build(self._data_dir)
            except (SQLAlchemyError, OSError) as error:
                log.warning("embeddings_not_looked_at", reason=type(error).__name__)
            await asyncio.sleep(again or LOOK_AGAIN_SECONDS)
            if again:
                self._asked.set()

    async def _choose(self) -> bool:
        if self._wanted is None:
            return True
        try:
            return await run_sync(self._embeddings.choose, self._wanted)
        except DocuTalkError as error:
            log.error("embedding_model_not_chosen", model=self._wanted, reason=str(error))
            return True

    async def _build(self, data_dir: Path) -> float | None:
        """Build what is due, and return after how many seconds to look again; None when it is done."""
        # Another process: it works at a lower priority and ends with ours, whatever it is in the middle of.
        process = await asyncio.create_subprocess_exec(
            *BUILD,
            env=os.environ | {"DATA_DIR": str(data_dir), "EMBEDDING_MODEL": self._wanted or ""},
            cwd=Path(__file__).parents[3],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
            _, told = await process.communicate()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.terminate()
            await asyncio.shield(process.wait())
            raise
        if process.returncode == UNDER_WAY_STATUS:
            # Of a process beside this one, or of a person, who may have built another model.
            log.info("embeddings_built_elsewhere")
            return LOOK_AGAIN_SECONDS
        if process.returncode:
            log.error("embeddings_not_built", reason=told.decode(errors="replace")[-300:].strip())
            return TRY_AGAIN_SECONDS
        return None
