"""What a server takes of the machine's memory."""


def peak(server):
    """The most memory that the server has had so far, in bytes."""
    return status(server, "VmHWM")


def peak_of_addresses(server):
    """The same of what it has asked the system for, also where it has not touched it."""
    return status(server, "VmPeak")


def status(server, name):
    """A size that the system tells of the server's process, in bytes."""
    with open(f"/proc/{server.process.pid}/status") as lines:
        (line,) = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) << 10
