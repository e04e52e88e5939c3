"""Says in a sentence how an instance ended."""

import signal

from .runtime import Exit

BEYOND_SIGNALS = 128


def ending_sentence(ended: Exit, subject: str, memory_mb: int, last_error: str) -> str:
    """The reason of an instance that ended by itself and not well.

    Parameters:
        ended: how it ended.
        subject: `the client` or `the aggregator`.
        memory_mb: its memory limit, in MiB.
        last_error: the last line of its error stream.
    """
    if ended.out_of_memory:
        return f"killed by the kernel: the {memory_mb} MiB limit was reached"
    sentence = _how(ended, subject)
    return f"{sentence}: {last_error}" if last_error and not ended.note else sentence


def _how(ended: Exit, subject: str) -> str:
    if ended.note:
        return f"{subject} ended: {ended.note}"
    number = ended.signal
    if number is None and ended.code is not None and ended.code > BEYOND_SIGNALS:
        # A shell reports 128 + n, Python's sys.exit(-n) becomes 256 - n.
        number = next((n for n in (ended.code - BEYOND_SIGNALS, 256 - ended.code) if _name(n)), None)
    if number is None:
        return f"{subject} ended with exit code {ended.code}"
    if number == signal.SIGKILL:
        return f"{subject} was killed (SIGKILL), by the kernel for want of memory or by somebody on the machine"
    return f"{subject} was ended by signal {number} ({_name(number) or 'unknown'})"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""
