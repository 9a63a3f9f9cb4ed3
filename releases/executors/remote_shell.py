"""How a script gets into a remote shell: what is sent on stdin, and the constant command that reads it.

Nothing that a person or the config service wrote is part of the command. It holds integers and the name of a shell; the
script and the quoted values of its environment come on stdin, where they can't be mistaken for the command.
"""

import re
import shlex

from django.utils.translation import gettext_noop as _

from releases.executors.base import ExecutorError

KILL_AFTER = 5  # seconds between the TERM and the KILL that end a script

# What the wrapper says first: the script is sent only once it has. A forced command, a login shell that lets nobody in
# and a profile that ends or reads the input never get it: what they call success would be none of the script's.
READY = b"READY-FOR-SCRIPT-8c41f0\n"

# What ends the bytes of the script: a connection cut while they are sent must not run the half that arrived, nor a
# machine without `cat`, or without memory for it, call success what never ran
_MARK = "#END-OF-SCRIPT-8c41f0"

# Read by the login shell, whichever that is: hence one line, and sh inside. The script gets a session of its own. Its
# text goes on by a pipe, since the size of arguments is limited, and /dev/null is its stdin. What is left of our stdin
# is the lifeline: when it ends, so does the session. The loop reads it with the shell's own `read`, which leaves no
# process behind; a shell that cannot fork it ends, and the script with it. `hit` signals all groups of the session
# (`timeout` in a script makes one), without a fork, for which a script may have left no room, and says whether anything
# lives in it; what it is not permitted to signal does, also where /proc hides it. Where nothing does, $p may have yet
# to make it. Statuses 124, 137 and 143 are those of a group that was told to end: its stragglers are killed. What
# outlives even that, as it runs as root by sudo, is waited for longer than the portal waits, which then knows that it
# may still be running.
_WRAPPER = (
    r"exec sh -c 'exec 3<&0 </dev/null; echo {ready}; "
    r"s=$(head -c {size} <&3); "
    r'case $s in *"{mark}") ;; *) exit 255;; esac; '
    r'printf %s "$s" | setsid timeout -k {kill_after} {timeout} {interpreter} -c '
    r'"s=\$(cat); case \$s in *{mark}) ;; *) exit 255;; esac; exec </dev/null; '
    r'eval \"unset s; \${{s%{mark}}}\"" 3<&- & '
    r'p=$!; trap "kill -KILL $p -$p" EXIT; '
    r'hit() {{ s=$1; g=" "; n=1; kill -$s -$p && g=" $p " && [ ! -e /proc/self/stat ] && n=0; '
    r"for f in /proc/[0-9]*/stat; do read -r x <$f || continue; set -- ${{x##*\) }}; "
    r'[ "$4" = $p ] || continue; [ $1 = Z ] && continue; n=0; '
    r'case $g in *" $3 "*) ;; *) g="$g$3 "; kill -$s -$3;; esac; done; '
    r"[ $s$n = 01 ] && case $(LC_ALL=C; kill -0 -$p 2>&1) in *[Pp]ermi*) n=0;; esac; return $n; }}; "
    r"gone() {{ for t in .1 .4 .5 2 2; do hit 0 || return; sleep $t; done; hit KILL; "
    r"for t in .1 1 2 3 4 5 6 7 8; do hit 0 || return; sleep $t; done; }}; "
    r'(while read -r _; do :; done; trap "" USR1; hit TERM || kill $p; gone) <&3 >/dev/null 2>&1 3<&- & '
    r"w=$!; trap - EXIT; "
    r"exec 3<&- >/dev/null 2>&1; "
    r"wait $p; r=$?; "
    r"case $r in 124) hit TERM;; esac; case $r in 124|137|143) gone;; esac; "
    r"kill -USR1 $w; wait $w || :; exit $r'"
)
_KILLED = {124, 128 + 9, 128 + 15}

_SHELLS = {"sh": "sh", "dash": "sh", "ash": "sh", "bash": "bash --norc"}
_SHEBANG = re.compile(r"#!\s*(?:\S*/env\s+)?(?:\S*/)?(?P<shell>\w+)(?:\s+-(?P<flags>[aefuvx]+))?\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_NO_SHELL = _(
    "The first line of the script asks for an interpreter, or for an option, other than those of sh and bash."
)
_NOT_TEXT = _("The script or one of its values holds a character that a shell can't take.")


def prepare(script, env, timeout):
    """The remote command and the bytes for its stdin. `timeout`: seconds. ExecutorError: no shell could run this."""
    shell, flags = _interpreter(script)
    exports = "".join(f"export {_checked(name)}={shlex.quote(value)}; " for name, value in env.items())
    # All on the script's first line, so that the line numbers in its errors are those that its author sees
    payload = _encode(f"{flags}{exports}{script}\n{_MARK}")
    command = _WRAPPER.format(
        ready=READY.decode().strip(),
        size=len(payload),
        mark=_MARK,
        kill_after=KILL_AFTER,
        timeout=max(1, int(timeout)),
        interpreter=shell,
    )
    return command, payload


def may_be_a_kill(exit_status):
    """Whether that is what a script that was made to end, by its timeout for one, leaves as its status."""
    return exit_status in _KILLED


def _interpreter(script):
    """The shell that the first line asks for, and a command that sets the flags it gives, such as `-e`."""
    if not script.startswith("#!"):
        return "sh", ""
    asked = _SHEBANG.fullmatch(script.split("\n", 1)[0])
    if not asked or asked["shell"] not in _SHELLS:
        raise ExecutorError(_NO_SHELL, permanent=True)
    return _SHELLS[asked["shell"]], f"set -{asked['flags']}; " if asked["flags"] else ""


def _checked(name):
    if not _NAME.fullmatch(name):
        raise ValueError(f"Not the name of an environment variable: {name!r}")
    return name


def _encode(text):
    try:
        payload = text.encode()
    except UnicodeEncodeError:
        payload = b"\0"
    if b"\0" in payload:
        raise ExecutorError(_NOT_TEXT, permanent=True)
    return payload
