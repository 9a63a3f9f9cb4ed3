from jobs.plan import Kind
from releases.models.log_block import LogBlock
from releases.models.machine_run import MachineRun, NotUnknown
from releases.models.run import MachinesHeld, Run, RunMoved
from releases.models.stage import ReleaseStage
from releases.models.stage_moved import Frozen, StageMoved
from releases.models.task import Action, Task, TaskVersion
from releases.models.worker import Worker

__all__ = [
    "Action",
    "Frozen",
    "Kind",
    "LogBlock",
    "MachineRun",
    "MachinesHeld",
    "NotUnknown",
    "ReleaseStage",
    "Run",
    "RunMoved",
    "StageMoved",
    "Task",
    "TaskVersion",
    "Worker",
]
