"""Run builds for the embedded database when vectors of the wanted model, or the index for large users, are missing."""

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
"""The least number of seconds between two checks, however many documents are added."""
TRY_AGAIN_SECONDS = 600.0
"""Seconds before a failed build is retried. A build fails, for example, while its provider is down."""
NICE = 10
"""The nice value of a build's process, so that people's requests go first."""


class Upkeep:
    """Runs the owner's build command when it is due, for the embedded database, which the service owns."""

    def __init__(self, embeddings: Embeddings, wanted: str | None, *, data_dir: Path | None) -> None:
        """`wanted` names the configured embedding model, if any.

        `data_dir` is None if PostgreSQL runs outside of DocuTalk.
        """
        self._embeddings = embeddings
        self._wanted = wanted
        self._data_dir = data_dir
        self._asked = asyncio.Event()

    def look(self) -> None:
        """Check soon whether a build is due, because passages were added."""
        self._asked.set()

    async def run(self, url: str) -> None:
        """Choose the model at the start, then run builds for the embedded database.

        The method checks whether a build is due at the start, and again after passages were added. `url` is the owner's
        database URL.
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
        """Build what is due; return the seconds until the next check, or None if the build succeeded."""
        # The build is a separate process with a lower priority. It can be ended together with this process at any
        # point.
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
            # Another process or a person is running a build, possibly for another model.
            log.info("embeddings_built_elsewhere")
            return LOOK_AGAIN_SECONDS
        if process.returncode:
            log.error("embeddings_not_built", reason=told.decode(errors="replace")[-300:].strip())
            return TRY_AGAIN_SECONDS
        return None
