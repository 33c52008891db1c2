"""The daily budget of turns with the configured model, which all guests of an installation share. Days are in UTC."""

from datetime import UTC, datetime, time, timedelta

import structlog
from pydantic import BaseModel
from sqlalchemy import text

from backend.postgres.database import Scope

log = structlog.get_logger()


class ModelNotice(BaseModel):
    """Why, and until when, the offline model answers in place of the configured model."""

    detail: str
    until: datetime


class GuestBudget:
    """The guests' daily budget of turns. A turn that was taken is never given back, even if its guest is deleted."""

    def __init__(self, *, turns_per_day: int) -> None:
        """Set the number of turns per day; 0 means no limit."""
        self._turns_per_day = turns_per_day

    def take(self, scope: Scope) -> bool:
        """Take one of today's turns, and return whether one was left.

        The budget's row stays locked until the transaction ends. Every guest's message needs this row, so take a turn
        as the transaction's last step.
        """
        if not self._turns_per_day:
            return True
        # Once the budget is spent, its row is only read, so no message waits for the lock.
        if self.is_spent(scope):
            return False
        taken = scope.session.execute(
            text("select take_guest_model_turn(:today, :most)"),
            {"today": scope.now.date(), "most": self._turns_per_day},
        ).scalar_one()
        if taken:
            log.info("repository_write", table="guest_model_turns", user_id=scope.user_id, outcome="counted")
        return bool(taken)

    def is_spent(self, scope: Scope) -> bool:
        """Return whether no turn is left today."""
        if not self._turns_per_day:
            return False
        turns = scope.session.execute(
            text("select turns from guest_model_turns where day = :today"), {"today": scope.now.date()}
        ).scalar_one_or_none()
        return turns is not None and turns >= self._turns_per_day

    def notice(self, scope: Scope, model: str) -> ModelNotice:
        """Return the notice that today's turns with this model are spent."""
        answers = "answer" if self._turns_per_day == 1 else "answers"
        tomorrow = scope.now.date() + timedelta(days=1)
        return ModelNotice(
            detail=f"Guests have together used today's {self._turns_per_day:,} {answers} from {model}.",
            until=datetime.combine(tomorrow, time(), UTC),
        )
