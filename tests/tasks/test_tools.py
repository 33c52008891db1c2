import pytest

from backend.identity.caller import Caller
from backend.operations.perform import Operations
from backend.tasks.repository import TaskNotFound
from backend.tasks.tools import add_task, complete_task


@pytest.mark.spec("TASK-9")
def test_a_task_of_another_user_does_not_exist(operations: Operations, alice: Caller, bob: Caller) -> None:
    task = operations.perform(add_task, {"title": "milk"}, alice).result

    with pytest.raises(TaskNotFound):
        operations.perform(complete_task, {"task_id": task["task_id"]}, bob)
