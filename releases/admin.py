from django import forms
from django.contrib import admin, messages
from django.db.models import Case, Count, Exists, OuterRef, Q, Subquery, When
from django.urls import reverse
from django.utils import formats, timezone, translation
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext_lazy as _

from deploy_portal.admin_parts import (
    CarefulAdmin,
    ReadOnlyAdmin,
    ReadOnlyInline,
    Told,
    UndoesNothing,
    link,
    link_to_list,
    status,
)
from deploy_portal.based_on import BasedOnForm
from deploy_portal.templatetags.portal import inert
from deploy_portal.words import enumerated
from jobs.admin import NumberedAdmin
from jobs.fields import LinesField
from releases.models import MachineRun, ReleaseStage, Run, Task, TaskVersion, Worker
from releases.models.queue import BAD
from releases.models.task import shell_script
from releases.syntax import mistake_in

VERSIONS_SHOWN = 30
MACHINE_RUNS_SHOWN = 100


def shown_script(version):
    """The text of a version, and of its check if it has one, closed until somebody opens it."""
    shown = _numbered(version.script, _("Show the text (%(n)d lines)"))
    return shown + _numbered(version.check_script, _("Show the check (%(n)d lines)")) if version.check_script else shown


def _numbered(script, title):
    lines = script.removesuffix("\n").split("\n")
    numbered = format_html_join("", "<li>{}</li>", ([inert(line)] for line in lines))
    shown = '<details><summary>{}</summary><ol class="script" tabindex="0">{}</ol></details>'
    return format_html(shown, title % {"n": len(lines)}, numbered)


class ScriptField(LinesField):
    """Text as it is, blank ends included; only the line ends that browsers add go."""

    widget = forms.Textarea(attrs={"class": "mono", "spellcheck": "false", "wrap": "off"})

    def __init__(self, *, rows, **kwargs):
        super().__init__(strip=False, validators=[shell_script], **kwargs)
        self.widget.attrs["rows"] = rows


class TaskForm(BasedOnForm):
    """A task with the text of its newest version; `text_based_on` is the version that the person began from."""

    script = ScriptField(
        rows=24,
        label=_("Script"),
        help_text=_("For sh, or bash if it begins with #!/bin/bash. Saving a changed text makes a new version of it."),
    )
    check_script = ScriptField(
        rows=6,
        label=_("Check"),
        required=False,
        help_text=_("Runs on a machine after the script succeeded there; the machine succeeded when both did."),
    )
    text_based_on = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.instance.latest:
            latest = self.instance.latest
            texts = {"script": latest.script, "check_script": latest.check_script}
            # After `based_on` is known, which is of the rest: of a late text its author is told.
            self.initial |= texts | {"text_based_on": latest.number}

    def clean(self):
        super().clean()
        self._refuse_used_name()
        self._refuse_late_text()

    def _refuse_used_name(self):
        """Who chooses a task, on a page or by a command, knows it by its name, be it their business's own or shared."""
        if not {"name", "business"} & set(self.changed_data):
            return
        name, business = self.cleaned_data.get("name"), self.cleaned_data.get("business")
        beside = Task.objects.filter(Q(business=business) | Q(business=None)) if business else Task.objects
        taken = beside.filter(name=name).exclude(pk=self.instance.pk).first()
        if taken:
            words = _("There is a task of this name already: %(whose)s.")
            self.add_error("name", words % {"whose": taken.business or _("shared by all")})

    def _refuse_late_text(self):
        latest = self.instance.latest
        if latest and self.cleaned_data.get("text_based_on") != latest.number:
            late = _("%(author)s wrote v%(number)d meanwhile. Copy your text, open the task again and take both up.")
            self.add_error("script", late % {"author": latest.author or _("The portal"), "number": latest.number})


class VersionInline(ReadOnlyInline):
    model = TaskVersion
    verbose_name_plural = _("versions")
    fields = ["number", "author", "created_at", "text"]

    def get_queryset(self, request):
        newest = TaskVersion.objects.filter(task=request.resolver_match.kwargs["object_id"])[:VERSIONS_SHOWN]
        return super().get_queryset(request).filter(pk__in=newest.values("pk")).select_related("task", "author")

    @admin.display(description=_("text"))
    def text(self, version):
        return shown_script(version)


