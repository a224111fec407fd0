"""Call a function, as the program of a container: `python /proc/self/fd/PROGRAM CALL RESULT` (api/tasks.py).

It runs in the container's own Python, out of a zip that has cloudpickle beside it, so it imports nothing of this
package. CALL and RESULT are descriptors: the version of Python and the call as pickles; whether it returned, and what,
as a pickle.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback


def main(call: int, result: int) -> None:
    """Call the function, and write the result. Raises what ends a program: SystemExit and KeyboardInterrupt."""
    os.set_inheritable(call, False)
    os.set_inheritable(result, False)
    try:
        outcome = True, _call(call)
    except Exception as error:
        outcome = False, _portable(error)
    try:
        data = _dumps(outcome)
    except Exception as error:  # a result that cannot be sent
        data = _dumps((False, _portable(error)))
    with open(result, "wb") as file:
        file.write(data)


def _call(fd: int) -> object:
    with open(fd, "rb") as file:
        version = pickle.load(file)
        if version != tuple(sys.version_info[:2]):
            theirs, ours = (".".join(map(str, each)) for each in (version, sys.version_info[:2]))
            raise RuntimeError(f"the caller's Python is {theirs}, the container's is {ours}: byte code needs the same")
        function, args, kwargs = pickle.load(file)
    return function(*args, **kwargs)


def _dumps(value: object) -> bytes:
    import cloudpickle

    data: bytes = cloudpickle.dumps(value)
    return data


def _portable(error: Exception) -> Exception:
    """Return the exception with its traceback as a note, or a RuntimeError of its text if it cannot be pickled."""
    text = "".join(traceback.format_exception(error))
    try:
        pickle.loads(_dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"in the container:\n{text}")
    return error


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
