"""What a server takes of the machine's memory."""


def peak(server):
    """The most memory that the server has had so far, in bytes."""
    with open(f"/proc/{server.process.pid}/status") as status:
        (line,) = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) << 10