@admin.register(Task)
class TaskAdmin(Told, UndoesNothing, CarefulAdmin):
    form = TaskForm
    inlines = [VersionInline]
    list_display = ["name", "of_business", "action", "newest", "author", "written", "in_use"]
    list_filter = ["in_use", "action", "business"]
    list_select_related = ["business", "latest__author"]
    search_fields = ["name"]
    fields = ["name", "business", "action", "timeout", "in_use", "script", "check_script"]
    based_on_fields = ["based_on", "text_based_on"]

    def get_inlines(self, request, obj):
        return self.inlines if obj else []

    def get_readonly_fields(self, request, obj=None):
        # Stages point at a task for what it was used for; another use would turn their rollback into a release.
        return ["action"] if obj else []

    def has_delete_permission(self, request, obj=None):
        """Runs point at the text that they ran; a task is taken out of use instead."""
        return False

    def save_model(self, request, obj, form, change):
        super().save_model(request, obj, form, change)
        obj.revise(form.cleaned_data["script"], request.user, form.cleaned_data["check_script"])
        for name in ["script", "check_script"]:
            if name in form.changed_data and (mistake := mistake_in(form.cleaned_data[name])):
                self._warn_of(request, form.fields[name].label, *mistake)

    def _warn_of(self, request, field, shell, line, said):
        """No refusal: a machine's shell may know more than the one of this host."""
        words = _("Saved, but %(shell)s here finds a mistake: %(field)s, line %(line)s: %(said)s")
        told = {"shell": shell, "field": field, "line": line, "said": inert(said[:200])}
        self.message_user(request, words % told, messages.WARNING)

    @admin.display(description=_("business"), ordering="business__name")
    def of_business(self, task):
        return task.business or _("shared by all")

    @admin.display(description=_("newest version"), ordering="latest__number")
    def newest(self, task):
        return f"v{task.latest.number}" if task.latest else None

    @admin.display(description=_("author"), ordering="latest__author__username")
    def author(self, task):
        return task.latest and task.latest.author

    @admin.display(description=_("written"), ordering="latest__created_at")
    def written(self, task):
        return task.latest and task.latest.created_at


class ShownRun:
    """What the lists of runs share."""

    @admin.display(description=_("run"), ordering="pk")
    def number(self, run):
        return link(reverse("admin:releases_run_change", args=[run.pk]), run)

    @admin.display(description=_("status"), ordering="status")
    def state(self, run):
        return status(run.status, run.get_status_display())


class RunInline(ShownRun, ReadOnlyInline):
    model = Run
    fields = ["number", "action", "state", "task_version", "started_by", "started_at", "ended_at"]
    ordering = ["-pk"]

    def get_queryset(self, request):
        return super().get_queryset(request).select_related("task_version__task", "started_by")


@admin.register(ReleaseStage)
class ReleaseStageAdmin(NumberedAdmin):
    inlines = [RunInline]
    list_display = ["job", "kind", "state", "release_task", "rollback_task", "batch_size"]
    list_display_links = ["job", "kind"]
    list_filter = ["kind", "status", "job__business"]
    list_select_related = ["job__business", "release_task__latest", "rollback_task__latest"]
    search_fields = ["job__id__exact", "job__title", "job__version", "job__business__name", "job__business__slug"]
    fields = [
        *["job", "kind", "state", "release_task", "rollback_task", "machine_count", "batch_size", "canary"],
        *["batch_pause", "failure_budget", "remark"],
    ]

    def view_on_site(self, stage):
        return reverse("stage", args=[stage.job_id, stage.kind])

    @admin.display(description=_("status"), ordering="status")
    def state(self, stage):
        return status(stage.status, stage.get_status_display())

    @admin.display(description=_("machines last chosen"))
    def machine_count(self, stage):
        return stage.machines.count()


class ShownMachineRun:
    """What the lists of machine runs share."""

    @admin.display(description=_("status"), ordering="status")
    def state(self, machine_run):
        return status(machine_run.status, machine_run.get_status_display())

    @admin.display(description=_("reason"))
    def why(self, machine_run):
        """The portal's own reasons are kept in one language."""
        return translation.gettext(machine_run.reason) if machine_run.reason else self.get_empty_value_display()

    @admin.display(description=_("log"))
    def log(self, machine_run):
        return link(self.view_on_site(machine_run), _("Log"))

    def view_on_site(self, machine_run):
        return reverse("machine_run", args=[machine_run.run.stage.job_id, machine_run.pk])


class MachineRunInline(ShownMachineRun, ReadOnlyInline):
    """The first machines of a run, what went wrong before the rest; a table of 5,000 would help nobody."""

    model = MachineRun
    verbose_name_plural = _("machine runs: up to 100, what went wrong first")
    fields = ["machine", "state", "exit_status", "why", "batch", "started_at", "ended_at", "worker", "log"]

    def get_queryset(self, request):
        worst = Case(When(status__in=BAD, then=0), default=1)
        of_run = MachineRun.objects.filter(run=request.resolver_match.kwargs["object_id"])
        first = of_run.order_by(worst, "pk")[:MACHINE_RUNS_SHOWN]
        rows = super().get_queryset(request).filter(pk__in=first.values("pk"))
        return rows.select_related("machine", "worker", "run__stage").order_by(worst, "pk")


