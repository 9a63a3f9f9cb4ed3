from django.contrib import admin
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from deploy_portal.admin_parts import CarefulAdmin, ReadOnlyInline, Told, UndoesNothing, status
from deploy_portal.clock import database_now
from jobs.freeze_forms import TIMES, EndFreezeForm, FreezeForm
from jobs.models import Freeze, Leave
from jobs.models.freeze import shown


class InForceFilter(admin.SimpleListFilter):
    title = _("in force now")
    parameter_name = "in_force"

    def lookups(self, request, model_admin):
        return [("yes", _("Yes")), ("no", _("No"))]

    def queryset(self, request, queryset):
        now = [occurrence.freeze.pk for occurrence in Freeze.objects.in_force()] if self.value() else []
        wanted = {"yes": queryset.filter(pk__in=now), "no": queryset.exclude(pk__in=now)}
        return wanted.get(self.value(), queryset)


class LeaveInline(ReadOnlyInline):
    model = Leave
    fields = ["job", "until", "by", "reason", "at"]

    def get_queryset(self, request):
        return super().get_queryset(request).select_related("job__business", "by")


def _kept(freeze):
    """As the database has it: a form with mistakes leaves a row half filled in."""
    return freeze and (Freeze.objects.filter(pk=freeze.pk).first() or freeze)


@admin.register(Freeze)
class FreezeAdmin(Told, UndoesNothing, CarefulAdmin):
    """Kept by ops. One that has begun is history: it can be ended, but neither changed nor deleted."""

    form = FreezeForm
    inlines = [LeaveInline]
    fieldsets = [(None, {"fields": ["business", "reason", "kind"]})]
    fieldsets += [(kind.label, {"fields": names}) for kind, names in TIMES.items()]
    list_display = ["reason", "for_whom", "kind", "in_force_now", "next_time", "made_by", "ended_early"]
    list_filter = ["business", "kind", InForceFilter]
    list_select_related = ["business", "made_by", "ended_by"]
    search_fields = ["reason", "business__name", "made_by__username"]
    HISTORY = ["made_by", "made_at", "ended_early", "end_reason"]

    def get_queryset(self, request):
        return super().get_queryset(request).annotate(clock=Now())

    def get_changeform_initial_data(self, request):
        """Nothing from the address: Django's own breaks on a time that is none."""
        return {}

    def has_change_permission(self, request, obj=None):
        """A stop has a switch of its own, and what is over stays as it was."""
        kept = _kept(obj)
        is_fixed = kept and (kept.is_stop or kept.ended_at or (kept.ends_at and kept.ends_at <= database_now()))
        return not is_fixed and super().has_change_permission(request, obj)

    def has_delete_permission(self, request, obj=None):
        return bool(obj) and not _kept(obj).has_begun(database_now()) and super().has_delete_permission(request, obj)

    def get_form(self, request, obj=None, **kwargs):
        form = {"form": EndFreezeForm} if self._can_only_end(request, obj) else {}
        return super().get_form(request, obj, **form | kwargs)

    def get_inlines(self, request, obj):
        return self.inlines if obj else []

    def get_fieldsets(self, request, obj=None):
        if obj is None:
            return self.fieldsets
        if self._can_only_end(request, obj):
            return [*self.fieldsets, (_("History"), {"fields": [*self.HISTORY, "end_now"]})]
        return [*super().get_fieldsets(request, obj), (_("History"), {"fields": self.HISTORY})]

    def get_readonly_fields(self, request, obj=None):
        if obj is None:
            return []
        return self.HISTORY + (self.form.Meta.fields if self._can_only_end(request, obj) else [])

    def _can_only_end(self, request, freeze):
        return bool(freeze) and self.has_change_permission(request, freeze) and _kept(freeze).has_begun(database_now())

    def save_model(self, request, obj, form, change):
        if not change:
            obj.made_by = request.user
        if "end_now" not in form.cleaned_data:
            super().save_model(request, obj, form, change)
            return
        # Nobody else can have ended it: its row is locked, and was looked at since.
        obj.end(request.user, form.cleaned_data["end_now"])

    @admin.display(description=_("business"), ordering="business__name")
    def for_whom(self, freeze):
        return freeze.business or _("All")

    @admin.display(description=_("in force now"))
    def in_force_now(self, freeze):
        occurrences = [] if freeze.ended_at else freeze.occurrences(freeze.clock, freeze.clock)
        return status("warn", _("Yes")) if occurrences else _("No")

    @admin.display(description=_("next"))
    def next_time(self, freeze):
        if freeze.ended_at or freeze.is_stop:
            return None
        upcoming = freeze.upcoming(freeze.clock)
        return upcoming and shown(upcoming.starts)

    @admin.display(description=_("ended early"))
    def ended_early(self, freeze):
        return f"{shown(freeze.ended_at)}, {freeze.ended_by}" if freeze.ended_at else self.get_empty_value_display()
