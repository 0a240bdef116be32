"""Landlock: what a process may touch, taken from it for good between its fork and its exec (landlock(7), Linux 5.13).

The server of a local cluster writes below its own folders only, reads its programs and libraries only, executes nothing
but the program that it is, and has no TCP. That holds for every process that comes from it, whoever's code runs in it.
Standard library only: the keeper loads this file by its path.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

# Of every architecture but alpha (include/uapi/asm-generic/unistd.h).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

# include/uapi/linux/landlock.h
EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_DIR, _MAKE_REG, _MAKE_SOCK, _REFER, _TRUNCATE, _IOCTL_DEV = (1 << bit for bit in (7, 8, 9, 13, 14, 15))
_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many rights on files each version of the interface knows
READ = _READ_FILE | _READ_DIR
# Without devices, pipes and symbolic links: a server that can make no link cannot mislead who looks into its folder.
WRITE = READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SOCK | _REFER | _TRUNCATE
_OF_A_FILE = EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_NET = 0b11  # bind and connect of TCP
_SCOPED = 0b11  # abstract unix sockets and signals, to processes outside

_LIBRARIES = (
    "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/local/lib", "/usr/share", "/lib", "/lib64",
    "/nix/store", "/gnu/store", "/var/cache/postgresql",
    "/etc/ld.so.cache", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/localtime", "/etc/timezone",
    "/etc/hosts", "/etc/host.conf", "/etc/resolv.conf", "/etc/gai.conf",  # 14 and older look up localhost for statistics
    "/etc/locale.alias", "/etc/ssl/openssl.cnf", "/etc/krb5.conf", "/var/lib/sss/mc",
    "/proc/meminfo", "/sys/devices/system/cpu", "/dev/urandom", "/dev/random", "/dev/zero",
)  # fmt: skip
_SHELL_AND_TOOLS = ("/bin", "/usr/bin", "/run/current-system/sw/bin")  # initdb asks `postgres -V` and `locale -a` by sh

_libc = ctypes.CDLL(None, use_errno=True)


class UnconfinedError(Exception):
    """This kernel offers no Landlock; the text tells why."""


def abi() -> int:
    """The version of the interface. Raises UnconfinedError where there is none."""
    found = int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_CREATE_RULESET_VERSION)))
    if found > 0:
        return found
    raise UnconfinedError(
        {
            errno.ENOSYS: "this kernel has no Landlock",
            errno.EOPNOTSUPP: "Landlock is off in this kernel (lsm= of its command line)",
            errno.EPERM: "Landlock is not permitted here (a container's seccomp profile)",
        }.get(ctypes.get_errno(), f"Landlock does not answer: {os.strerror(ctypes.get_errno())}")
    )


def status() -> str:
    """`landlock ABI 7`, or `none: ` and the reason."""
    try:
        return f"landlock ABI {abi()}"
    except UnconfinedError as error:
        return f"none: {error}"


def ruleset(rules: Iterable[tuple[int, Path | str]]) -> int:
    """A descriptor for `restrict`: whatever the kernel can deny is denied, but for `rules`, each some rights on a file or
    on all below a folder. A path that is not there is passed over. Raises UnconfinedError and OSError."""
    version = abi()
    handled = (1 << _BITS.get(version, _BITS[max(_BITS)])) - 1
    attributes = struct.pack("=QQQ", handled, _NET, _SCOPED)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    made = int(_libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)))
    if made < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset: " + os.strerror(ctypes.get_errno()))
    try:
        for rights, path in rules:
            _allow(made, rights & handled, path)
    except BaseException:
        os.close(made)
        raise
    return made


def _allow(descriptor: int, rights: int, path: Path | str) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # not on this machine, or not for this user: nothing to allow
    try:
        if not stat.S_ISDIR(os.fstat(beneath).st_mode):
            rights &= _OF_A_FILE
        rule = struct.pack("=Qi", rights, beneath)
        if _libc.syscall(_ADD_RULE, descriptor, _RULE_PATH_BENEATH, rule, ctypes.c_uint32(0)) != 0:
            raise OSError(ctypes.get_errno(), "landlock_add_rule: " + os.strerror(ctypes.get_errno()), str(path))
    finally:
        os.close(beneath)


def restrict(descriptor: int) -> None:
    """Confine this process and all that come from it, for good. Raises OSError, and then the caller must not go on."""
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS: " + os.strerror(ctypes.get_errno()))
    if _libc.syscall(_RESTRICT_SELF, descriptor, ctypes.c_uint32(0)) != 0:
        raise OSError(ctypes.get_errno(), "landlock_restrict_self: " + os.strerror(ctypes.get_errno()))


def for_server(bindir: Path, writable: Iterable[Path]) -> list[tuple[int, Path | str]]:
    """The rules of a server of `bindir`. `/usr/bin` and the like can be neither read nor executed: the dynamic loader,
    which must be executable, could be made to run what can be read."""
    program = bindir / "postgres"
    readable: tuple[Path | str, ...] = (*_LIBRARIES, *_installation(bindir))
    return [
        *((READ, path) for path in readable),
        *((WRITE, path) for path in writable),
        (_READ_FILE | _WRITE_FILE, "/dev/null"),
        *((EXECUTE | READ, path) for path in (program, _interpreter(program)) if path),
    ]


def for_initdb(bindir: Path, writable: Iterable[Path]) -> list[tuple[int, Path | str]]:
    """The rules of initdb, which needs a shell; it reads nothing that came from outside."""
    return [*for_server(bindir, writable), *((EXECUTE | READ, path) for path in (bindir, *_SHELL_AND_TOOLS))]


def _installation(bindir: Path) -> tuple[Path, ...]:
    """Share and library folders beside the programs, and the libraries that a wheel keeps beside its package."""
    folder = bindir.resolve()
    package = folder.parents[1] if len(folder.parents) > 1 else folder
    return folder.parent, package.with_name(f"{package.name}.libs") if package.name else package


def _interpreter(program: Path) -> str:
    """The dynamic loader that the kernel executes for `program` (PT_INTERP of its ELF header); empty without one."""
    with open(program, "rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF" or head[4] != 2 or len(head) < 64:
            return ""
        order = "<" if head[5] == 1 else ">"
        (table,) = struct.unpack_from(order + "Q", head, 32)
        size, count = struct.unpack_from(order + "HH", head, 54)
        for number in range(count):
            file.seek(table + number * size)
            entry = file.read(56)
            if len(entry) == 56 and struct.unpack_from(order + "I", entry)[0] == 3:  # PT_INTERP
                offset, length = struct.unpack_from(order + "Q", entry, 8)[0], struct.unpack_from(order + "Q", entry, 32)[0]
                file.seek(offset)
                return os.fsdecode(file.read(min(length, 4096)).rstrip(b"\0"))
    return ""
