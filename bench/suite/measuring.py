# SPDX-License-Identifier: MIT
"""One run of one program under one allocator, measured and checked; and the machine it ran on."""

import datetime
import glob
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile

from suite.allocators import fatal, output_of, version_of

TIMEOUT = 600  # seconds for one run

# The caller's own settings must not reach some of the allocators.
FOREIGN_ENV = re.compile(r"^(LD_PRELOAD$|LD_AUDIT$|LD_DEBUG|GLIBC_TUNABLES$|MALLOC_|MIMALLOC_|"
                         r"TCMALLOC_|_RJEM_|HAKMEM_|PYTHONMALLOC$)")


class Failed(Exception):
    """A run that crashed, hung, or did not report."""


class Child:
    """A program started by `measure`: its own output, and its figures from outside."""

    def __init__(self, popen, outside):
        self.popen = popen
        self.outside = outside

    def finish(self, timeout=TIMEOUT):
        """(figures, stdout). Raises Failed unless it ended with 0 and wrote nothing to stderr."""
        with self.outside:
            try:
                out, err = self.popen.communicate(timeout=timeout)
            except BaseException as why:
                self.kill()
                if isinstance(why, subprocess.TimeoutExpired):
                    raise Failed(f"no end within {timeout} s") from None
                raise
            measured = self.outside.read()
        said = " ".join(err.split())[:300]
        try:
            figures = json.loads(measured)
        except ValueError:
            raise Failed(f"measure: status {self.popen.returncode}: {said}") from None
        if figures["signal"]:
            name = signal.Signals(figures["signal"]).name
            raise Failed(f"killed by {name}" + (f": {said}" if said else ""))
        if figures["exit"] != 0:
            raise Failed(f"exit status {figures['exit']}: {said}")
        if said:  # ld.so's complaint about a preload among others: never swallow it
            raise Failed(f"wrote to stderr: {said}")
        figures["cpu_s"] = figures["user_s"] + figures["sys_s"]
        return figures, out

    def kill(self):
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)  # the group is ours: it began with this child
        except ProcessLookupError:
            pass
        self.popen.communicate()


class Programs:
    """The built benchmarks, and how a program is run under an allocator."""

    def __init__(self, given, here):
        self.macro = os.path.join(here, "macro")
        folders = [given] if given else ["bench/micro", os.path.join(here, "micro")]
        for folder in folders:
            if os.access(os.path.join(folder, "measure"), os.X_OK):
                self.folder = os.path.realpath(folder)
                break
        else:
            fatal(f"no benchmarks in {' or '.join(folders)}: build them with `make bench`, "
                  "or name their folder with --programs")
        self.env = {k: v for k, v in os.environ.items() if not FOREIGN_ENV.match(k)}

    def path(self, name):
        path = os.path.join(self.folder, name)
        if not os.access(path, os.X_OK):
            fatal(f"{path} is not built: `make bench`")
        return path

    def start(self, allocator, words, runs=1, small_pages=False, settings=(), folder=None):
        """Starts words[0], an absolute path, under the allocator."""
        settings = list(allocator.env) + list(settings)
        if allocator.path:
            settings.insert(0, ("LD_PRELOAD", allocator.path))
        reader, writer = os.pipe()
        full = [self.path("measure"), "-n", str(runs), "-f", str(writer)]
        if small_pages:
            full.append("-s")
        for name, value in settings:
            full += ["-e", f"{name}={value}"]
        popen = subprocess.Popen(full + ["--"] + words, env=self.env, pass_fds=(writer,), text=True,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=folder,
                                 stderr=subprocess.PIPE, start_new_session=True)
        os.close(writer)
        return Child(popen, os.fdopen(reader))

    def run(self, allocator, command, runs=1, small_pages=False):
        """Figures of one run of a program of ours, its own and those from outside."""
        words = shlex.split(command)
        child = self.start(allocator, [self.path(words[0])] + words[1:], runs, small_pages)
        figures, out = child.finish()
        if runs > 1:
            figures["us_per_run"] = figures["wall_s"] / figures["runs"] * 1e6
        elif out:
            try:
                report = json.loads(out)
            except ValueError:
                raise Failed(f"not a report: {out[:200]!r}") from None
            # measure's figures are of the whole process; the program's own keep their name
            figures = {**report, **figures}
            must_be(report["malloc_from"], allocator)
        return figures


