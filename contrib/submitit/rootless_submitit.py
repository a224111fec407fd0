"""Containers as jobs of submitit on Slurm: `run` starts a command, `contained` decorates a function.

`Executor` is submitit's own, which asks `scontrol show job` how a job is, because `sacct` answers nothing where Slurm
has no accounting. So a job that was killed raises within seconds. Jobs have to be able to import this module.
"""

from __future__ import annotations

import re
import subprocess
import time
from typing import Any

from submitit.core.core import R
from submitit.slurm.slurm import SlurmExecutor, SlurmInfoWatcher, SlurmJob

from rootless.api.tasks import contained as contained
from rootless.api.tasks import run_task

# In a job both know its limits (rootless.api.tasks.job_limits), and their containers end with the job's process.
run = run_task

_PERIOD = 2  # seconds between two looks at the jobs
_FILE_DELAY = 3.0  # seconds that a result may take to appear in a network file system after its job has ended
_GONE = "GONE"  # slurmctld forgets a job some minutes after its end (slurm.conf(5), MinJobAge)


class Watcher(SlurmInfoWatcher):
    """Learn the states of jobs from `scontrol show job`."""

    def update(self) -> None:
        """Ask for each job that has not ended; the jobs of an array are one question."""
        self._num_calls += 1
        for number in sorted({job.partition("_")[0] for job in self._registered - self._finished}):
            command = ["scontrol", "--oneliner", "show", "job", number]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            self._output = done.stdout.encode()
            if done.returncode == 0:
                self._info_dict.update(self.read_info(done.stdout))
            elif "Invalid job id" in done.stdout + done.stderr:
                for job in list(self._registered - self._finished):
                    if job.partition("_")[0] == number:
                        self.note(job, _GONE)
        self._last_status_check = time.time()
        self._finished |= {job for job in self._registered if self.is_done(job, mode="cache")}

    def note(self, job: str, state: str) -> None:
        """Take a job as ended, in this state."""
        self._info_dict[job] = {"JobID": job, "State": state}
        self._finished.add(job)

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """Return the jobs of `scontrol --oneliner show job` by submitit's ids: `7`, or `7_2` in an array."""
        text = string.decode() if isinstance(string, bytes) else string
        found: dict[str, dict[str, str]] = {}
        for line in text.splitlines():
            fields = dict(re.findall(r"(\w+)=(\S*)", line))
            if "JobState" not in fields:
                continue
            info = {"JobID": fields["JobId"], "State": fields["JobState"], "NodeList": fields.get("NodeList", "")}
            if "ArrayTaskId" not in fields:
                found[fields["JobId"]] = info
            for task in _numbers(fields.get("ArrayTaskId", "")):
                found[f"{fields['ArrayJobId']}_{task}"] = info
        return found


class Job(SlurmJob[R]):
    """A job whose end is noticed within seconds, whatever it is."""

    watcher = Watcher(delay_s=_PERIOD)
    _results_timeout_s = _FILE_DELAY

    def cancel(self, check: bool = True) -> None:
        """Cancel the job, and take it as ended: Slurm gives it time (slurm.conf(5), KillWait) before it ends it."""
        super().cancel(check)
        self.watcher.note(self.job_id, "CANCELLED")


class Executor(SlurmExecutor):
    """submitit's executor for Slurm, on a cluster with accounting or without."""

    job_class = Job

    def _internal_process_submissions(self, delayed_submissions: Any) -> list[Any]:
        """Submit jobs; those of an array, which submitit makes of its own class, become jobs of ours."""
        jobs: list[Any] = super()._internal_process_submissions(delayed_submissions)
        return [Job(self.folder, job.job_id, job._tasks) for job in jobs]


def _numbers(text: str) -> list[int]:
    """Return the numbers of tasks that wait together: `3`, `0-3`, `1,4-5%2`."""
    numbers: list[int] = []
    for part in filter(None, text.partition("%")[0].split(",")):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers
