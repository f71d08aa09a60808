"""`tinyprof-bridge` as a process of its own that has its libraries already: a fork of this one. Loading them anew takes
longer than most of what tests ask of it."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback

# in this process, for all forks: the verbs load these when they run
from tinyprof_bridge.__main__ import main


def bridge(*arguments, cwd=None, env=None, timeout=120):
    """What it printed, and its exit code, as of subprocess.run. env: beside that of this process."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        pid = os.fork()
        if pid == 0:
            os.environ |= env or {}
            _run([str(a) for a in arguments], cwd, out.fileno(), error.fileno())
        end = time.monotonic() + timeout
        while not (done := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise subprocess.TimeoutExpired(arguments, timeout)
            time.sleep(0.005)
        texts = []
        for file in (out, error):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(arguments, os.waitstatus_to_exitcode(done[1]), *texts)


def heed_interrupts():
    """Where the tests run in the background of a shell, SIGINT is ignored and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _run(arguments, cwd, out, error):
    """The child: as if just started with these streams; it never returns."""
    code = 0
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(error, 2)
        sys.stdin = sys.__stdin__ = open(0, closefd=False)
        sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)
        sys.stderr = sys.__stderr__ = open(2, "w", errors="backslashreplace", closefd=False)
        if cwd is not None:
            os.chdir(cwd)
        sys.argv = ["tinyprof-bridge", *arguments]
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
