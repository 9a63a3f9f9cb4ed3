"""What templates ask of the ledger, and the words of its events."""

from html import escape

from django import template
from django.conf import settings
from django.urls import reverse
from django.utils.html import format_html, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from deploy_portal.templatetags.portal import status_word
from deploy_portal.words import enumerated, in_readers_language
from jobs.models import Event, Job, Machine
from jobs.models.freeze import in_words
from releases.counts import counted
from releases.models import Kind
from releases.models.machine_run import versions_now
from releases.models.task import run_named

register = template.Library()
Verb = Event.Verb

TONES = {
    Verb.ASKED: "waiting",
    Verb.EDITED: "changed",
    Verb.WITHDRAWN: "not_run",
    Verb.APPROVED: "succeeded",
    Verb.SENT_BACK: "changed",
    Verb.LAPSED: "changed",
    Verb.BREAK_GLASS: "warn",
    Verb.ACKNOWLEDGED: "succeeded",
    Verb.STARTED: "running",
    Verb.SKIPPED: "skipped",
    Verb.ROLLED_BACK: "rolled_back",
    Verb.LOST: "unknown",
    Verb.PAUSED: "paused",
    Verb.RESUMED: "running",
    Verb.EXCUSED: "excused",
    Verb.LEAVE: "succeeded",
}
# What is done to a run, of whichever action.
STEERED = [Verb.PAUSED, Verb.RESUMED, Verb.CANCELLED]


@register.simple_tag
def add_versions(machine_list, business):
    """Tells a MachineList of a business which version the ledger last saw put on each of its machines."""
    machine_list.versions = versions_now(Machine.objects.live_in(business), business)
    return ""


@register.simple_tag
def tile_attributes(tile, job_address):
    """What the tag of a large tile says: also the version and the stage, for it is read out by its label alone."""
    words = [_named(tile), tile.version, tile.stage and tile.stage.get_kind_display().lower()]
    return mark_safe(_attributes(tile, job_address, escape(" · ".join(filter(None, words)))))  # noqa: S308


@register.simple_tag
def small_tiles(tiles, job_address, shows):
    """Tiles that show this of a machine, or nothing. There may be ten thousand: a template would take a second."""
    drawn = []
    for tile in tiles:
        name = escape(getattr(tile, shows)) if shows else ""
        drawn.append(f"<a {_attributes(tile, job_address, escape(_named(tile)))}>{name}</a>")
    return mark_safe("".join(drawn))  # noqa: S308


def _attributes(tile, job_address, title):
    """`title` is escaped already; of all else no person and no config service wrote a letter."""
    fill = f" fill-{tile.fill}" if tile.fill else ""
    log = f' href="{job_address}machine-runs/{tile.ran.pk}/"' if tile.ran else ""
    kind = f"tile {tile.status}{fill}"
    return f'class="{kind}" id="tile-{tile.machine_id}"{log} title="{title}" aria-label="{title}"'


def _named(tile):
    return f"{tile.hostname}{_(': ')}{status_word(tile.status)}"


@register.filter
def status_and_exit(machine_run):
    """How a machine run stands or ended, as "Failed, exit 1"."""
    if machine_run.exit_status is None:
        return machine_run.get_status_display()
    told = {"status": machine_run.get_status_display(), "n": machine_run.exit_status}
    return _("%(status)s, exit %(n)s") % told


@register.filter
def event_tone(event):
    """The state whose icon and colour stand before an event."""
    return TONES.get(event.verb, event.became)


@register.simple_tag
def event_words(event):
    """An event as one sentence."""
    number = event.detail.get("machines", 0)
    return format_html(
        _sentence(event, number),
        who=format_html("<b>{}</b>", event.actor or ""),
        stage=format_html("<b>{}</b>", _what(event)),
        n=number,
        version=event.detail.get("version", ""),
        names=_names({"hostnames_in_all": number} | event.detail, "hostnames"),
        state=str(status_word(event.became)).lower(),
        run=_run(event),
        running=event.detail.get("running", 0),
        given=event.detail.get("given", 1),
        needed=event.detail.get("needed", 1),
        approvers=enumerated(event.detail.get("approvers", [])),
        counts=_counts(event),
    )


