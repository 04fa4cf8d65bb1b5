"""
Run a command that ends when its parent ends, even when the parent is killed with SIGKILL.

    python -I -S tether.py PARENT_PID COMMAND [ARGUMENT...]

Decision: a shim that asks the kernel for the signal and then becomes the command. Because: the wish (Linux's
PR_SET_PDEATHSIG) survives exec, and nothing of ours runs between fork and exec. Instead of: `preexec_fn`, which may
deadlock where the parent has threads. Elsewhere than on Linux the command runs without that promise.

Bounds: the kernel watches the parent's *thread* that started this process; start children from the main thread.
Source: prctl(2), PR_SET_PDEATHSIG.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Become `command`, or exit with 127 where there is no such command."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit("tollway: the parent process is gone")
    try:
        os.execvp(command[0], command)
    except OSError as fault:
        sys.stderr.write(f"{command[0]}: {fault.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
