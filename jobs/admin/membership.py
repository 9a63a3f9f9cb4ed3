from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from deploy_portal.admin_parts import CarefulAdmin, Told, UndoesNothing, WithAutocomplete, tell_what_is_left
from deploy_portal.based_on import BasedOnForm
from jobs.models import Membership


class MembershipForm(BasedOnForm):
    """A row of the form of a business: of hundreds, those that nobody changed are not looked up one by one."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Staff who may only look get a form without fields.
        if self.instance.pk and "user" in self.fields:
            self.fields["user"].widget.widget.chosen = self.instance.user

    def full_clean(self):
        # Not has_changed(), which Django denies of those who may only take a role away: theirs was not taken.
        is_unchanged = self.is_bound and bool(self.instance.pk) and not self.changed_data
        self.empty_permitted |= is_unchanged
        super().full_clean()
        if is_unchanged:
            # What another row says is compared with it.
            self.cleaned_data = {name: getattr(self.instance, name) for name in ("user", "business", "role")}


class MembershipFormSet(forms.BaseInlineFormSet):
    def clean(self):
        super().clean()
        # Django's own words for it stand at the id of the row, which is hidden.
        if any("id" in form.errors and not self._should_delete_form(form) for form in self.initial_forms):
            raise ValidationError(_("A membership of this list is gone; open the page again."))


class MembershipInline(WithAutocomplete, admin.TabularInline):
    model = Membership
    form = MembershipForm
    formset = MembershipFormSet
    autocomplete_fields = ["user"]
    extra = 1

    def get_queryset(self, request):
        # Each row is named by both.
        rows = super().get_queryset(request).select_related("user", "business")
        # As the row that they are shown with, they are read once nobody else changes them.
        return rows.select_for_update(of=("self",), no_key=True) if request.method == "POST" else rows

    def get_fields(self, request, obj=None):
        # To staff who may only look, a field that is hidden would be a column of its own.
        return ["user", "role", *(["based_on"] if self.has_change_permission(request, obj) else [])]


@admin.register(Membership)
class MembershipAdmin(Told, UndoesNothing, WithAutocomplete, CarefulAdmin):
    """What the inline of a business shows, the other way round: everything that one person may do."""

    form = BasedOnForm
    fields = ["user", "business", "role"]
    list_display = ["user", "business", "role"]
    list_display_links = ["user", "role"]
    list_filter = ["business", "role"]
    list_select_related = ["user", "business"]
    search_fields = ["user__username", "user__first_name", "user__last_name", "business__name"]
    autocomplete_fields = ["user", "business"]
    ordering = ["user__username", "business__name", "role"]

    def save_model(self, request, obj, form, change):
        was = Membership.objects.select_related("user", "business").filter(pk=obj.pk).first()
        super().save_model(request, obj, form, change)
        if was and form.changed_data:
            tell_what_is_left(request, was.user, was.business)

    def delete_queryset(self, request, queryset):
        gone = {(membership.user, membership.business) for membership in queryset.select_related("user", "business")}
        super().delete_queryset(request, queryset)
        for person, business in gone:
            tell_what_is_left(request, person, business)