def _sentence(event, number):
    sentences = {
        Verb.ASKED: ngettext(
            "{who} asked for {version} on {n} machine", "{who} asked for {version} on {n} machines", number
        ),
        Verb.EDITED: _edited(event, number),
        Verb.WITHDRAWN: _("{who} withdrew the job"),
        Verb.APPROVED: _approved(event),
        Verb.SENT_BACK: _("{who} sent the job back"),
        Verb.LAPSED: _("The leave is void: {approvers} may no longer give it")
        if event.detail.get("leave")
        else _("The approvals are void: {approvers} may no longer approve"),
        Verb.BREAK_GLASS: _broke_glass(event),
        Verb.ACKNOWLEDGED: _("{who} acknowledged the break-glass"),
        Verb.STARTED: _started(event, number),
        Verb.SKIPPED: _("{who} skipped {stage}"),
        Verb.ROLLED_BACK: ngettext(
            "{who} started to roll back {n} machine of {stage}",
            "{who} started to roll back {n} machines of {stage}",
            number,
        ),
        Verb.ENDED: _("Rollback of {stage}, {run} {state}: {counts}")
        if event.detail.get("action") == "rollback"
        else _("{stage}, {run} {state}: {counts}"),
        Verb.LOST: _("{stage}: a worker was lost while {names} ran; how that ended is unknown"),
        Verb.RESOLVED: _("{who} resolved {names} as {state}"),
        Verb.PAUSED: _("{who} paused {stage}"),
        Verb.RESUMED: _("{who} resumed {stage}"),
        Verb.CANCELLED: _("{who} cancelled {stage}: {n} not begun, {running} running"),
        Verb.LEAVE: _("{who} gave leave from a freeze"),
        Verb.EXCUSED: ngettext("{who} excused {names}", "{who} excused {n} machines: {names}", number),
    }
    words = sentences[event.verb]
    return words + _(", as break-glass") if event.detail.get("break_glass") else words


def _what(event):
    """Which stage it is about, or its rollback where that is what was steered."""
    stage = Kind(event.stage).label if event.stage else ""
    return run_named(event.detail.get("action"), stage) if event.verb in STEERED else stage


@register.filter
def event_notes(event):
    """What an edit changed; what was chosen against the plan, the list or the first try; a sentence each."""
    detail = event.detail
    beyond, left_out = (_names(detail, name) for name in ("beyond_plan", "left_out"))
    undone = enumerated(f"#{job}" for job in detail.get("undone_jobs", []))
    moved = [f"{one['hostname']} ({one['was']} → {one['now']})" for one in detail.get("moved", [])]
    accepted = _("Chosen where it is now: %s") if event.verb == Verb.EDITED else _("Released where it is now: %s")
    fields = [Job._meta.get_field(name).verbose_name for name in detail.get("fields", [])]
    notes = [
        (enumerated(fields), _("Changed: %s")),
        (_names(detail, "dropped"), _("No longer in it: %s")),
        (_names(detail, "added"), _("New in it: %s")),
        (beyond, _("Beyond the plan: %s")),
        (left_out, _("Planned, but left out: %s")),
        (enumerated(moved), accepted),
        (detail.get("task"), _("With %(now)s; the first try ran %(before)s")),
        (undone, _("Undone with it, for they ran later: %s")),
        (event.verb in (Verb.ASKED, Verb.EDITED) and event.became == "approved", _("It needs no approval.")),
        ("freeze" in detail and in_words(detail["freeze"]), "%s"),
        (_why_old(detail.get("why_old")), _("Started with an old list of machines: %s")),
    ]
    return [words % what if "%" in words else words for what, words in notes if what]


def _names(detail, what):
    """The host names that an event keeps under `what`, which are the first of so many."""
    names = detail.get(what, [])
    more = detail.get(f"{what}_in_all", len(names)) - len(names)
    return enumerated(names) + (_(" and %(n)s more") % {"n": more} if more > 0 else "")


def _why_old(why):
    """Why the config service gave no list; older events kept it in the one language of who started."""
    return in_readers_language(why, why.get(settings.LANGUAGE_CODE, "")) if isinstance(why, dict) else why


def _run(event):
    """A link to what became of the event's run."""
    number = event.detail.get("run")
    address = number and reverse("run", args=[event.job_id, number])
    return format_html('<a href="{}">{}</a>', address, _("run %(id)s") % {"id": number}) if number else ""


def _edited(event, number):
    if event.became == "approved":
        return ngettext(
            "{who} changed the job to {version} on {n} machine",
            "{who} changed the job to {version} on {n} machines",
            number,
        )
    return ngettext(
        "{who} changed the job to {version} on {n} machine; it needs approval again",
        "{who} changed the job to {version} on {n} machines; it needs approval again",
        number,
    )


def _approved(event):
    return _("{who} approved") if event.detail.get("needed", 1) == 1 else _("{who} approved, {given} of {needed}")


def _broke_glass(event):
    if "needed" in event.detail:
        return _("{who} broke the glass: the job began with {given} of {needed} approvals")
    return _("{who} broke the glass: stepped in for a publisher")


def _started(event, number):
    if event.detail.get("retry_of"):
        return ngettext("{who} tried {stage} again on {n} machine", "{who} tried {stage} again on {n} machines", number)
    return ngettext("{who} started {stage} on {n} machine", "{who} started {stage} on {n} machines", number)


def _counts(event):
    counts = counted(event.detail.get("counts", {}), event.detail.get("action"))
    return enumerated(f"{number} {str(status_word(status)).lower()}" for status, number in counts.items())
