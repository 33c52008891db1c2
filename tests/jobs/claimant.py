"""A process as far as leases on runs go: it accepts messages, and claims runs without executing them."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlmodel import Session

from backend.identity.caller import Caller
from backend.jobs.leases import Lease, Leases
from backend.postgres.database import Database
from backend.runs.models import RUNS
from backend.runs.turns import Turn, Turns
from tests.runs.scripted import ScriptedAssistant, echo

SECONDS = 30.0
MOST = RUNS.most_of_a_user
END = "update runs set status = 'completed', ended_at = now(), lease_owner = null, lease_until = null where id = %s"


@dataclass(frozen=True)
class Claimant:
    """A process with its leases."""

    leases: Leases
    turns: Turns

    @classmethod
    def over(cls, database: Database, *, seconds: float = SECONDS) -> "Claimant":
        leases = Leases(database, RUNS, seconds=seconds)
        assistant = ScriptedAssistant(echo)
        return cls(leases, Turns(database, assistant, leases, guest_turns_per_day=0, history_messages=40))

    def accept(self, caller: Caller, conversation_id: int | None = None, *, has_slot: bool = False) -> Turn:
        return self.turns.accept(caller, "hello", conversation_id=conversation_id, has_slot=has_slot)

    def claim(self) -> Lease | None:
        return self.leases.claim(began)

    def claim_all(self) -> list[Lease]:
        return list(iter(self.claim, None))


def began(session: Session, lease: Lease) -> Lease:
    """Note in the row, as a worker does, that it is worked on."""
    session.execute(text("update runs set status = 'running' where id = :id"), {"id": lease.id})
    return lease
