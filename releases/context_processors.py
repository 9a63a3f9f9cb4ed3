from django.utils.functional import cached_property

from jobs.models import Freeze
from releases.models import Worker
from releases.tidying import looks_again_in


class Portal:
    """The state of the portal itself, in the head and the foot of every page; asked for only where a page shows it."""

    @cached_property
    def stop(self):
        return Freeze.objects.stop()

    @cached_property
    def workers(self):
        return Worker.objects.alive().count()

    @cached_property
    def worker_seen_at(self):
        return Worker.objects.order_by("-heartbeat_at").values_list("heartbeat_at", flat=True).first()

    @cached_property
    def looks_again_in(self):
        return looks_again_in()


def portal(request):
    return {"portal": Portal()}