def must_be(bound, allocator):
    """Is the malloc of the file `bound` the allocator's?"""
    if allocator.path and os.path.realpath(bound) != os.path.realpath(allocator.path):
        raise Failed(f"malloc is bound to {bound}, not to {allocator.path}")
    if not allocator.path and not re.search(r"/libc[.-]", bound):
        raise Failed(f"malloc is bound to {bound}, not to the C library")


class Bindings:
    """Whose malloc other people's programs are bound to, by the dynamic linker's own account: it
    holds for children as well (gcc's cc1). Slow, so only in rounds that do not count."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="bench-bindings.")
        return self

    def __exit__(self, *unused):
        shutil.rmtree(self.folder, ignore_errors=True)

    def settings(self):
        return [("LD_DEBUG", "bindings"), ("LD_BIND_NOW", "1"),
                ("LD_DEBUG_OUTPUT", os.path.join(self.folder, "of"))]

    def check(self, allocator):
        bound = set()
        for path in glob.glob(os.path.join(self.folder, "of.*")):
            with open(path, errors="replace") as file:
                found = re.findall(r"binding file (\S+) \[\d+\] to (\S+) \[\d+\]: \w+ symbol `malloc'",
                                   file.read())
            # A program that takes malloc's address has everyone bound to its own jump to malloc;
            # what counts is where that jump goes.
            jumps = {by for by, to in found if by != to and ".so" not in os.path.basename(by)}
            bound |= {to for _, to in found if to not in jumps}
        if not bound:
            raise Failed("no program here is bound to any malloc by the dynamic linker")
        for path in sorted(bound):
            must_be(path, allocator)


# ---- the machine --------------------------------------------------------------------------------

def read(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def chosen(path):
    """The bracketed word of a sysfs choice such as `always [madvise] never`."""
    text = read(path)
    found = re.search(r"\[(\S+)\]", text)
    return found.group(1) if found else text


def cpu_model():
    text = read("/proc/cpuinfo")
    found = re.search(r"^(?:model name|CPU implementer)\s*:\s*(.*)$", text, re.M)
    return found.group(1) if found else os.uname().machine


def machine_of(programs, allocators, missing, options, here):
    thp = "/sys/kernel/mm/transparent_hugepage/"
    governors = {read(p) for p in glob.glob("/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")}
    memory = re.search(r"MemTotal:\s*(\d+)", read("/proc/meminfo"))
    libc = subprocess.run([programs.path("empty"), "--report"], stdout=subprocess.PIPE, text=True,
                          check=True, timeout=TIMEOUT, env=programs.env)
    report = json.loads(libc.stdout)
    return {
        "type": "machine",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "kernel": os.uname().release,
        "arch": os.uname().machine,
        "cpu": cpu_model(),
        "cpus_online": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)),
        "cgroup_cpu_max": read("/sys/fs/cgroup/cpu.max"),
        "cgroup_memory_max": read("/sys/fs/cgroup/memory.max"),
        "nodes": len(glob.glob("/sys/devices/system/node/node[0-9]*")),
        "memory_mib": int(memory.group(1)) // 1024 if memory else 0,
        "thp_enabled": chosen(thp + "enabled"),
        "thp_defrag": chosen(thp + "defrag"),
        "overcommit_memory": read("/proc/sys/vm/overcommit_memory"),
        "swappiness": read("/proc/sys/vm/swappiness"),
        "randomize_va_space": read("/proc/sys/kernel/randomize_va_space"),
        "governor": ", ".join(sorted(governors - {""})) or "none",
        "load_before": os.getloadavg()[0],
        "compiler": report["compiler"],
        "commit": output_of("git", "-C", here, "describe", "--always", "--dirty", "--tags"),
        "mode": options.mode,
        "rounds": options.rounds,
        "allocators": {a.name: {"library": a.path or report["malloc_from"],
                                "version": version_of(a.path or report["malloc_from"]),
                                "env": dict(a.env), "huge": a.huge} for a in allocators},
        "missing": missing,
        "broken": {},
    }
