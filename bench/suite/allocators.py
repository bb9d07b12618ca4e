# SPDX-License-Identifier: MIT
"""Who is compared, and where their libraries are. Add an allocator: one line in ALLOCATORS."""

import dataclasses
import glob
import hashlib
import os
import re
import subprocess
import sys

HAKMEM = "hakmem"


@dataclasses.dataclass(frozen=True)
class Allocator:
    name: str
    lib: str = ""                # soname or path; "" is the C library's own
    env: tuple = ()              # ((NAME, VALUE), ...)
    huge: bool = False           # only on rows marked huge
    path: str = ""               # where the library was found


ALLOCATORS = [
    Allocator("glibc"),
    Allocator("mimalloc", "libmimalloc.so.2"),
    Allocator("jemalloc", "libjemalloc.so.2"),
    Allocator("tcmalloc", "libtcmalloc_minimal.so.4"),
    Allocator("glibc-huge", env=(("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"),), huge=True),
    # 2.0 knows the option by the first name, 2.1 and later by the second
    Allocator("mimalloc-large", "libmimalloc.so.2", (("MIMALLOC_LARGE_OS_PAGES", "1"),
                                                     ("MIMALLOC_ALLOW_LARGE_OS_PAGES", "1")), huge=True),
    Allocator("jemalloc-thp", "libjemalloc.so.2", (("MALLOC_CONF", "thp:always"),), huge=True),
]


def say(text):
    print(text, file=sys.stderr, flush=True)


def fatal(text):
    say(f"bench/run: {text}")
    sys.exit(2)


def output_of(*command):
    """A helper command's stdout, or "" where it is missing or fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def find_library(lib):
    """The path of a soname, by ldconfig or in the usual folders; "" where there is none."""
    if "/" in lib:
        return os.path.realpath(lib) if os.path.isfile(lib) else ""
    listing = output_of("ldconfig", "-p") or output_of("/sbin/ldconfig", "-p")
    for line in listing.splitlines():
        name, _, path = line.strip().partition(" => ")
        # Of several, the first is of this machine's own word size.
        if name.split(" ")[0] == lib and os.path.isfile(path):
            return path
    for folder in ("/usr/lib/*-linux-gnu", "/lib/*-linux-gnu", "/usr/lib64", "/usr/local/lib",
                   "/usr/lib"):
        for path in sorted(glob.glob(os.path.join(folder, lib))):
            return path
    return ""


def version_of(path):
    """The Debian package and its version where there is one, else the file's own name and hash."""
    real = os.path.realpath(path)
    for candidate in (path, real, real.removeprefix("/usr"), "/usr" + real):
        owner = output_of("dpkg-query", "-S", candidate)
        if owner:
            package = owner.splitlines()[0].split(": ")[0]
            version = output_of("dpkg-query", "-W", "-f", "${Version}", package)
            return f"{package.split(':')[0]} {version}"
    return f"{os.path.basename(real)} sha256:{digest_of(real)}"


def digest_of(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:12]


def find_hakmem(given, here):
    if given:
        path = find_library(given if "/" in given or not os.path.isfile(given) else "./" + given)
        if not path:
            fatal(f"--hakmem {given}: no such library")
        return path
    for folder in (".", ".libs", os.path.join(here, ".."), os.path.join(here, "..", ".libs")):
        path = find_library(os.path.join(folder, "libhakmem.so"))
        if path:
            return path
    return fatal("no libhakmem.so in this folder: build it, name it with --hakmem LIB, "
                 "or compare the others alone with --hakmem none")


def choose_allocators(options, here):
    """(those to run, hakmem first), (names and libraries of those that are missing)"""
    wanted = {a.name: a for a in ALLOCATORS}
    tested = find_hakmem(options.hakmem, here) if options.hakmem != "none" else ""
    for text in options.against:
        parts = re.fullmatch(r"([\w.+-]+)=((?:\w+=[^@]*@)*)(.+)", text)
        if not parts or parts[1] == HAKMEM:
            fatal(f"--against {text}: NAME=[VARIABLE=VALUE@...]LIB is wanted, and NAME is not {HAKMEM}")
        name, settings, lib = parts.groups()
        if lib == HAKMEM:
            lib = tested
        if not find_library(lib):
            fatal(f"--against {text}: no such library")
        wanted[name] = Allocator(name, lib, tuple(tuple(s.split("=", 1)) for s in settings.split("@")[:-1]))
    if options.peers is not None:
        known = set(wanted)
        chosen = [name for name in options.peers.split(",") if name]
        if set(chosen) - known:
            fatal(f"--peers: {', '.join(sorted(set(chosen) - known))}: not one of "
                  + ", ".join(sorted(known)))
        wanted = {name: wanted[name] for name in wanted if name in chosen}
    found, missing = [], []
    if tested:
        found.append(Allocator(HAKMEM, tested, path=tested))
    for allocator in wanted.values():
        path = find_library(allocator.lib) if allocator.lib else ""
        if allocator.lib and not path:
            missing.append(f"{allocator.name} ({allocator.lib})")
        else:
            found.append(dataclasses.replace(allocator, path=path))
    if missing and not options.missing_ok:
        fatal(f"not installed: {', '.join(missing)} (Debian: libmimalloc2.0 libjemalloc2 "
              "libtcmalloc-minimal4). --missing-ok measures without them, and says so")
    return found, missing
