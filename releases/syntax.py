"""What a shell finds wrong in a script by reading it: -n runs none of it, not even what stands in $(…)."""

import re
import subprocess

TIME_LIMIT = 2  # seconds; it takes milliseconds, but for a text that was made to take long
MISTAKE = re.compile(r"\w+: (?:line )?([0-9]+): (.+)")


def mistake_in(script):
    """(the shell, the line, its words) of the first mistake, or None: also where this host lacks that shell."""
    shell = "bash" if re.match("#!.*bash", script) else "sh"
    try:
        # An empty environment: from some variables a shell takes a file that it runs first.
        done = subprocess.run(
            [shell, "-n"], input=script.encode(), capture_output=True, timeout=TIME_LIMIT, env={}, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    mistake = MISTAKE.match(done.stderr.decode(errors="replace"))
    return mistake and (shell, *mistake.groups())
