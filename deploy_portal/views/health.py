from pathlib import Path

from django.contrib.staticfiles.apps import StaticFilesConfig
from django.contrib.staticfiles.storage import staticfiles_storage
from django.contrib.staticfiles.utils import get_files
from django.core.files.storage import FileSystemStorage
from django.db import Error
from django.http import JsonResponse
from django.views.decorators.http import require_safe

from deploy_portal.database import other_version

STATIC = FileSystemStorage(Path(__file__).parents[1] / "static")


@require_safe
def health(request):
    """For load balancers: 200 when this process can answer from the database and show its pages, else 503."""
    try:
        is_wrong = other_version()
    except Error:
        is_wrong = "away"
    found = {"database": is_wrong or "ok"}
    if not _has_static_files():
        found["static_files"] = "older than the portal: run manage.py collectstatic, then start this process anew"
    return JsonResponse(found, status=503 if found != {"database": "ok"} else 200)


def _has_static_files():
    """Whether `collectstatic` was run for them before this process began, which read then what it had made."""
    try:
        # As `collectstatic` does, it leaves aside what an editor or a copy from a Mac left there.
        return all(map(staticfiles_storage.url, get_files(STATIC, StaticFilesConfig.ignore_patterns)))
    except ValueError:
        return False
