"""A program that ends with whoever started it and, where the system allows it, has no network.

    python child.py PARENT NETWORK PROGRAM ARGUMENT...

PARENT is the number of the process that starts it; NETWORK is "network" or "apart". It uses nothing of quantmill.
"""

import ctypes
import os
import signal
import sys

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # of Linux's unshare
_DEATH_SIGNAL = 1  # of Linux's prctl


def main(parent: str, network: str, *command: str) -> None:
    """Become the program."""
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if network == "apart":
            _leave_network(library)
        library.prctl(_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != int(parent):  # it ended before this was asked for
            os.kill(os.getpid(), signal.SIGKILL)
    os.execv(command[0], command)


def _leave_network(library: ctypes.CDLL) -> None:
    """Into a network of this process alone, in which there is nothing; its user and group stay what they are."""
    user, group = os.getuid(), os.getgid()
    if library.unshare(_NEW_USER | _NEW_NETWORK):
        return  # the system does not allow it: the program is told to stay offline, and that is all
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        try:
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        except OSError:  # then it has no name, and reads what others may read
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