@admin.register(Run)
class RunAdmin(ShownRun, NumberedAdmin):
    inlines = [MachineRunInline]
    list_display = [
        "number",
        "stage",
        "action",
        "state",
        "machine_count",
        "break_glass",
        "started_by",
        "started_at",
        "ended_at",
    ]
    list_display_links = None
    list_filter = ["status", "action", "break_glass", "stage__job__business"]
    list_select_related = ["stage__job__business", "started_by"]
    search_fields = [
        *["id__exact", "stage__job__id__exact", "stage__job__title", "stage__job__version"],
        *["stage__job__business__name", "stage__job__business__slug"],
        *["started_by__username", "started_by__first_name", "started_by__last_name"],
    ]
    date_hierarchy = "started_at"
    ordering = ["-pk"]
    fields = [
        *["stage", "action", "state", "counts", "retry_of", "task", "timeout", "batch_size", "canary", "batch_pause"],
        *["batch_progress", "failure_budget", "remark", "break_glass", "started_by", "started_at", "ended_at"],
    ]

    def get_queryset(self, request):
        # A subquery counts for the rows of one page; a join would count for all runs first.
        counts = MachineRun.objects.filter(run=OuterRef("pk")).order_by().values("run").annotate(n=Count("pk"))
        return super().get_queryset(request).annotate(machine_count=Subquery(counts.values("n")))

    def view_on_site(self, run):
        return reverse("stage", args=[run.stage.job_id, run.stage.kind])

    @admin.display(description=_("machines"), ordering="machine_count")
    def machine_count(self, run):
        return link_to_list(MachineRun, run.machine_count, run__id__exact=run.pk)

    @admin.display(description=_("machines"))
    def counts(self, run):
        counts = run.machine_runs.counts()
        words = [(value, counts[value], word) for value, word in MachineRun.Status.choices if value in counts]
        shown = format_html_join(" ", '<span class="status {}">{} {}</span>', words)
        every = link_to_list(MachineRun, _("all %(n)d") % {"n": run.machine_count}, run__id__exact=run.pk)
        return format_html('<div class="counts">{} {}</div>', shown, every)

    @admin.display(description=_("task"))
    def task(self, run):
        version = run.task_version
        url = reverse("admin:releases_task_change", args=[version.task_id])
        return format_html("{} {}", link(url, version), shown_script(version))

    @admin.display(description=_("batch"))
    def batch_progress(self, run):
        return f"{run.open_batch} / {run.batches}"


@admin.register(MachineRun)
class MachineRunAdmin(ShownMachineRun, NumberedAdmin):
    list_display = ["machine", "job", "run", "state", "exit_status", "started_at", "ended_at", "log"]
    list_filter = ["status", "run__action", "run__stage__job__business"]
    list_select_related = ["machine", "run__stage__job__business"]
    search_fields = ["machine__hostname", "run__stage__job__id__exact"]
    ordering = ["-pk"]
    fields = [
        *["machine", "address", "site", "job", "run", "batch", "state", "exit_status", "why", "note", "version_before"],
        *["version_after", "worker", "queued_at", "claimed_at", "started_at", "ended_at", "log"],
    ]

    @admin.display(description=_("job"))
    def job(self, machine_run):
        return machine_run.run.stage.job


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ["name", "state", "of_sites", "started_at", "heartbeat_at"]
    search_fields = ["name"]
    fields = ["name", "state", "of_sites", "started_at", "heartbeat_at", "stopped_at"]

    def get_queryset(self, request):
        alive = Worker.objects.alive().filter(pk=OuterRef("pk"))
        return super().get_queryset(request).annotate(is_alive=Exists(alive))

    @admin.display(description=_("sites"))
    def of_sites(self, worker):
        return enumerated(worker.sites) or _("every site")

    @admin.display(description=_("status"))
    def state(self, worker):
        if worker.is_alive:
            return status("succeeded", _("Alive"))
        word = _("Stopped %(when)s") if worker.stopped_at else _("No sign of life since %(when)s")
        when = timezone.localtime(worker.stopped_at or worker.heartbeat_at)
        return status("waiting" if worker.stopped_at else "warn", word % {"when": formats.localize(when)})
