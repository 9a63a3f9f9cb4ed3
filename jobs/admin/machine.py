from django.contrib import admin
from django.db.models import Exists, OuterRef, Prefetch
from django.utils.translation import gettext_lazy as _

from deploy_portal.admin_parts import ReadOnlyAdmin, ReadOnlyInline, pairs, status
from deploy_portal.words import enumerated
from jobs.models import Listing, Machine


class ListedFilter(admin.SimpleListFilter):
    """Whether the config service gives the machine now; in the business that is filtered by, else in any."""

    title = _("status")
    parameter_name = "listed"

    def lookups(self, request, model_admin):
        return [("live", _("Live")), ("gone", _("Gone"))]

    def queryset(self, request, queryset):
        live = Listing.objects.live().filter(machine=OuterRef("pk"))
        if business := request.GET.get("businesses__id__exact"):
            live = live.filter(business=business)
        wanted = {"live": Exists(live), "gone": ~Exists(live)}.get(self.value())
        return queryset if wanted is None else queryset.filter(wanted)


class ListingInline(ReadOnlyInline):
    model = Listing
    verbose_name_plural = _("in the config service")
    fields = ["business", "first_seen_at", "last_seen_at", "gone_at"]

    def get_queryset(self, request):
        return super().get_queryset(request).select_related("business", "machine").order_by("business__name")


@admin.register(Machine)
class MachineAdmin(ReadOnlyAdmin):
    """The config service rules machines: the admin shows them."""

    inlines = [ListingInline]
    list_display = ["hostname", "address", "port", "site", "listed_in"]
    # The filter by business comes first: it refuses a malformed id.
    list_filter = ["businesses", ListedFilter, "site"]
    search_fields = ["hostname", "address"]
    fields = ["hostname", "address", "port", "user", "site", "labels_in_lines"]

    def get_queryset(self, request):
        live = Listing.objects.live().select_related("business").order_by("business__name")
        return super().get_queryset(request).prefetch_related(Prefetch("listings", live, to_attr="live_listings"))

    @admin.display(description=_("live in"))
    def listed_in(self, machine):
        names = enumerated(listing.business.name for listing in machine.live_listings)
        return names or status("gone", _("Gone"))

    @admin.display(description=_("labels"))
    def labels_in_lines(self, machine):
        return pairs(machine.labels)
