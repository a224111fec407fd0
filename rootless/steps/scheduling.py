"""Set the scheduler, I/O priority, personality and memory policy. Loaded only if config.json has one of them."""

from __future__ import annotations

from rootless.process import scheduler
from rootless.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.process.scheduler import Scheduler
    from rootless.steps import Words
    from rootless.steps.context import Becoming


class SetCpuAffinity(Step):
    """Set the CPUs that the process may run on: sched_setaffinity(2).

    which: `initial`, for the time of the set-up, or `final`, for the program.
    """

    __slots__ = ("cpus", "which")

    def __init__(self, pointer: str, cpus: list[int], which: str) -> None:
        super().__init__(pointer)
        self.cpus = cpus
        self.which = which

    def words(self) -> Words:
        return "cpu_affinity", str(self.cpus).replace(" ", ""), self.which

    def execute(self, context: Becoming) -> None:
        scheduler.apply_cpu_affinity(self.cpus, self.which)


class SetScheduler(Step):
    """Set policy and priority: sched_setattr(2)."""

    __slots__ = ("scheduler",)

    def __init__(self, pointer: str, policy: Scheduler) -> None:
        super().__init__(pointer)
        self.scheduler = policy

    def words(self) -> Words:
        return "scheduler", str(self.scheduler).replace(" ", "")

    def execute(self, context: Becoming) -> None:
        scheduler.apply_scheduler(self.scheduler)


class SetIoPriority(Step):
    """Set the priority of input and output: ioprio_set(2)."""

    __slots__ = ("value",)

    def __init__(self, pointer: str, value: int) -> None:
        super().__init__(pointer)
        self.value = value

    def words(self) -> Words:
        return "io_priority", str(self.value)

    def execute(self, context: Becoming) -> None:
        scheduler.apply_io_priority(self.value)


class SetPersonality(Step):
    """Set the execution domain: personality(2)."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        super().__init__("/linux/personality")
        self.value = value

    def words(self) -> Words:
        return "personality", str(self.value)

    def execute(self, context: Becoming) -> None:
        scheduler.apply_personality(self.value)


class SetMemoryPolicy(Step):
    """Set the NUMA memory policy: set_mempolicy(2). mode: with its flags."""

    __slots__ = ("mode", "nodes")

    def __init__(self, mode: int, nodes: list[int]) -> None:
        super().__init__("/linux/memoryPolicy")
        self.mode = mode
        self.nodes = nodes

    def words(self) -> Words:
        return "memory_policy", str(self.mode), str(self.nodes).replace(" ", "")

    def execute(self, context: Becoming) -> None:
        scheduler.apply_memory_policy(self.mode, self.nodes)
