import signal
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from backend.identity.authenticator import Authenticator
from tests.conftest import query, wait_until
from tests.process import started


@pytest.mark.slow
@pytest.mark.spec("CLI-10")
def test_the_worker_forgets_guests_who_have_expired_and_stops_at_a_signal(
    authenticator: Authenticator, database_url: str, superuser_url: str, tmp_path: Path
) -> None:
    gone, _ = authenticator.welcome_guest(address="tests", zone=ZoneInfo("UTC"))
    staying, _ = authenticator.welcome_guest(address="tests", zone=ZoneInfo("UTC"))
    query(superuser_url, "update users set expires_at = now() - interval '1 hour' where user_id = %s", gone.user_id)

    # Services over the same database have done it less than an hour ago.
    query(superuser_url, "update chores set due_at = now()")

    command = (sys.executable, "-m", "backend.cli", "worker")
    with started(tmp_path, *command, DATABASE_URL=database_url, MIGRATE_ON_START="false") as worker:
        left = "select user_id from users where user_id in (%s, %s)"
        wait_until(lambda: len(query(superuser_url, left, gone.user_id, staying.user_id)) == 1, seconds=60)
        status = worker.stop(signal.SIGTERM)

    assert query(superuser_url, left, gone.user_id, staying.user_id) == [(staying.user_id,)]
    assert (status, worker.err) == (0, "")
